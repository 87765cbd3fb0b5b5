//! What befalls a world: faults that begin at random moments, last a while, and overlap.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use roost::types::NodeId;

use crate::check::Checker;
use crate::world::World;

/// How a fault ends.
#[derive(Clone, Copy, Debug, Hash)]
enum End {
    Boot(NodeId),
    /// And whether its clock went on meanwhile.
    Resume(NodeId, bool),
    Join(NodeId, NodeId),
    Hasten(NodeId, NodeId),
    Deliver,
}

/// The faults of one run.
pub(crate) struct Faults {
    random: StdRng,
    next_us: u64,
    ends: Vec<(u64, End)>,
    /// How many have begun.
    pub(crate) begun: u64,
}

impl Faults {
    pub(crate) fn new(seed: u64, from_us: u64) -> Faults {
        let random = StdRng::seed_from_u64(seed ^ 0x6661_756c);
        Faults { random, next_us: from_us, ends: Vec::new(), begun: 0 }
    }

    /// Ends the faults whose time has come, and begins another one now and then.
    pub(crate) fn step(&mut self, world: &mut World, checker: &mut Checker) {
        let now_us = world.now_us;
        while let Some(at) = self.ends.iter().position(|(end_us, _)| *end_us <= now_us) {
            let end = self.ends.swap_remove(at).1;
            checker.note((now_us, end));
            undo(world, end);
        }
        if now_us >= self.next_us {
            self.begin(world, checker);
            self.begun += 1;
            self.next_us = now_us + self.random.random_range(50_000..1_200_000);
        }
    }

    /// Ends all of them.
    pub(crate) fn end(&mut self, world: &mut World) {
        for (_, end) in self.ends.drain(..) {
            undo(world, end);
        }
    }

    fn until(&mut self, now_us: u64, ms: std::ops::Range<u64>, end: End) {
        let us = 1_000 * self.random.random_range(ms);
        self.ends.push((now_us + us, end));
    }

    fn begin(&mut self, world: &mut World, checker: &mut Checker) {
        let ids = world.ids();
        let now_us = world.now_us;
        // The leader is worth more than the others.
        let victim = match world.leader() {
            Some(leader) if self.random.random_range(0..2) == 0 => leader,
            _ => ids[self.random.random_range(0..ids.len())],
        };
        let kind = self.random.random_range(0..100);
        checker.note(("fault", now_us, victim, kind));
        match kind {
            0..28 => self.crash(world, victim),
            28..33 => ids.iter().for_each(|id| self.crash(world, *id)),
            33..48 => {
                if world.is_up(victim) && !world.is_paused(victim) {
                    world.pause(victim);
                    let clock_goes_on = self.random.random_range(0..2) == 0;
                    self.until(now_us, 50..2_500, End::Resume(victim, clock_goes_on));
                }
            }
            48..76 => self.cut(world, victim, kind),
            76..84 => {
                let other = ids[self.random.random_range(0..ids.len())];
                let us = self.random.random_range(5_000..120_000);
                world.links.set_slow(victim, other, us);
                self.until(now_us, 200..3_000, End::Hasten(victim, other));
            }
            84..90 => {
                world.links.set_loss(self.random.random_range(3..30));
                self.until(now_us, 200..3_000, End::Deliver);
            }
            90..95 => ids.iter().for_each(|other| world.links.reset(victim, *other)),
            _ => world.jump_wall(victim, self.random.random_range(-3_600_000..3_600_000)),
        }
    }

    fn crash(&mut self, world: &mut World, victim: NodeId) {
        if !world.is_up(victim) {
            return;
        }
        let kept = self.random.random_range(0..4);
        let power = self.random.random_range(0..2) == 0;
        world.crash(victim, kept, power);
        // What a power cut takes of its connections is told when it is back.
        self.until(world.now_us, 50..3_000, End::Boot(victim));
    }

    /// Cuts a node off: both ways, one way, or only from one other.
    fn cut(&mut self, world: &mut World, victim: NodeId, kind: u32) {
        let others: Vec<NodeId> = world.ids().into_iter().filter(|id| *id != victim).collect();
        let one = others[self.random.random_range(0..others.len())];
        let breaks = self.random.random_range(0..2) == 0;
        let ms = self.random.random_range(100..4_000);
        for other in others {
            let (out, back) = match kind {
                48..60 => (true, true),
                60..65 => (true, false),
                65..70 => (false, true),
                _ => (other == one, other == one),
            };
            for (from, to) in [(victim, other, out), (other, victim, back)]
                .into_iter()
                .filter_map(|(from, to, is_cut)| is_cut.then_some((from, to)))
            {
                world.links.set_cut(from, to, true);
                self.ends.push((world.now_us + ms * 1_000, End::Join(from, to)));
                if breaks {
                    world.links.reset(from, to);
                }
            }
        }
    }
}

fn undo(world: &mut World, end: End) {
    match end {
        End::Boot(id) if !world.is_up(id) => world.boot(id),
        End::Boot(_) => {}
        End::Resume(id, clock_went_on) => world.resume(id, clock_went_on),
        End::Join(from, to) => world.links.set_cut(from, to, false),
        End::Hasten(from, to) => world.links.set_slow(from, to, 0),
        End::Deliver => world.links.set_loss(0),
    }
}
