//! What each fault is beyond links that are cut and processes that are down: made, observed, and undone.

use super::evidence::Evidence;
use super::freeze::until_stopped;
use super::torment::{Standing, Torment};
use super::{member, store};
use crate::schedule::{Family, Fault};

impl Torment<'_> {
    /// Does what a fault is, beyond what [`Torment::reconcile`] does, and begins to observe it.
    pub(super) fn act(&mut self, fault: &Fault) -> Result<Evidence, String> {
        let node = one(fault);
        Ok(match fault {
            Fault::Kill(_) | Fault::KillAll => Evidence::Known(true),
            Fault::Pause(_) => {
                let pids = fault
                    .nodes(self.schedule.nodes)
                    .into_iter()
                    .filter_map(|node| self.cluster.pid(node));
                Evidence::Known(until_stopped(&pids.collect::<Vec<_>>()))
            }
            Fault::FsyncFail(_) | Fault::FsyncSlow { .. } => {
                self.trace(node);
                Evidence::Traced(node)
            }
            Fault::DiskFull(_) => Evidence::Known(self.rig.volume(node)?.fill()?),
            Fault::Leave(_) => {
                let (others, id) = self.command_of(node)?;
                Evidence::Command(tokio::spawn(member::remove(others, id)))
            }
            Fault::Transfer(_) => {
                let (others, id) = self.command_of(node)?;
                Evidence::Command(tokio::spawn(member::transfer(others, id)))
            }
            Fault::Clock { .. } | Fault::Rate { .. } => Evidence::Clock(node),
            _ => match fault.family() {
                Family::Network | Family::Slow | Family::Packet => {
                    Evidence::of_links(fault, self.cluster, self.rig)
                }
                // Seen at their ends.
                _ => Evidence::Known(false),
            },
        })
    }

    /// Does to the syncs of a node what the newest fault of them that is in force wants.
    pub(super) fn trace(&mut self, node: u8) {
        let injection = |fault: &Fault| match fault {
            Fault::FsyncSlow { ms, .. } => Some(format!("delay_enter={}", ms * 1_000)),
            Fault::FsyncFail(_) => Some("error=EIO".to_owned()),
            _ => None,
        };
        let ones = self.active.values().filter(|active| one(&active.fault) == node);
        let injection = ones.rev().find_map(|active| injection(&active.fault));
        // A node that is down, or ends at this moment, cannot be traced.
        if let (Some(injection), Some(pid)) = (injection, self.cluster.pid(node)) {
            let _ = self.rig.trace(node, pid, &injection);
        }
    }

    /// Kills a node, if it runs, which nobody traces then.
    pub(super) fn kill(&mut self, node: u8) {
        self.rig.untrace(node);
        self.cluster.kill(node);
    }

    fn command_of(&self, node: u8) -> Result<(Vec<roost::client::Client>, u64), String> {
        Ok((member::others(self.cluster.places(), node)?, self.cluster.place(node)?.id))
    }

    /// Freezes the nodes whose power is cut, all of them before the first is cut.
    pub(super) fn cut_power(&mut self, fault: &Fault) -> Result<(), String> {
        if !matches!(fault, Fault::PowerCut(_) | Fault::PowerCutAll) {
            return Ok(());
        }
        let nodes = fault.nodes(self.schedule.nodes);
        nodes.iter().for_each(|node| self.rig.untrace(*node));
        nodes.iter().for_each(|node| self.cluster.pause(*node, true));
        let pids: Vec<u32> = nodes.iter().filter_map(|node| self.cluster.pid(*node)).collect();
        until_stopped(&pids);
        for node in nodes {
            // One whose power is off already has none to be cut.
            if !self.has_no_power(node) {
                self.rig.volume(node)?.cut()?;
            }
        }
        Ok(())
    }

    pub(super) fn has_no_power(&self, node: u8) -> bool {
        self.active.values().any(|active| {
            matches!(active.fault, Fault::PowerCut(_) | Fault::PowerCutAll)
                && active.fault.nodes(self.schedule.nodes).contains(&node)
        })
    }

    /// Ends the fault of a step, as far as [`Torment::reconcile`] does not; returns whether that showed that it had acted.
    pub(super) fn undo(&mut self, step: usize, fault: &Fault) -> Result<bool, String> {
        let node = one(fault);
        match fault {
            Fault::FsyncFail(_) | Fault::FsyncSlow { .. } => {
                self.rig.untrace(node);
                self.trace(node);
            }
            Fault::DiskFull(_) => self.rig.volume(node)?.free(),
            Fault::PowerCut(_) | Fault::PowerCutAll => {
                let mut all = true;
                for node in fault.nodes(self.schedule.nodes) {
                    if !self.has_no_power(node) {
                        all &= self.rig.volume(node)?.restart()?;
                    }
                }
                return Ok(all);
            }
            Fault::Wipe(_) => {
                self.kill(node);
                match self.cluster.system().survives_wipe() {
                    true => self.cluster.wipe(node)?,
                    false => self.bring_back(node)?,
                }
                return Ok(true);
            }
            Fault::Leave(_) => {
                self.felled.remove(&node);
                self.bring_back(node)?;
            }
            Fault::Tear { .. } | Fault::Flip { .. } => return self.damage(step, fault, node),
            _ => {}
        }
        Ok(false)
    }

    /// Changes the store of a node, which is down.
    fn damage(&mut self, step: usize, fault: &Fault, node: u8) -> Result<bool, String> {
        self.kill(node);
        let place = self.cluster.place(node)?;
        let file = self.cluster.system().store_file(place).ok_or("there is no store to damage")?;
        let done = match fault {
            Fault::Flip { bits, .. } => {
                // The same places in every run of the schedule, other ones for every step.
                let seed = self.schedule.seed ^ (step as u64 + 1) << 32;
                store::flip(&file, *bits, seed).map(drop)
            }
            Fault::Tear { bytes, .. } => store::tear(&file, *bytes),
            _ => Ok(()),
        };
        done.map_err(|err| format!("{}: {err}", file.display()))?;
        self.standing.insert(node, Standing::Damaged);
        Ok(true)
    }

    /// When a fault of clocks begins or ends, makes its node's clocks what the faults that are in force want.
    pub(super) fn set_clocks(&mut self, fault: &Fault) -> Result<(), String> {
        let is_rate = matches!(fault, Fault::Rate { .. });
        if !is_rate && !matches!(fault, Fault::Clock { .. }) {
            return Ok(());
        }
        let node = one(fault);
        if is_rate {
            // A monotonic clock never jumps, so a process has one rate from its start on.
            self.kill(node);
        }
        let (mut ahead_ms, mut rate) = (0, 100);
        for active in self.active.values().filter(|active| one(&active.fault) == node) {
            match active.fault {
                Fault::Clock { ms, .. } => ahead_ms += ms,
                Fault::Rate { percent, .. } => rate = percent,
                _ => {}
            }
        }
        self.rig.set_clock(node, ahead_ms, rate)
    }
}

/// The node of a resolved fault that has one; 0 otherwise, which is no node.
fn one(fault: &Fault) -> u8 {
    fault.nodes(0).first().copied().unwrap_or(0)
}
