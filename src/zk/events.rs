//! Events as bytes.

use crate::jute::{
    EventType, Jute, KEEPER_STATE_CONNECTED, ReplyHeader, WatcherEvent, append_event, append_frame,
    errors, xids,
};
use crate::watch::{Notice, NoticeKind};

/// Appends the event that a notice is.
pub(super) fn append_notice(output: &mut Vec<u8>, notice: &Notice) {
    let event = match notice.kind {
        NoticeKind::Created => EventType::NodeCreated,
        NoticeKind::Deleted => EventType::NodeDeleted,
        NoticeKind::DataChanged => EventType::NodeDataChanged,
        NoticeKind::ChildrenChanged => EventType::NodeChildrenChanged,
    };
    // As `append_event`, without a copy of the path: there are many of these at once.
    append_frame(output, |writer| {
        ReplyHeader { xid: xids::EVENT, zxid: notice.zxid.0 as i64, err: errors::OK }.write(writer);
        event.write(writer);
        KEEPER_STATE_CONNECTED.write(writer);
        writer.bytes(Some(notice.path.as_str().as_bytes()));
    });
}

/// Appends an event that stands for whatever happened while the client was away.
pub(super) fn append_missed(output: &mut Vec<u8>, event: EventType, path: String) {
    append_event(output, -1, &WatcherEvent { event, state: KEEPER_STATE_CONNECTED, path });
}
