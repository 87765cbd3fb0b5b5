//! Schedules from a seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::{Fault, Group, Party, Schedule, Step, Who};

/// The run begins and ends without faults: this share of it each.
const QUIET_SHARE: f64 = 0.2;
/// Shortest run that leaves room for faults, ms.
const DURATION_MS_MIN: u64 = 5_000;

impl Schedule {
    /// Returns the schedule of a seed: after a quiet fifth, one long partition that cuts off the leader with its
    /// clients; then a stream of faults of the network and one of processes, which overlap; then a quiet fifth, in
    /// which things must become right again. Runs shorter than 5 s have no faults.
    pub fn generate(seed: u64, nodes: u8, duration_ms: u64) -> Schedule {
        let mut schedule = Schedule { seed, nodes, duration_ms, steps: Vec::new() };
        if duration_ms < DURATION_MS_MIN || nodes < 2 {
            return schedule;
        }
        let quiet = (duration_ms as f64 * QUIET_SHARE) as u64;
        let (from, until) = (quiet, duration_ms - quiet);
        let long = (until - from) / 3;
        let alone = [Party::Node(Who::Leader), Party::Clients(Who::Leader)];
        let partition = Fault::Partition(vec![Group::Of(alone.to_vec()), Group::Rest]);
        schedule.steps.push(Step { at_ms: from, for_ms: long, fault: partition });
        // Each stream has its own source, so that one more fault of a kind does not change the other kind.
        let mut network = StdRng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b00);
        let mut process = StdRng::seed_from_u64(seed ^ 0x7072_6f63_6573_7300);
        let after = from + long + 1_000.min(quiet / 2);
        stream(&mut network, (after, until), |random| network_fault(random, nodes), &mut schedule);
        stream(&mut process, (after, until), |random| process_fault(random, nodes), &mut schedule);
        schedule.steps.sort_by_key(|step| step.at_ms);
        schedule
    }
}

/// Adds faults that last 0.5 to 4 s, with pauses of 0.5 to 4 s, as they fit.
fn stream(
    random: &mut StdRng,
    (from, until): (u64, u64),
    mut fault: impl FnMut(&mut StdRng) -> Fault,
    schedule: &mut Schedule,
) {
    let mut at_ms = from + random.random_range(0..1_500);
    while at_ms + 500 <= until {
        let for_ms = random.random_range(500..=4_000).min(until - at_ms);
        schedule.steps.push(Step { at_ms, for_ms, fault: fault(random) });
        at_ms += for_ms + random.random_range(500..=4_000);
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
    use super::super::{Fault, Schedule};

    #[test]
    fn the_same_seed_is_the_same_schedule_and_another_is_another() {
        for seed in 0..50 {
            let schedule = Schedule::generate(seed, 3, 60_000);
            assert_eq!(schedule, Schedule::generate(seed, 3, 60_000));
            assert_ne!(schedule.steps, Schedule::generate(seed + 1, 3, 60_000).steps);
            let text = schedule.to_string();
            assert_eq!(text.parse::<Schedule>().unwrap(), schedule, "{text}");
        }
    }

    #[test]
    fn a_schedule_of_a_seed_is_what_it_was() {
        // Runs are named by their seeds: this changes only on purpose.
        let text = Schedule::generate(7, 3, 30_000).to_string();
        assert!(
            text.starts_with(
                "schedule seed 7 nodes 3 duration 30s\nat 6s for 6s partition leader c-leader | rest\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn the_beginning_and_the_end_are_quiet_and_faults_of_each_kind_occur() {
        let (mut kills, mut pauses, mut cuts, mut others) = (0, 0, 0, 0);
        for seed in 0..40 {
            let schedule = Schedule::generate(seed, 3, 60_000);
            for step in &schedule.steps {
                assert!(step.at_ms >= 12_000 && step.until_ms() <= 48_000, "{schedule}");
                match step.fault {
                    Fault::Kill(_) | Fault::KillAll | Fault::Wipe(_) => kills += 1,
                    Fault::Pause(_) => pauses += 1,
                    Fault::Partition(_) | Fault::OneWay { .. } | Fault::Bridge(_) | Fault::Ring => {
                        cuts += 1;
                    }
                    Fault::Delay { .. } | Fault::Loss { .. } => others += 1,
                }
            }
        }
        assert!(
            kills > 20 && pauses > 20 && cuts > 40 && others > 10,
            "{kills} {pauses} {cuts} {others}"
        );
        assert!(Schedule::generate(1, 3, 4_000).steps.is_empty());
    }
}
