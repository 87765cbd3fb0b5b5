//! What an entry of a list says, whichever framework wrote it.

mod custom;
mod json;
mod url;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::layout::{Layout, Provider, WEIGHT_DEFAULT};
use super::place::{Category, LayoutKind, List};

pub use custom::{Fields as JsonFields, Keys, Reading, Source};
pub use json::DUBBO_APPLICATION;
pub(super) use url::Url;
pub use url::{RULE_STATUS, Rule, Rules, is_of_rule, rule};

/// Where an instance answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme or protocol; empty where none is named.
    pub protocol: String,
    /// Name or address.
    pub host: String,
    /// Range: 1..=65535.
    pub port: u16,
}

/// An instance of a service as its znode says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Which framework's it is: the layout's name, or `spring` or `dubbo_application` for those that build on Curator.
    pub layout: Cow<'static, str>,
    /// Name or address at which it can be reached.
    pub host: String,
    /// Range: 1..=65535.
    pub port: u16,
    /// All that it says, where that is more than one.
    pub endpoints: Vec<Endpoint>,
    /// Share of the traffic, relative to the others.
    pub weight: u32,
    /// `up`, `starting`, `draining`, `out_of_service`, or what the service's people agree on.
    pub status: String,
    /// What else it says, as texts.
    pub metadata: BTreeMap<String, String>,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// Version of the service.
    pub release: Option<String>,
    /// Under which revision what all such instances have in common is kept.
    pub metadata_revision: Option<String>,
}

/// Returns `host:port`, the host in brackets if it is an IPv6 address.
pub fn addr(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

impl Instance {
    /// Returns its host and port as [`addr`] joins them.
    pub fn addr(&self) -> String {
        addr(&self.host, self.port)
    }

    /// Returns an instance of which nothing but the address is known. Error: nobody could reach it.
    fn at(layout: impl Into<Cow<'static, str>>, host: &str, port: u16) -> Result<Instance, String> {
        if host.is_empty() {
            return Err("its host is empty".to_owned());
        }
        if port == 0 {
            return Err("its port is 0".to_owned());
        }
        Ok(Instance {
            layout: layout.into(),
            host: host.to_owned(),
            port,
            endpoints: Vec::new(),
            weight: WEIGHT_DEFAULT,
            status: "up".to_owned(),
            metadata: BTreeMap::new(),
            group: None,
            release: None,
            metadata_revision: None,
        })
    }
}

impl Instance {
    /// Returns what this one says where another shows something else in its place: by JSON pointer, null where it says nothing.
    pub fn hidden_by(&self, shown: &Instance) -> BTreeMap<String, Value> {
        let mut hidden = BTreeMap::new();
        if self.weight != shown.weight {
            hidden.insert("/weight".to_owned(), Value::from(self.weight));
        }
        if self.status != shown.status {
            hidden.insert("/status".to_owned(), Value::from(self.status.as_str()));
        }
        for key in self.metadata.keys().chain(shown.metadata.keys()) {
            let own = self.metadata.get(key);
            if own != shown.metadata.get(key) {
                let key = key.replace('~', "~0").replace('/', "~1");
                let own = own.map_or(Value::Null, |own| Value::from(own.as_str()));
                hidden.insert(format!("/metadata/{key}"), own);
            }
        }
        hidden
    }
}

/// Returns the instance that the entry of a list of instances describes by its name and its data. Error: why it describes
/// none, as one sentence for a person. Cost: O(length).
pub fn instance(list: &List<'_>, name: &str, data: Option<&[u8]>) -> Result<Instance, String> {
    let mut instance = match list.layout {
        LayoutKind::Roost => own(data)?,
        LayoutKind::Dubbo => url::dubbo(name)?,
        LayoutKind::Motan => url::motan(data)?,
        LayoutKind::Curator => json::curator(data)?,
        LayoutKind::Kratos => json::kratos(data)?,
        LayoutKind::Serverset => json::serverset(data)?,
        LayoutKind::Custom(layout) => custom::instance(&layout.name, &layout.reading, name, data)?,
    };
    if let Some(group) = list.group {
        instance.group = Some(group.to_owned());
    }
    if list.category == Category::Unavailable {
        instance.status = "starting".to_owned();
    }
    Ok(instance)
}

/// Returns the metadata of the entry of a list of consumers. Error: as of [`instance`].
pub fn consumer(
    list: &List<'_>,
    name: &str,
    data: Option<&[u8]>,
) -> Result<BTreeMap<String, String>, String> {
    match list.layout {
        LayoutKind::Dubbo => url::parameters(name),
        LayoutKind::Motan => url::motan(data).map(|instance| instance.metadata),
        _ => super::Consumer::from_data(data).map(|consumer| consumer.metadata),
    }
}

fn own(data: Option<&[u8]>) -> Result<Instance, String> {
    let provider = Provider::from_data(data)?;
    let Provider { host, port, weight, metadata, status, group, metadata_revision } = provider;
    let instance = Instance::at("roost", &host, port)?;
    Ok(Instance { weight, metadata, status, group, metadata_revision, ..instance })
}

#[cfg(test)]
mod tests {
    use super::super::place::list_at;
    use super::*;

    const DUBBO: &str = "dubbo%3A%2F%2F192.168.2.147%3A20880%2Forg.apache.dubbo.demo.DemoService%3Fanyhost%3Dtrue%26\
        application%3Ddemo-provider%26group%3Dg%26version%3D1.0.0%26weight%3D7%26timestamp%3D1673276136517";
    const SPRING: &[u8] = br#"{"name":"app","id":"x","address":"10.0.0.5","port":8080,"sslPort":null,"payload":{"@class":
        "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"app","name":"app","metadata":{"zone":"b",
        "instance_status":"OUT_OF_SERVICE"}},"registrationTimeUTC":1,"serviceType":"DYNAMIC","uriSpec":null}"#;
    const DUBBO_APP: &[u8] = br#"{"name":"demo","id":"10.0.0.6:20880","address":"10.0.0.6","port":20880,"payload":{"@class":
        "org.apache.dubbo.registry.zookeeper.ZookeeperInstance","metadata":{"dubbo.endpoints":
        "[{\"port\":20880,\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"}]","dubbo.metadata.revision":"abc",
        "dubbo.metadata.storage-type":"local"}}}"#;

    fn read(path: &str, data: &[u8]) -> Result<Instance, String> {
        let (parent, name) = path.rsplit_once('/').unwrap();
        instance(&list_at(parent).unwrap(), name, Some(data))
    }

    #[test]
    fn an_ipv6_host_stands_in_brackets_once() {
        for (host, expected) in [
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("10.0.0.1", "10.0.0.1:80"),
            ("db", "db:80"),
        ] {
            assert_eq!(addr(host, 80), expected);
        }
    }

    #[test]
    fn an_instance_of_every_framework_is_understood() {
        let dubbo =
            read(&format!("/dubbo/org.apache.dubbo.demo.DemoService/providers/{DUBBO}"), b"");
        let dubbo = dubbo.unwrap();
        assert_eq!(
            (&*dubbo.layout, dubbo.host.as_str(), dubbo.port, dubbo.weight),
            ("dubbo", "192.168.2.147", 20880, 7)
        );
        assert_eq!((dubbo.group.as_deref(), dubbo.release.as_deref()), (Some("g"), Some("1.0.0")));
        assert_eq!(dubbo.metadata["application"], "demo-provider");

        let spring = read("/services/app/x", SPRING).unwrap();
        assert_eq!(
            (&*spring.layout, spring.status.as_str(), spring.port),
            ("spring", "out_of_service", 8080)
        );
        assert_eq!(spring.metadata["zone"], "b");

        let app = read("/services/demo/10.0.0.6:20880", DUBBO_APP).unwrap();
        assert_eq!(
            (&*app.layout, app.metadata_revision.as_deref()),
            ("dubbo_application", Some("abc"))
        );
        let endpoints: Vec<_> =
            app.endpoints.iter().map(|it| (it.protocol.as_str(), it.port)).collect();
        assert_eq!(endpoints, [("dubbo", 20880), ("tri", 50051)]);

        let curator =
            br#"{"name":"c","id":"i","address":"h","port":null,"sslPort":443,"enabled":false}"#;
        let curator = read("/services/c/i", curator).unwrap();
        assert_eq!(
            (&*curator.layout, curator.status.as_str(), curator.port),
            ("curator", "out_of_service", 443)
        );

        let motan = b"motan://10.0.0.8:8002/s?group=other&version=2.0&weight=3";
        let served = read("/motan/g/s/server/10.0.0.8:8002", motan).unwrap();
        assert_eq!((served.status.as_str(), served.group.as_deref()), ("up", Some("g")));
        assert_eq!((served.weight, served.release.as_deref()), (3, Some("2.0")));
        let waiting = read("/motan/g/s/unavailableServer/10.0.0.8:8002", motan).unwrap();
        assert_eq!(waiting.status, "starting");

        let kratos = br#"{"id":"k1","name":"k","version":"v3","metadata":{"a":"b"},"endpoints":[
            "http://10.0.0.7:8000?isSecure=false","grpc://10.0.0.7:9000?isSecure=false"]}"#;
        let kratos = read("/microservices/k/k1", kratos).unwrap();
        assert_eq!(
            (kratos.host.as_str(), kratos.port, kratos.endpoints.len()),
            ("10.0.0.7", 8000, 2)
        );
        assert_eq!((kratos.release.as_deref(), kratos.metadata["a"].as_str()), (Some("v3"), "b"));

        let member = br#"{"serviceEndpoint":{"host":"H","port":1},"additionalEndpoints":{"admin":{"host":"h","port":2}},
            "status":"DEAD","shard":4}"#;
        let member = read("/serverset/role/job/member_0000000001", member).unwrap();
        assert_eq!((member.host.as_str(), member.status.as_str()), ("h", "out_of_service"));
        assert_eq!(
            (member.endpoints[1].protocol.as_str(), member.metadata["shard"].as_str()),
            ("admin", "4")
        );

        let own = br#"{"host":"h","port":80,"group":"red","metadata_revision":"r1"}"#;
        let own = read("/services/web/providers/a", own).unwrap();
        assert_eq!(
            (own.group.as_deref(), own.metadata_revision.as_deref()),
            (Some("red"), Some("r1"))
        );
    }

    #[test]
    fn an_entry_that_describes_no_instance_has_a_reason() {
        for (path, data, word) in [
            ("/dubbo/S/providers/nonsense", &b"x"[..], "URL"),
            ("/dubbo/S/providers/%ff", b"", "UTF-8"),
            ("/dubbo/S/providers/dubbo%3A%2F%2F10.0.0.1%2FS", b"", "port"),
            ("/dubbo/S/providers/consumer%3A%2F%2F10.0.0.1%3A1%2FS", b"", "consumer"),
            ("/services/app/x", b"", "no data"),
            ("/services/app/x", b"[]", "JSON"),
            ("/services/app/x", br#"{"port":80}"#, "address"),
            ("/services/app/x", br#"{"address":"h"}"#, "port"),
            ("/services/app/x", br#"{"address":"h","port":70000}"#, "port"),
            ("/motan/g/s/server/10.0.0.1:1", b"", "no data"),
            ("/motan/g/s/server/10.0.0.1:1", b"10.0.0.1:1", "URL"),
            ("/microservices/k/i", br#"{"endpoints":[]}"#, "endpoints"),
            ("/microservices/k/i", br#"{"endpoints":["nowhere"]}"#, "URL"),
            ("/serverset/a/member_1", br#"{"status":"ALIVE"}"#, "serviceEndpoint"),
            ("/services/web/providers/a", b"{}", "JSON"),
        ] {
            let reason = read(path, data).unwrap_err();
            assert!(reason.contains(word), "{path}: {reason}");
        }
    }

    #[test]
    fn an_ipv6_address_is_one_host() {
        let v6 = read("/dubbo/S/providers/tri%3A%2F%2F%5B2001%3ADB8%3A%3A1%5D%3A50051%2FS", b"");
        let v6 = v6.unwrap();
        assert_eq!((v6.host.as_str(), v6.port), ("2001:db8::1", 50051));
    }

    #[test]
    fn who_subscribes_says_so_in_the_words_of_its_framework() {
        let list = list_at("/dubbo/S/consumers").unwrap();
        let name = "consumer%3A%2F%2F10.0.0.5%2FS%3Fapplication%3Dshop%26check%3Dfalse";
        assert_eq!(consumer(&list, name, None).unwrap()["application"], "shop");
        let own = list_at("/services/web/consumers").unwrap();
        assert_eq!(consumer(&own, "c", Some(br#"{"metadata":{"a":"b"}}"#)).unwrap()["a"], "b");
        assert!(consumer(&own, "c", None).is_err());
    }
}
