//! Availability on the two sides of a partition, from what the clients of each site got and the faults as they happened.
//!
//! A client is on the side on which it can reach, whichever node it asks: who is cut off and in vain asks a node of the
//! majority is one that was cut off, and who asks a node that was cut off while it can reach the others is not.

use std::collections::BTreeSet;

use crate::check::registry::{Answers, Strips};
use crate::run::RunResult;
use crate::schedule::{Fault, Group, Party, Who};

/// Sites that a partition cut off from a majority of the nodes, and from when to when, in whole seconds.
struct Cut {
    cut_off: BTreeSet<u8>,
    seconds: std::ops::Range<usize>,
}

/// What the clients of one side got, per second; nothing in seconds without such a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) strip: Vec<Answers>,
}

impl Side {
    /// Returns the answered share of its requests, percent; `None` when nobody asked.
    pub(super) fn share(&self) -> Option<f64> {
        let (answered, all) = self.strip.iter().fold((0_u64, 0_u64), |(answered, all), second| {
            (answered + u64::from(second.0), all + u64::from(second.1))
        });
        (all > 0).then(|| answered as f64 * 100.0 / all as f64)
    }
}

/// Returns the sites that a partition into these groups cuts off from a majority; `None` if no group has one. Who is in no
/// group reaches everybody.
fn cut_off(groups: &[Group], nodes: u8) -> Option<BTreeSet<u8>> {
    let numbers = |group: &Group, of: fn(&Party) -> Option<u8>| match group {
        Group::Of(parties) => parties.iter().filter_map(of).collect(),
        Group::Rest => BTreeSet::new(),
    };
    let node: fn(&Party) -> Option<u8> = |party| match party {
        Party::Node(Who::Number(node)) => Some(*node),
        _ => None,
    };
    let site: fn(&Party) -> Option<u8> = |party| match party {
        Party::Clients(Who::Number(site)) => Some(*site),
        _ => None,
    };
    // The numbers of a kind in each group, those that are in none of them last, or in the group that is the rest.
    let split = |of| {
        let mut groups: Vec<(bool, BTreeSet<u8>)> =
            groups.iter().map(|group| (*group == Group::Rest, numbers(group, of))).collect();
        let is_named = |number: &u8| groups.iter().any(|(_, named)| named.contains(number));
        let unnamed: BTreeSet<u8> = (1..=nodes).filter(|number| !is_named(number)).collect();
        match groups.iter_mut().find(|(is_rest, _)| *is_rest) {
            Some((_, rest)) => {
                *rest = unnamed;
                (groups, BTreeSet::new())
            }
            None => (groups, unnamed),
        }
    };
    let ((node_groups, free), (site_groups, _)) = (split(node), split(site));
    let has_majority =
        |(_, group): &(bool, BTreeSet<u8>)| (group.len() + free.len()) * 2 > usize::from(nodes);
    let majorities: Vec<usize> =
        (0..node_groups.len()).filter(|at| has_majority(&node_groups[*at])).collect();
    let others = site_groups.iter().enumerate().filter(|(at, _)| !majorities.contains(at));
    (!majorities.is_empty())
        .then(|| others.flat_map(|(_, (_, sites))| sites.iter().copied()).collect())
}

/// Returns the partitions of a run that left a majority on one side.
fn cuts(result: &RunResult) -> Vec<Cut> {
    let cut = |band: &crate::run::Band| {
        let Ok(Fault::Partition(groups)) = band.fault.parse::<Fault>() else { return None };
        // Seconds in which nothing else than the partition was, as far as it is about it.
        let seconds = band.from_ms.div_ceil(1_000) as usize..(band.until_ms / 1_000) as usize;
        Some(Cut { cut_off: cut_off(&groups, result.frame.nodes)?, seconds })
    };
    result.bands.iter().filter_map(cut).collect()
}

/// Returns what clients got while a partition had left a majority: those that were cut off from it, and the others.
pub(super) fn sides(result: &RunResult, by_site: &Strips) -> (Side, Side) {
    let length = by_site.values().map(Vec::len).max().unwrap_or(0);
    let (mut cut_off, mut majority) = (vec![(0, 0); length], vec![(0, 0); length]);
    let cuts = cuts(result);
    for second in 0..length {
        let now: Vec<&Cut> = cuts.iter().filter(|cut| cut.seconds.contains(&second)).collect();
        if now.is_empty() {
            continue;
        }
        for (site, strip) in by_site {
            let is_cut_off = now.iter().any(|cut| cut.cut_off.contains(site));
            let side = if is_cut_off { &mut cut_off } else { &mut majority };
            let (answered, all) = strip.get(second).copied().unwrap_or_default();
            side[second].0 += answered;
            side[second].1 += all;
        }
    }
    (Side { strip: cut_off }, Side { strip: majority })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{cut_off, sides};
    use crate::report::tests::result;
    use crate::run::Band;
    use crate::schedule::Fault;

    #[test]
    fn each_side_of_a_partition_is_counted_for_itself_and_only_while_it_lasts() {
        let mut run = result("roost", 0, &[]);
        run.frame.nodes = 3;
        run.bands = vec![
            Band { from_ms: 1_900, until_ms: 4_100, fault: "partition n2 c2 | rest".into() },
            Band { from_ms: 5_000, until_ms: 6_000, fault: "kill n1".into() },
        ];
        let by_site = BTreeMap::from([
            (1, vec![(0, 9), (0, 9), (1, 1), (1, 1), (0, 9)]),
            (2, vec![(9, 9), (9, 9), (0, 1), (0, 1), (9, 9)]),
            (3, vec![(0, 9), (0, 9), (1, 1), (0, 1), (0, 9)]),
        ]);
        let (cut_off, majority) = sides(&run, &by_site);
        assert_eq!((cut_off.share(), majority.share()), (Some(0.0), Some(75.0)));
        assert_eq!(majority.strip, [(0, 0), (0, 0), (2, 2), (1, 2), (0, 0)]);
        run.bands.clear();
        let (cut_off, majority) = sides(&run, &by_site);
        assert_eq!((cut_off.share(), majority.share()), (None, None));
    }

    #[test]
    fn who_is_cut_off_is_decided_by_where_clients_are_and_where_the_majority_is() {
        let cut = |partition: &str, nodes| {
            let Ok(Fault::Partition(groups)) = partition.parse() else { panic!("{partition}") };
            cut_off(&groups, nodes)
        };
        let sites = |sites: &[u8]| Some(sites.iter().copied().collect::<BTreeSet<u8>>());
        assert_eq!(cut("partition n1 c1 | n2 c2 n3 c3", 3), sites(&[1]));
        assert_eq!(cut("partition n2 n3 c3 | n1 c1 c2", 3), sites(&[1, 2]));
        // Its clients reach the others.
        assert_eq!(cut("partition n1 | rest", 3), sites(&[]));
        assert_eq!(cut("partition c1 | rest", 3), sites(&[1]));
        assert_eq!(cut("partition n1 c1 n2 c2 | rest", 5), sites(&[1, 2]));
        // Nobody has a majority, and where some node reaches both, both have one.
        assert_eq!(cut("partition n1 c1 | n2 c2 | n3 c3", 3), None);
        assert_eq!(cut("partition n1 c1 | n2 c2", 3), sites(&[]));
    }
}
