//! Requests that are at fault, made of valid ones by chance.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use serde_json::{Value, json};

use super::api_tests::Call;

const TEXTS: [&str; 22] = [
    "",
    "/",
    "//",
    ".",
    "..",
    "a/../b",
    "a//b",
    "\0",
    "\u{1f}",
    "\u{fff0}",
    "é",
    "\u{1f980}",
    "%",
    "%zz",
    "a b",
    "'\"<>",
    "zookeeper",
    "0x0",
    "0xffffffffffffffff",
    "-1",
    "null",
    "web",
];
const NUMBERS: [&str; 14] = [
    "-1",
    "0",
    "1",
    "1.5",
    "1e400",
    "-0",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999999",
];

fn text(rng: &mut StdRng) -> String {
    match rng.random_range(0..10) {
        0 => "x".repeat(rng.random_range(1..6000)),
        1 => (0..rng.random_range(1..20)).map(|_| rng.random::<char>()).collect(),
        _ => (*TEXTS.choose(rng).unwrap()).to_owned(),
    }
}

fn in_url(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Any JSON, of names that the operations know.
fn any_json(rng: &mut StdRng, depth: u32) -> Value {
    const NAMES: [&str; 22] = [
        "ops",
        "op",
        "path",
        "data",
        "encoding",
        "version",
        "mode",
        "ttl_ms",
        "acl",
        "perms",
        "scheme",
        "id",
        "timeout_ms",
        "providers",
        "service",
        "host",
        "port",
        "metadata",
        "members",
        "node",
        "peer_addr",
        "what?",
    ];
    const WORDS: [&str; 9] =
        ["create", "set", "delete", "check", "base64", "ttl", "ephemeral", "cdrwa", "/a/b"];
    match rng.random_range(0..if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.random::<bool>()),
        2 => serde_json::from_str(NUMBERS.choose(rng).unwrap()).unwrap_or(json!(0.5)),
        3 => json!(text(rng)),
        4 => json!(WORDS.choose(rng).unwrap()),
        5 => (0..rng.random_range(0..4)).map(|_| any_json(rng, depth - 1)).collect(),
        _ => {
            let field = |rng: &mut StdRng| {
                ((*NAMES.choose(rng).unwrap()).to_owned(), any_json(rng, depth - 1))
            };
            (0..rng.random_range(0..5)).map(|_| field(rng)).collect()
        }
    }
}

/// Breaks a body: a value somewhere in it becomes another, or a field is added.
fn break_json(rng: &mut StdRng, value: &mut Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() && rng.random_range(0..8) > 0 => {
            let at = rng.random_range(0..fields.len());
            let inner = fields.values_mut().nth(at).unwrap();
            break_json(rng, inner);
        }
        Value::Object(fields) => drop(fields.insert("unknown".to_owned(), json!(1))),
        Value::Array(items) if !items.is_empty() && rng.random_range(0..8) > 0 => {
            let inner = items.choose_mut(rng).unwrap();
            break_json(rng, inner);
        }
        other => *other = any_json(rng, 2),
    }
}

fn hostile_body(rng: &mut StdRng, valid: &[u8]) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 => valid.to_vec(),
        1 => (0..rng.random_range(0..200)).map(|_| rng.random()).collect(),
        2 => valid[..rng.random_range(0..=valid.len())].to_vec(),
        3 => "[".repeat(rng.random_range(1..5000)).into_bytes(),
        4 => any_json(rng, 4).to_string().into_bytes(),
        _ => {
            let mut value = serde_json::from_slice(valid).unwrap_or_else(|_| any_json(rng, 3));
            break_json(rng, &mut value);
            value.to_string().into_bytes()
        }
    }
}

/// Makes something hostile of a valid call. It asks for no wait of minutes, which it would get.
pub(super) fn hostile(rng: &mut StdRng, document: &Value, mut call: Call, token: &str) -> Call {
    let operation = &document["paths"][call.template][call.method];
    let mut uri = String::new();
    for (index, part) in call.template.split('/').enumerate() {
        if index > 0 {
            uri.push('/');
        }
        match part.starts_with('{') {
            true => uri.push_str(&in_url(&text(rng))),
            false => uri.push_str(part),
        }
    }
    if rng.random_range(0..3) == 0 {
        uri = call.uri.split('?').next().unwrap().to_owned();
    }
    let known = operation["parameters"].as_array().cloned().unwrap_or_default();
    let mut separator = '?';
    for parameter in known.iter().filter(|parameter| parameter["in"] == "query") {
        if rng.random_range(0..3) > 0 {
            continue;
        }
        let name = parameter["name"].as_str().unwrap();
        let value = match (name, rng.random_range(0..3)) {
            ("min_zxid" | "wait_ms", _) => {
                (*["-1", "x", "1e9", "", "0"].choose(rng).unwrap()).to_owned()
            }
            ("watch", 0) => format!("subtree:{}", text(rng)),
            (_, 1) => (*NUMBERS.choose(rng).unwrap()).to_owned(),
            _ => text(rng),
        };
        uri.push_str(&format!("{separator}{name}={}", in_url(&value)));
        separator = '&';
    }
    if rng.random_range(0..10) == 0 {
        uri.push_str(&format!("{separator}{}={}", in_url(&text(rng)), in_url(&text(rng))));
    }
    call.uri = uri;
    call.body = hostile_body(rng, &call.body);
    call.headers.clear();
    for name in
        ["roost-session", "if-match", "idempotency-key", "last-event-id", "accept", "content-type"]
    {
        let value = match (name, rng.random_range(0..8)) {
            ("roost-session", 0..4) => token.to_owned(),
            (_, 0) => (*NUMBERS.choose(rng).unwrap()).to_owned(),
            (_, 1) => text(rng),
            _ => continue,
        };
        if reqwest::header::HeaderValue::from_str(&value).is_ok() {
            call = call.with(name, &value);
        }
    }
    if rng.random_range(0..20) == 0 {
        call.method = ["get", "put", "post", "delete", "patch"].choose(rng).unwrap();
    }
    call
}
