//! Availability on the two sides of a partition, from the strips of the nodes and the faults as they happened.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::registry::Answers;
use crate::run::RunResult;
use crate::schedule::{Fault, Group, Party, Who};

/// Nodes that a partition cut off from a majority of them, and from when to when, in whole seconds.
struct Cut {
    minority: BTreeSet<u8>,
    seconds: std::ops::Range<usize>,
}

/// Returns the partitions of a run that left a majority on one side.
fn cuts(result: &RunResult) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for band in &result.bands {
        let Ok(Fault::Partition(groups)) = band.fault.parse::<Fault>() else { continue };
        let [Group::Of(named), Group::Rest] = groups.as_slice() else { continue };
        let node = |party: &Party| match party {
            Party::Node(Who::Number(node)) => Some(*node),
            _ => None,
        };
        let named: BTreeSet<u8> = named.iter().filter_map(node).collect();
        let nodes = result.frame.nodes;
        let rest: BTreeSet<u8> = (1..=nodes).filter(|node| !named.contains(node)).collect();
        let minority = if named.len() < rest.len() { named } else { rest };
        // Seconds in which nothing else than the partition was, as far as it is about it.
        let seconds = band.from_ms.div_ceil(1_000) as usize..(band.until_ms / 1_000) as usize;
        if minority.len() * 2 < usize::from(nodes) && !minority.is_empty() {
            cuts.push(Cut { minority, seconds });
        }
    }
    cuts
}

/// Returns the answered share of requests during partitions, percent: at the nodes that were cut off, and at those of
/// the majority. `None` where nobody asked.
pub(super) fn shares(
    result: &RunResult,
    strips: &BTreeMap<u8, Vec<Answers>>,
) -> (Option<f64>, Option<f64>) {
    let (mut cut_off, mut majority) = ((0_u64, 0_u64), (0_u64, 0_u64));
    for cut in cuts(result) {
        for (node, strip) in strips {
            let side = if cut.minority.contains(node) { &mut cut_off } else { &mut majority };
            let seconds = cut.seconds.clone().filter_map(|second| strip.get(second));
            for (answered, all) in seconds {
                side.0 += u64::from(*answered);
                side.1 += u64::from(*all);
            }
        }
    }
    let share =
        |(answered, all): (u64, u64)| (all > 0).then(|| answered as f64 * 100.0 / all as f64);
    (share(cut_off), share(majority))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::shares;
    use crate::report::tests::result;
    use crate::run::Band;

    #[test]
    fn each_side_of_a_partition_is_counted_for_itself_and_only_while_it_lasts() {
        let mut run = result("roost", 0, &[]);
        run.frame.nodes = 3;
        run.bands = vec![
            Band { from_ms: 1_900, until_ms: 4_100, fault: "partition n2 c2 | rest".into() },
            Band { from_ms: 5_000, until_ms: 6_000, fault: "kill n1".into() },
        ];
        let strips = BTreeMap::from([
            (1, vec![(0, 9), (0, 9), (1, 1), (1, 1), (0, 9)]),
            (2, vec![(9, 9), (9, 9), (0, 1), (0, 1), (9, 9)]),
            (3, vec![(0, 9), (0, 9), (1, 1), (0, 1), (0, 9)]),
        ]);
        assert_eq!(shares(&run, &strips), (Some(0.0), Some(75.0)));
        run.bands.clear();
        assert_eq!(shares(&run, &strips), (None, None));
    }
}
