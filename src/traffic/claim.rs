use core::net::IpAddr;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::types::{normal_host, parse_address};

/// Schemes of URLs that are no instances: who subscribes, and what governs.
const NO_INSTANCE: [&str; 8] =
    ["consumer", "override", "route", "router", "condition", "script", "tag", "absent"];
/// Names under which JSON says the host.
const HOSTS: [&str; 3] = ["host", "address", "ip"];

/// Where an instance says it is, and what else it says for traffic to be chosen by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Host (see [`normal_host`]) and port, where it says one. Never empty.
    pub addresses: Vec<(String, Option<u16>)>,
    /// Its metadata as texts.
    pub labels: BTreeMap<String, String>,
}

/// Returns what a znode with this name and data claims to be as an instance; `None` if it claims nothing. Read are a URL as
/// the name (Dubbo, SOFA) or as the data (Motan), JSON with an address (roost, Curator, Spring Cloud, serverset, Nerve,
/// Kratos), and a name that is an address. Cost: O(length).
pub fn claim(name: &str, data: Option<&[u8]>) -> Option<Claim> {
    let decoded = percent_decode_str(name).decode_utf8().ok()?;
    if decoded.contains("://") {
        return of_url(&decoded);
    }
    let text = data.and_then(|data| std::str::from_utf8(data).ok()).unwrap_or_default().trim();
    if text.starts_with('{') {
        let claimed =
            serde_json::from_str::<Map<String, Value>>(text).ok().and_then(|it| of_json(&it));
        if claimed.is_some() {
            return claimed;
        }
    } else if text.contains("://") && !text.contains(char::is_whitespace) {
        return of_url(&percent_decode_str(text).decode_utf8().ok()?);
    }
    let (host, port) = parse_address(name)?;
    let is_address = port.is_some() && host.parse::<IpAddr>().is_ok();
    is_address.then(|| Claim { addresses: vec![(host, port)], labels: BTreeMap::new() })
}

fn of_url(url: &str) -> Option<Claim> {
    let (scheme, rest) = url.split_once("://")?;
    if NO_INSTANCE.contains(&scheme) {
        return None;
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or(rest);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let pair =
        |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = query.split('&').filter_map(pair).collect();
    Some(Claim { addresses: vec![parse_address(authority)?], labels })
}

fn of_json(json: &Map<String, Value>) -> Option<Claim> {
    let mut addresses = Vec::new();
    let places = [Some(json), json.get("serviceEndpoint").and_then(Value::as_object)];
    for place in places.into_iter().flatten() {
        let host = HOSTS.iter().find_map(|name| place.get(*name)?.as_str());
        let port =
            place.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        if let Some(host) = host.filter(|host| !host.is_empty()) {
            addresses.push((normal_host(host), port));
        }
    }
    let endpoints = json.get("endpoints").and_then(Value::as_array);
    let urls = endpoints.into_iter().flatten().filter_map(|url| of_url(url.as_str()?));
    addresses.extend(urls.flat_map(|claim| claim.addresses));
    if addresses.is_empty() {
        return None;
    }
    let inner = json.get("payload").and_then(Value::as_object).and_then(|it| it.get("metadata"));
    let metadata = [json.get("metadata"), inner].into_iter().flatten().filter_map(Value::as_object);
    let label = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    Some(Claim { addresses, labels: metadata.flatten().filter_map(label).collect() })
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
}
