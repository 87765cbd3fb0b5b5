//! One node's state: either form of replication, and the leases. Pure: time is passed in, messages go in and out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::careful::{Careful, Difference, Record, Summary};
use super::described::{Described, Message, Newer};
use super::lease::Leases;
use super::record::{Change, Instance, Key};

/// Which replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One growing version, as the articles describe it.
    Described,
    /// A stamp per instance, tombstones, anti-entropy.
    Careful,
}

/// What the clocks of a node say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Monotonic, for leases.
    pub(super) ms: u64,
    /// Of the wall, for stamps.
    pub(super) wall_ms: u64,
}

/// Pushed to the other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Push {
    /// A change, described.
    Message(Message),
    /// A change, carefully.
    Record(Record),
    /// Sessions whose clients were just heard, and their timeouts in ms.
    Heard(Vec<(String, u64)>),
}

/// Asked of another node on a timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pull {
    /// What is newer than this version?
    Newer(u64),
    /// Do you hold the same? If not, how does it differ?
    Compare { digest: u64, summary: Summary },
}

/// Answer to a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pulled {
    answer: Answer,
    /// Sessions of what is given, their timeouts, and how long ago they were heard of, ms.
    heard: Vec<(String, u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Newer(Newer),
    Difference(Difference),
    Same,
}

#[derive(Clone, Debug)]
enum Replication {
    Described(Described),
    Careful(Careful),
}

/// The state of one node.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    replication: Replication,
    pub(super) leases: Leases,
}

impl Replica {
    pub(super) fn new(form: Form, node: u8) -> Replica {
        let replication = match form {
            Form::Described => Replication::Described(Described::default()),
            Form::Careful => Replication::Careful(Careful::new(node)),
        };
        Replica { replication, leases: Leases::default() }
    }

    /// Returns what this node shows: instances whose sessions it has heard of within their timeouts.
    pub(super) fn shown(&self, now: Now) -> BTreeMap<Key, Instance> {
        let is_alive = |instance: &Instance| self.leases.is_alive(&instance.session, now.ms);
        match &self.replication {
            Replication::Described(described) => {
                let list = described.list().iter().filter(|(_, instance)| is_alive(instance));
                list.map(|(key, instance)| (key.clone(), instance.clone())).collect()
            }
            Replication::Careful(careful) => {
                let list = careful.list().filter(|(_, instance)| is_alive(instance));
                list.map(|(key, instance)| (key.clone(), instance.clone())).collect()
            }
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Instance> {
        match &self.replication {
            Replication::Described(described) => described.list().get(key),
            Replication::Careful(careful) => careful.get(key),
        }
    }

    /// Returns the keys of a session's instances.
    pub(super) fn of_session(&self, session: &str) -> Vec<Key> {
        let is_its = |instance: &Instance| instance.session == session;
        match &self.replication {
            Replication::Described(described) => {
                let list = described.list().iter().filter(|(_, instance)| is_its(instance));
                list.map(|(key, _)| key.clone()).collect()
            }
            Replication::Careful(careful) => {
                let list = careful.list().filter(|(_, instance)| is_its(instance));
                list.map(|(key, _)| key.clone()).collect()
            }
        }
    }

    /// Makes a change here, and returns what to push.
    pub(super) fn publish(&mut self, change: Change, now: Now) -> Push {
        match &mut self.replication {
            Replication::Described(described) => Push::Message(described.publish(change)),
            Replication::Careful(careful) => Push::Record(careful.publish(change, now.wall_ms)),
        }
    }

    /// Takes what another node pushed. What the other form says is passed over.
    pub(super) fn receive(&mut self, push: Push, now: Now) {
        match (&mut self.replication, push) {
            (_, Push::Heard(sessions)) => {
                for (session, timeout_ms) in sessions {
                    self.leases.hear_of(&session, timeout_ms, 0, now.ms);
                }
            }
            (Replication::Described(described), Push::Message(message)) => {
                let instance = message.change.instance.clone();
                if described.receive(message) {
                    self.hear_of_new(instance, now);
                }
            }
            (Replication::Careful(careful), Push::Record(record)) => {
                let instance = record.change.instance.clone();
                if careful.merge(record, now.wall_ms) {
                    self.hear_of_new(instance, now);
                }
            }
            _ => {}
        }
    }

    /// A registration is a sign of life.
    fn hear_of_new(&mut self, instance: Option<Instance>, now: Now) {
        if let Some(instance) = instance {
            self.leases.hear_of(&instance.session, instance.timeout_ms, 0, now.ms);
        }
    }

    /// Returns what to ask another node.
    pub(super) fn pull(&self) -> Pull {
        match &self.replication {
            Replication::Described(described) => Pull::Newer(described.version()),
            Replication::Careful(careful) => {
                Pull::Compare { digest: careful.digest(), summary: careful.summary() }
            }
        }
    }

    /// Answers another node's pull; `None` when it is of the other form.
    pub(super) fn answer(&self, pull: &Pull, now: Now) -> Option<Pulled> {
        let answer = match (&self.replication, pull) {
            (Replication::Described(described), Pull::Newer(version)) => {
                Answer::Newer(described.newer_than(*version))
            }
            (Replication::Careful(careful), Pull::Compare { digest, summary }) => {
                match careful.digest() == *digest {
                    true => Answer::Same,
                    false => Answer::Difference(careful.difference(summary)),
                }
            }
            _ => return None,
        };
        let given: Vec<&Change> = match &answer {
            Answer::Newer(Newer::Messages(messages)) => {
                messages.iter().map(|message| &message.change).collect()
            }
            Answer::Newer(Newer::All { list, .. }) => list.iter().collect(),
            Answer::Difference(difference) => {
                difference.give.iter().map(|record| &record.change).collect()
            }
            Answer::Same => Vec::new(),
        };
        let given = given.into_iter().filter_map(|change| change.instance.as_ref());
        let heard = given.map(|instance| {
            let ago_ms = self.leases.ago_ms(&instance.session, now.ms);
            (instance.session.clone(), instance.timeout_ms, ago_ms)
        });
        let heard = heard.collect();
        Some(Pulled { answer, heard })
    }

    /// Takes the answer to a pull, and returns what the other node lacks.
    pub(super) fn take(&mut self, pulled: Pulled, now: Now) -> Vec<Push> {
        for (session, timeout_ms, ago_ms) in &pulled.heard {
            self.leases.hear_of(session, *timeout_ms, *ago_ms, now.ms);
        }
        match (&mut self.replication, pulled.answer) {
            (Replication::Described(described), Answer::Newer(newer)) => {
                described.catch_up(newer);
                Vec::new()
            }
            (Replication::Careful(careful), Answer::Difference(difference)) => {
                for record in difference.give {
                    careful.merge(record, now.wall_ms);
                }
                careful.records(&difference.want).into_iter().map(Push::Record).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Lets go of what has run out. The described form forgets it; the careful one only does not show it, so that it
    /// is back as soon as its session is heard of again, and forgets it when it is old.
    pub(super) fn expire(&mut self, now: Now) {
        let Replica { replication, leases } = self;
        match replication {
            Replication::Described(described) => {
                let is_over = |instance: &Instance| !leases.is_alive(&instance.session, now.ms);
                let list = described.list().iter().filter(|(_, instance)| is_over(instance));
                let over: Vec<Key> = list.map(|(key, _)| key.clone()).collect();
                over.iter().for_each(|key| described.forget(key));
                leases.collect(now.ms, |_| false);
            }
            Replication::Careful(careful) => {
                careful.collect(now.wall_ms, |instance| leases.is_alive(&instance.session, now.ms));
                let needed: std::collections::BTreeSet<&str> =
                    careful.list().map(|(_, instance)| instance.session.as_str()).collect();
                leases.collect(now.ms, |session| needed.contains(session));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::{Change, Form, Instance, Key, Now, Pull, Replica};

    /// A change of the instance of this id, whose session is its own.
    pub(in super::super) fn change(id: &str, is_there: bool) -> Change {
        let instance = is_there.then(|| Instance {
            host: "127.0.0.1".into(),
            port: 80,
            weight: 100,
            metadata: BTreeMap::new(),
            status: "up".into(),
            session: format!("s{id}"),
            timeout_ms: 1_000,
        });
        Change { key: key(id), instance }
    }

    fn key(id: &str) -> Key {
        ("web".into(), id.into())
    }

    fn now(ms: u64) -> Now {
        Now { ms, wall_ms: 1_000_000 + ms }
    }

    fn pair(form: Form) -> (Replica, Replica) {
        let (mut a, b) = (Replica::new(form, 1), Replica::new(form, 2));
        a.leases.hear("s1", 1_000, 0);
        (a, b)
    }

    fn pull(to: &mut Replica, from: &mut Replica, at: Now) {
        let pulled = from.answer(&to.pull(), at).unwrap();
        to.take(pulled, at).into_iter().for_each(|push| from.receive(push, at));
    }

    #[test]
    fn a_push_that_was_lost_is_made_good_by_the_next_pull() {
        for form in [Form::Described, Form::Careful] {
            let (mut a, mut b) = pair(form);
            a.publish(change("1", true), now(0));
            pull(&mut b, &mut a, now(500));
            assert_eq!(b.shown(now(999)), a.shown(now(999)), "{form:?}");
            assert!(b.shown(now(1_000)).is_empty(), "the lease counts from where it was heard");
            b.receive(super::Push::Heard(vec![("s1".into(), 1_000)]), now(900));
            assert_eq!(b.shown(now(1_899)).len(), 1);
        }
    }

    #[test]
    fn what_a_node_stopped_to_show_in_a_partition_comes_back_only_in_the_careful_form() {
        for (form, back) in [(Form::Described, 0), (Form::Careful, 1)] {
            let (mut a, mut b) = pair(form);
            let push = a.publish(change("1", true), now(0));
            b.receive(push, now(0));
            // No word reaches b, while the provider goes on renewing at a.
            b.expire(now(2_000));
            assert!(b.shown(now(2_000)).is_empty());
            a.leases.hear("s1", 1_000, 2_500);
            let heard = super::Push::Heard(a.leases.take_direct());
            b.receive(heard, now(2_500));
            pull(&mut b, &mut a, now(2_600));
            assert_eq!(b.shown(now(2_600)).len(), back, "{form:?}");
            assert_eq!(a.shown(now(2_600)).len(), 1);
        }
    }

    #[test]
    fn a_node_does_not_take_what_the_other_form_says() {
        let (mut a, _) = pair(Form::Careful);
        let push = a.publish(change("1", true), now(0));
        let mut other = Replica::new(Form::Described, 2);
        other.receive(push, now(0));
        assert!(other.shown(now(0)).is_empty());
        assert_eq!(other.answer(&a.pull(), now(0)), None);
        assert!(matches!(other.pull(), Pull::Newer(0)));
    }
}
