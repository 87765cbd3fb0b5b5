//! Where a znode says that somebody is, whichever framework wrote it: the one reading of that for rules, for what takes
//! registrations out, and for what protects them.

use core::net::IpAddr;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::custom::Layouts;
use super::parse::{Instance, Url, instance};
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

impl Layouts {
    /// Returns what the znode at a path claims to be as an instance; `None` if it claims nothing. What the services view lists
    /// claims what is listed. Cost: O(length).
    pub fn claim(&self, path: &str, data: Option<&[u8]>) -> Option<Claim> {
        let claim = self.said(path, data);
        (!claim.is_no_instance && !claim.addresses.is_empty()).then_some(claim)
    }

    /// Returns all that the znode at a path says of where somebody is. Whatever its path, read are a URL as the name (Dubbo, SOFA)
    /// and as the data (Motan), JSON with addresses (roost, Curator, Spring Cloud, serverset, Nerve, Kratos), and, where nothing
    /// else says anything, a name that is an address: whoever reads one of them finds here what it reads. Of an entry that the
    /// services view lists it is also where that lists it, and its labels are those that the view shows and no others. Cost:
    /// O(length).
    pub fn said(&self, path: &str, data: Option<&[u8]>) -> Claim {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut said = said(name, data);
        let list = self.list_at(parent);
        let list = list.filter(|it| it.category.is_instances() && it.layout.is_entry(name));
        if let Some(Ok(instance)) = list.map(|list| instance(&list, name, data)) {
            said.take_instance(instance);
        }
        said
    }
}

/// Returns what a name and data say, of which the layout is not known.
fn said(name: &str, data: Option<&[u8]>) -> Claim {
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

    fn take_instance(&mut self, instance: Instance) {
        self.is_no_instance = false;
        self.add(normal_host(&instance.host), Some(instance.port));
        for endpoint in instance.endpoints {
            self.add(normal_host(&endpoint.host), Some(endpoint.port));
        }
        self.labels = instance.metadata;
    }

    fn take_url(&mut self, text: &str) {
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
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::custom::{CustomLayout, Template};
    use super::super::parse::{JsonFields, Reading, Source};
    use super::*;
    use crate::types::Zxid;

    /// What is said where no layout is.
    fn said(name: &str, data: Option<&[u8]>) -> Claim {
        Layouts::default().said(&format!("/x/{name}"), data)
    }

    fn claim(name: &str, data: Option<&[u8]>) -> Option<Claim> {
        Layouts::default().claim(&format!("/x/{name}"), data)
    }

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

    #[test]
    fn who_is_listed_is_an_instance_whatever_its_name_is() {
        let data = Some(&br#"{"host":"10.0.0.5","port":1,"metadata":{"a":"b"}}"#[..]);
        let name = "consumer%3A%2F%2F10.0.0.1%2FS%3Fa%3Dc";
        let in_list = |list: &str| Layouts::default().claim(&format!("{list}/{name}"), data);
        let listed = in_list("/services/web/providers").unwrap();
        assert!(listed.is_at("10.0.0.5", Some(1)) && listed.is_at("10.0.0.1", None));
        assert_eq!(listed.labels["a"], "b");
        assert_eq!(in_list("/services/web/consumers"), None);
        assert_eq!(in_list("/dubbo/S/providers"), None);
    }

    /// Layouts of all readings, and the paths of a list of each and of those that are built in.
    fn everywhere() -> (Layouts, Vec<String>) {
        let keys = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<String>>();
        let named = JsonFields {
            address: Some(keys("net/addr")),
            metadata: keys("tags"),
            ..JsonFields::default()
        };
        let readings = [
            Reading::Url(Source::Name),
            Reading::Url(Source::Data),
            Reading::Address(Source::Name),
            Reading::Address(Source::Data),
            Reading::Json(named),
            Reading::Json(JsonFields { host: keys("net/host"), ..JsonFields::default() }),
            Reading::Curator,
            Reading::Kratos,
            Reading::Serverset,
        ];
        let mut paths: Vec<String> = [
            "/services/web/providers",
            "/services/web",
            "/dubbo/S/providers",
            "/motan/g/s/server",
            "/motan/g/s/unavailableServer",
            "/microservices/k",
            "/serverset/a/b",
        ]
        .map(str::to_owned)
        .into();
        let mut custom = Vec::new();
        for (at, reading) in readings.into_iter().enumerate() {
            let name = Arc::from(format!("l{at}"));
            let template = Template::parse(&format!("/our{at}/{{service}}/{{id}}")).unwrap();
            custom.push(Arc::new(CustomLayout { name, template, reading }));
            paths.push(format!("/our{at}/web"));
        }
        (Layouts::new(custom, Zxid(0)), paths)
    }

    fn host() -> impl Strategy<Value = String> {
        let hosts: &[&str] =
            &["10.7.0.5", "10.9.9.9", "::ffff:10.9.9.9", "[2001:DB8::1]", "Name", "a b", ""];
        select(hosts).prop_map(str::to_owned)
    }

    fn url() -> impl Strategy<Value = String> {
        let schemes: &[&str] =
            &["dubbo", "a_b", "consumer", "override", "router", "x y", "", "motan+x"];
        let rests: &[&str] =
            &["", "/s", "/s?env=prod", "?env=test&env=prod", "/s?weight=x&k=a%2520b", "?"];
        (select(schemes), host(), 0_u32..3, select(rests))
            .prop_map(|(scheme, host, port, rest)| format!("{scheme}://{host}:{port}{rest}"))
    }

    /// Values that some reader takes for where somebody is or what it says, and such as some JSON readers refuse.
    fn value() -> impl Strategy<Value = String> {
        let odd: &[&str] =
            &["1e999", "null", "true", "80", "\"80\"", "\"x\"", "{", "{\"env\":true,\"zone\":1}"];
        let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
        prop_oneof![
            select(odd).prop_map(str::to_owned),
            Just(deep),
            host().prop_map(|host| format!("{host:?}")),
            host().prop_map(|host| format!("\"{host}:1\"")),
            vec(url(), 0..3).prop_map(|urls| format!("{urls:?}")),
            select(&["prod", "test"][..]).prop_map(|env| format!("{{\"env\":\"{env}\"}}")),
            (host(), host(), 0_u32..3).prop_map(|(a, b, port)| {
                format!(r#"{{"host":{a:?},"port":{port},"addr":"{b}:1","metadata":{{"env":"e"}}}}"#)
            }),
            (host(), 0_u32..3)
                .prop_map(|(it, port)| format!(r#"{{"x":{{"host":{it:?},"port":{port}}}}}"#)),
        ]
    }

    fn data() -> impl Strategy<Value = String> {
        let keys: &[&str] = &[
            "host",
            "host",
            "address",
            "ip",
            "port",
            "port",
            "sslPort",
            "serviceEndpoint",
            "additionalEndpoints",
            "endpoints",
            "metadata",
            "payload",
            "net",
            "tags",
            "x",
        ];
        let field = (select(keys), value()).prop_map(|(key, value)| format!("{key:?}:{value}"));
        let space = select(&["", " ", "\n", "\u{a0}", "\u{feff}"][..]);
        prop_oneof![
            4 => (space, vec(field, 0..6), prop::option::of(host()))
                .prop_map(|(space, mut fields, certain)| {
                    // One of which at least roost's own layout and Curator's can make something.
                    if let Some(host) = certain {
                        fields.push(format!(r#""host":{host:?},"address":{host:?},"port":1"#));
                    }
                    format!("{space}{{{}}}", fields.join(","))
                }),
            1 => url(),
            1 => vec(value(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            1 => host().prop_map(|host| format!("[{host:?},80]")),
            1 => host().prop_map(|host| format!(" {host}:80\n")),
            1 => Just(String::new()),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        let coded = |text: String| {
            percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let plain: &[&str] = &["a", "member_1", "providers", "%ff", "x%3A%2F%2F10.7.0.5%3A1%ff"];
        prop_oneof![
            url().prop_map(coded),
            host().prop_map(move |host| coded(format!("{host}:1"))),
            select(plain).prop_map(str::to_owned),
            Just("10.7.0.5:80".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn what_the_view_lists_is_what_is_claimed(name in name(), data in data()) {
            let (layouts, paths) = everywhere();
            let data = Some(data.as_bytes());
            for path in paths {
                let list = layouts.list_at(&path).unwrap();
                let Ok(listed) = instance(&list, &name, data) else { continue };
                if !list.layout.is_entry(&name) {
                    continue;
                }
                let claimed = layouts.claim(&format!("{path}/{name}"), data);
                let claimed = claimed.expect("who is listed claims to be an instance");
                let endpoints = listed.endpoints.iter().map(|it| (&it.host, it.port));
                for (host, port) in endpoints.chain([(&listed.host, listed.port)]) {
                    prop_assert!(claimed.is_at(&normal_host(host), Some(port)), "{path} {claimed:?}");
                }
                prop_assert_eq!(&claimed.labels, &listed.metadata, "{}", path);
            }
        }
    }
}
