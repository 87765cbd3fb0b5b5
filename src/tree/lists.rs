//! Access control lists as they are kept: each once, with the number of its users.

use std::sync::Arc;

use imbl::OrdMap;

use crate::types::{Acl, AclList};

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
