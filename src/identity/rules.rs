use super::network;
use crate::limits::{ACL_ID_BYTES_MAX, ACL_RULES_MAX};
use crate::types::{Acl, AclId, Code, Perms};

/// Returns whether somebody with this authority may do one of the wanted things under this list. An empty
/// list permits everything, and so does the authority `super`. Cost: O(rules × identities). Source:
/// ZooKeeper `ZooKeeperServer.checkACL`.
pub fn permits(acl: &[Acl], authority: &[AclId], wanted: Perms) -> bool {
    acl.is_empty()
        || authority.iter().any(|id| id.scheme == "super")
        || acl.iter().any(|rule| rule.perms.allows(wanted) && speaks_of(&rule.id, authority))
}

fn speaks_of(rule: &AclId, authority: &[AclId]) -> bool {
    match rule.scheme.as_str() {
        "world" => true,
        "ip" => authority.iter().any(|id| id.scheme == "ip" && network::is_in(&rule.id, &id.id)),
        _ => authority.contains(rule),
    }
}

/// Checks a list that a client wants to set and brings it into the form that is stored: `auth` becomes
/// everyone whom the client has proved to be, duplicates go, and what is open to everyone becomes empty.
/// Errors: `InvalidAcl` for an unknown scheme, a name that its scheme does not have, `auth` of somebody who
/// has proved nothing, permissions that do not exist, and too many rules. Source: ZooKeeper
/// `PrepRequestProcessor.fixupACL`.
pub fn fix_up(rules: &[Acl], authority: &[AclId]) -> Result<Vec<Acl>, Code> {
    if rules.len() > ACL_RULES_MAX {
        return Err(Code::InvalidAcl);
    }
    let mut fixed: Vec<Acl> = Vec::new();
    let mut add = |perms: Perms, id: &AclId| {
        let rule = Acl { perms, id: id.clone() };
        let is_valid = is_well_formed(id) && perms.0 & !Perms::ALL.0 == 0;
        if is_valid && !fixed.contains(&rule) {
            fixed.push(rule);
        }
        if is_valid && fixed.len() <= ACL_RULES_MAX { Ok(()) } else { Err(Code::InvalidAcl) }
    };
    for rule in rules {
        if rule.id.scheme != "auth" {
            add(rule.perms, &rule.id)?;
            continue;
        }
        let mut proved = authority.iter().filter(|id| is_proof(&id.scheme)).peekable();
        if proved.peek().is_none() {
            return Err(Code::InvalidAcl);
        }
        proved.try_for_each(|id| add(rule.perms, id))?;
    }
    let is_open =
        matches!(fixed.as_slice(), [rule] if rule.perms == Perms::ALL && rule.id.scheme == "world");
    Ok(if is_open { Vec::new() } else { fixed })
}

/// Returns whether an identity of this scheme took a proof, unlike an address, which everyone has, and can
/// be in a list, unlike `super`.
fn is_proof(scheme: &str) -> bool {
    matches!(scheme, "digest" | "x509")
}

fn is_well_formed(who: &AclId) -> bool {
    let AclId { scheme, id } = who;
    if id.len() > ACL_ID_BYTES_MAX {
        return false;
    }
    match scheme.as_str() {
        "world" => id == "anyone",
        "ip" => network::parse(id).is_some(),
        // Java's `split(":")` forgets empty parts at the end, and a user name may be empty.
        "digest" => id.trim_end_matches(':').split(':').count() == 2,
        "x509" => !id.is_empty(),
        _ => false,
    }
}

/// Returns the rules that an op has to carry for the list that a ZooKeeper client sent: the same, but for
/// the empty one. Within, that is the list that is open to everyone; on that wire it is no list at all, and
/// what comes out here is refused as `InvalidAcl` when it is its turn among the checks.
pub fn received(rules: Vec<Acl>) -> Vec<Acl> {
    if !rules.is_empty() {
        return rules;
    }
    let nobody = AclId { scheme: String::new(), id: String::new() };
    vec![Acl { perms: Perms(0), id: nobody }]
}

/// Returns a list as somebody with this authority may see it: without the permission ADMIN the hashes of
/// passwords are shown as `x`. Source: ZooKeeper `FinalRequestProcessor`, case getACL.
pub fn masked(acl: &[Acl], authority: &[AclId]) -> Vec<Acl> {
    let shows_all = permits(acl, authority, Perms::ADMIN);
    let show = |rule: &Acl| {
        let mut rule = rule.clone();
        if rule.id.scheme == "digest" && !shows_all {
            let name = rule.id.id.split(':').next().unwrap_or_default();
            rule.id.id = format!("{name}:x");
        }
        rule
    };
    acl.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::{fix_up, masked, permits, received};
    use crate::limits::{ACL_ID_BYTES_MAX, ACL_RULES_MAX};
    use crate::types::{Acl, AclId, Code, Perms};

    fn who(scheme: &str, id: &str) -> AclId {
        AclId { scheme: scheme.to_owned(), id: id.to_owned() }
    }

    fn rule(perms: Perms, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: who(scheme, id) }
    }

    #[test]
    fn a_name_that_its_scheme_does_not_have_is_refused() {
        let long = format!("u:{}", "h".repeat(ACL_ID_BYTES_MAX));
        for (scheme, id, is_valid) in [
            ("world", "anyone", true),
            ("world", "", false),
            ("digest", "u:h", true),
            ("digest", ":h", true),
            ("digest", "u:h:", true),
            ("digest", "u:", false),
            ("digest", "u", false),
            ("digest", ":", false),
            ("digest", "a:b:c", false),
            ("digest", long.as_str(), false),
            ("ip", "10.0.0.0/8", true),
            ("ip", "10.0.0.0/33", false),
            ("ip", "::1", true),
            ("ip", "localhost", false),
            ("x509", "CN=a", true),
            ("x509", "", false),
            ("super", "", false),
            ("sasl", "a", false),
            ("reason", "a", false),
            ("", "", false),
        ] {
            let rules = [rule(Perms::READ, scheme, id)];
            let expected = if is_valid { Ok(rules.to_vec()) } else { Err(Code::InvalidAcl) };
            assert_eq!(fix_up(&rules, &[]), expected, "{scheme}:{id}");
        }
        assert_eq!(fix_up(&[rule(Perms(32), "world", "anyone")], &[]), Err(Code::InvalidAcl));
        let many = vec![rule(Perms::READ, "world", "anyone"); ACL_RULES_MAX + 1];
        assert_eq!(fix_up(&many, &[]), Err(Code::InvalidAcl));
    }

    #[test]
    fn auth_becomes_all_that_was_proved_and_duplicates_go() {
        let authority =
            [who("ip", "10.0.0.1"), who("digest", "u:h"), who("super", ""), who("x509", "CN=u")];
        let rules = [rule(Perms::ALL, "auth", "whatever"), rule(Perms::ALL, "digest", "u:h")];
        let expected = vec![rule(Perms::ALL, "digest", "u:h"), rule(Perms::ALL, "x509", "CN=u")];
        assert_eq!(fix_up(&rules, &authority), Ok(expected));
        assert_eq!(fix_up(&rules, &authority[..1]), Err(Code::InvalidAcl));
    }

    #[test]
    fn a_list_without_rules_is_open_within_and_refused_from_a_zookeeper_client() {
        assert_eq!(fix_up(&[], &[]), Ok(Vec::new()));
        assert_eq!(fix_up(&received(Vec::new()), &[]), Err(Code::InvalidAcl));
        let open = vec![rule(Perms::ALL, "world", "anyone")];
        assert_eq!(received(open.clone()), open);
        assert_eq!(fix_up(&open, &[]), Ok(Vec::new()));
    }

    #[test]
    fn hashes_are_shown_to_those_only_who_may_change_them() {
        let acl = [rule(Perms::ALL, "digest", "u:hash"), rule(Perms::READ, "ip", "::1")];
        assert_eq!(masked(&acl, &[who("digest", "u:hash")]), acl);
        assert_eq!(masked(&acl, &[who("super", "")]), acl);
        let shown = masked(&acl, &[who("ip", "::1")]);
        assert_eq!(shown, [rule(Perms::ALL, "digest", "u:x"), acl[1].clone()]);
    }

    #[test]
    fn a_rule_speaks_of_those_it_names_and_of_what_it_names_only() {
        let acl = [rule(Perms(5), "digest", "u:h"), rule(Perms::WRITE, "ip", "10.0.0.0/8")];
        let (user, near) = ([who("digest", "u:h")], [who("ip", "10.9.9.9")]);
        assert!(permits(&acl, &user, Perms::READ) && permits(&acl, &user, Perms::CREATE));
        assert!(!permits(&acl, &user, Perms::WRITE) && permits(&acl, &near, Perms::WRITE));
        assert!(!permits(&acl, &[], Perms::ALL) && permits(&acl, &[who("super", "")], Perms::ALL));
        assert!(!permits(&acl, &[who("digest", "u:x")], Perms::ALL));
    }
}
