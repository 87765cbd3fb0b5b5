use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::types::{PathError, ZnodePath};

/// Weight of a provider that names none.
pub const WEIGHT_DEFAULT: u32 = 100;
/// Status of a provider that names none.
pub const STATUS_DEFAULT: &str = "up";

/// Returns `/services`, below which each child is a service.
pub fn services_path() -> ZnodePath {
    ZnodePath::parse("/services").expect("the path is valid")
}

/// Returns the znode of a service. A name that cannot be one element of a path is an error.
pub fn service_path(service: &str) -> Result<ZnodePath, PathError> {
    services_path().child(service)
}

/// Returns the znode whose children are the providers of a service.
pub fn providers_path(service: &str) -> Result<ZnodePath, PathError> {
    service_path(service)?.child("providers")
}

/// Returns the znode whose children are the consumers of a service.
pub fn consumers_path(service: &str) -> Result<ZnodePath, PathError> {
    service_path(service)?.child("consumers")
}

/// Returns the znode whose children say what the providers of a service have in common, by revision.
pub fn metadata_path(service: &str) -> Result<ZnodePath, PathError> {
    service_path(service)?.child("metadata")
}

/// Returns a path of the default namespace as it is in another; the empty name is the default one. A name that cannot be
/// one element of a path is an error.
pub fn namespaced(namespace: &str, path: &ZnodePath) -> Result<ZnodePath, PathError> {
    match namespace {
        "" => Ok(path.clone()),
        name => ZnodePath::parse(&format!("{}{path}", ZnodePath::parse("/ns")?.child(name)?)),
    }
}

/// One instance of a service, as the data of its znode says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Name or address at which it can be reached.
    pub host: String,
    /// TCP or UDP port. Range: 1..=65535.
    pub port: u16,
    /// Share of the traffic that it should get, relative to the others; 100 when not given.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// What else there is to say about it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Whether it wants traffic: `up` when not given; other words mean what the service's people agree on.
    #[serde(default = "default_status")]
    pub status: String,
    /// The group within the service that it belongs to, if it has groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Revision under which what all such providers have in common is kept, once: a child of [`metadata_path`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_revision: Option<String>,
}

fn default_weight() -> u32 {
    WEIGHT_DEFAULT
}

fn default_status() -> String {
    STATUS_DEFAULT.to_owned()
}

/// Who uses a service, as the data of its znode says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// What there is to say about it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// Data of a znode of the registry: JSON both ways.
pub trait Layout: Sized {
    /// Returns the data to store.
    fn to_data(&self) -> Vec<u8>;
    /// Returns what stored data says, or why it says nothing, as one sentence for a person.
    fn from_data(data: Option<&[u8]>) -> Result<Self, String>;
}

impl Layout for Provider {
    fn to_data(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always encode")
    }

    fn from_data(data: Option<&[u8]>) -> Result<Provider, String> {
        let provider: Provider = parse(data)?;
        provider.check()?;
        Ok(provider)
    }
}

impl Layout for Consumer {
    fn to_data(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts always encode")
    }

    fn from_data(data: Option<&[u8]>) -> Result<Consumer, String> {
        parse(data)
    }
}

/// Returns the one JSON object that data are. Error: they are none, as one sentence for a person.
pub(super) fn object(data: Option<&[u8]>) -> Result<Map<String, Value>, String> {
    let data = data.filter(|data| !data.is_empty()).ok_or("it has no data")?;
    serde_json::from_slice(data).map_err(not_expected)
}

/// Reads fields of a JSON object. A list of values in their order is no object, though serde would take it for one, and what is
/// no JSON as a whole says nothing in part.
fn parse<T: DeserializeOwned>(data: Option<&[u8]>) -> Result<T, String> {
    serde_json::from_value(Value::Object(object(data)?)).map_err(not_expected)
}

fn not_expected(why: serde_json::Error) -> String {
    format!("its data is not the JSON expected: {why}")
}

impl Provider {
    /// Returns the id of a provider that names none.
    pub fn default_id(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns why nobody could reach the provider, if so.
    pub fn check(&self) -> Result<(), String> {
        if self.host.is_empty() {
            return Err("its host is empty".to_owned());
        }
        if self.port == 0 {
            return Err("its port is 0".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_lies_where_the_layout_says() {
        assert_eq!(service_path("web").unwrap().as_str(), "/services/web");
        assert_eq!(providers_path("web").unwrap().as_str(), "/services/web/providers");
        assert_eq!(consumers_path("a.b:1").unwrap().as_str(), "/services/a.b:1/consumers");
        for bad in ["", "a/b", ".", "..", "a\0"] {
            assert!(providers_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_missing_has_defaults_and_what_is_unknown_is_passed_over() {
        let provider =
            Provider::from_data(Some(br#"{"host":"h","port":80,"zone":{"a":1}}"#)).unwrap();
        let metadata = BTreeMap::new();
        assert_eq!(
            provider,
            Provider {
                host: "h".into(),
                port: 80,
                weight: 100,
                metadata,
                status: "up".into(),
                group: None,
                metadata_revision: None
            }
        );
        assert_eq!(provider.default_id(), "h:80");
        assert_eq!(Provider::from_data(Some(&provider.to_data())), Ok(provider));
        assert_eq!(Consumer::from_data(Some(b"{}")), Ok(Consumer::default()));
    }

    #[test]
    fn what_cannot_be_understood_has_a_reason() {
        for (data, word) in [
            (None, "no data"),
            (Some(&b""[..]), "no data"),
            (Some(b"10.0.0.1:80"), "JSON"),
            (Some(b"{\"host\":\"h\"}"), "port"),
            (Some(b"{\"host\":\"h\",\"port\":70000}"), "70000"),
            (Some(b"{\"host\":\"h\",\"port\":0}"), "port is 0"),
            (Some(b"{\"host\":\"\",\"port\":1}"), "host is empty"),
            (Some(b"\xff"), "JSON"),
            (Some(b"[\"h\",80]"), "JSON"),
            (Some(b"{\"host\":\"h\",\"port\":80,\"x\":1e999}"), "JSON"),
        ] {
            let reason = Provider::from_data(data).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
