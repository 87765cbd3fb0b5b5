use core::net::IpAddr;
use std::collections::BTreeMap;

use super::payload::Payload;
use super::{Fields, Kind, Mode, Policies, Terms, Wrong};
use crate::identity::{Network, fix_up};
use crate::types::{Acl, AclId, Perms};

/// Who may create znodes and set their data where the pattern matches their path, and what they may register there. With
/// an allow list, whom no rule of it allows is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    allow: Option<Vec<Rule>>,
    deny: Vec<Rule>,
}

/// One rule: it speaks of a write whose client is one of `who` and whose payload fits all that is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    id: String,
    who: Vec<Who>,
    /// Every host that is registered must be one of these, if there are any.
    hosts: Vec<Host>,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Anyone,
    Network(Network),
    Identity(AclId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// The address from which the client speaks.
    Peer,
    Network(Network),
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

/// Why a write is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The policy's name, and behind a slash the rule's id for a rule that denies.
    pub rule: String,
    /// Why, for a person.
    pub why: String,
    /// Whether it is to be refused; else it would be if the policy was not only observing.
    pub is_enforced: bool,
}

impl Admission {
    pub(super) fn parse(fields: &mut Fields) -> Result<Admission, Wrong> {
        let allow = if fields.has("allow") { Some(rules(fields, "allow")?) } else { None };
        let deny = rules(fields, "deny")?;
        if allow.is_none() && deny.is_empty() {
            return Err(
                fields.wrong("allow", "there is neither a rule that allows nor one that denies")
            );
        }
        Ok(Admission { allow, deny })
    }

    /// Returns the rule that denies a write, if one does, and why it is not allowed.
    fn denies(&self, proposed: &Proposed<'_>, payload: &Payload) -> Option<(Option<&str>, String)> {
        if let Some(rule) = self.deny.iter().find(|rule| rule.mismatch(proposed, payload).is_none())
        {
            return Some((Some(&rule.id), "a rule denies it".to_owned()));
        }
        let allow = self.allow.as_deref()?;
        let mut nearest = None;
        for rule in allow {
            match rule.mismatch(proposed, payload) {
                None => return None,
                // Of what almost fits it can be said what is missing.
                Some(Mismatch::Payload(why)) => nearest = Some(format!("rule {}: {why}", rule.id)),
                Some(Mismatch::Who) => {}
            }
        }
        Some((None, nearest.unwrap_or_else(|| "no rule allows it to this client".to_owned())))
    }
}

fn rules(fields: &mut Fields, name: &str) -> Result<Vec<Rule>, Wrong> {
    let rules = fields.objects(name)?.into_iter().enumerate();
    rules.map(|(index, fields)| Rule::parse(format!("{name}-{index}"), fields)).collect()
}

enum Mismatch {
    Who,
    Payload(String),
}

impl Rule {
    fn parse(default_id: String, mut fields: Fields) -> Result<Rule, Wrong> {
        let id = fields.text("id")?.unwrap_or(default_id);
        let texts = fields.texts("who")?.unwrap_or_default();
        let who = texts.iter().map(|text| Who::parse(text));
        let who =
            who.collect::<Result<Vec<Who>, String>>().map_err(|why| fields.wrong("who", why))?;
        if who.is_empty() {
            return Err(
                fields.wrong("who", "it is missing: a list of networks, identities or \"anyone\"")
            );
        }
        let texts = fields.texts("host")?.unwrap_or_default();
        let hosts = texts.iter().map(|text| Host::parse(text));
        let hosts = hosts
            .collect::<Result<Vec<Host>, String>>()
            .map_err(|why| fields.wrong("host", why))?;
        let labels = fields.labels("labels")?;
        fields.finish()?;
        Ok(Rule { id, who, hosts, labels })
    }

    /// Returns why the rule does not speak of a write, `None` when it does.
    fn mismatch(&self, proposed: &Proposed<'_>, payload: &Payload) -> Option<Mismatch> {
        if !self.who.iter().any(|who| who.is_among(proposed.authority)) {
            return Some(Mismatch::Who);
        }
        // It registers nobody, so there is nothing that could be wrong with whom.
        if proposed.is_folder && payload.hosts.is_empty() {
            return None;
        }
        if !self.hosts.is_empty() {
            if payload.hosts.is_empty() {
                return Some(Mismatch::Payload(
                    "it registers no host that is understood".to_owned(),
                ));
            }
            let fits =
                |host: &&String| self.hosts.iter().any(|rule| rule.fits(host, proposed.authority));
            if let Some(host) = payload.hosts.iter().find(|host| !fits(host)) {
                return Some(Mismatch::Payload(format!("it registers the host {host}")));
            }
        }
        let wrong = |(key, wanted): &(&String, &String)| payload.label(key) != Some(wanted);
        self.labels.iter().find(wrong).map(|(key, wanted)| {
            let found =
                payload.label(key).map_or("missing".to_owned(), |found| format!("{found:?}"));
            Mismatch::Payload(format!("its label {key} is {found}, not {wanted:?}"))
        })
    }
}

impl Who {
    /// Reads `anyone`, a network, or `scheme:id` as it stands in access control lists.
    fn parse(text: &str) -> Result<Who, String> {
        if text == "anyone" {
            return Ok(Who::Anyone);
        }
        if let Some(network) = Network::parse(text) {
            return Ok(Who::Network(network));
        }
        let (scheme, id) = text.split_once(':').unwrap_or(("", text));
        let id = AclId { scheme: scheme.to_owned(), id: id.to_owned() };
        let rule = Acl { perms: Perms::ALL, id: id.clone() };
        match fix_up(&[rule], &[]) {
            Ok(_) if matches!(scheme, "digest" | "x509") => Ok(Who::Identity(id)),
            _ => Err(format!(
                "{text:?} is none of anyone, ADDRESS, ADDRESS/BITS, digest:NAME:HASH, x509:NAME"
            )),
        }
    }

    fn is_among(&self, authority: &[AclId]) -> bool {
        match self {
            Who::Anyone => true,
            Who::Network(network) => addresses(authority).any(|address| network.contains(address)),
            Who::Identity(id) => authority.contains(id),
        }
    }
}

impl Host {
    /// Reads `peer` or a network.
    fn parse(text: &str) -> Result<Host, String> {
        match text {
            "peer" => Ok(Host::Peer),
            text => Network::parse(text)
                .map(Host::Network)
                .ok_or_else(|| format!("{text:?} is none of peer, ADDRESS, ADDRESS/BITS")),
        }
    }

    fn fits(&self, host: &str, authority: &[AclId]) -> bool {
        // A name could become any address once it is registered.
        let Ok(host) = host.parse::<IpAddr>() else { return false };
        match self {
            Host::Peer => addresses(authority).any(|address| address == host.to_canonical()),
            Host::Network(network) => network.contains(host),
        }
    }
}

/// Yields the addresses among somebody's identities.
fn addresses(authority: &[AclId]) -> impl Iterator<Item = IpAddr> {
    let ids = authority.iter().filter(|id| id.scheme == "ip");
    ids.filter_map(|id| id.id.parse::<IpAddr>().ok()).map(|address| address.to_canonical())
}

/// Returns why a write is not allowed, `None` when it is. All policies of admission that match its path have a say, those
/// that are enforced first; `super` may do everything. Cost: that of [`Policies::matching`], and the rules of what matches.
pub fn denial(policies: &Policies, proposed: &Proposed<'_>) -> Option<Denial> {
    if policies.has_none(Kind::Admission)
        || proposed.authority.iter().any(|id| id.scheme == "super")
    {
        return None;
    }
    let mut payload = None;
    let mut observed = None;
    for (name, policy) in policies.matching(Kind::Admission, proposed.path) {
        let Terms::Admission(admission) = &policy.terms else { continue };
        if policy.mode == Mode::Off {
            continue;
        }
        let last = proposed.path.rsplit('/').next().unwrap_or_default();
        let payload = payload.get_or_insert_with(|| Payload::read(last, proposed.data));
        let Some((rule, why)) = admission.denies(proposed, payload) else { continue };
        let rule = rule.map_or_else(|| name.to_string(), |rule| format!("{name}/{rule}"));
        let is_enforced = policy.mode == Mode::Enforce;
        let denial = Denial { rule, why, is_enforced };
        if is_enforced {
            return Some(denial);
        }
        observed.get_or_insert(denial);
    }
    observed
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Policies, Policy};
    use super::{Denial, Proposed, denial};
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
        ] {
            let json = format!(r#"{{"set_by":"a","reason":"b","pattern":"/**",{rest}}}"#);
            let wrong = Policy::parse(Kind::Admission, json.as_bytes()).unwrap_err();
            assert_eq!(wrong.field, field, "{rest}");
        }
    }
}
