//! Schedules from a seed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::{Family, Fault, Group, Party, Schedule, Step, Who};

/// The run begins and ends without faults: this share of it each.
const QUIET_SHARE: f64 = 0.2;
/// Shortest run that leaves room for faults, ms.
const DURATION_MS_MIN: u64 = 5_000;

impl Schedule {
    /// Returns the schedule of a seed, with faults of these families: after a quiet fifth, if links may be cut, one long
    /// partition that takes the leader away with its clients; then a stream of faults for each family, which overlap;
    /// then a quiet fifth, in which things must become right again. Runs shorter than 5 s have no faults.
    pub fn generate(
        seed: u64,
        nodes: u8,
        duration_ms: u64,
        families: &BTreeSet<Family>,
    ) -> Schedule {
        let families = families.clone();
        let mut schedule = Schedule { seed, nodes, duration_ms, families, steps: Vec::new() };
        if duration_ms < DURATION_MS_MIN || nodes < 2 {
            return schedule;
        }
        let quiet = (duration_ms as f64 * QUIET_SHARE) as u64;
        let (mut from, until) = (quiet, duration_ms - quiet);
        if schedule.families.contains(&Family::Network) {
            let long = (until - from) / 3;
            let alone = [Party::Node(Who::Leader), Party::Clients(Who::Leader)];
            let partition = Fault::Partition(vec![Group::Of(alone.to_vec()), Group::Rest]);
            schedule.steps.push(Step { at_ms: from, for_ms: long, fault: partition });
            from += long + 1_000.min(quiet / 2);
        }
        for family in schedule.families.clone() {
            // Each stream has its own source, so that one more fault of a kind does not change the other kinds.
            let mut random = StdRng::seed_from_u64(seed ^ salt(family));
            let fault = |random: &mut StdRng| fault(family, random, nodes);
            stream(&mut random, (from, until), rhythm(family), fault, &mut schedule);
        }
        schedule.steps.sort_by_key(|step| step.at_ms);
        schedule
    }
}

/// Returns what makes a family's stream of faults differ from the others'.
fn salt(family: Family) -> u64 {
    let name = family.name().bytes().chain([0; 8]).take(8);
    name.fold(0, |salt, byte| salt << 8 | u64::from(byte))
}

/// Returns how long faults of a family last at most, and the pauses between them, ms.
fn rhythm(family: Family) -> (RangeInclusive<u64>, RangeInclusive<u64>) {
    match family {
        Family::Network | Family::Slow | Family::Packet | Family::Process => {
            (500..=4_000, 500..=4_000)
        }
        // A clock that is wrong is noticed within a second.
        Family::Clock => (2_500..=6_000, 500..=4_000),
        Family::Rate => (5_000..=9_000, 500..=4_000),
        Family::Fsync | Family::Full => (1_500..=4_000, 1_000..=4_000),
        Family::Power => (500..=2_000, 1_500..=5_000),
        // A node that comes back with an empty disk needs some time until the next may lose its own.
        Family::Damage | Family::Member => (500..=2_500, 6_000..=10_000),
    }
}

fn fault(family: Family, random: &mut StdRng, nodes: u8) -> Fault {
    match family {
        Family::Network => network_fault(random, nodes),
        Family::Slow => Fault::Slow {
            parties: vec![Party::Node(someone(random, nodes))],
            kb_per_second: random.random_range(5..=100),
        },
        Family::Packet => {
            let (nodes, percent) = (vec![someone(random, nodes)], random.random_range(5..=50));
            match random.random_bool(0.5) {
                true => Fault::Reorder { nodes, percent, ms: random.random_range(1..=40) },
                false => Fault::Duplicate { nodes, percent },
            }
        }
        Family::Process => process_fault(random, nodes),
        Family::Clock => clock_fault(random, nodes),
        Family::Rate => {
            let node = someone(random, nodes);
            Fault::Rate { node, percent: *[50, 70, 150, 200].choose(random).unwrap_or(&200) }
        }
        Family::Fsync => {
            let node = someone(random, nodes);
            match random.random_bool(0.5) {
                true => Fault::FsyncFail(node),
                false => Fault::FsyncSlow { node, ms: random.random_range(20..=300) },
            }
        }
        Family::Full => Fault::DiskFull(someone(random, nodes)),
        Family::Power => match random.random_range(0..4) {
            0 => Fault::PowerCutAll,
            _ => Fault::PowerCut(vec![someone(random, nodes)]),
        },
        Family::Damage => {
            let node = someone(random, nodes);
            match random.random_range(0..4) {
                0 => Fault::Wipe(node),
                1 => Fault::Tear { node, bytes: random.random_range(1..=20_000) },
                _ => Fault::Flip { node, bits: random.random_range(1..=40) },
            }
        }
        Family::Member => match random.random_range(0..3) {
            0 => Fault::Leave(someone(random, nodes)),
            _ => Fault::Transfer(someone(random, nodes)),
        },
    }
}

fn clock_fault(random: &mut StdRng, nodes: u8) -> Fault {
    let node = someone(random, nodes);
    let ms = random.random_range(10..=4_000) * 1_000;
    Fault::Clock { node, ms: if random.random_bool(0.5) { ms } else { -ms } }
}

/// Adds faults with pauses between them as they fit.
fn stream(
    random: &mut StdRng,
    (from, until): (u64, u64),
    (lasting, pause): (RangeInclusive<u64>, RangeInclusive<u64>),
    mut fault: impl FnMut(&mut StdRng) -> Fault,
    schedule: &mut Schedule,
) {
    let mut at_ms = from + random.random_range(0..1_500);
    while at_ms + lasting.start() <= until {
        let for_ms = random.random_range(lasting.clone()).min(until - at_ms);
        schedule.steps.push(Step { at_ms, for_ms, fault: fault(random) });
        at_ms += for_ms + random.random_range(pause.clone());
    }
}

fn someone(random: &mut StdRng, nodes: u8) -> Who {
    match random.random_range(0..4) {
        0 => Who::Leader,
        1 => Who::Follower,
        _ => Who::Number(random.random_range(1..=nodes)),
    }
}

fn network_fault(random: &mut StdRng, nodes: u8) -> Fault {
    let who = someone(random, nodes);
    let (node, clients) = (Party::Node(who), Party::Clients(who));
    match random.random_range(0..8) {
        0 => Fault::Partition(vec![Group::Of(vec![node]), Group::Rest]),
        1 => Fault::Partition(vec![Group::Of(vec![node, clients]), Group::Rest]),
        2 => halves(random, nodes),
        3 => Fault::Bridge(who),
        4 if nodes > 3 => Fault::Ring,
        4 | 5 => {
            let other = [Who::Leader, Who::Follower];
            let other = other.choose(random).copied().unwrap_or(Who::Leader);
            let to = Party::Node(if other == who { Who::Number(nodes) } else { other });
            Fault::OneWay { from: node, to }
        }
        6 => Fault::Delay {
            parties: vec![node],
            ms: random.random_range(10..=150),
            jitter_ms: random.random_range(0..=50),
        },
        _ => Fault::Loss { parties: vec![node], percent: random.random_range(5..=40) },
    }
}

/// Cuts the nodes, with their clients, into two sides of which neither is empty.
fn halves(random: &mut StdRng, nodes: u8) -> Fault {
    let first = random.random_range(1..=nodes);
    let count = random.random_range(1..=(nodes / 2).max(1));
    let side = (0..count).map(|offset| Who::Number((first - 1 + offset) % nodes + 1));
    let side = side.flat_map(|who| [Party::Node(who), Party::Clients(who)]).collect();
    Fault::Partition(vec![Group::Of(side), Group::Rest])
}

fn process_fault(random: &mut StdRng, nodes: u8) -> Fault {
    let who = someone(random, nodes);
    match random.random_range(0..8) {
        0..=3 => Fault::Kill(vec![who]),
        4..=6 => Fault::Pause(vec![who]),
        _ => Fault::KillAll,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::{Family, Schedule};

    fn usual(seed: u64, duration_ms: u64) -> Schedule {
        Schedule::generate(seed, 3, duration_ms, &Family::usual())
    }

    #[test]
    fn the_same_seed_is_the_same_schedule_and_another_is_another() {
        for families in [Family::usual(), Family::ALL.into()] {
            for seed in 0..50 {
                let schedule = Schedule::generate(seed, 3, 60_000, &families);
                assert_eq!(schedule, Schedule::generate(seed, 3, 60_000, &families));
                let other = Schedule::generate(seed + 1, 3, 60_000, &families);
                assert_ne!(schedule.steps, other.steps);
                let text = schedule.to_string();
                assert_eq!(text.parse::<Schedule>().unwrap(), schedule, "{text}");
            }
        }
    }

    #[test]
    fn a_schedule_of_a_seed_is_what_it_was() {
        // Runs are named by their seeds: this changes only on purpose.
        let text = usual(7, 30_000).to_string();
        assert_eq!(
            text,
            "schedule seed 7 nodes 3 duration 30s\n\
             at 6s for 6s partition leader c-leader | rest\n\
             at 13.264s for 3.601s one-way follower -> leader\n\
             at 13.936s for 1.087s kill n2\n\
             at 16.824s for 0.72s kill leader\n\
             at 19.971s for 1.534s pause leader\n\
             at 20.611s for 3.228s one-way n1 -> leader\n\
             at 22.394s for 1.606s kill n2\n"
        );
    }

    #[test]
    fn the_beginning_and_the_end_are_quiet_and_faults_of_each_family_occur() {
        let mut drawn: BTreeMap<Family, u32> = BTreeMap::new();
        for seed in 0..40 {
            let schedule = Schedule::generate(seed, 3, 60_000, &Family::ALL.into());
            for step in &schedule.steps {
                assert!(step.at_ms >= 12_000 && step.until_ms() <= 48_000, "{schedule}");
                *drawn.entry(step.fault.family()).or_default() += 1;
            }
        }
        assert!(
            drawn.len() == Family::ALL.len() && drawn.values().all(|count| *count > 40),
            "{drawn:?}"
        );
        assert!(usual(1, 4_000).steps.is_empty());
    }

    #[test]
    fn one_more_family_does_not_change_the_faults_of_another() {
        let of = |families: &[Family], family| {
            let families: BTreeSet<Family> = families.iter().copied().collect();
            let schedule = Schedule::generate(3, 3, 60_000, &families);
            let steps = schedule.steps.into_iter().filter(|step| step.fault.family() == family);
            steps.collect::<Vec<_>>()
        };
        let alone = of(&[Family::Power], Family::Power);
        assert!(!alone.is_empty());
        assert_eq!(alone, of(&[Family::Power, Family::Clock], Family::Power));
        assert_eq!(
            of(&[Family::Network, Family::Process], Family::Process),
            of(&Family::ALL, Family::Process)
        );
    }
}
