//! How policies spread the news of a transaction: by which waves each of its events is told, if by any.

use super::stage::Audience;
use crate::policy::{Kind, Mode, Notify, Pattern, Policies, Terms, Urgency};
use crate::traffic::{DRAINS, EFFECTS};
use crate::tree::{Tree, noted_at};
use crate::types::{Event, Op};
use crate::watch::{Filter, SubscriberId, Wait, WatchKind, Waves};

/// Returns for which policies a transaction is exempt: what overrides do and what drains do is noted in the same one.
pub(super) fn urgency(op: &Op) -> Urgency {
    let ops = match op {
        Op::Multi(ops) => ops.as_slice(),
        one => std::slice::from_ref(one),
    };
    let is_below = |root: &str| {
        ops.iter().any(|op| match op {
            Op::Create { parent, .. } => parent.as_str() == root,
            Op::Delete { path, .. } | Op::SetData { path, .. } => path.parent_str() == Some(root),
            _ => false,
        })
    };
    Urgency { is_drain: is_below(DRAINS), is_override: is_below(EFFECTS) }
}

/// Returns the waves of each event, at so many events per second; none at all where no policy spreads any.
pub(super) fn waves(
    policies: &Policies,
    events: &[Event],
    urgency: Urgency,
    events_per_s: u64,
) -> Vec<Option<Waves>> {
    if policies.has_none(Kind::Notify) {
        return Vec::new();
    }
    let one = |event: &Event| {
        // How an instance stands is told with what it says.
        let noted = noted_at(event.path.as_str());
        let path = noted.as_ref().unwrap_or(&event.path);
        let paths = [Some(path.as_str()), path.parent_str()];
        let notify = paths.into_iter().flatten().find_map(|path| prevailing(policies, path))?;
        notify.spreads(urgency, events_per_s).then_some(of(notify))
    };
    events.iter().map(one).collect()
}

/// Returns what spreads the news of a path, on or not.
fn prevailing<'a>(policies: &'a Policies, path: &'a str) -> Option<&'a Notify> {
    match policies.prevailing(Kind::Notify, path)?.1 {
        policy if policy.mode != Mode::Enforce => None,
        policy => match &policy.terms {
            Terms::Notify(notify) => Some(notify),
            _ => None,
        },
    }
}

fn of(notify: &Notify) -> Waves {
    Waves { count: notify.waves, interval_ms: notify.interval_ms }
}

/// Returns how many policies spread news at so many events per second.
pub(super) fn active(policies: &Policies, events_per_s: u64) -> usize {
    let is_on = |policy: &crate::policy::Policy| match &policy.terms {
        Terms::Notify(notify) => policy.mode == Mode::Enforce && notify.is_on(events_per_s),
        _ => false,
    };
    policies.iter().filter(|(_, (_, policy))| is_on(policy)).count()
}

impl Audience {
    /// Returns for how long a listener with this turn waits for what it asks for, if any of that is spread: as long as for
    /// what comes first.
    pub(super) fn wait(
        &mut self,
        tree: &Tree,
        filters: &[Filter],
        turn: u64,
        now_ms: u64,
    ) -> Option<Wait> {
        if tree.policies().has_none(Kind::Notify) {
            return None;
        }
        let waits = self.waits(tree, filters, turn, now_ms).into_iter().flatten();
        waits.reduce(|one, other| Wait {
            turn_ms: one.turn_ms.min(other.turn_ms),
            round_ms: one.round_ms.min(other.round_ms),
        })
    }

    /// Returns the same for each of what it asks for.
    fn waits(
        &mut self,
        tree: &Tree,
        filters: &[Filter],
        turn: u64,
        now_ms: u64,
    ) -> Vec<Option<Wait>> {
        let events_per_s = self.events.note(now_ms, 0);
        let cluster_ms = self.ahead.moment(now_ms).cluster_ms;
        let wait = |filter: &Filter| {
            let noted = noted_at(filter.path.as_str());
            let path = noted.as_ref().unwrap_or(&filter.path);
            let notify = prevailing(tree.policies(), path.as_str())?;
            notify.is_on(events_per_s).then(|| of(notify).wait(cluster_ms, turn))
        };
        filters.iter().map(wait).collect()
    }

    /// Returns whether the present state is less than what waits for a subscriber whose news is spread, so that it is told
    /// that instead. Cost: O(filters).
    pub(super) fn is_state_less(&mut self, tree: &Tree, id: SubscriberId, now_ms: u64) -> bool {
        let pending = self.hub.pending(id);
        if pending == 0 || tree.policies().has_none(Kind::Notify) {
            return false;
        }
        let filters = self.hub.filters(id).to_vec();
        let znodes = |filter: &Filter| match filter.kind {
            WatchKind::Data => Some(1),
            WatchKind::Children | WatchKind::ChildrenData => {
                Some(1 + tree.get(filter.path.as_str()).map_or(0, |znode| znode.num_children()))
            }
            // To count them would cost as much as to tell them.
            WatchKind::Subtree => None,
        };
        let state = filters.iter().map(znodes).sum::<Option<usize>>();
        state.is_some_and(|znodes| znodes < pending)
            && self.waits(tree, &filters, 0, now_ms).iter().all(Option::is_some)
    }
}

impl super::Node {
    /// Returns how many connections and how many subscriptions of this node watch a path that a pattern matches. Cost:
    /// O(watched paths + those that watch them), under the lock that apply needs.
    pub fn listeners(&self, pattern: &Pattern) -> (usize, usize) {
        let audience = self.inner.stage.audience.lock();
        let is_wanted = |path: &str| pattern.matches(path);
        (audience.lines.watches.watching_any(is_wanted), audience.hub.watching(is_wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::types::{CreateMode, EventKind, Stat, ZnodePath};

    fn policies(terms: &str) -> Policies {
        let json = format!(
            r#"{{"set_by":"a","reason":"b","expires_at_ms":1,"pattern":"/services/*/providers"{terms}}}"#
        );
        let mut policies = Policies::default();
        let policy = Policy::parse(Kind::Notify, json.as_bytes()).unwrap();
        policies.set(Kind::Notify, "p", policy);
        policies
    }

    fn event(path: &str) -> Event {
        Event {
            kind: EventKind::DataChanged,
            path: ZnodePath::parse(path).unwrap(),
            data: None,
            stat: Stat::default(),
            acl: std::sync::Arc::from([]),
            parent_acl: std::sync::Arc::from([]),
        }
    }

    #[test]
    fn what_is_in_a_list_is_spread_with_the_list_and_nothing_else() {
        let noted = "/roost/health/%2Fservices%2Fa%2Fproviders/x";
        let events = ["/services/a/providers", noted, "/services/a", "/b"];
        let events = events.map(event);
        let spread = |terms, urgency, rate| {
            let waves = waves(&policies(terms), &events, urgency, rate);
            waves.iter().map(Option::is_some).collect::<Vec<bool>>()
        };
        let none = Urgency::default();
        assert_eq!(spread("", none, 0), [true, true, false, false]);
        assert_eq!(spread(r#","mode":"off""#, none, 0), [false; 4]);
        assert_eq!(spread(r#","auto_events_per_s":9"#, none, 9), [false; 4]);
        assert_eq!(spread("", Urgency { is_drain: true, ..none }, 0), [false; 4]);
        assert!(waves(&Policies::default(), &events, none, 0).is_empty());
        let on = |terms, rate| active(&policies(terms), rate);
        assert_eq!((on("", 0), on(r#","mode":"off""#, 0)), (1, 0));
        assert_eq!(
            (on(r#","auto_events_per_s":9"#, 9), on(r#","auto_events_per_s":9"#, 10)),
            (0, 1)
        );
    }

    #[test]
    fn what_overrides_and_drains_do_is_known_by_its_note() {
        let path = |text| ZnodePath::parse(text).unwrap();
        let create = |parent| Op::Create {
            parent: path(parent),
            name: "x".to_owned(),
            data: None,
            acl: Vec::new(),
            mode: CreateMode::Persistent,
        };
        let set = |at| Op::SetData { path: path(at), data: None, version: None };
        let is_override = |op| urgency(&op) == Urgency { is_override: true, is_drain: false };
        assert!(is_override(Op::Multi(vec![set("/a"), create(EFFECTS)])));
        assert!(is_override(Op::Multi(vec![set("/roost/effects/x"), set("/a")])));
        assert!(is_override(Op::Delete { path: path("/roost/effects/x"), version: None }));
        assert!(urgency(&create(DRAINS)).is_drain);
        for op in [create("/roost"), set(EFFECTS), set("/roost/effectsx/y"), set("/a")] {
            assert_eq!(urgency(&op), Urgency::default(), "{op:?}");
        }
    }
}
