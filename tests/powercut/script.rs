//! A script of writes that is determined by its seed: whoever knows how far it came knows all that must be on the disk.

use bytes::Bytes;
use roost::storage::{LogEntry, Write};

/// Splitmix64: small, seeded, good enough to choose by.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, step: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step);
        dice.roll(1);
        Dice(dice.next() ^ step)
    }

    /// Returns a number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What the store holds after some steps.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) step: u64,
    /// Index of the first entry.
    pub(crate) first: u64,
    /// The step that appended each entry, and its length.
    pub(crate) entries: Vec<(u64, usize)>,
    pub(crate) purged: Option<u64>,
    pub(crate) vote: Option<u64>,
    pub(crate) snapshot: Option<u64>,
}

/// What one step does.
pub(crate) struct Step {
    pub(crate) writes: Vec<Write>,
    /// The generation of a snapshot that has to be written first, and its pointer with the writes.
    pub(crate) snapshot: Option<u64>,
    /// Whether it must survive once acknowledged.
    pub(crate) durable: bool,
}

pub(crate) fn number(bytes: &Bytes) -> u64 {
    u64::from_le_bytes(bytes.as_ref().try_into().expect("8 bytes"))
}

pub(crate) fn bytes_of(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// Bytes that tell the step, the index and the position.
pub(crate) fn content(step: u64, index: u64, len: usize) -> Bytes {
    let key = Dice::new(step, index).next();
    (0..len).map(|at| (key >> (at % 57)) as u8 ^ (at >> 6) as u8).collect::<Vec<u8>>().into()
}

/// Pieces of the snapshot of a generation: from nothing to about 2 MiB.
pub(crate) fn pieces(generation: u64) -> Vec<Bytes> {
    let mut dice = Dice::new(generation, 77);
    (0..dice.roll(12)).map(|at| content(generation, at, dice.roll(180_000) as usize)).collect()
}

impl State {
    pub(crate) fn after(seed: u64, steps: u64) -> State {
        let mut state = State::default();
        for _ in 0..steps {
            state.advance(seed);
        }
        state
    }

    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Does the next step here, and returns it.
    pub(crate) fn advance(&mut self, seed: u64) -> Step {
        self.step += 1;
        let mut dice = Dice::new(seed, self.step);
        let mut step = Step { writes: Vec::new(), snapshot: None, durable: true };
        match dice.roll(100) {
            0..60 => {
                let sizes = (0..1 + dice.roll(20)).map(|_| dice.roll(600) as usize).collect();
                self.append(sizes, &mut step);
            }
            60..66 => self.append(vec![50_000 + dice.roll(1_500_000) as usize], &mut step),
            66..72 => {
                self.vote = Some(self.step);
                step.writes.push(Write::Vote(bytes_of(self.step)));
            }
            72..76 => self.truncate(dice.roll(30), &mut step),
            76..84 => {
                self.truncate(dice.roll(30), &mut step);
                self.append(vec![dice.roll(3000) as usize; 1 + dice.roll(40) as usize], &mut step);
            }
            84..90 => {
                self.purge(dice.roll(200), &mut step);
                step.durable = false;
            }
            90..97 => step.durable = false,
            _ => {
                self.snapshot = Some(self.step);
                step.snapshot = self.snapshot;
            }
        }
        // The mark of how far the script came.
        step.writes.push(Write::Committed(bytes_of(self.step)));
        step
    }

    fn append(&mut self, sizes: Vec<usize>, step: &mut Step) {
        let indexes = self.end()..;
        let entry = |(&len, index)| LogEntry { index, bytes: content(self.step, index, len) };
        step.writes.push(Write::Append(sizes.iter().zip(indexes).map(entry).collect()));
        self.entries.extend(sizes.into_iter().map(|len| (self.step, len)));
    }

    fn truncate(&mut self, back: u64, step: &mut Step) {
        let keep = self.end().saturating_sub(back + 1).max(self.first);
        self.entries.truncate((keep + 1 - self.first) as usize);
        step.writes.push(Write::TruncateAfter(Some(keep)));
    }

    fn purge(&mut self, keep: u64, step: &mut Step) {
        let Some(upto) = self.end().checked_sub(keep + 2).filter(|upto| *upto >= self.first) else {
            return;
        };
        self.entries.drain(..(upto + 1 - self.first) as usize);
        self.first = upto + 1;
        self.purged = Some(upto);
        step.writes.push(Write::Purge { upto, marker: bytes_of(self.step) });
    }
}
