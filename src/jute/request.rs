//! What a client can ask.

use super::ops::{Item, Ops, Tagged, ops};
use super::wire::record;
use super::{DecodeError, Reader, Writer};
use crate::types::{Acl, Data};

/// The numbers of requests. Source: ZooKeeper `ZooDefs.OpCode`.
pub mod opcodes {
    #![expect(missing_docs, reason = "ZooKeeper's names; the variants of Request say what they do")]
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
}

record! {
    /// A znode to create.
    pub struct Create {
        /// Where; the beginning of where for a sequential one.
        pub path: String,
        /// Its data.
        pub data: Option<Data>,
        /// Its access control list.
        pub acl: Vec<Acl>,
        /// Its kind: 0 persistent, 1 ephemeral, 2 and 3 the same sequential, 4 container, 5 with a TTL, 6
        /// with a TTL and sequential. Not bits; which of them mean something depends on the opcode.
        pub flags: i32,
    }

    /// A znode with a TTL to create.
    pub struct CreateTtl {
        /// All but the TTL.
        pub create: Create,
        /// The TTL, ms.
        pub ttl_ms: i64,
    }

    /// A path and the version that it must have.
    pub struct PathVersion {
        /// Which znode.
        pub path: String,
        /// The version of its data, -1 for any.
        pub version: i32,
    }

    /// Data to set.
    pub struct SetData {
        /// Of which znode.
        pub path: String,
        /// The data.
        pub data: Option<Data>,
        /// The version that its data must have, -1 for any.
        pub version: i32,
    }

    /// An access control list to set.
    pub struct SetAcl {
        /// Of which znode.
        pub path: String,
        /// The list.
        pub acl: Vec<Acl>,
        /// The version that its list must have, -1 for any.
        pub version: i32,
    }

    /// Something to read and perhaps to watch.
    pub struct PathWatch {
        /// Of which znode.
        pub path: String,
        /// Whether to be told once when it changes. Without meaning in a multi.
        pub watch: bool,
    }

    /// Watches to look for or to remove.
    pub struct WatcherKind {
        /// On which path.
        pub path: String,
        /// Which: 1 children, 2 data, 3 any, 4 persistent, 5 persistent recursive.
        pub kind: i32,
    }

    /// A watch that stays.
    pub struct AddWatch {
        /// On which path.
        pub path: String,
        /// 0 for the path itself, 1 for all below it too.
        pub mode: i32,
    }

    /// The watches of a client that comes back, and since when it has heard nothing.
    pub struct SetWatches {
        /// The last zxid that it has seen.
        pub relative_zxid: i64,
        /// Paths of existing znodes watched for data.
        pub data: Vec<String>,
        /// Paths where a znode was awaited.
        pub exist: Vec<String>,
        /// Paths watched for children.
        pub child: Vec<String>,
    }

    /// As above, with watches that stay.
    pub struct SetWatches2 {
        /// The one-shot ones.
        pub one_shot: SetWatches,
        /// Paths watched until further notice.
        pub persistent: Vec<String>,
        /// Paths watched with all below them until further notice.
        pub persistent_recursive: Vec<String>,
    }

    /// Credentials.
    pub struct Auth {
        /// Always 0.
        pub kind: i32,
        /// What sort of credentials.
        pub scheme: String,
        /// The credentials, in the form of the scheme.
        pub auth: Option<Data>,
    }

    /// A change of the cluster's members: by difference, or the whole list.
    pub struct Reconfig {
        /// Lines of members to add.
        pub joining: Option<String>,
        /// Ids of members to remove.
        pub leaving: Option<String>,
        /// Lines of all members to be.
        pub new_members: Option<String>,
        /// The version that the configuration must have, -1 for any.
        pub config_id: i64,
    }
}

ops! {
    /// A request to change the tree; also what a multi is made of.
    pub enum WriteOp {
        /// Creates a znode.
        opcodes::CREATE => Create(Create),
        /// Creates a znode and tells its stat.
        opcodes::CREATE2 => Create2(Create),
        /// Creates a container.
        opcodes::CREATE_CONTAINER => CreateContainer(Create),
        /// Creates a znode with a TTL.
        opcodes::CREATE_TTL => CreateTtl(CreateTtl),
        /// Deletes a znode.
        opcodes::DELETE => Delete(PathVersion),
        /// Sets data.
        opcodes::SET_DATA => SetData(SetData),
        /// Does nothing if the version is right. By itself it is nothing that a client may ask.
        opcodes::CHECK => Check(PathVersion),
    }
}

ops! {
    /// A request to read that may stand in a multi for reading.
    pub enum ReadOp {
        /// Reads data and stat.
        opcodes::GET_DATA => GetData(PathWatch),
        /// Reads the names of the children.
        opcodes::GET_CHILDREN => GetChildren(PathWatch),
    }
}

impl Item for WriteOp {}

impl Item for ReadOp {}

ops! {
    /// A request.
    pub enum Request {
        /// Reads the stat.
        opcodes::EXISTS => Exists(PathWatch),
        /// Reads the names of the children and the stat.
        opcodes::GET_CHILDREN2 => GetChildren2(PathWatch),
        /// Reads the access control list.
        opcodes::GET_ACL => GetAcl(String),
        /// Sets the access control list.
        opcodes::SET_ACL => SetAcl(SetAcl),
        /// Waits until the server has all that was written before. Answers the path that it names.
        opcodes::SYNC => Sync(String),
        /// Says that the client lives.
        opcodes::PING => Ping,
        /// Does several changes or none.
        opcodes::MULTI => Multi(Ops<WriteOp>),
        /// Reads several things of one state.
        opcodes::MULTI_READ => MultiRead(Ops<ReadOp>),
        /// Changes the members of the cluster.
        opcodes::RECONFIG => Reconfig(Reconfig),
        /// Asks whether there is such a watch.
        opcodes::CHECK_WATCHES => CheckWatches(WatcherKind),
        /// Removes such watches.
        opcodes::REMOVE_WATCHES => RemoveWatches(WatcherKind),
        /// Deletes an empty container. Only ZooKeeper's own servers have reason to ask.
        opcodes::DELETE_CONTAINER => DeleteContainer(String),
        /// Proves an identity, with [`xids::AUTH`](super::xids::AUTH).
        opcodes::AUTH => Auth(Auth),
        /// Restores watches, with [`xids::SET_WATCHES`](super::xids::SET_WATCHES).
        opcodes::SET_WATCHES => SetWatches(SetWatches),
        /// Restores watches, those that stay included.
        opcodes::SET_WATCHES2 => SetWatches2(SetWatches2),
        /// One step of a SASL exchange.
        opcodes::SASL => Sasl(Option<Data>),
        /// Lists the session's own ephemerals whose paths begin like this.
        opcodes::GET_EPHEMERALS => GetEphemerals(String),
        /// Counts the znodes below a path.
        opcodes::GET_ALL_CHILDREN_NUMBER => GetAllChildrenNumber(String),
        /// Adds a watch that stays.
        opcodes::ADD_WATCH => AddWatch(AddWatch),
        /// Asks for the identities that the connection has proved.
        opcodes::WHO_AM_I => WhoAmI,
        /// Ends the session.
        opcodes::CLOSE_SESSION => CloseSession,
        ;
        /// Changes the tree.
        Write(WriteOp),
        /// Reads something that a multi could read too.
        Read(ReadOp),
    }
}

impl Request {
    /// Reads the request that belongs to an opcode from the bytes behind its header. What follows it is
    /// ignored.
    pub fn decode(opcode: i32, body: &[u8]) -> Result<Request, DecodeError> {
        let mut reader = Reader::new(body);
        Request::read_body(opcode, &mut reader).unwrap_or(Err(DecodeError::UnknownOp(opcode)))
    }

    /// Returns its opcode.
    pub fn opcode(&self) -> i32 {
        Tagged::opcode(self)
    }

    /// Appends what follows its header.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        self.write_body(writer);
    }
}
