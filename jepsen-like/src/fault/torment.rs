//! The steps of a schedule, one after another, and what nodes do about them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::evidence::{Evidence, Finding};
use super::rig::Rig;
use super::{Band, member};
use crate::clock::Clock;
use crate::schedule::{Fault, Network, Schedule, resolve};
use crate::target::Cluster;

/// So long before a fault of a role it is looked for who has it, so that the fault is in time.
const LOOK_FOR_LEADER_MS: u64 = 500;
/// How often it is looked what nodes do, ms.
const TEND_MS: u64 = 100;
/// How long nodes may take after the last fault until they are all back, ms.
const RETURN_MS_MAX: u64 = 60_000;
/// What a node says that does not open its store.
const REFUSALS: [&str; 3] = ["lost its disk", "is damaged", "does not open"];

/// What happened.
#[derive(Debug, Default)]
pub struct Tormented {
    /// The faults, as they were, in the order of their beginnings.
    pub bands: Vec<Band>,
    /// What nodes did that they must not do under these faults.
    pub breaches: Vec<String>,
    /// Faults that were in force alone and not seen to act.
    pub unseen: Vec<String>,
    /// How many were seen to act.
    pub seen: usize,
}

pub(super) struct Active {
    pub(super) fault: Fault,
    from_ms: u64,
    /// No other fault was in force meanwhile.
    is_alone: bool,
    evidence: Evidence,
}

/// What a node without its disk, or without its trust in it, is about.
pub(super) enum Standing {
    /// Its store was changed: it may refuse it.
    Damaged,
    /// It is coming back as a new member.
    Returning(JoinHandle<()>),
}

/// Makes the faults of a schedule happen. All are over, and all nodes back, when it returns, or that they are not is
/// among the breaches. It waits for file systems and processes on the thread that it runs on.
/// Error: a fault cannot be made.
pub async fn torment(
    cluster: &mut Cluster,
    rig: &mut Rig,
    schedule: &Schedule,
    clock: Clock,
) -> Result<Tormented, String> {
    let begins = schedule.steps.iter().enumerate().map(|(at, step)| (step.at_ms, true, at));
    let ends = schedule.steps.iter().enumerate().map(|(at, step)| (step.until_ms(), false, at));
    let mut changes: Vec<(u64, bool, usize)> = begins.chain(ends).collect();
    // What ends at a moment makes room for what begins then.
    changes.sort_unstable();
    let mut torment = Torment {
        cluster,
        rig,
        schedule,
        clock,
        active: BTreeMap::new(),
        paused: BTreeSet::new(),
        felled: BTreeSet::new(),
        standing: BTreeMap::new(),
        result: Tormented::default(),
    };
    for (at_ms, is_begin, at) in changes {
        let step = &schedule.steps[at];
        let has_role = step.fault != resolve(&step.fault, 0, schedule.nodes);
        if is_begin && has_role {
            torment.tend_until(at_ms.saturating_sub(LOOK_FOR_LEADER_MS)).await?;
            let leader = torment.cluster.leader().await;
            torment.tend_until(at_ms).await?;
            torment.begin(at, resolve(&step.fault, leader, schedule.nodes))?;
        } else {
            torment.tend_until(at_ms).await?;
            match is_begin {
                true => torment.begin(at, step.fault.clone())?,
                false => torment.end(at).await?,
            }
        }
    }
    torment.wait_for_all().await?;
    let mut result = std::mem::take(&mut torment.result);
    result.bands.sort_by_key(|band| band.from_ms);
    Ok(result)
}

pub(super) struct Torment<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) rig: &'a mut Rig,
    pub(super) schedule: &'a Schedule,
    pub(super) clock: Clock,
    /// By the numbers of their steps.
    pub(super) active: BTreeMap<usize, Active>,
    paused: BTreeSet<u8>,
    /// Nodes that ended because of a fault which is still in force.
    pub(super) felled: BTreeSet<u8>,
    pub(super) standing: BTreeMap<u8, Standing>,
    result: Tormented,
}

impl Drop for Torment<'_> {
    fn drop(&mut self) {
        // Whatever the reason: what is traced cannot be killed in order.
        self.rig.untrace_all();
    }
}

impl Torment<'_> {
    /// Looks after the nodes until that time, ms of the run's clock.
    async fn tend_until(&mut self, at_ms: u64) -> Result<(), String> {
        loop {
            self.tend()?;
            let now_ms = self.clock.now_ms();
            if now_ms >= at_ms {
                return Ok(());
            }
            self.clock.sleep_until_ms(at_ms.min(now_ms + TEND_MS)).await;
        }
    }

    /// Waits until no node is on its way back any more.
    async fn wait_for_all(&mut self) -> Result<(), String> {
        let until_ms = self.clock.now_ms() + RETURN_MS_MAX;
        loop {
            self.tend()?;
            self.trust().await?;
            if self.standing.is_empty() {
                return Ok(());
            }
            if self.clock.now_ms() >= until_ms {
                for (node, standing) in &self.standing {
                    let why = match standing {
                        Standing::Returning(task) => {
                            task.abort();
                            "was no voter again"
                        }
                        Standing::Damaged => "neither refused its store nor served",
                    };
                    let why = format!("node {node} {why} within {RETURN_MS_MAX} ms");
                    self.result.breaches.push(why);
                }
                return Ok(());
            }
            sleep(Duration::from_millis(TEND_MS)).await;
        }
    }

    /// Has done with nodes that serve although their store was damaged: they found that nothing is missing.
    async fn trust(&mut self) -> Result<(), String> {
        let is_damaged = |node: &u8| matches!(self.standing.get(node), Some(Standing::Damaged));
        for node in (1..=self.schedule.nodes).filter(is_damaged).collect::<Vec<_>>() {
            if self.cluster.place(node)?.observer()?.digest().await.is_ok() {
                self.standing.remove(&node);
            }
        }
        Ok(())
    }

    /// Looks at nodes that have ended by themselves, and at those that were to come back.
    fn tend(&mut self) -> Result<(), String> {
        self.standing.retain(|_, standing| match standing {
            Standing::Damaged => true,
            Standing::Returning(task) => !task.is_finished(),
        });
        for (node, why) in self.cluster.ended() {
            self.kill(node);
            let fells = |active: &Active| {
                let is_one = matches!(
                    active.fault,
                    Fault::FsyncFail(_) | Fault::DiskFull(_) | Fault::Leave(_)
                );
                is_one && active.fault.nodes(self.schedule.nodes).contains(&node)
            };
            let is_refusal = REFUSALS.iter().any(|words| why.contains(words));
            if self.active.values().any(fells) {
                self.felled.insert(node);
            } else if is_refusal && matches!(self.standing.get(&node), Some(Standing::Damaged)) {
                self.bring_back(node)?;
            } else {
                self.result.breaches.push(format!("node {node} ended by itself: {why}"));
                // What refuses its store once does so for ever.
                match is_refusal {
                    true => self.bring_back(node)?,
                    false => self.cluster.start_node(node)?,
                }
            }
        }
        Ok(())
    }

    /// Gives a node an empty disk and a new name, and has it invited in the place of the old one.
    pub(super) fn bring_back(&mut self, node: u8) -> Result<(), String> {
        self.kill(node);
        let old = self.cluster.place(node)?.id;
        self.cluster.renew(node)?;
        self.cluster.start_node(node)?;
        let new = self.cluster.place(node)?.member();
        let others = member::others(self.cluster.places(), node)?;
        let task = tokio::spawn(member::replace(others, old, new));
        self.standing.insert(node, Standing::Returning(task));
        Ok(())
    }

    /// Returns why a fault of disks must not be made now.
    fn objection(&self, fault: &Fault) -> Option<String> {
        let is_loss = |fault: &Fault| {
            matches!(
                fault,
                Fault::Wipe(_) | Fault::Tear { .. } | Fault::Flip { .. } | Fault::Leave(_)
            )
        };
        let is_cut = |fault: &Fault| matches!(fault, Fault::PowerCut(_) | Fault::PowerCutAll);
        let nodes = fault.nodes(self.schedule.nodes);
        if is_loss(fault)
            && let Some((node, _)) =
                self.standing.iter().find(|(_, now)| matches!(now, Standing::Returning(_)))
        {
            return Some(format!("node {node} is not back yet"));
        }
        for Active { fault: other, .. } in self.active.values() {
            let is_same = !other.nodes(self.schedule.nodes).is_disjoint(&nodes);
            let is_hidden = is_loss(fault) && is_cut(other) || is_cut(fault) && is_loss(other);
            // A disk without power cannot be filled.
            let is_dark = matches!(fault, Fault::DiskFull(_)) && is_cut(other);
            if is_loss(fault) && is_loss(other) || is_same && (is_hidden || is_dark) {
                return Some(format!("`{other}` is in force"));
            }
        }
        None
    }

    fn begin(&mut self, at: usize, fault: Fault) -> Result<(), String> {
        let from_ms = self.clock.now_ms();
        if let Some(why) = self.objection(&fault) {
            let fault = format!("{fault} (passed over: {why})");
            self.result.bands.push(Band { from_ms, until_ms: from_ms, fault });
            return Ok(());
        }
        let is_alone = self.active.is_empty();
        self.active.values_mut().for_each(|active| active.is_alone = false);
        self.cut_power(&fault)?;
        let evidence = Evidence::Known(false);
        self.active.insert(at, Active { fault: fault.clone(), from_ms, is_alone, evidence });
        self.set_clocks(&fault)?;
        self.reconcile()?;
        let evidence = self.act(&fault)?;
        if let Some(active) = self.active.get_mut(&at) {
            active.evidence = evidence;
        }
        Ok(())
    }

    async fn end(&mut self, at: usize) -> Result<(), String> {
        // A fault that was passed over never began.
        let Some(Active { fault, from_ms, is_alone, evidence }) = self.active.remove(&at) else {
            return Ok(());
        };
        let mut finding = evidence.judge(&fault, self.cluster, self.rig).await;
        if self.undo(at, &fault)? {
            finding = Finding::Seen;
        }
        match finding {
            Finding::Seen => self.result.seen += 1,
            Finding::Unseen if is_alone => {
                self.result.unseen.push(format!("`{fault}` at {from_ms} ms"));
            }
            Finding::Unseen => {}
            Finding::Broken(why) => self.result.unseen.push(why),
        }
        let until_ms = self.clock.now_ms();
        self.result.bands.push(Band { from_ms, until_ms, fault: fault.to_string() });
        self.set_clocks(&fault)?;
        self.reconcile()
    }

    /// Makes links and processes what the faults that are in force want.
    fn reconcile(&mut self) -> Result<(), String> {
        let nodes = self.schedule.nodes;
        let faults = || self.active.values().map(|active| &active.fault);
        let network = Network::under(faults(), nodes);
        self.rig.set_links(&network)?;
        self.cluster.links().set(network);
        let wanted = |is_so: fn(&Fault) -> bool| {
            faults().filter(|fault| is_so(fault)).flat_map(|fault| fault.nodes(nodes)).collect()
        };
        let down: BTreeSet<u8> = wanted(is_down);
        let paused: BTreeSet<u8> = wanted(|fault| matches!(fault, Fault::Pause(_)));
        let fells: BTreeSet<u8> = wanted(|fault| {
            matches!(fault, Fault::FsyncFail(_) | Fault::DiskFull(_) | Fault::Leave(_))
        });
        self.felled.retain(|node| fells.contains(node));
        for node in 1..=nodes {
            let should_run = !down.contains(&node) && !self.felled.contains(&node);
            match (should_run, self.cluster.pid(node).is_some()) {
                (true, false) => {
                    self.cluster.start_node(node)?;
                    self.trace(node);
                    self.cluster.pause(node, paused.contains(&node));
                }
                (false, true) => self.kill(node),
                (true, true) if paused.contains(&node) != self.paused.contains(&node) => {
                    self.cluster.pause(node, paused.contains(&node));
                }
                _ => {}
            }
        }
        self.paused = paused;
        Ok(())
    }
}

/// Whether a fault wants its nodes down as long as it is in force.
fn is_down(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Kill(_)
            | Fault::KillAll
            | Fault::Wipe(_)
            | Fault::PowerCut(_)
            | Fault::PowerCutAll
            | Fault::Tear { .. }
            | Fault::Flip { .. }
    )
}
