//! Whole clusters in one process: real nodes over a network and disks in memory, so that links can be cut, nodes killed and
//! the power of their disks cut at will.
//!
//! Each node has a runtime of its own, which is what a crash drops. Everything waits for conditions; where time has to pass
//! for the scenario, only what must *not* have happened before is checked, so a slow machine makes no test fail.

mod backpressure;
mod deregister;
mod drain;
mod exactly_once;
mod harness;
mod health;
mod leader_restore;
mod load;
mod membership;
mod notify;
mod ops;
mod overrides;
mod protection;
mod reads;
mod services;
mod sessions;
mod snapshots;
mod watches;
