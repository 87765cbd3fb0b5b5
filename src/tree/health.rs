//! How instances stand, whatever they say themselves: that the leader's probes of them fail, that their session is suspect, and
//! when a rule of Dubbo that means them came or went.
//!
//! What is known of one is a note, which exists from the first thing that is known until the instance goes, and goes with it in
//! the same transaction. A note that says that all is well again stays: by its zxid whoever follows the list learns of it. So
//! the newest of an instance's change and of its note's (and of its layout's, where that can change) is its *stamp*, of which
//! signs and revisions of lists are made, and nothing else has to be remembered. Nobody but the tree writes notes, or they might
//! go back to an earlier zxid.

use super::{Lifetime, Tree, Znode};
use crate::registry::{
    self, Category, Finding, HEALTH, Health, health_note, health_notes, is_health_note, noted_at,
};
use crate::traffic::{SUSPECTS, Suspect};
use crate::types::{Code, Event, EventKind, Reply, SessionId, ZnodePath, Zxid};

/// What a znode notes, if it is a note: of which registration, and since which zxid.
pub(super) struct Noted {
    instance: ZnodePath,
    czxid: Zxid,
    since: Zxid,
}

impl Noted {
    /// Cost: next to nothing for any other znode.
    pub(super) fn of(path: &ZnodePath, znode: &Znode) -> Option<Noted> {
        // What holds the notes of a list has no data.
        let instance = noted_at(path.as_str())?;
        let finding = Finding::read(znode.data()?)?;
        Some(Noted { instance, czxid: Zxid(finding.czxid), since: znode.mzxid })
    }
}

impl Tree {
    /// Returns how the instance stands that was registered at a path with this zxid, and since which zxid; zero when nothing has
    /// ever been known of it. Cost: a lookup.
    pub fn health(&self, path: &ZnodePath, czxid: Zxid) -> (Health, Zxid) {
        let found = self.finding(path, czxid);
        found.map_or_else(Default::default, |(finding, since)| (finding.health(), since))
    }

    /// Yields the instances whose probes fail, by list and name, with the zxids of their registrations. Cost: O(notes).
    pub fn unhealthy(&self) -> impl Iterator<Item = (ZnodePath, Zxid)> {
        let folders = self.get(HEALTH).into_iter().flat_map(|all| all.children());
        let notes = folders.filter_map(|folder| self.get(folder.as_str()));
        let notes = notes.flat_map(|folder| folder.children());
        notes.filter_map(|note| {
            let finding = Finding::read(self.get(note.as_str())?.data()?)?;
            let instance = noted_at(note.as_str()).filter(|_| finding.unhealthy)?;
            let znode = self.get(instance.as_str())?;
            (znode.czxid.0 == finding.czxid).then_some((instance, znode.czxid))
        })
    }

    /// See [`Op::SetHealth`](crate::types::Op::SetHealth). `BadArguments` where nothing can be noted: the path is too long for
    /// it, or somebody has put an ephemeral in the way.
    pub(super) fn set_health(
        &mut self,
        path: &ZnodePath,
        czxid: Zxid,
        works: bool,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        if is_health_note(path.as_str()) {
            return Err(Code::BadArguments);
        }
        self.get(path.as_str()).filter(|znode| znode.czxid == czxid).ok_or(Code::NoNode)?;
        let known = self.known(path, czxid);
        let finding = Finding { unhealthy: !works, ..known };
        if finding == known {
            return Ok(Reply::Checked);
        }
        let note = self.note_finding(path, finding, events).ok_or(Code::BadArguments)?;
        let stat = self.get(note.as_str()).ok_or(Code::NoNode)?.stat();
        Ok(Reply::DataSet { stat })
    }

    /// Brings the notes in step with what a transaction has done: that of an instance goes with it, and those of a session's
    /// instances say whether it is suspect.
    pub(super) fn settle_health(&mut self, events: &mut Vec<Event>) {
        let has_notes = self.has_notes();
        for at in 0..events.len() {
            let Event { kind, path, .. } = &events[at];
            if path.parent_str() == Some(SUSPECTS) {
                if let Some(session) = Suspect::session_of(path) {
                    self.follow_suspicion(session, events);
                }
            } else if matches!(kind, EventKind::Created | EventKind::Deleted) {
                let (is_gone, path) = (*kind == EventKind::Deleted, path.clone());
                if is_gone && has_notes {
                    self.forget_finding(&path, events);
                }
                self.follow_rule(&path, events);
            }
        }
    }

    /// Brings the lists of services in step with a note that said one thing and says another now; `None` where it does not exist.
    pub(super) fn follow_health(&mut self, before: Option<Noted>, after: Option<Noted>) {
        let Some(instance) = before.as_ref().or(after.as_ref()).map(|noted| &noted.instance) else {
            return;
        };
        let Some(znode) = self.get(instance.as_str()) else { return };
        let Some((list, _)) = self.layouts().entry_at(instance) else { return };
        let (created, modified) = znode.stamp();
        let modified = modified.max(self.layouts().read_since(list.layout));
        let stamp = |noted: &Option<Noted>| {
            let meant = noted.as_ref().filter(|noted| noted.czxid == created);
            (created, meant.map_or(modified, |noted| modified.max(noted.since)))
        };
        let stamps = (stamp(&before), stamp(&after));
        if stamps.0 != stamps.1 {
            let instance = instance.clone();
            self.restamp(&instance, Some(stamps.0), Some(stamps.1));
        }
    }

    /// Gives the notes of what lies at a path the access control list that it has: who may read a list may read how its instances
    /// stand.
    pub(super) fn follow_acl(&mut self, path: &ZnodePath) {
        let Some(rules) = self.get(path.as_str()).map(|znode| znode.acl.to_vec()) else { return };
        if !self.has_notes() {
            return;
        }
        for note in [health_note(path), health_notes(path.as_str())].into_iter().flatten() {
            if self.get(note.as_str()).is_some_and(|known| known.acl[..] != rules[..]) {
                self.replace_acl(&note, rules.clone());
            }
        }
    }

    fn has_notes(&self) -> bool {
        self.get(HEALTH).is_some_and(|all| all.num_children() > 0)
    }

    fn finding(&self, path: &ZnodePath, czxid: Zxid) -> Option<(Finding, Zxid)> {
        if !self.has_notes() {
            return None;
        }
        let note = self.get(health_note(path).ok()?.as_str())?;
        let finding = Finding::read(note.data()?)?;
        (finding.czxid == czxid.0).then_some((finding, note.mzxid))
    }

    fn known(&self, path: &ZnodePath, czxid: Zxid) -> Finding {
        let nothing = Finding { czxid: czxid.0, ..Finding::default() };
        self.finding(path, czxid).map_or(nothing, |(finding, _)| finding)
    }

    fn follow_suspicion(&mut self, session: SessionId, events: &mut Vec<Event>) {
        let suspect = self.suspect(session).is_some();
        let own: Vec<ZnodePath> = self.ephemerals(session).cloned().collect();
        for path in own {
            // One that has ceased to say where it is ceases to be suspect as any other.
            let meant = self.get(path.as_str());
            let meant = meant.filter(|znode| !suspect || self.is_provider(&path, znode));
            let Some(czxid) = meant.map(|znode| znode.czxid) else { continue };
            let known = self.known(&path, czxid);
            let finding = Finding { suspect, ..known };
            if finding != known {
                self.note_finding(&path, finding, events);
            }
        }
    }

    /// Notes of the instances that a rule of Dubbo means that they show something else since it came or went. Cost: for any other
    /// znode next to nothing, for a rule O(providers of its interface).
    fn follow_rule(&mut self, path: &ZnodePath, events: &mut Vec<Event>) {
        let layouts = self.layouts();
        let Some((list, _)) = layouts.entry_at(path) else { return };
        if list.category != Category::Configurator {
            return;
        }
        let Some(rule) = registry::rule(path.name()).ok().filter(|rule| !rule.is_empty()) else {
            return;
        };
        let above = |list: &str| list.rsplit_once('/').map(|(above, _)| above.to_owned());
        let beside = path.parent_str().and_then(above);
        let is_governed = |path: &&ZnodePath| {
            layouts
                .list_at(path.as_str())
                .is_some_and(|list| list.layout.has_rules() && list.category == Category::Provider)
                && above(path.as_str()) == beside
        };
        let lists = self.services.lists(list.namespace, &list.service).iter().filter(is_governed);
        let entries =
            lists.filter_map(|list| self.get(list.as_str())).flat_map(|list| list.children());
        let meant = entries.filter(|path| rule.means(path.name()));
        let meant: Vec<(ZnodePath, Zxid)> =
            meant.filter_map(|path| Some((path.clone(), self.get(path.as_str())?.czxid))).collect();
        for (path, czxid) in meant {
            let known = self.known(&path, czxid);
            self.note_finding(&path, known, events);
        }
    }

    /// Removes the note of what is at a path no more.
    fn forget_finding(&mut self, path: &ZnodePath, events: &mut Vec<Event>) {
        let Ok(note) = health_note(path) else { return };
        let Some(noted) = self.get(note.as_str()).map(|znode| Noted::of(&note, znode)) else {
            return;
        };
        // It may have come anew within the transaction.
        let present = self.get(path.as_str()).map(|znode| znode.czxid);
        if present.is_none() || noted.is_none_or(|noted| Some(noted.czxid) != present) {
            events.extend(self.unlink(&note));
        }
    }

    /// Notes something of an instance that exists. Returns the note; `None` where it cannot be.
    fn note_finding(
        &mut self,
        path: &ZnodePath,
        finding: Finding,
        events: &mut Vec<Event>,
    ) -> Option<ZnodePath> {
        let note = health_note(path).ok()?;
        if !self.put_note(&note, &finding.to_data(), Lifetime::Persistent, events) {
            return None;
        }
        self.follow_acl(path);
        if let Some(list) = path.parent() {
            self.follow_acl(&list);
        }
        Some(note)
    }
}
