//! The built program as its users have it: real processes, sockets, disks and signals.
//!
//! Each file has one theme. Random choices come from a seed that is printed; `ROOST_SEED` repeats it.
//! Longer forms: `ROOST_CRASH_ROUNDS=50`, `ROOST_FAILOVERS=200`.

mod agent;
mod cli;
mod crash;
mod dev;
mod drain;
mod dump;
mod failover;
mod harness;
mod hostile;
mod ledger;
mod load;
mod operator;
mod pause;
mod policy;
mod refusal;
mod run;
mod sdk;
mod store;
mod watch;
