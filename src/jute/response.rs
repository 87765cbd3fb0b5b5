//! What a server answers.

use super::ops::{Item, Ops, ops};
use super::wire::record;
use super::{DecodeError, Jute, Reader, Writer, errors, opcodes};
use crate::types::{Acl, Code, Data, Stat};

/// The opcode of what went wrong, among the results of a multi.
const ERROR: i32 = -1;

record! {
    /// A new znode.
    pub struct PathStat {
        /// Its real path.
        pub path: String,
        /// Its stat.
        pub stat: Stat,
    }

    /// What a znode holds.
    pub struct DataStat {
        /// Its data.
        pub data: Option<Data>,
        /// Its stat.
        pub stat: Stat,
    }

    /// Who may do what with a znode.
    pub struct AclStat {
        /// The rules.
        pub acl: Vec<Acl>,
        /// Its stat.
        pub stat: Stat,
    }

    /// The children of a znode.
    pub struct NamesStat {
        /// Their names, in no particular order.
        pub names: Vec<String>,
        /// The stat of the znode itself.
        pub stat: Stat,
    }

    /// An identity as it may be shown.
    pub struct ClientInfo {
        /// The scheme.
        pub scheme: String,
        /// The name, without anything secret.
        pub user: String,
    }
}

ops! {
    /// What became of one op of a multi.
    pub enum OpResult {
        /// Of `Create`: the real path.
        opcodes::CREATE => Created(String),
        /// Of every other way to create.
        opcodes::CREATE2 => Created2(PathStat),
        /// Of `Delete`.
        opcodes::DELETE => Deleted,
        /// Of `SetData`: the stat after it.
        opcodes::SET_DATA => DataSet(Stat),
        /// Of `Check`.
        opcodes::CHECK => Checked,
        /// Of `GetData`.
        opcodes::GET_DATA => Data(DataStat),
        /// Of `GetChildren`.
        opcodes::GET_CHILDREN => Children(Vec<String>),
        /// It failed, or was not done because another failed; then a number as in
        /// [`ReplyHeader::err`](super::ReplyHeader), and 0 for those before the one that failed.
        ERROR => Failed(i32),
    }
}

impl Item for OpResult {
    fn header_err(&self) -> i32 {
        match self {
            OpResult::Failed(err) => *err,
            _ => errors::OK,
        }
    }
}

/// The body of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// There is none.
    Empty,
    /// Of `Create` and `Sync`.
    Path(String),
    /// Of every other way to create.
    Created(PathStat),
    /// Of `Exists`, `SetData` and `SetAcl`.
    Stat(Stat),
    /// Of `GetData` and `Reconfig`.
    Data(DataStat),
    /// Of `GetAcl`.
    Acl(AclStat),
    /// Of `GetChildren` and `GetEphemerals`.
    Names(Vec<String>),
    /// Of `GetChildren2`.
    NamesStat(NamesStat),
    /// Of `Multi` and `MultiRead`.
    Results(Ops<OpResult>),
    /// Of `GetAllChildrenNumber`; of `AddWatch`, which answers 0.
    Number(i32),
    /// Of `Sasl`.
    Token(Option<Data>),
    /// Of `WhoAmI`.
    Identities(Vec<ClientInfo>),
}

impl Response {
    /// Returns what a multi of so many ops answers when the one at `index` was refused: all failed, those
    /// before it with 0. The header of that reply says that all is well.
    pub fn failed_multi(ops: usize, index: usize, code: Code) -> Response {
        let err = |at: usize| match at.cmp(&index) {
            std::cmp::Ordering::Less => errors::OK,
            std::cmp::Ordering::Equal => code.number(),
            std::cmp::Ordering::Greater => Code::RuntimeInconsistency.number(),
        };
        Response::Results(Ops((0..ops).map(|at| OpResult::Failed(err(at))).collect()))
    }

    /// Appends it.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        match self {
            Response::Empty => {}
            Response::Path(path) => path.write(writer),
            Response::Created(created) => created.write(writer),
            Response::Stat(stat) => stat.write(writer),
            Response::Data(data) => data.write(writer),
            Response::Acl(acl) => acl.write(writer),
            Response::Names(names) => names.write(writer),
            Response::NamesStat(names) => names.write(writer),
            Response::Results(results) => results.write(writer),
            Response::Number(number) => number.write(writer),
            Response::Token(token) => token.write(writer),
            Response::Identities(identities) => identities.write(writer),
        }
    }

    /// Reads the answer to a request with this opcode from the bytes behind a header whose `err` is 0.
    pub fn decode(opcode: i32, body: &[u8]) -> Result<Response, DecodeError> {
        #[allow(clippy::wildcard_imports, reason = "all of them, at once")]
        use opcodes::*;
        let mut reader = Reader::new(body);
        Ok(match opcode {
            CREATE | SYNC => Response::Path(reader.read()?),
            CREATE2 | CREATE_CONTAINER | CREATE_TTL => Response::Created(reader.read()?),
            EXISTS | SET_DATA | SET_ACL => Response::Stat(reader.read()?),
            GET_DATA | RECONFIG => Response::Data(reader.read()?),
            GET_ACL => Response::Acl(reader.read()?),
            GET_CHILDREN | GET_EPHEMERALS => Response::Names(reader.read()?),
            GET_CHILDREN2 => Response::NamesStat(reader.read()?),
            MULTI | MULTI_READ => Response::Results(reader.read()?),
            GET_ALL_CHILDREN_NUMBER | ADD_WATCH => Response::Number(reader.read()?),
            SASL => Response::Token(reader.read()?),
            WHO_AM_I => Response::Identities(reader.read()?),
            DELETE | CHECK | PING | CHECK_WATCHES | REMOVE_WATCHES | DELETE_CONTAINER | AUTH
            | SET_WATCHES | SET_WATCHES2 | CLOSE_SESSION => Response::Empty,
            _ => return Err(DecodeError::UnknownOp(opcode)),
        })
    }
}
