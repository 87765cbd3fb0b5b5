//! The form that the articles describe: one version for everything.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::record::{Change, Instance, Key};

/// Messages kept for nodes that ask for what they missed; one that asks for older ones gets the whole list.
const MESSAGES_MAX: usize = 4_096;

/// A change with its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) version: u64,
    pub(super) change: Change,
}

/// Answer to "what is newer than this version?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Newer {
    /// These messages, in order.
    Messages(Vec<Message>),
    /// The whole list, since the messages are no longer known.
    All { version: u64, list: Vec<Change> },
}

/// One node's copy of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    version: u64,
    list: BTreeMap<Key, Instance>,
    messages: VecDeque<Message>,
}

impl Described {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn list(&self) -> &BTreeMap<Key, Instance> {
        &self.list
    }

    /// Makes a change at this node, and returns the message that tells the others.
    pub(super) fn publish(&mut self, change: Change) -> Message {
        let message = Message { version: self.version + 1, change };
        self.replay(message.clone());
        message
    }

    /// Takes a message of another node: replayed if it is newer than everything here, else dropped. Returns whether it
    /// was replayed.
    pub(super) fn receive(&mut self, message: Message) -> bool {
        let is_newer = message.version > self.version;
        if is_newer {
            self.replay(message);
        }
        is_newer
    }

    fn replay(&mut self, message: Message) {
        self.version = message.version;
        let Change { key, instance } = message.change.clone();
        match instance {
            Some(instance) => drop(self.list.insert(key, instance)),
            None => drop(self.list.remove(&key)),
        }
        self.messages.push_back(message);
        if self.messages.len() > MESSAGES_MAX {
            self.messages.pop_front();
        }
    }

    /// Returns what a node that has this version lacks, as far as versions tell.
    pub(super) fn newer_than(&self, version: u64) -> Newer {
        let reaches_back = match self.messages.front() {
            Some(oldest) => oldest.version <= version + 1,
            None => self.version <= version,
        };
        if reaches_back {
            let newer = self.messages.iter().filter(|message| message.version > version);
            return Newer::Messages(newer.cloned().collect());
        }
        let list = self
            .list
            .iter()
            .map(|(key, instance)| Change { key: key.clone(), instance: Some(instance.clone()) });
        Newer::All { version: self.version, list: list.collect() }
    }

    /// Takes an answer of another node to [`newer_than`](Described::newer_than) this one's version.
    pub(super) fn catch_up(&mut self, newer: Newer) {
        match newer {
            Newer::Messages(messages) => {
                for message in messages {
                    self.receive(message);
                }
            }
            Newer::All { version, list } if version > self.version => {
                self.version = version;
                self.messages.clear();
                let there = list.into_iter();
                let there = there.filter_map(|change| Some((change.key, change.instance?)));
                self.list = there.collect();
            }
            Newer::All { .. } => {}
        }
    }

    /// Forgets an instance whose lease has run out here. Each node does so by itself: it is no message.
    pub(super) fn forget(&mut self, key: &Key) {
        self.list.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::replica::tests::change;
    use super::{Described, MESSAGES_MAX, Newer};

    #[test]
    fn with_one_publisher_a_node_that_missed_messages_catches_up() {
        let (mut a, mut b) = (Described::default(), Described::default());
        for id in ["1", "2", "3"] {
            let message = a.publish(change(id, true));
            if id != "2" {
                b.receive(message);
            }
        }
        assert_ne!(a.list(), b.list(), "a push was lost, and a later one hides it");
        let mut late = Described::default();
        late.catch_up(a.newer_than(late.version()));
        assert_eq!(a.list(), late.list());
    }

    #[test]
    fn two_publishers_that_do_not_see_each_other_lose_registrations_for_good() {
        let (mut a, mut b) = (Described::default(), Described::default());
        a.publish(change("1", true));
        b.publish(change("2", true));
        a.publish(change("3", true));
        // The network is well again; both ask for what is newer.
        let (for_a, for_b) = (b.newer_than(a.version()), a.newer_than(b.version()));
        a.catch_up(for_a);
        b.catch_up(for_b);
        let ids =
            |node: &Described| node.list().keys().map(|(_, id)| id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&a), ids(&b)),
            (vec!["1".into(), "3".into()], vec!["2".into(), "3".into()])
        );
    }

    #[test]
    fn who_is_too_far_behind_gets_the_whole_list() {
        let mut a = Described::default();
        for n in 0..=MESSAGES_MAX {
            a.publish(change(&(n % 10).to_string(), true));
        }
        assert!(matches!(a.newer_than(1), Newer::Messages(_)));
        let all = a.newer_than(0);
        assert!(matches!(all, Newer::All { .. }));
        let mut b = Described::default();
        b.catch_up(all);
        assert_eq!((a.list(), a.version()), (b.list(), b.version()));
    }
}
