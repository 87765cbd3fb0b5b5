//! Where a znode says that somebody is, whichever framework wrote it: the one reading of that for rules, for what takes
//! registrations out, and for what protects them.

use core::net::IpAddr;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::parse::Url;
use crate::types::{normal_host, parse_address};

/// Schemes of URLs that are no instances: who subscribes, and what governs.
const NO_INSTANCE: [&str; 8] =
    ["consumer", "override", "route", "router", "condition", "script", "tag", "absent"];
/// Names under which JSON says the host.
const HOSTS: [&str; 3] = ["host", "address", "ip"];

/// Where somebody says to be, and what else it says for traffic to be chosen by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Host (see [`normal_host`]) and port, where it says one: all that it says anywhere, each once.
    pub addresses: Vec<(String, Option<u16>)>,
    /// Its metadata and the parameters of its URL, as texts.
    pub labels: BTreeMap<String, String>,
    /// It subscribes, or it governs instances, and is none.
    pub is_no_instance: bool,
}

/// Returns what a znode with this name and data claims to be as an instance; `None` if it claims nothing. Cost: O(length).
pub fn claim(name: &str, data: Option<&[u8]>) -> Option<Claim> {
    let claim = said(name, data);
    (!claim.is_no_instance && !claim.addresses.is_empty()).then_some(claim)
}

/// Returns all that a znode with this name and data says of where somebody is. Read are a URL as the name (Dubbo, SOFA) and as
/// the data (Motan), JSON with addresses (roost, Curator, Spring Cloud, serverset, Nerve, Kratos), and, where nothing else
/// says anything, a name that is an address. Whoever reads one of them finds here what it reads. Cost: O(length).
pub fn said(name: &str, data: Option<&[u8]>) -> Claim {
    let mut said = Claim::default();
    said.take_url(&percent_decode_str(name).decode_utf8_lossy());
    let text = data.and_then(|data| std::str::from_utf8(data).ok()).unwrap_or_default().trim();
    if text.starts_with('{') {
        if let Ok(json) = serde_json::from_str::<Map<String, Value>>(text) {
            said.take_json(&json);
        }
    } else {
        said.take_url(text);
    }
    if said.addresses.is_empty()
        && let Some((host, port @ Some(_))) = parse_address(name)
        && host.parse::<IpAddr>().is_ok()
    {
        said.add(host, port);
    }
    said
}

impl Claim {
    /// Returns whether it is at this host, and at this port if one is asked for.
    pub fn is_at(&self, host: &str, port: Option<u16>) -> bool {
        self.addresses.iter().any(|(its, at)| its == host && (port.is_none() || *at == port))
    }

    /// Returns whether it has all of these labels.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    fn add(&mut self, host: String, port: Option<u16>) {
        let address = (host, port);
        if !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }

    fn take_url(&mut self, text: &str) {
        let is_scheme =
            |scheme: &str| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return;
        }
        let Ok(Url { scheme, host, port, parameters }) = Url::parse(text) else { return };
        self.is_no_instance |= NO_INSTANCE.contains(&scheme.as_str());
        self.add(host, port);
        self.labels.extend(parameters);
    }

    fn take_json(&mut self, json: &Map<String, Value>) {
        let object = |name: &str| json.get(name).and_then(Value::as_object);
        let more = object("additionalEndpoints").into_iter().flatten();
        let more = more.filter_map(|(_, value)| value.as_object());
        for place in [Some(json), object("serviceEndpoint")].into_iter().flatten().chain(more) {
            let port = place.get("port").and_then(Value::as_u64);
            let port = port.and_then(|port| u16::try_from(port).ok());
            let hosts = HOSTS.iter().filter_map(|name| place.get(*name)?.as_str());
            for host in hosts.filter(|host| !host.is_empty()) {
                self.add(normal_host(host), port);
            }
        }
        let endpoints = json.get("endpoints").and_then(Value::as_array);
        for url in endpoints.into_iter().flatten().filter_map(Value::as_str) {
            self.take_url(url);
        }
        let inner = object("payload").and_then(|payload| payload.get("metadata"));
        let metadata = [json.get("metadata"), inner].into_iter().flatten();
        let labels = metadata.filter_map(Value::as_object).flatten();
        let text =
            |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        self.labels.extend(labels.filter_map(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUBBO: &str = "dubbo%3A%2F%2F192.168.2.147%3A20880%2Forg.apache.dubbo.demo.DemoService%3Fanyhost%3Dtrue%26\
        application%3Ddemo-provider%26timestamp%3D1673276136517";

    #[test]
    fn every_way_to_say_an_address_is_understood() {
        let spring = br#"{"name":"app","id":"x","address":"10.0.0.5","port":8080,"sslPort":null,"payload":{"@class":
            "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","metadata":{"zone":"b"}}}"#;
        for (name, data, host, port, label) in [
            (
                DUBBO,
                &b"10.9.9.9"[..],
                "192.168.2.147",
                Some(20880),
                Some(("application", "demo-provider")),
            ),
            (
                "a",
                br#"{"host":"10.0.0.5","port":80,"metadata":{"k":"v"}}"#,
                "10.0.0.5",
                Some(80),
                Some(("k", "v")),
            ),
            ("x", spring, "10.0.0.5", Some(8080), Some(("zone", "b"))),
            ("member_01", br#"{"serviceEndpoint":{"host":"H","port":1}}"#, "h", Some(1), None),
            (
                "k",
                br#"{"endpoints":["grpc://10.0.0.7:9?isSecure=false"]}"#,
                "10.0.0.7",
                Some(9),
                None,
            ),
            (
                "10.0.0.8:8002",
                b"motan://10.0.0.8:8002/s?group=g",
                "10.0.0.8",
                Some(8002),
                Some(("group", "g")),
            ),
            ("10.0.0.9:20880", br#"{"Weight":10}"#, "10.0.0.9", Some(20880), None),
            ("t", b"tcp://[::1]:5/x", "::1", Some(5), None),
        ] {
            let claimed = claim(name, Some(data)).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(claimed.addresses, [(host.to_owned(), port)], "{name}");
            if let Some((key, value)) = label {
                assert_eq!(claimed.labels.get(key).map(String::as_str), Some(value), "{name}");
            }
        }
    }

    #[test]
    fn who_subscribes_or_governs_and_what_says_nothing_is_no_instance() {
        for (name, data) in [
            ("consumer%3A%2F%2F10.0.0.5%2Forg.Demo%3Fcheck%3Dfalse", None),
            ("override%3A%2F%2F10.0.0.5%3A20880%2Forg.Demo%3Fweight%3D0", None),
            ("lock-0000000001", Some(&b"10.0.0.5"[..])),
            ("c1", Some(br#"{"metadata":{}}"#)),
            ("x", Some(b"{\"host\":\"\",\"port\":1}")),
            ("x", Some(b"\xff\xfe")),
            ("%ff", None),
            ("host:80", None),
        ] {
            assert_eq!(claim(name, data), None, "{name}");
        }
    }

    #[test]
    fn nothing_that_any_reader_would_take_for_an_address_is_passed_over() {
        let hosts = |name: &str, data: &[u8]| -> Vec<String> {
            said(name, Some(data)).addresses.into_iter().map(|(host, _)| host).collect()
        };
        // A name that hides what the data say, and the reverse.
        let hidden = "x%3A%2F%2F10.0.0.1%3A1";
        assert_eq!(hosts(hidden, br#"{"host":"10.9.9.9","port":1}"#), ["10.0.0.1", "10.9.9.9"]);
        let several = br#"{"host":"a","ip":"10.0.0.2","endpoints":["http://b","grpc://u@c:1/"],
            "serviceEndpoint":{"host":"d"},"additionalEndpoints":{"admin":{"host":"e","port":1}}}"#;
        assert_eq!(hosts("x", several), ["a", "10.0.0.2", "d", "e", "b", "c"]);
        assert_eq!(hosts("10.0.0.4:80", b"motan://10.0.0.5:80/s?a=b c"), ["10.0.0.5"]);
        assert_eq!(hosts("m", b"see http://10.0.0.1/x"), [""; 0], "a sentence is no URL");
        let consumer = "consumer%3A%2F%2F10.0.0.5%2Forg.Demo%3Fenv%3Dtest%2520a";
        let consumer = said(consumer, None);
        assert_eq!(consumer.addresses, [("10.0.0.5".to_owned(), None)]);
        assert_eq!((consumer.is_no_instance, consumer.labels["env"].as_str()), (true, "test a"));
    }
}
