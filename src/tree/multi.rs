use super::Tree;
use super::apply::Client;
use crate::limits::MULTI_OPS_MAX;
use crate::types::{Code, Event, Failure, Op, Reply};

impl Tree {
    /// Does all of the ops, each seeing what the earlier ones did, or none. All share one zxid. The way
    /// back is the tree itself: it was cloned before the first op, after zxid, clock and origin had moved.
    pub(super) fn multi(
        &mut self,
        client: Client<'_>,
        ops: &[Op],
        events: &mut Vec<Event>,
    ) -> Result<Reply, Failure> {
        if ops.len() > MULTI_OPS_MAX {
            return Err(Failure::from(Code::BadArguments));
        }
        let before = self.clone();
        let mut replies = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.change_znode(client, op, events) {
                Ok(reply) => replies.push(reply),
                Err(code) => {
                    mutant!(M32, drop(before), *self = before);
                    events.clear();
                    return Err(Failure { code, multi_index: Some(index as u32) });
                }
            }
        }
        Ok(Reply::Multi(replies))
    }
}
