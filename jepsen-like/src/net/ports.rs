//! Ports for nodes that are stopped and started again.

use std::net::TcpListener;

/// A block of ports that no other run has, in this process or another. They lie below those that the system gives to
/// outgoing connections, so that none is taken while the node that listens on it is down.
#[derive(Debug)]
pub struct Ports {
    base: u16,
    _lock: TcpListener,
}

const FIRST: u16 = 29_100;
const BLOCK: u16 = 40;
const BLOCKS: u16 = 75;

impl Ports {
    /// Takes a free block. Error: there is none.
    pub fn reserve() -> Result<Ports, String> {
        for _ in 0..1_000 {
            let base = FIRST + BLOCK * rand::random_range(0..BLOCKS);
            let bind = |port| TcpListener::bind(("127.0.0.1", port)).ok();
            // The first port of a block is its lock.
            let Some(lock) = bind(base) else { continue };
            if (1..BLOCK).all(|offset| bind(base + offset).is_some()) {
                return Ok(Ports { base, _lock: lock });
            }
        }
        Err(format!("no {BLOCK} free ports from {FIRST} on"))
    }

    /// Returns one of the 39 ports.
    ///
    /// # Panics
    /// When asked for another.
    pub fn get(&self, index: u8) -> u16 {
        assert!(u16::from(index) + 1 < BLOCK, "a block has 39 ports");
        self.base + 1 + u16::from(index)
    }
}
