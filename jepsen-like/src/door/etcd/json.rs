//! The form of etcd's requests and answers: base64 within JSON, 64 bits as text, and what is 0 left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::door::{News, Reply, Trouble, name, number};
use crate::history::kv::{KvAnswer, Seen};

/// gRPC's codes, as the gateway passes them on.
const NOT_FOUND: i64 = 5;
const UNAVAILABLE: i64 = 14;

pub(super) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

pub(super) fn decode(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default()
}

/// Reads a number: 64 bits are written as text, and 0 is left out.
pub(super) fn int(value: &Value) -> i64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_i64().or_else(text).unwrap_or(0)
}

pub(super) fn revision(answer: &Value) -> u64 {
    u64::try_from(int(&answer["header"]["revision"])).unwrap_or(0)
}

/// Returns the first and the end of the keys of all children.
pub(super) fn below(parent: &str) -> (String, String) {
    // `0` follows the slash.
    (format!("{parent}/"), format!("{parent}0"))
}

pub(super) fn compare(key: &str, target: &str, result: &str, than: i64) -> Value {
    let field = match target {
        "CREATE" => "create_revision",
        "LEASE" => "lease",
        _ => "version",
    };
    json!({ "key": encode(key), "target": target, "result": result, field: than.to_string() })
}

pub(super) fn put(key: &str, value: &[u8], lease: i64) -> Value {
    let (key, value) = (encode(key), STANDARD.encode(value));
    json!({ "request_put": { "key": key, "value": value, "lease": lease.to_string() } })
}

pub(super) fn get(key: &str) -> Value {
    json!({ "request_range": { "key": encode(key) } })
}

pub(super) fn kv(kv: &Value) -> Option<Seen> {
    kv.as_object()?;
    let zxid = |value: &Value| u64::try_from(int(value)).unwrap_or(0);
    Some(Seen {
        value: number(&decode(&kv["value"])),
        version: i32::try_from(int(&kv["version"]) - 1).unwrap_or(i32::MAX),
        czxid: zxid(&kv["create_revision"]),
        mzxid: zxid(&kv["mod_revision"]),
    })
}

pub(super) fn read(answer: &Value) -> Reply<KvAnswer> {
    Ok(KvAnswer::Read { zxid: revision(answer), seen: kv(&answer["kvs"][0]) })
}

/// Returns what an error of the gateway says.
pub(super) fn refusal(answer: &Value, is_write: bool) -> Trouble {
    let inner = answer.get("error").filter(|error| error.is_object()).unwrap_or(answer);
    let why =
        inner["message"].as_str().or(inner["error"].as_str()).unwrap_or("an error").to_owned();
    let code = inner.get("grpc_code").or(inner.get("code")).map_or(0, int);
    match code {
        NOT_FOUND if why.contains("lease not found") => Trouble::Expired,
        UNAVAILABLE if why.contains("no leader") => Trouble::Failed(why),
        _ => Trouble::unanswered(is_write, why),
    }
}

/// Groups events by the transaction that they are of.
pub(super) fn changes(events: &Value) -> Vec<News> {
    type Changes = Vec<(String, Option<Vec<u8>>)>;
    let mut grouped: Vec<(u64, Changes)> = Vec::new();
    for event in events.as_array().into_iter().flatten() {
        let kv = &event["kv"];
        let zxid = u64::try_from(int(&kv["mod_revision"])).unwrap_or(0);
        let key = String::from_utf8(decode(&kv["key"])).unwrap_or_default();
        let is_gone = event["type"] == json!("DELETE");
        let change = (name(&key).to_owned(), (!is_gone).then(|| decode(&kv["value"])));
        match grouped.last_mut().filter(|(last, _)| *last == zxid) {
            Some((_, changes)) => changes.push(change),
            None => grouped.push((zxid, vec![change])),
        }
    }
    let grouped = grouped.into_iter();
    grouped.map(|(zxid, changes)| News::Change { zxid, changes }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{changes, encode, int, kv, refusal};
    use crate::door::{News, Trouble};

    #[test]
    fn events_of_one_transaction_are_one_change() {
        let event = |key: &str, zxid: u64| json!({ "kv": { "key": encode(key), "value": encode("7"), "mod_revision": zxid.to_string() } });
        let gone =
            json!({ "type": "DELETE", "kv": { "key": encode("/w/a"), "mod_revision": "6" } });
        let told = changes(&json!([event("/w/a", 5), event("/w/b", 5), gone]));
        let set = |name: &str| (name.to_owned(), Some(b"7".to_vec()));
        let first = News::Change { zxid: 5, changes: vec![set("a"), set("b")] };
        let second = News::Change { zxid: 6, changes: vec![("a".to_owned(), None)] };
        assert_eq!(told, [first, second]);
        assert!(
            changes(&json!(null)).is_empty(),
            "a message that only says that the watch is there"
        );
    }

    #[test]
    fn numbers_are_text_and_versions_begin_with_1() {
        assert_eq!((int(&json!("12")), int(&json!(12)), int(&json!(null))), (12, 12, 0));
        let found = kv(
            &json!({ "value": encode("9"), "version": "1", "create_revision": "3", "mod_revision": "3" }),
        );
        let found = found.unwrap();
        assert_eq!((found.value, found.version, found.czxid, found.mzxid), (9, 0, 3, 3));
        assert_eq!(kv(&json!(null)), None);
    }

    #[test]
    fn only_what_was_certainly_not_done_has_failed() {
        let lease = json!({ "error": "etcdserver: requested lease not found", "code": 5 });
        assert_eq!(refusal(&lease, true), Trouble::Expired);
        let leader = json!({ "error": "etcdserver: no leader", "code": 14 });
        assert!(matches!(refusal(&leader, true), Trouble::Failed(_)));
        let late = json!({ "error": "etcdserver: request timed out", "code": 14 });
        assert!(matches!(refusal(&late, true), Trouble::Unknown(_)), "it may be done yet");
        assert!(matches!(refusal(&late, false), Trouble::Failed(_)), "a read does nothing");
    }
}
