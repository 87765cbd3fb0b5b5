//! What a znode registers, as far as rules ask for it: at which hosts, with which labels. Lenient, for many write such
//! znodes: roost, Curator and Spring Cloud, serversets and Kratos write JSON into the data; Dubbo writes a URL into the name
//! and Motan one into the data.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// What a znode with this name and data registers.
#[derive(Debug, Default)]
pub(super) struct Payload {
    /// Where it can be reached; several for one with several endpoints.
    pub(super) hosts: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl Payload {
    /// Reads what is registered; nothing where nothing can be understood.
    pub(super) fn read(name: &str, data: Option<&[u8]>) -> Payload {
        let mut payload = Payload::default();
        payload.take_url(&percent_decode_str(name).decode_utf8_lossy());
        if let Some(Ok(json)) = data.map(serde_json::from_slice::<Value>) {
            payload.take_json(&json);
        } else if let Some(Ok(text)) = data.map(std::str::from_utf8) {
            payload.take_url(text);
        }
        payload
    }

    /// Returns a label: of the metadata, or a parameter of the URL.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn take_json(&mut self, json: &Value) {
        let named = ["/host", "/address", "/serviceEndpoint/host"];
        let hosts = named.iter().filter_map(|at| json.pointer(at)?.as_str());
        self.hosts.extend(hosts.map(str::to_owned));
        for endpoint in json.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
            self.take_url(endpoint.as_str().unwrap_or_default());
        }
        for at in ["/metadata", "/payload/metadata"] {
            let labels = json.pointer(at).and_then(Value::as_object).into_iter().flatten();
            let texts =
                labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            self.labels.extend(texts);
        }
    }

    fn take_url(&mut self, text: &str) {
        let Some((_, rest)) = text.split_once("://") else { return };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let address = authority.rsplit('@').next().unwrap_or(authority);
        let host = match address.strip_prefix('[') {
            Some(bracketed) => bracketed.split(']').next(),
            None => address.split(':').next(),
        };
        self.hosts.extend(host.filter(|host| !host.is_empty()).map(str::to_owned));
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            self.labels.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Payload;

    #[test]
    fn hosts_and_labels_are_found_in_the_common_layouts() {
        for (name, data, host) in [
            ("a", r#"{"host":"10.0.0.1","port":1,"metadata":{"env":"test"}}"#, "10.0.0.1"),
            ("a", r#"{"address":"10.0.0.2","payload":{"metadata":{"env":"test"}}}"#, "10.0.0.2"),
            (
                "dubbo%3A%2F%2F10.0.0.3%3A20880%2Fcom.a.B%3Fside%3Dp%26env%3Dtest",
                "10.9.9.9",
                "10.0.0.3",
            ),
            ("10.0.0.4:80", "motan://10.0.0.4:80/com.a.B?env=test", "10.0.0.4"),
            ("a", r#"{"endpoints":["grpc://[::1]:9?x=y"],"metadata":{"env":"test"}}"#, "::1"),
            ("m_1", r#"{"serviceEndpoint":{"host":"h"},"metadata":{"env":"test"}}"#, "h"),
        ] {
            let payload = Payload::read(name, Some(data.as_bytes()));
            assert_eq!(
                (payload.hosts, payload.labels["env"].as_str()),
                (vec![host.to_owned()], "test")
            );
        }
    }

    #[test]
    fn all_endpoints_count_and_what_cannot_be_read_registers_nothing() {
        let two = br#"{"host":"a","endpoints":["http://b","grpc://u@c:1/"]}"#;
        assert_eq!(Payload::read("x", Some(two)).hosts, ["a", "b", "c"]);
        for (name, data) in
            [("x", None), ("x", Some(&b"\xff"[..])), ("%ff", Some(b"[1]")), ("://", Some(b"7"))]
        {
            assert!(Payload::read(name, data).hosts.is_empty(), "{name}");
        }
    }
}
