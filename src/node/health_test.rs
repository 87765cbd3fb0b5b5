use std::net::{IpAddr, SocketAddr};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::node::testing::{apply, path, put, with_session};
use crate::policy::path_of;
use crate::probe::Probe;
use crate::types::SessionId;

const BOUNDS: (usize, usize) = (1_000, 100);

/// May ask everybody, and is not to.
struct Idle;

impl Prober for Idle {
    fn allows(&self, _: IpAddr) -> bool {
        true
    }

    fn probe(&self, _: SocketAddr, _: Probe, _: Duration) -> BoxFuture<'static, Found> {
        std::future::pending().boxed()
    }
}

fn policy(tree: &mut Tree, name: &str, pattern: &str, when: &str) {
    let json = format!(
        r#"{{"set_by":"a","reason":"b","pattern":"{pattern}","probe":"tcp","networks":["10.0.0.0/8"]{when}}}"#
    );
    put(tree, SessionId::NONE, &path_of(Kind::Probe, name), &json);
}

const ALWAYS: &str = r#","on":"continuous","interval_ms":1000"#;

fn instance(list: &str, last: usize) -> String {
    format!("{list}/10.0.0.{last}:80")
}

/// Returns a tree with so many instances in each of these lists.
fn with_instances(lists: &[&str], count: usize) -> Tree {
    let (mut tree, session) = with_session();
    for list in lists {
        for last in 0..count {
            put(&mut tree, session, &instance(list, last), "");
        }
    }
    tree
}

fn note(tree: &mut Tree, at: &str, works: bool) -> (ZnodePath, Zxid) {
    let path = path(at);
    let czxid = tree.get(at).unwrap().stat().czxid;
    apply(tree, SessionId::NONE, Op::SetHealth { path: path.clone(), czxid, works, term: 1 });
    (path, czxid)
}

fn asked(sight: &Sight) -> Vec<&str> {
    sight.wanted.keys().map(ZnodePath::as_str).collect()
}

#[test]
fn whom_a_policy_means_that_prevails_is_asked_and_nobody_without_a_prober() {
    let mut tree = with_instances(&["/a/x", "/a/y", "/b/x"], 2);
    policy(&mut tree, "all", "/a/**", ALWAYS);
    policy(&mut tree, "y", "/a/y", "");
    let sight = Sight::of(&tree, Some(&Idle), BOUNDS);
    assert_eq!(asked(&sight), ["/a/x/10.0.0.0:80", "/a/x/10.0.0.1:80"]);
    assert!(sight.is_whole && sight.dropped.is_empty());
    let of_nobody = Sight::of(&tree, None, BOUNDS);
    assert!(of_nobody.is_whole && of_nobody.wanted.is_empty());
}

#[test]
fn what_several_policies_mean_is_walked_once() {
    let mut tree = with_instances(&["/a/x", "/a-b", "/c"], 2);
    for (name, pattern) in
        [("1", "/a/**"), ("2", "/a/x"), ("3", "/a/*"), ("4", "/a-b"), ("5", "/c")]
    {
        policy(&mut tree, name, pattern, ALWAYS);
    }
    assert_eq!(places(&tree), ["/a", "/a-b", "/c"]);
    // Of them three lists, one of them below another znode, and six instances: no more is walked.
    let sight = Sight::of(&tree, Some(&Idle), (7, 6));
    assert!(sight.is_whole, "{sight:?}");
    assert_eq!(sight.wanted.len(), 6);
    policy(&mut tree, "6", "/**", ALWAYS);
    assert_eq!(places(&tree), ["/"]);
}

#[test]
fn beyond_a_bound_nobody_is_said_to_fail_whom_nobody_asks() {
    let mut tree = with_instances(&["/a"], 4);
    policy(&mut tree, "all", "/a", ALWAYS);
    let failing: Vec<_> =
        (0..4).map(|last| note(&mut tree, &instance("/a", last), false)).collect();
    let whole = Sight::of(&tree, Some(&Idle), (4, 4));
    assert!(whole.is_whole && whole.wanted.len() == 4 && whole.dropped.is_empty(), "{whole:?}");
    for bounds in [(3, 4), (4, 3)] {
        let sight = Sight::of(&tree, Some(&Idle), bounds);
        assert!(!sight.is_whole && sight.wanted.len() == 3, "{sight:?}");
        assert_eq!(sight.dropped, failing[3..]);
    }
    let (at, czxid) = &failing[3];
    note(&mut tree, at.as_str(), true);
    assert_eq!(tree.health(at, *czxid).0, Health::Healthy);
    assert!(Sight::of(&tree, Some(&Idle), (3, 4)).dropped.is_empty());
}

#[test]
fn who_could_not_be_asked_is_not_known_to_fail() {
    for (found, expected) in [
        (&[Found::Answers, Found::Unasked][..], Some(true)),
        (&[Found::Silent, Found::Unasked], None),
        (&[Found::Refuses, Found::Silent], Some(false)),
    ] {
        assert_eq!(works(found), expected, "{found:?}");
    }
}
