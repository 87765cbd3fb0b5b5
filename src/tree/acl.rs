use core::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;

use crate::limits::{ACL_ID_BYTES_MAX, ACL_RULES_MAX};
use crate::types::{Acl, AclId, AclList, Code, Perms};

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
        "ip" => authority.iter().any(|id| id.scheme == "ip" && in_network(&rule.id, &id.id)),
        _ => authority.contains(rule),
    }
}

/// Returns whether an address lies in `addr` or `addr/bits`. An IPv4 address that arrives in IPv6 clothes
/// is IPv4.
fn in_network(network: &str, address: &str) -> bool {
    let (Some((network, bits)), Ok(address)) = (parse_network(network), address.parse::<IpAddr>())
    else {
        return false;
    };
    match (network, address.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Parses `addr` or `addr/bits`; bits are at most the width of the address.
fn parse_network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address = address.parse::<IpAddr>().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    (bits.unwrap_or(width) <= width).then_some((address, bits.unwrap_or(width)))
}

/// Checks a list that a client wants to set and brings it into the form that is stored: `auth` becomes
/// everyone whom the client has proved to be, duplicates go, and what is open to everyone becomes empty.
/// Errors: `InvalidAcl`. Source: ZooKeeper `PrepRequestProcessor.fixupACL`.
pub(super) fn fix_up(rules: &[Acl], authority: &[AclId]) -> Result<Vec<Acl>, Code> {
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

/// Returns whether an identity of this scheme took a proof, unlike an address, which everyone has.
fn is_proof(scheme: &str) -> bool {
    !matches!(scheme, "world" | "ip" | "auth" | "super")
}

fn is_well_formed(who: &AclId) -> bool {
    let AclId { scheme, id } = who;
    if scheme.len() > ACL_ID_BYTES_MAX || id.len() > ACL_ID_BYTES_MAX {
        return false;
    }
    match scheme.as_str() {
        "world" => id == "anyone",
        "ip" => parse_network(id).is_some(),
        "digest" => {
            matches!(id.split_once(':'), Some((_, hash)) if !hash.is_empty() && !hash.contains(':'))
        }
        "" | "auth" | "super" => false,
        _ => !id.is_empty(),
    }
}

/// Returns the shared list with these rules and counts one more user of it. The empty list is not counted.
pub(super) fn intern(acls: &mut OrdMap<AclList, u64>, rules: Vec<Acl>) -> AclList {
    if rules.is_empty() {
        return AclList::default();
    }
    let shared = match acls.get_key_value(rules.as_slice()) {
        Some((list, _)) => Arc::clone(list),
        None => Arc::from(rules),
    };
    *acls.entry(Arc::clone(&shared)).or_insert(0) += 1;
    shared
}

/// Counts one user less.
pub(super) fn release(acls: &mut OrdMap<AclList, u64>, list: &AclList) {
    if let Some(users) = acls.get_mut(list) {
        *users -= 1;
        if *users == 0 {
            acls.remove(list);
        }
    }
}
