use std::sync::Arc;

use axum::http::HeaderValue;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Door;
use super::answer::AGE_MS;
use super::error::Failed;
use super::extract::Caller;
use crate::limits::{PAGE_BYTES_MAX, PAGE_CHILDREN_MAX};
use crate::node::{Consistency, View};
use crate::policy::Reach;
use crate::tree::Znode;
use crate::types::Zxid;

/// How fresh the state of a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Freshness {
    /// Not older than the moment of the request.
    #[default]
    Linearizable,
    /// This node's state, not older than `min_zxid`.
    Sequential,
    /// This node's state, whatever its age, at once.
    Stale,
}

/// Returns the state that a read speaks of.
pub(crate) async fn view(
    door: &Door,
    consistency: Option<Freshness>,
    min_zxid: Option<u64>,
) -> Result<View, Failed> {
    let consistency = match consistency.unwrap_or_default() {
        Freshness::Linearizable => Consistency::Linearizable,
        Freshness::Sequential => Consistency::Sequential,
        Freshness::Stale => Consistency::Stale,
    };
    Ok(door.node().read(consistency, Zxid(min_zxid.unwrap_or(0))).await?)
}

/// Returns the znode at a path if the caller may read it.
pub(crate) fn readable<'a>(
    view: &'a View,
    path: &str,
    caller: &Caller,
) -> Result<&'a Znode, Failed> {
    let found = view.tree.readable(path, &caller.authority);
    found.map(Arc::as_ref).map_err(|code| Failed::code(code).at(view.tree.zxid()))
}

/// Returns whether policies let the caller follow a path. To read counts as to follow: through this door the one is done by
/// the other, again and again.
pub(crate) fn admit(door: &Door, caller: &Caller, path: &str, reach: Reach) -> Result<(), Failed> {
    Ok(door.node().admit_subscription(caller.session, &caller.authority, path, reach)?)
}

/// Adds the age of the state to the answer of a stale read.
pub(crate) fn aged(view: &View, mut response: Response) -> Response {
    if let Some(age_ms) = view.age_ms {
        response.headers_mut().insert(AGE_MS, HeaderValue::from(age_ms));
    }
    response
}

/// Returns the number of items that a page may have.
pub(crate) fn page_limit(limit: Option<usize>) -> Result<usize, Failed> {
    match limit.unwrap_or(PAGE_CHILDREN_MAX) {
        limit @ 1..=PAGE_CHILDREN_MAX => Ok(limit),
        limit => Err(Failed::bad_arguments(format!(
            "limit is {limit}: it must be 1 to {PAGE_CHILDREN_MAX}"
        ))),
    }
}

/// Collects one page: at most `limit` items and about [`PAGE_BYTES_MAX`] bytes, but one item in any case.
/// `make` turns what the iterator yields into an item and its bytes. Returns the items, and whether there
/// are more.
pub(crate) fn page<S, T>(
    source: impl Iterator<Item = S>,
    limit: usize,
    mut make: impl FnMut(S) -> (T, usize),
) -> (Vec<T>, bool) {
    let mut items = Vec::new();
    let mut total_bytes = 0;
    let mut source = source.peekable();
    while source.peek().is_some() && items.len() < limit {
        let Some((item, bytes)) = source.next().map(&mut make) else { break };
        items.push(item);
        total_bytes += bytes;
        if total_bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    (items, source.peek().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_limit_of_items_or_of_bytes_and_knows_whether_more_follow() {
        let of = |bytes: usize| move |n: u32| (n, bytes);
        assert_eq!(page(0..3, 5, of(1)), (vec![0, 1, 2], false));
        assert_eq!(page(0..3, 3, of(1)), (vec![0, 1, 2], false));
        assert_eq!(page(0..3, 2, of(1)), (vec![0, 1], true));
        assert_eq!(page(0..3, 5, of(PAGE_BYTES_MAX / 2)), (vec![0, 1], true));
        assert_eq!(page(0..2, 5, of(PAGE_BYTES_MAX + 1)), (vec![0], true));
        assert_eq!(page(0..0, 5, of(1)), (vec![], false));
    }

    #[test]
    fn a_limit_outside_its_range_is_refused() {
        assert_eq!(page_limit(None).unwrap(), PAGE_CHILDREN_MAX);
        assert_eq!(page_limit(Some(1)).unwrap(), 1);
        for bad in [0, PAGE_CHILDREN_MAX + 1] {
            assert_eq!(page_limit(Some(bad)).unwrap_err().parts().1.code, "bad_arguments");
        }
    }
}
