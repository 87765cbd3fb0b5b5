//! What a watcher is told.

use super::wire::record;
use super::{DecodeError, Jute, Reader, Writer};

/// The only state of a session that a server names in an event: connected, as opposed to what client
/// libraries make up by themselves.
pub const KEEPER_STATE_CONNECTED: i32 = 3;

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// The znode came into being.
    NodeCreated,
    /// It is gone.
    NodeDeleted,
    /// Its data was set.
    NodeDataChanged,
    /// A child of it came or went.
    NodeChildrenChanged,
}

impl EventType {
    const ALL: [EventType; 4] = [
        EventType::NodeCreated,
        EventType::NodeDeleted,
        EventType::NodeDataChanged,
        EventType::NodeChildrenChanged,
    ];

    /// Returns ZooKeeper's number: 1 to 4.
    pub fn number(self) -> i32 {
        match self {
            EventType::NodeCreated => 1,
            EventType::NodeDeleted => 2,
            EventType::NodeDataChanged => 3,
            EventType::NodeChildrenChanged => 4,
        }
    }
}

impl Jute for EventType {
    fn read(reader: &mut Reader<'_>) -> Result<EventType, DecodeError> {
        let number = reader.read()?;
        let mut all = EventType::ALL.into_iter();
        all.find(|event| event.number() == number).ok_or(DecodeError::UnknownEvent(number))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.number().write(writer);
    }
}

record! {
    /// The body of an event.
    pub struct WatcherEvent {
        /// What happened.
        pub event: EventType,
        /// [`KEEPER_STATE_CONNECTED`].
        pub state: i32,
        /// To which path.
        pub path: String,
    }
}
