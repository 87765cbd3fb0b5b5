use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::body::Json;
use super::dto::{AclBody, Creation, Encoding, Mode, StatBody, acl_in, data_in};
use super::error::Failed;
use super::extract::{Caller, Params};
use super::write;
use super::znodes::NoParams;
use crate::limits::MULTI_OPS_MAX;
use crate::types::{Op, Reply, ZnodePath};

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Multi)]
#[serde(deny_unknown_fields)]
pub(crate) struct MultiBody {
    /// Carried out in order, all or none.
    ops: Vec<OpBody>,
}

/// One op of a multi.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Op)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum OpBody {
    /// Creates a znode.
    Create {
        path: String,
        data: Option<String>,
        #[serde(default)]
        encoding: Encoding,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        sequential: bool,
        ttl_ms: Option<u64>,
        acl: Option<Vec<AclBody>>,
    },
    /// Replaces the data.
    Set {
        path: String,
        data: Option<String>,
        #[serde(default)]
        encoding: Encoding,
        version: Option<i32>,
    },
    /// Deletes a znode.
    Delete { path: String, version: Option<i32> },
    /// Checks that a znode exists, and its version.
    Check { path: String, version: Option<i32> },
}

impl OpBody {
    fn op(self, session: bool) -> Result<Op, Failed> {
        Ok(match self {
            OpBody::Create { path, data, encoding, mode, sequential, ttl_ms, acl } => {
                let acl = acl.map(acl_in).transpose()?.unwrap_or_default();
                let creation = Creation { mode, sequential, ttl_ms, session };
                creation.op(&path, data_in(data, encoding)?, acl)?
            }
            OpBody::Set { path, data, encoding, version } => Op::SetData {
                path: ZnodePath::parse(&path)?,
                data: data_in(data, encoding)?,
                version,
            },
            OpBody::Delete { path, version } => {
                Op::Delete { path: ZnodePath::parse(&path)?, version }
            }
            OpBody::Check { path, version } => {
                Op::Check { path: ZnodePath::parse(&path)?, version }
            }
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MultiDone)]
pub(crate) struct MultiDoneBody {
    /// One per op, in order.
    results: Vec<ResultBody>,
    zxid: u64,
}

#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = OpResult)]
pub(crate) struct ResultBody {
    /// Of a create.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Of a create or set.
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatBody>,
}

impl From<&Reply> for ResultBody {
    fn from(reply: &Reply) -> ResultBody {
        match reply {
            Reply::Created { path, stat } => {
                ResultBody { path: Some(path.to_string()), stat: Some(StatBody::from(stat)) }
            }
            Reply::DataSet { stat } | Reply::AclSet { stat } => {
                ResultBody { path: None, stat: Some(StatBody::from(stat)) }
            }
            _ => ResultBody::default(),
        }
    }
}

/// Does several ops, all or none.
#[utoipa::path(post, path = "/v1/multi", tag = "znodes", request_body = MultiBody,
    responses((status = 200, description = "All have been done", body = MultiDoneBody)))]
pub(crate) async fn multi(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<MultiBody>,
) -> Result<Response, Failed> {
    if body.ops.len() > MULTI_OPS_MAX {
        let count = body.ops.len();
        return Err(Failed::bad_arguments(format!("{count} ops: the limit is {MULTI_OPS_MAX}")));
    }
    let session = !caller.session.is_none();
    let ops = body.ops.into_iter().enumerate();
    let ops = ops.map(|(index, op)| op.op(session).map_err(|failed| failed.in_item(index)));
    let op = Op::Multi(ops.collect::<Result<_, _>>()?);
    match write::submit(&door, caller, op).await? {
        (Reply::Multi(replies), zxid) => {
            let results = replies.iter().map(ResultBody::from).collect();
            Ok(answer::json_at(StatusCode::OK, zxid, &MultiDoneBody { results, zxid: zxid.0 }))
        }
        (_, zxid) => Err(write::other_kind(zxid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::parse_json;
    use crate::types::{CreateMode, Data};

    fn ops(json: &str) -> Result<Vec<Op>, Failed> {
        let body: MultiBody = parse_json(json.as_bytes())?;
        body.ops.into_iter().map(|op| op.op(false)).collect()
    }

    #[test]
    fn the_documented_body_becomes_the_ops() {
        let json = r#"{"ops":[
            {"op":"create","path":"/a/b","data":"AAE=","encoding":"base64","sequential":true},
            {"op":"set","path":"/a","data":null,"version":3},
            {"op":"delete","path":"/c","version":-1},
            {"op":"check","path":"/d"}]}"#;
        let path = |text| ZnodePath::parse(text).unwrap();
        assert_eq!(
            ops(json).unwrap(),
            [
                Op::Create {
                    parent: path("/a"),
                    name: "b".into(),
                    data: Some(Data::new(&[0, 1])),
                    acl: Vec::new(),
                    mode: CreateMode::PersistentSequential,
                },
                Op::SetData { path: path("/a"), data: None, version: Some(3) },
                Op::Delete { path: path("/c"), version: Some(-1) },
                Op::Check { path: path("/d"), version: None },
            ]
        );
    }

    #[test]
    fn unknown_fields_and_ops_are_refused_by_name() {
        for (json, code, word) in [
            (r#"{"ops":[],"atomic":true}"#, "bad_request", "atomic"),
            (r#"{"ops":[{"op":"set","path":"/a","dat":"x"}]}"#, "bad_request", "dat"),
            (r#"{"ops":[{"op":"rename","path":"/a"}]}"#, "bad_request", "rename"),
            (r#"{"ops":[{"op":"delete"}]}"#, "bad_request", "path"),
            (r#"{"ops":[{"op":"delete","path":"a"}]}"#, "bad_arguments", "slash"),
        ] {
            let failed = ops(json).unwrap_err();
            assert_eq!(failed.parts().1.code, code, "{json}");
            assert!(failed.parts().1.message.contains(word), "{}", failed.parts().1.message);
        }
    }
}
