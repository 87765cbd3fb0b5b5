//! Chaos for service registries: the same faults against CP and AP, checked histories, one honest report.
//!
//! It reaches what it tests only as a user can: HTTP, sockets, processes. `history` records what clients did and saw,
//! `check` judges that and nothing else, `schedule` says what goes wrong and when, `target` is what it happens to, `net`
//! and `fault` make it happen, `workload` is the clients, `door` what they speak, `run` puts these together, `judge` says
//! which checker is for what, `report` draws what came out. `ap` is the AP registry that roost is compared with. See the
//! README of this directory.

// Planted bugs are planted alike in the product and here.
#[macro_use]
#[path = "../../src/mutants.rs"]
mod mutants;

pub mod ap;
pub mod check;
pub mod cli;
pub mod clock;
pub mod door;
pub mod fault;
pub mod history;
pub mod judge;
pub mod net;
pub mod report;
pub mod run;
pub mod schedule;
pub mod target;
pub mod workload;
