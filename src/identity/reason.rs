use crate::types::AclId;

/// The scheme under which an authority carries a reason. No list may have it, so no rule speaks of it.
const REASON: &str = "reason";

/// Returns what carries, beside whom somebody has proved to be, why he does what he asks for.
pub fn because(reason: &str) -> AclId {
    AclId { scheme: REASON.to_owned(), id: reason.to_owned() }
}

/// Returns the reason that an authority carries, if it does.
pub fn reason_of(authority: &[AclId]) -> Option<&str> {
    authority.iter().find(|id| id.scheme == REASON).map(|id| id.id.as_str())
}

/// Returns who somebody is, for people: the name of what was proved, or the address.
pub fn name_of(authority: &[AclId]) -> String {
    let proved = authority.iter().find(|id| id.scheme == "digest").map(|id| {
        let name = id.id.split(':').next().unwrap_or_default();
        format!("digest:{name}")
    });
    let address =
        || authority.iter().find(|id| id.scheme == "ip").map(|id| format!("ip:{}", id.id));
    proved.or_else(address).unwrap_or_else(|| "nobody".to_owned())
}
