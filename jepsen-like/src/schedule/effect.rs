//! What the faults that are active at a moment mean for each link: a pure function from them to a table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fault, Group, Party, Who};

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A node, from 1.
    Node(u8),
    /// All clients near the node of this number.
    Site(u8),
}

/// What happens to bytes on their way from one end to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// None pass.
    pub is_cut: bool,
    /// They arrive so much later, ms.
    pub delay_ms: u64,
    /// And up to so much more, ms.
    pub jitter_ms: u64,
    /// So many percent of the segments are lost, and sent again by who sent them.
    pub loss_percent: u8,
    /// So many kB pass in a second, 0: as many as there are.
    pub kb_per_second: u32,
    /// Of the frames so many are handed on twice.
    pub duplicate_percent: u8,
    /// And so many are held back alone.
    pub reorder_percent: u8,
    /// For so long, ms.
    pub reorder_ms: u64,
}

/// The state of all links, each with a direction. Links that are well are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    links: BTreeMap<(End, End), Link>,
}

/// Puts numbers in the place of roles.
pub fn resolve(fault: &Fault, leader: u8, nodes: u8) -> Fault {
    let number = |who: Who| match who {
        Who::Number(node) => Who::Number(node),
        Who::Leader => Who::Number(leader),
        Who::Follower => Who::Number(leader % nodes + 1),
        Who::Last => Who::Number(if leader > 1 { leader - 1 } else { nodes }),
    };
    let numbers = |all: &[Who]| all.iter().map(|who| number(*who)).collect::<Vec<_>>();
    let party = |party: Party| match party {
        Party::Node(who) => Party::Node(number(who)),
        Party::Clients(who) => Party::Clients(number(who)),
    };
    let parties = |all: &[Party]| all.iter().map(|one| party(*one)).collect::<Vec<_>>();
    match fault {
        Fault::Kill(nodes) => Fault::Kill(numbers(nodes)),
        Fault::KillAll => Fault::KillAll,
        Fault::Wipe(who) => Fault::Wipe(number(*who)),
        Fault::Pause(nodes) => Fault::Pause(numbers(nodes)),
        Fault::Partition(groups) => {
            let group = |group: &Group| match group {
                Group::Of(all) => Group::Of(parties(all)),
                Group::Rest => Group::Rest,
            };
            Fault::Partition(groups.iter().map(group).collect())
        }
        Fault::OneWay { from, to } => {
            let (from, to) = (party(*from), party(*to));
            // Two roles may be one node, which has no link to itself: the one after it, then.
            let to = match to {
                Party::Node(Who::Number(node)) if from == to => {
                    Party::Node(Who::Number(node % nodes + 1))
                }
                to => to,
            };
            Fault::OneWay { from, to }
        }
        Fault::Bridge(who) => Fault::Bridge(number(*who)),
        Fault::Ring => Fault::Ring,
        Fault::Delay { parties: all, ms, jitter_ms } => {
            Fault::Delay { parties: parties(all), ms: *ms, jitter_ms: *jitter_ms }
        }
        Fault::Loss { parties: all, percent } => {
            Fault::Loss { parties: parties(all), percent: *percent }
        }
        Fault::Slow { parties: all, kb_per_second } => {
            Fault::Slow { parties: parties(all), kb_per_second: *kb_per_second }
        }
        Fault::Duplicate { nodes, percent } => {
            Fault::Duplicate { nodes: numbers(nodes), percent: *percent }
        }
        Fault::Reorder { nodes, percent, ms } => {
            Fault::Reorder { nodes: numbers(nodes), percent: *percent, ms: *ms }
        }
        Fault::Clock { node, ms } => Fault::Clock { node: number(*node), ms: *ms },
        Fault::Rate { node, percent } => Fault::Rate { node: number(*node), percent: *percent },
        Fault::FsyncFail(who) => Fault::FsyncFail(number(*who)),
        Fault::FsyncSlow { node, ms } => Fault::FsyncSlow { node: number(*node), ms: *ms },
        Fault::DiskFull(who) => Fault::DiskFull(number(*who)),
        Fault::PowerCut(nodes) => Fault::PowerCut(numbers(nodes)),
        Fault::PowerCutAll => Fault::PowerCutAll,
        Fault::Tear { node, bytes } => Fault::Tear { node: number(*node), bytes: *bytes },
        Fault::Flip { node, bits } => Fault::Flip { node: number(*node), bits: *bits },
        Fault::Leave(who) => Fault::Leave(number(*who)),
        Fault::Transfer(who) => Fault::Transfer(number(*who)),
    }
}

impl Fault {
    /// Returns the nodes whose processes, disks or clocks it is about, when it is resolved; none for those of links.
    pub fn nodes(&self, nodes: u8) -> BTreeSet<u8> {
        let numbers = |all: &[Who]| {
            let number = |who: &Who| match who {
                Who::Number(node) => Some(*node),
                Who::Leader | Who::Follower | Who::Last => None,
            };
            all.iter().filter_map(number).collect()
        };
        match self {
            Fault::Kill(all) | Fault::Pause(all) | Fault::PowerCut(all) => numbers(all),
            Fault::KillAll | Fault::PowerCutAll => (1..=nodes).collect(),
            Fault::Wipe(who)
            | Fault::FsyncFail(who)
            | Fault::DiskFull(who)
            | Fault::Leave(who)
            | Fault::Transfer(who)
            | Fault::Clock { node: who, .. }
            | Fault::Rate { node: who, .. }
            | Fault::FsyncSlow { node: who, .. }
            | Fault::Tear { node: who, .. }
            | Fault::Flip { node: who, .. } => numbers(&[*who]),
            Fault::Partition(_)
            | Fault::OneWay { .. }
            | Fault::Bridge(_)
            | Fault::Ring
            | Fault::Delay { .. }
            | Fault::Loss { .. }
            | Fault::Slow { .. }
            | Fault::Duplicate { .. }
            | Fault::Reorder { .. } => BTreeSet::new(),
        }
    }
}

/// Returns the end that a resolved party is.
fn end(party: Party) -> Option<End> {
    match party {
        Party::Node(Who::Number(node)) => Some(End::Node(node)),
        Party::Clients(Who::Number(site)) => Some(End::Site(site)),
        Party::Node(_) | Party::Clients(_) => None,
    }
}

impl Network {
    /// Returns the state of all links of so many nodes and sites while these resolved faults are active.
    pub fn under<'a>(faults: impl IntoIterator<Item = &'a Fault>, nodes: u8) -> Network {
        let all: Vec<End> = (1..=nodes).map(End::Node).chain((1..=nodes).map(End::Site)).collect();
        let mut network = Network::default();
        for fault in faults {
            network.add(fault, &all, nodes);
        }
        network
    }

    /// Returns the link from one end to another.
    pub fn link(&self, from: End, to: End) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Returns the links that are not well, each with its direction.
    pub fn ill(&self) -> impl Iterator<Item = (End, End, Link)> {
        self.links.iter().map(|((from, to), link)| (*from, *to, *link))
    }

    /// Returns whether bytes pass both ways.
    pub fn is_open(&self, a: End, b: End) -> bool {
        !self.link(a, b).is_cut && !self.link(b, a).is_cut
    }

    fn cut(&mut self, from: End, to: End) {
        self.links.entry((from, to)).or_default().is_cut = true;
    }

    /// Changes the links from and to one of these nodes that lead from node to node, each once.
    fn worsen_between(&mut self, nodes: &[Who], all: &[End], change: impl Fn(&mut Link)) {
        let is_node = |end: &End| matches!(end, End::Node(_));
        let all: Vec<End> = all.iter().copied().filter(is_node).collect();
        let parties: Vec<Party> = nodes.iter().map(|who| Party::Node(*who)).collect();
        self.worsen(&parties, &all, change);
    }

    /// Changes all links from and to one of these parties, each once.
    fn worsen(&mut self, parties: &[Party], all: &[End], change: impl Fn(&mut Link)) {
        let named: Vec<End> = parties.iter().filter_map(|party| end(*party)).collect();
        for &from in all {
            for &to in all {
                if from != to && (named.contains(&from) || named.contains(&to)) {
                    change(self.links.entry((from, to)).or_default());
                }
            }
        }
    }

    fn add(&mut self, fault: &Fault, all: &[End], nodes: u8) {
        match fault {
            Fault::Partition(groups) => {
                let side = |one: &End| {
                    let has = |group: &Group| match group {
                        Group::Of(parties) => parties.iter().any(|party| end(*party) == Some(*one)),
                        Group::Rest => false,
                    };
                    let named = groups.iter().position(has);
                    named.or_else(|| groups.iter().position(|group| *group == Group::Rest))
                };
                for from in all {
                    for to in all {
                        let (a, b) = (side(from), side(to));
                        if a.is_some() && b.is_some() && a != b {
                            self.cut(*from, *to);
                        }
                    }
                }
            }
            Fault::OneWay { from, to } => {
                if let (Some(from), Some(to)) = (end(*from), end(*to)) {
                    self.cut(from, to);
                }
            }
            Fault::Bridge(who) => {
                let bridge = end(Party::Node(*who));
                self.cut_nodes(nodes, |a, b| Some(a) != bridge && Some(b) != bridge);
            }
            Fault::Ring => {
                let next = |a: End, b: End| match (a, b) {
                    (End::Node(a), End::Node(b)) => a % nodes + 1 == b || b % nodes + 1 == a,
                    _ => true,
                };
                self.cut_nodes(nodes, |a, b| !next(a, b));
            }
            Fault::Delay { parties, ms, jitter_ms } => self.worsen(parties, all, |link| {
                link.delay_ms += ms;
                link.jitter_ms += jitter_ms;
            }),
            Fault::Loss { parties, percent } => self.worsen(parties, all, |link| {
                link.loss_percent = link.loss_percent.max(*percent);
            }),
            Fault::Slow { parties, kb_per_second } => self.worsen(parties, all, |link| {
                link.kb_per_second = match link.kb_per_second {
                    0 => *kb_per_second,
                    other => other.min(*kb_per_second),
                };
            }),
            Fault::Duplicate { nodes, percent } => self.worsen_between(nodes, all, |link| {
                link.duplicate_percent = link.duplicate_percent.max(*percent);
            }),
            Fault::Reorder { nodes, percent, ms } => self.worsen_between(nodes, all, |link| {
                link.reorder_percent = link.reorder_percent.max(*percent);
                link.reorder_ms = link.reorder_ms.max(*ms);
            }),
            // Those of processes, disks and clocks leave links as they are.
            _ => {}
        }
    }

    fn cut_nodes(&mut self, nodes: u8, is_cut: impl Fn(End, End) -> bool) {
        for a in (1..=nodes).map(End::Node) {
            for b in (1..=nodes).map(End::Node).filter(|b| *b != a) {
                if is_cut(a, b) {
                    self.cut(a, b);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Network, resolve};
    use crate::schedule::Fault;

    fn under(fault: &str, nodes: u8) -> Network {
        let fault: Fault = fault.parse().unwrap();
        Network::under([&resolve(&fault, 2, nodes)], nodes)
    }

    #[test]
    fn a_partition_separates_its_groups_and_nobody_else() {
        let network = under("partition leader c-leader | rest", 3);
        assert!(!network.is_open(End::Node(2), End::Node(1)));
        assert!(!network.is_open(End::Site(2), End::Node(1)));
        assert!(!network.is_open(End::Site(2), End::Site(3)));
        assert!(network.is_open(End::Site(2), End::Node(2)));
        assert!(network.is_open(End::Node(1), End::Node(3)));
        let network = under("partition n1 | n2", 3);
        assert!(!network.is_open(End::Node(1), End::Node(2)));
        assert!(network.is_open(End::Node(1), End::Node(3)));
        assert!(network.is_open(End::Site(1), End::Node(2)));
    }

    #[test]
    fn with_three_nodes_the_roles_are_all_of_them() {
        for leader in 1..=3 {
            let fault: Fault = "kill leader follower last".parse().unwrap();
            let nodes = resolve(&fault, leader, 3).nodes(3);
            assert_eq!(nodes.len(), 3, "{leader}: {nodes:?}");
        }
    }

    #[test]
    fn one_way_is_one_way() {
        let network = under("one-way n1 -> follower", 3);
        assert!(network.link(End::Node(1), End::Node(3)).is_cut);
        assert!(!network.link(End::Node(3), End::Node(1)).is_cut);
        // Node 2 leads: it is not its own neighbour.
        let network = under("one-way n2 -> leader", 3);
        let cut: Vec<_> = network.ill().map(|(from, to, _)| (from, to)).collect();
        assert_eq!(cut, [(End::Node(2), End::Node(3))]);
    }

    #[test]
    fn a_bridge_sees_all_and_a_ring_its_neighbours() {
        let network = under("bridge n2", 3);
        assert!(network.is_open(End::Node(1), End::Node(2)));
        assert!(!network.is_open(End::Node(1), End::Node(3)));
        let network = under("ring", 5);
        assert!(network.is_open(End::Node(5), End::Node(1)));
        assert!(!network.is_open(End::Node(5), End::Node(2)));
        assert!(network.is_open(End::Site(5), End::Node(2)));
    }

    #[test]
    fn faults_that_overlap_add_up() {
        let faults: Vec<Fault> = [
            "delay n1 50ms jitter 5ms",
            "delay n2 7ms jitter 0ms",
            "loss n1 9%",
            "slow n1 30kB/s",
            "slow n2 20kB/s",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        let network = Network::under(&faults, 3);
        let link = network.link(End::Node(2), End::Node(1));
        assert_eq!((link.delay_ms, link.jitter_ms, link.loss_percent), (57, 5, 9));
        let slow = |a, b| network.link(End::Node(a), End::Node(b)).kb_per_second;
        assert_eq!((slow(2, 1), slow(1, 3), slow(3, 2)), (20, 30, 20));
        assert_eq!(network.link(End::Node(2), End::Node(3)).delay_ms, 7);
        assert_eq!(network.link(End::Site(3), End::Node(3)).delay_ms, 0);
    }

    #[test]
    fn packets_come_twice_or_late_between_nodes_only() {
        let network = under("reorder leader 30% 12ms", 3);
        let link = network.link(End::Node(2), End::Node(3));
        assert_eq!((link.reorder_percent, link.reorder_ms, link.duplicate_percent), (30, 12, 0));
        let network = under("duplicate n1 7%", 3);
        assert_eq!(network.link(End::Node(3), End::Node(1)).duplicate_percent, 7);
        assert_eq!(network.ill().count(), 4, "each of two links both ways");
    }
}
