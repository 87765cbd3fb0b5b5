use std::collections::BTreeSet;

use super::index::{Found, Reach};
use super::rule::{Rule, Rules, Side, What};
use super::{Fields, Kind, Mode, Policies, Terms, Wrong};
use crate::types::AclId;

/// Who may create znodes and set their data where the pattern matches their path, and what they may register there; and who
/// may follow what is there. With rules that allow something, whom none of them allows it is denied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    register: Lists,
    subscribe: Lists,
}

/// The rules that speak of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lists {
    allow: Option<Rules>,
    deny: Rules,
}

/// A write that somebody proposes.
#[derive(Clone, Copy, Debug)]
pub struct Proposed<'a> {
    /// Where. Of a sequential znode, whose number is not known yet, any that it could get.
    pub path: &'a str,
    /// With which data.
    pub data: Option<&'a [u8]>,
    /// Whether it is a znode that stays without data, such as the parents that registrations need.
    pub is_folder: bool,
    /// Whom the client has proved to be, its address among it.
    pub authority: &'a [AclId],
}

/// A path that somebody asks to follow.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where.
    pub path: &'a str,
    /// What it would hear of.
    pub reach: Reach,
    /// Whom the client has proved to be, its address among it.
    pub authority: &'a [AclId],
}

/// Why something is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The policy's name, and behind a slash the rule's id for a rule that denies.
    pub rule: String,
    /// Why, for a person.
    pub why: String,
    /// Whether it is to be refused; else it would be if the policy was not only observing.
    pub is_enforced: bool,
}

/// What was decided, and what that took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is not allowed; `None` when it is.
    pub denial: Option<Denial>,
    /// How many places of the index of policies, networks and rules were compared with it.
    pub compared: usize,
}

impl Admission {
    pub(super) fn parse(fields: &mut Fields) -> Result<Admission, Wrong> {
        let mut admission = Admission { register: Lists::default(), subscribe: Lists::default() };
        let has_allow = fields.has("allow");
        let allow = rules(fields, "allow")?;
        if has_allow && allow.is_empty() {
            // Nobody may register anything.
            admission.register.allow = Some(Rules::default());
        }
        for (what, rule) in allow {
            admission.lists(what).allow.get_or_insert_default().push(rule);
        }
        let deny = rules(fields, "deny")?;
        if !has_allow && deny.is_empty() {
            return Err(
                fields.wrong("allow", "there is neither a rule that allows nor one that denies")
            );
        }
        for (what, rule) in deny {
            admission.lists(what).deny.push(rule);
        }
        Ok(admission)
    }

    fn lists(&mut self, what: What) -> &mut Lists {
        match what {
            What::Register => &mut self.register,
            What::Subscribe => &mut self.subscribe,
        }
    }

    /// Returns whether it says who may follow what.
    pub(super) fn is_about_following(&self) -> bool {
        self.subscribe != Lists::default()
    }
}

fn rules(fields: &mut Fields, name: &str) -> Result<Vec<(What, Rule)>, Wrong> {
    let rules = fields.objects(name)?.into_iter().enumerate();
    rules.map(|(index, fields)| Rule::parse(format!("{name}-{index}"), fields)).collect()
}

/// As [`check_sense`](super::check_sense).
pub(super) fn check_sense(fields: &mut Fields) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for name in ["allow", "deny"] {
        for (index, mut rule) in fields.objects(name)?.into_iter().enumerate() {
            let id = rule.text("id")?.unwrap_or_else(|| format!("{name}-{index}"));
            if let Some(again) = seen.replace(id) {
                return Err(rule.wrong("id", format!("{again:?} is the id of another rule too")));
            }
        }
    }
    Ok(())
}

/// Says why a rule does not fit; `None` when it does.
type Misfit<'a> = dyn FnMut(&Rule, Side) -> Option<String> + 'a;

impl Lists {
    /// Returns the rule that denies something, if one does, and why it is not allowed. `misfit` says why a rule that speaks of
    /// the client does not fit. Adds to `compared` what that took.
    fn denies(
        &self,
        authority: &[AclId],
        compared: &mut usize,
        misfit: &mut Misfit<'_>,
    ) -> Option<(Option<&str>, String)> {
        for rule in self.deny.of(authority, compared) {
            *compared += 1;
            if misfit(rule, Side::Deny).is_none() {
                return Some((Some(&rule.id), "a rule denies it".to_owned()));
            }
        }
        let mut nearest = None;
        for rule in self.allow.as_ref()?.of(authority, compared) {
            *compared += 1;
            match misfit(rule, Side::Allow) {
                None => return None,
                // Of what almost fits it can be said what is missing.
                Some(why) => nearest = Some(format!("rule {}: {why}", rule.id)),
            }
        }
        Some((None, nearest.unwrap_or_else(|| "no rule allows it to this client".to_owned())))
    }
}

fn is_super(authority: &[AclId]) -> bool {
    authority.iter().any(|id| id.scheme == "super")
}

/// Asks all policies that were found, those that are enforced first.
fn decide(
    found: Found<'_>,
    lists: fn(&Admission) -> &Lists,
    authority: &[AclId],
    misfit: &mut Misfit<'_>,
) -> Verdict {
    let mut verdict = Verdict { denial: None, compared: found.steps };
    for (name, policy) in found.policies {
        let Terms::Admission(admission) = &policy.terms else { continue };
        if policy.mode == Mode::Off {
            continue;
        }
        let denied = lists(admission).denies(authority, &mut verdict.compared, misfit);
        let Some((rule, why)) = denied else { continue };
        let rule = rule.map_or_else(|| name.to_string(), |rule| format!("{name}/{rule}"));
        let is_enforced = policy.mode == Mode::Enforce;
        let denial = Denial { rule, why, is_enforced };
        if is_enforced {
            verdict.denial = Some(denial);
            break;
        }
        verdict.denial.get_or_insert(denial);
    }
    verdict
}

/// Decides about a write. All policies of admission that match its path have a say; `super` may do everything. Cost: that of
/// [`Policies::matching`], and the rules that speak of the client in what matches; not the number of policies or rules.
pub fn weighed(policies: &Policies, proposed: &Proposed<'_>) -> Verdict {
    let Proposed { path, data, is_folder, authority } = *proposed;
    if policies.has_none(Kind::Admission) || is_super(authority) {
        return Verdict::default();
    }
    let mut read = None;
    let mut misfit = |rule: &Rule, side: Side| {
        let said = read.get_or_insert_with(|| policies.layouts().said(path, data));
        match is_folder && said.addresses.is_empty() {
            false => rule.misfit(side, authority, said),
            true if side == Side::Deny && rule.is_of_registrations() => {
                Some("a folder registers nobody".to_owned())
            }
            true => None,
        }
    };
    decide(policies.find(Kind::Admission, path), |it| &it.register, authority, &mut misfit)
}

/// Returns why a write is not allowed, `None` when it is: see [`weighed`].
pub fn denial(policies: &Policies, proposed: &Proposed<'_>) -> Option<Denial> {
    weighed(policies, proposed).denial
}

/// Returns why somebody may not follow a path, `None` when it may. All policies about following that speak of something it
/// would hear of have a say; `super` may follow everything. Cost: as of [`weighed`], and of a subtree the policies in it.
pub fn following_denial(policies: &Policies, asked: &Asked<'_>) -> Option<Denial> {
    let Asked { path, reach, authority } = *asked;
    if policies.has_none_about_following() || is_super(authority) {
        return None;
    }
    let found = policies.find_about_following(path, reach);
    decide(found, |it| &it.subscribe, authority, &mut |_, _| None).denial
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Policies, Policy, Reach};
    use super::{Asked, Denial, Proposed, denial, following_denial, weighed};
    use crate::types::AclId;

    fn policies(rules: &[(&str, &str)]) -> Policies {
        let mut policies = Policies::new();
        for (name, rest) in rules {
            let json = format!(r#"{{"set_by":"a","reason":"b",{rest}}}"#);
            let policy = Policy::parse(Kind::Admission, json.as_bytes()).unwrap();
            policies.set(Kind::Admission, name, policy);
        }
        policies
    }

    fn id(scheme: &str, id: &str) -> AclId {
        AclId { scheme: scheme.to_owned(), id: id.to_owned() }
    }

    fn ask(policies: &Policies, path: &str, data: &str, authority: &[AclId]) -> Option<Denial> {
        let data = Some(data.as_bytes());
        denial(policies, &Proposed { path, data, is_folder: false, authority })
    }

    const PATH: &str = "/services/web/providers/a";

    #[test]
    fn an_allow_list_denies_whom_it_does_not_name() {
        let rules =
            r#""pattern":"/services/*/providers/**","allow":[{"who":["10.0.0.0/8","digest:u:h"]}]"#;
        let policies = policies(&[("prod", rules)]);
        let from = |text| ask(&policies, PATH, "", &[id("ip", text)]);
        assert_eq!(from("10.1.2.3"), None);
        let denied = from("192.168.0.1").unwrap();
        assert_eq!((denied.rule.as_str(), denied.is_enforced), ("prod", true));
        assert_eq!(ask(&policies, PATH, "", &[id("ip", "192.168.0.1"), id("digest", "u:h")]), None);
        assert_eq!(ask(&policies, PATH, "", &[id("super", "")]), None);
        assert_eq!(ask(&policies, "/locks/a", "", &[]), None);
    }

    #[test]
    fn what_is_registered_must_be_the_peers_address_or_in_a_network_and_have_the_labels() {
        let rules = r#""pattern":"/dubbo/*/providers/*","allow":[{"id":"prod-only","who":["anyone"],
            "host":["peer","10.7.0.0/16"],"labels":{"env":"prod"}}]"#;
        let policies = policies(&[("dubbo", rules)]);
        let peer = [id("ip", "10.0.0.1")];
        let try_ = |host: &str, env: &str| {
            let url = format!(
                "/dubbo/com.a.B/providers/dubbo%3A%2F%2F{host}%3A1%2Fcom.a.B%3Fenv%3D{env}"
            );
            ask(&policies, &url, "10.0.0.1", &peer)
        };
        assert_eq!(try_("10.0.0.1", "prod"), None);
        assert_eq!(try_("10.7.1.1", "prod"), None);
        for (host, env, word) in [
            ("10.0.0.2", "prod", "10.0.0.2"),
            ("10.0.0.1", "test", "env"),
            ("name", "prod", "name"),
        ] {
            let denied = try_(host, env).unwrap();
            assert!(denied.why.contains(word) && denied.why.contains("prod-only"), "{denied:?}");
        }
        let opaque = ask(&policies, "/dubbo/com.a.B/providers/x", "", &peer).unwrap();
        assert!(opaque.why.contains("no host"), "{opaque:?}");
        let path = "/dubbo/com.a.B/providers/x";
        let folder = Proposed { path, data: None, is_folder: true, authority: &peer };
        assert_eq!(denial(&policies, &folder), None, "a folder registers nobody");
    }

    #[test]
    fn a_rule_that_denies_some_registrations_lets_folders_be() {
        let data = br#"{"host":"10.9.0.1","port":1,"metadata":{"env":"test"}}"#;
        for (rest, denies_folders) in [
            (r#""host":["10.9.0.0/16"]"#, false),
            (r#""labels":{"env":"test"}"#, false),
            (r#""host":["10.9.0.0/16"],"labels":{"env":"test"}"#, false),
            (r#""id":"all""#, true),
        ] {
            let rules = format!(r#""pattern":"/**","deny":[{{"who":["anyone"],{rest}}}]"#);
            let policies = policies(&[("lab", &rules)]);
            let proposed =
                |is_folder, data| Proposed { path: PATH, data, is_folder, authority: &[] };
            let is_denied = |proposed| denial(&policies, &proposed).is_some();
            assert_eq!(is_denied(proposed(true, None)), denies_folders, "{rest}");
            assert!(is_denied(proposed(false, Some(&data[..]))), "{rest}");
            // What says where it is registers somebody, whatever else it looks like.
            assert!(is_denied(proposed(true, Some(&data[..]))), "{rest}");
        }
    }

    #[test]
    fn a_rule_that_denies_hosts_is_not_got_around_by_naming_another_one_too() {
        let rules = r#""pattern":"/**","deny":[{"id":"lab","who":["anyone"],"host":["10.9.0.0/16"]},
            {"id":"self","who":["10.8.0.1"],"host":["peer"]}]"#;
        let policies = policies(&[("all", rules)]);
        let registers = |data: &str| {
            let denied = ask(&policies, PATH, data, &[id("ip", "10.8.0.1")]);
            denied.map(|denial| denial.rule)
        };
        let both = |first, second| {
            format!(
                r#"{{"serviceEndpoint":{{"host":"{first}","port":1}},
                    "additionalEndpoints":{{"admin":{{"host":"{second}","port":2}}}},"status":"ALIVE"}}"#
            )
        };
        for data in [both("10.9.0.1", "10.7.0.1"), both("10.7.0.1", "10.9.0.1")] {
            assert_eq!(registers(&data).as_deref(), Some("all/lab"), "{data}");
        }
        assert_eq!(registers(&both("10.7.0.1", "10.8.0.1")).as_deref(), Some("all/self"));
        assert_eq!(registers(&both("10.7.0.1", "10.7.0.2")), None);
    }

    #[test]
    fn a_rule_that_denies_comes_before_those_that_allow_and_is_named() {
        let rules = r#""pattern":"/**","allow":[{"who":["anyone"]}],
            "deny":[{"id":"lab","who":["10.9.0.0/16"]},{"who":["anyone"],"labels":{"env":"test"}}]"#;
        let policies = policies(&[("all", rules)]);
        let from =
            |text, data| ask(&policies, PATH, data, &[id("ip", text)]).map(|denial| denial.rule);
        assert_eq!(from("10.9.1.1", "{}").as_deref(), Some("all/lab"));
        assert_eq!(from("10.8.1.1", "{}"), None);
        let test = r#"{"metadata":{"env":"test"}}"#;
        assert_eq!(from("10.8.1.1", test).as_deref(), Some("all/deny-1"));
    }

    #[test]
    fn what_only_observes_is_told_last_and_what_is_off_not_at_all() {
        let deny = |mode: &str| {
            format!(r#""mode":"{mode}","pattern":"/**","deny":[{{"who":["anyone"]}}]"#)
        };
        let (observe, enforce, off) = (deny("observe"), deny("enforce"), deny("off"));
        let observed = ask(&policies(&[("a", &observe)]), PATH, "", &[]).unwrap();
        assert!(!observed.is_enforced);
        let both = ask(&policies(&[("a", &observe), ("b", &enforce)]), PATH, "", &[]).unwrap();
        assert_eq!((both.rule.as_str(), both.is_enforced), ("b/deny-0", true));
        assert_eq!(ask(&policies(&[("a", &off)]), PATH, "", &[]), None);
    }

    #[test]
    fn rules_that_mean_nothing_are_refused_with_their_place() {
        for (rest, field) in [
            (r#""deny":[]"#, "allow"),
            (r#""allow":[{"who":[]}]"#, "allow[0].who"),
            (r#""allow":[{"who":["anyone"]},{"who":["10.0.0.0/33"]}]"#, "allow[1].who"),
            (r#""allow":[{"who":["digest:u"]}]"#, "allow[0].who"),
            (r#""allow":[{"who":["anyone"],"host":["self"]}]"#, "allow[0].host"),
            (r#""allow":[{"who":["anyone"],"env":"x"}]"#, "allow[0].env"),
            (r#""deny":[{"who":["anyone"],"labels":{"a":1}}]"#, "deny[0].labels"),
            (r#""deny":[{"who":["anyone"],"what":"read"}]"#, "deny[0].what"),
            (r#""allow":[{"who":["anyone"],"what":"subscribe","host":["peer"]}]"#, "allow[0].host"),
        ] {
            let json = format!(r#"{{"set_by":"a","reason":"b","pattern":"/**",{rest}}}"#);
            let wrong = Policy::parse(Kind::Admission, json.as_bytes()).unwrap_err();
            assert_eq!(wrong.field, field, "{rest}");
        }
    }

    fn follow(policies: &Policies, path: &str, reach: Reach, from: &str) -> Option<Denial> {
        following_denial(policies, &Asked { path, reach, authority: &[id("ip", from)] })
    }

    #[test]
    fn a_rule_speaks_of_registering_or_of_subscribing_and_never_of_the_other() {
        let rules = r#""pattern":"/services/*/providers/*","allow":[{"who":["10.0.0.0/8"]},
            {"what":"subscribe","who":["10.1.0.0/16"]}],"deny":[{"id":"lab","what":"subscribe","who":["10.1.9.9"]}]"#;
        let both = policies(&[("prod", rules)]);
        let list = "/services/web/providers";
        let denied = |from| follow(&both, list, Reach::Children, from).map(|denial| denial.rule);
        assert_eq!(denied("10.1.0.1"), None);
        assert_eq!(denied("10.2.0.1").as_deref(), Some("prod"));
        assert_eq!(denied("10.1.9.9").as_deref(), Some("prod/lab"));
        assert_eq!(ask(&both, PATH, "", &[id("ip", "10.2.0.1")]), None, "it may register");
        assert!(ask(&both, PATH, "", &[id("ip", "11.0.0.1")]).is_some());
        assert_eq!(follow(&both, "/services/web", Reach::Children, "10.2.0.1"), None);
        let subtree = follow(&both, "/services", Reach::Subtree, "10.2.0.1");
        assert!(subtree.is_some(), "who follows all of it follows what is below");
        let asked = Asked { path: list, reach: Reach::Entries, authority: &[id("super", "")] };
        assert_eq!(following_denial(&both, &asked), None);

        // Rules about one thing alone leave the other open.
        let of = |rule: &str| policies(&[("a", &format!(r#""pattern":"/**","allow":[{rule}]"#))]);
        let registering = of(r#"{"who":["10.0.0.1"]}"#);
        assert_eq!(follow(&registering, list, Reach::Subtree, "10.9.9.9"), None);
        let subscribing = of(r#"{"what":"subscribe","who":["10.0.0.1"]}"#);
        assert_eq!(ask(&subscribing, PATH, "", &[id("ip", "10.9.9.9")]), None);
        assert!(ask(&of(""), PATH, "", &[id("ip", "10.9.9.9")]).is_some(), "an empty list");
    }

    /// How many comparisons a write to the service `svc-7` and one to no service cost from 10.3.7.7.
    fn compared(policies: &Policies) -> [usize; 2] {
        ["/services/svc-7/providers/a", "/services/other/providers/a"].map(|path| {
            let authority = [id("ip", "10.3.7.7"), id("digest", "u:h")];
            let data = Some(&br#"{"host":"10.3.7.7","port":1}"#[..]);
            weighed(policies, &Proposed { path, data, is_folder: false, authority: &authority })
                .compared
        })
    }

    #[test]
    fn ten_thousand_rules_are_not_compared_one_by_one() {
        let allow = r#""allow":[{"who":["10.0.0.0/8"],"host":["peer"]}]"#;
        let of_services = |count: u32, pattern: &dyn Fn(u32) -> String| {
            let mut policies = policies(&[]);
            for at in 0..count {
                let pattern = pattern(at);
                let json =
                    format!(r#"{{"set_by":"a","reason":"b","pattern":"{pattern}",{allow}}}"#);
                let policy = Policy::parse(Kind::Admission, json.as_bytes()).unwrap();
                policies.set(Kind::Admission, &format!("p{at}"), policy);
            }
            policies
        };
        // Whether the service is named at the end of the pattern's literal beginning or behind a wildcard.
        let literal: fn(u32) -> String = |at| format!("/services/svc-{at}/providers/*");
        let behind: fn(u32) -> String = |at| format!("/*/svc-{at}/**");
        for pattern in [literal, behind] {
            let few = compared(&of_services(10, &pattern));
            assert_eq!(compared(&of_services(10_000, &pattern)), few);
            assert!(few[0] <= 8 && few[1] <= 4, "{few:?}");
        }
        // Many rules in one policy, each for somebody else.
        let of_clients = |count: u32| {
            let rules: Vec<String> = (0..count)
                .map(|at| format!(r#"{{"who":["10.{}.{}.7"]}}"#, at / 250, at % 250))
                .collect();
            let rest = format!(r#""pattern":"/services/**","allow":[{}]"#, rules.join(","));
            policies(&[("all", &rest)])
        };
        let (few, many) = (compared(&of_clients(800)), compared(&of_clients(2_500)));
        assert_eq!(many, few);
        assert!(many[0] <= 8, "{many:?}");
    }
}
