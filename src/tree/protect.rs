//! That no service loses too many providers at once by silence: the sessions of the others are *suspect* and keep all they
//! have, until they are heard from, somebody confirms their end, there is room for it, or they have been held long enough.
//!
//! The decision falls where the transaction is applied, by what the tree holds: the policies of removal, how many providers
//! each service has, and what it has lost within the window. So every leader decides alike and none can forget. That a
//! session ends late harms nobody: its timeout was only ever the least time that it lives.

use std::collections::BTreeMap;

use super::{Lifetime, Tree, Znode};
use crate::policy::{Mode, Removal};
use crate::registry::HEALTH;
use crate::traffic::{LOSSES, Loss, SUSPECTS, Suspect, claim};
use crate::types::{Code, Data, Event, Owner, Reply, SessionId, Silence, ZnodePath};

/// How a service stands with regard to a policy of removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The policy that holds for it.
    pub policy: &'a str,
    /// Its terms.
    pub removal: &'a Removal,
    /// Whether it acts.
    pub mode: Mode,
    /// Providers that it has.
    pub present: u64,
    /// Providers that it has lost by silence within the window.
    pub lost: u64,
}

/// What comes of a session that is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ends.
    Ends,
    /// It ends, and would be held if the policy of this service did more than observe.
    EndsObserved(ZnodePath),
    /// It is held.
    Held(Suspect),
}

/// A service that loses providers when a session ends.
struct Stake {
    service: ZnodePath,
    providers: u64,
}

impl Tree {
    /// Returns how a service stands whose providers are the children of this path; `None` where no policy of removal holds.
    /// Cost: O(policies with its beginning + losses within the window).
    pub fn standing<'a>(&'a self, service: &'a str, cluster_ms: u64) -> Option<Standing<'a>> {
        let (policy, removal, mode) = self.policies.removal(service)?;
        let (present, lost) = self.providers(service, cluster_ms);
        Some(Standing { policy, removal, mode, present, lost })
    }

    /// Returns how many providers a service has, and has lost by silence within the window, whether it is protected or not.
    pub fn providers(&self, service: &str, cluster_ms: u64) -> (u64, u64) {
        let present = self.providers.get(service).copied().unwrap_or(0);
        (present, self.lost(service, cluster_ms))
    }

    /// Returns what would come of a session that is silent, at this time of the cluster's clock. Cost: O(its ephemerals).
    pub fn fate(&self, session: SessionId, why: Silence, cluster_ms: u64) -> Fate {
        self.fate_of(&self.stakes(session), session, why, cluster_ms)
    }

    /// Returns what is noted of a session whose end is put off.
    pub fn suspect(&self, session: SessionId) -> Option<Suspect> {
        self.get(SUSPECTS)?;
        Suspect::read(self.get(Suspect::note_of(session).as_str())?.data()?)
    }

    /// Yields the notes of sessions whose end is put off behind this path, in the order of their ids.
    pub fn suspects_after(&self, path: &str) -> impl Iterator<Item = (&ZnodePath, SessionId)> {
        let all = self.get(SUSPECTS).into_iter().flat_map(|all| all.children_after(path));
        all.filter_map(|note| Some((note, Suspect::session_of(note)?)))
    }

    /// Returns how many sessions are suspect.
    pub fn suspect_count(&self) -> usize {
        self.get(SUSPECTS).map_or(0, |all| all.num_children())
    }

    /// Yields the services of which losses are noted.
    pub fn services_with_losses(&self) -> impl Iterator<Item = ZnodePath> {
        let all = self.get(LOSSES).into_iter().flat_map(|all| all.children());
        all.filter_map(Loss::service_of)
    }

    /// See [`Op::Expire`](crate::types::Op::Expire).
    pub(super) fn expire_session(
        &mut self,
        id: SessionId,
        unless_moved_from: Option<Owner>,
        why: Silence,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        let session = self.sessions.get(&id).ok_or(Code::SessionExpired)?;
        if session.owner != unless_moved_from {
            return Err(Code::SessionMoved);
        }
        if why == Silence::Confirmed && self.suspect(id).is_none() {
            return Err(Code::NoNode);
        }
        let (stakes, now_ms) = (self.stakes(id), self.time.cluster_ms);
        if let Fate::Held(suspect) = self.fate_of(&stakes, id, why, now_ms)
            && self.note_suspect(id, &suspect, events)
        {
            let for_ms = suspect.hold_until_cluster_ms.saturating_sub(now_ms);
            return Ok(Reply::Held { for_ms });
        }
        // What is known to be gone uses up nothing of what may go without being known to be.
        if matches!(why, Silence::Silent | Silence::Answers) {
            stakes.iter().for_each(|stake| self.note_loss(stake, events));
        }
        self.close_session(id, None, events)
    }

    /// Removes the note of a session that is suspect no more.
    pub(super) fn forget_suspect(&mut self, id: SessionId, events: &mut Vec<Event>) {
        if self.suspect_count() == 0 {
            return;
        }
        let note = Suspect::note_of(id);
        if self.get(note.as_str()).is_some_and(|znode| znode.num_children() == 0) {
            events.extend(self.unlink(&note));
        }
    }

    /// Brings the number of providers of a service in step with a znode below it that has come (`by` is 1) or gone (-1).
    pub(super) fn count_provider(&mut self, path: &ZnodePath, znode: &Znode, by: i64) {
        let Some(service) = path.parent_str().filter(|_| is_provider(path, znode)) else { return };
        let present = self.providers.get(service).copied().unwrap_or(0);
        match (present.saturating_add_signed(by), path.parent()) {
            (0, _) | (_, None) => drop(self.providers.remove(service)),
            (now, Some(service)) => drop(self.providers.insert(service, now)),
        }
    }

    /// Finds all providers: for a tree that was loaded. Cost: O(ephemerals).
    pub(super) fn find_providers(&mut self) {
        let all = self.sessions.values().flat_map(|session| session.ephemerals());
        let all: Vec<ZnodePath> = all.cloned().collect();
        for path in all {
            if let Some(znode) = self.nodes.get(path.as_str()).cloned() {
                self.count_provider(&path, &znode, 1);
            }
        }
    }

    /// Returns which services, in the order of their paths, lose how many providers with a session.
    fn stakes(&self, session: SessionId) -> Vec<Stake> {
        let mut providers: BTreeMap<ZnodePath, u64> = BTreeMap::new();
        for path in self.ephemerals(session) {
            let is_one = self.get(path.as_str()).is_some_and(|znode| is_provider(path, znode));
            if let Some(service) = path.parent().filter(|_| is_one)
                && self.policies.removal(service.as_str()).is_some()
            {
                *providers.entry(service).or_default() += 1;
            }
        }
        providers.into_iter().map(|(service, providers)| Stake { service, providers }).collect()
    }

    fn fate_of(&self, stakes: &[Stake], id: SessionId, why: Silence, now_ms: u64) -> Fate {
        if matches!(why, Silence::Refused | Silence::Confirmed) {
            return Fate::Ends;
        }
        let answers = why == Silence::Answers;
        let suspect = self.suspect(id);
        let since_ms = suspect.as_ref().map_or(now_ms, |it| it.since_cluster_ms.min(now_ms));
        let (mut held, mut observed) = (None::<Suspect>, None);
        for stake in stakes {
            let service = stake.service.as_str();
            let Some(standing) = self.standing(service, now_ms) else { continue };
            let Standing { policy, removal, mode, present, lost } = standing;
            let until_ms = since_ms.saturating_add(removal.max_hold_ms);
            if until_ms <= now_ms || (!answers && removal.allows(present, lost, stake.providers)) {
                continue;
            }
            if mode == Mode::Observe {
                observed.get_or_insert_with(|| stake.service.clone());
                continue;
            }
            let held = held.get_or_insert_with(|| Suspect {
                since_cluster_ms: since_ms,
                hold_until_cluster_ms: until_ms,
                services: Vec::new(),
                policy: policy.to_owned(),
                answers,
            });
            held.hold_until_cluster_ms = held.hold_until_cluster_ms.max(until_ms);
            held.services.push(service.to_owned());
        }
        match (held, observed) {
            (Some(suspect), _) => Fate::Held(suspect),
            (None, Some(service)) => Fate::EndsObserved(service),
            (None, None) => Fate::Ends,
        }
    }

    /// Returns how many providers a service has lost by silence within the window.
    fn lost(&self, service: &str, now_ms: u64) -> u64 {
        if self.get(LOSSES).is_none_or(|all| all.num_children() == 0) {
            return 0;
        }
        let notes = Loss::notes_of(service).ok().and_then(|notes| self.get(notes.as_str()));
        let notes = notes.into_iter().flat_map(|notes| notes.children());
        let lost = notes.filter_map(|note| {
            let znode = self.get(note.as_str())?;
            let is_of_window = matches!(znode.lifetime, Lifetime::Ttl { .. })
                && znode.due_ms().is_some_and(|due_ms| due_ms > now_ms);
            Loss::read(znode.data().filter(|_| is_of_window)?)
        });
        lost.fold(0, |sum, loss| sum.saturating_add(loss.lost))
    }

    /// Notes that a session is suspect, unless it is noted. Returns whether it is then.
    fn note_suspect(&mut self, id: SessionId, suspect: &Suspect, events: &mut Vec<Event>) -> bool {
        let note = Suspect::note_of(id);
        match self.suspect(id) {
            Some(known) if known == *suspect => true,
            _ => self.put_note(&note, &suspect.to_data(), Lifetime::Persistent, events),
        }
    }

    /// Notes what a service loses, together with what it has lost within this second.
    fn note_loss(&mut self, stake: &Stake, events: &mut Vec<Event>) {
        let service = stake.service.as_str();
        let Some((_, removal, _)) = self.policies.removal(service) else { return };
        let (now_ms, ttl_ms) = (self.time.cluster_ms, removal.window_ms);
        // Who has a name that is too long to be noted is not protected.
        let Ok(notes) = Loss::notes_of(service) else { return };
        let Ok(note) = notes.child(&(now_ms / 1000).to_string()) else { return };
        let before = self.get(note.as_str()).and_then(|znode| Loss::read(znode.data()?));
        let lost = before.map_or(0, |loss| loss.lost).saturating_add(stake.providers);
        let lifetime = Lifetime::Ttl { ttl_ms, renewed_ms: now_ms };
        self.put_note(&note, &Loss { lost }.to_data(), lifetime, events);
    }

    /// Writes a note in the tree's own name, with what is missing above it. Returns whether it could: not where somebody has
    /// put an ephemeral in its way.
    pub(super) fn put_note(
        &mut self,
        path: &ZnodePath,
        data: &[u8],
        lifetime: Lifetime,
        events: &mut Vec<Event>,
    ) -> bool {
        let data = Some(Data::new(data));
        if self.get(path.as_str()).is_some() {
            return self.replace_data(path, data, events).is_ok();
        }
        let above: Vec<String> = path.self_and_ancestors().skip(1).map(str::to_owned).collect();
        let is_barred = above
            .iter()
            .filter_map(|path| self.get(path))
            .any(|znode| znode.ephemeral_owner().is_some());
        if is_barred {
            return false;
        }
        for missing in above.iter().rev() {
            if self.get(missing).is_some() {
                continue;
            }
            let Ok(folder) = ZnodePath::parse(missing) else { return false };
            // What holds the notes of a service goes with the last of them.
            let is_of_service = [Some(LOSSES), Some(HEALTH)].contains(&folder.parent_str());
            let lifetime = if is_of_service { Lifetime::Container } else { Lifetime::Persistent };
            self.link_note(&folder, Some(Data::new(&[])), lifetime, events);
        }
        self.link_note(path, data, lifetime, events);
        true
    }

    fn link_note(
        &mut self,
        path: &ZnodePath,
        data: Option<Data>,
        lifetime: Lifetime,
        events: &mut Vec<Event>,
    ) {
        // Whoever closed what lies above meant this too.
        let above = path.parent_str().and_then(|parent| self.get(parent));
        let rules = above.map_or_else(Vec::new, |above| above.acl.to_vec());
        self.make(path, data, rules, lifetime, events);
    }
}

/// Returns whether a znode is a provider of the service that its parent is: an ephemeral that says where it is.
pub(super) fn is_provider(path: &ZnodePath, znode: &Znode) -> bool {
    znode.ephemeral_owner().is_some()
        && claim(path.name(), znode.data().map(|data| &data[..])).is_some()
}
