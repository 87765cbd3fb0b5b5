//! Entries of layouts that people describe themselves.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{Instance, json, url};
use crate::registry::layout::object;
use crate::types::{normal_host, parse_address};

/// Where an entry says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In its name, which may be percent-encoded.
    Name,
    /// In its data, as text.
    Data,
}

/// How an entry is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A URL: its parameters are the metadata.
    Url(Source),
    /// `host:port`.
    Address(Source),
    /// JSON with fields of these names.
    Json(Fields),
    /// As Curator's service discovery writes it.
    Curator,
    /// As Kratos writes it.
    Kratos,
    /// As a serverset has it.
    Serverset,
}

/// Where in JSON something is said: keys, one inside the other.
pub type Keys = Vec<String>;

/// The fields of JSON that say something. What is not there says nothing; host and port, or the address, must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// `host:port`, in place of the next two.
    pub address: Option<Keys>,
    /// Name or address.
    pub host: Keys,
    /// A number, or a text of one.
    pub port: Keys,
    /// A whole number.
    pub weight: Keys,
    /// A word.
    pub status: Keys,
    /// A text.
    pub group: Keys,
    /// A text.
    pub release: Keys,
    /// An object of texts.
    pub metadata: Keys,
}

impl Default for Fields {
    fn default() -> Fields {
        let key = |name: &str| vec![name.to_owned()];
        Fields {
            address: None,
            host: key("host"),
            port: key("port"),
            weight: key("weight"),
            status: key("status"),
            group: key("group"),
            release: key("version"),
            metadata: key("metadata"),
        }
    }
}

/// Reads an entry. Error: why it describes no instance.
pub(super) fn instance(
    layout: &str,
    reading: &Reading,
    name: &str,
    data: Option<&[u8]>,
) -> Result<Instance, String> {
    let mut instance = match reading {
        Reading::Url(Source::Name) => url::dubbo(name)?,
        Reading::Url(Source::Data) => url::motan(data)?,
        Reading::Address(source) => {
            let text = match source {
                Source::Name => percent_decode_str(name).decode_utf8_lossy(),
                Source::Data => String::from_utf8_lossy(data.unwrap_or_default()),
            };
            at(layout, text.trim())?
        }
        Reading::Json(fields) => of_json(layout, fields, &object(data)?)?,
        Reading::Curator => json::curator(data)?,
        Reading::Kratos => json::kratos(data)?,
        Reading::Serverset => json::serverset(data)?,
    };
    layout.clone_into(instance.layout.to_mut());
    Ok(instance)
}

/// Returns an instance at `host:port`.
fn at(layout: &str, text: &str) -> Result<Instance, String> {
    let shown = || text.chars().take(80).collect::<String>();
    match parse_address(text) {
        Some((host, Some(port))) => Instance::at(layout.to_owned(), &host, port),
        _ => Err(format!("{:?} is not host:port", shown())),
    }
}

fn of_json(layout: &str, fields: &Fields, json: &Map<String, Value>) -> Result<Instance, String> {
    let find = |keys: &Keys| {
        let (first, rest) = keys.split_first()?;
        rest.iter().try_fold(json.get(first)?, |value, key| value.get(key))
    };
    let text = |keys: &Keys| find(keys).and_then(Value::as_str).filter(|text| !text.is_empty());
    let said = |keys: &Keys| keys.join("/");
    let mut instance = match &fields.address {
        Some(keys) => at(layout, text(keys).ok_or_else(|| format!("it has no {}", said(keys)))?)?,
        None => {
            let host = text(&fields.host);
            let host = host.ok_or_else(|| format!("it has no {}", said(&fields.host)))?;
            let port = find(&fields.port).and_then(|value| match value {
                Value::String(text) => text.parse().ok(),
                value => u16::try_from(value.as_u64()?).ok(),
            });
            let port = port.ok_or_else(|| format!("it has no {}", said(&fields.port)))?;
            Instance::at(layout.to_owned(), &normal_host(host), port)?
        }
    };
    if let Some(said_weight) = find(&fields.weight).filter(|weight| !weight.is_null()) {
        let weight = said_weight.as_u64().and_then(|weight| u32::try_from(weight).ok());
        instance.weight = weight.ok_or_else(|| {
            format!("{} is {said_weight}, not a whole number", said(&fields.weight))
        })?;
    }
    if let Some(status) = text(&fields.status) {
        instance.status = status.to_ascii_lowercase();
    }
    instance.group = text(&fields.group).map(str::to_owned);
    instance.release = text(&fields.release).map(str::to_owned);
    instance.metadata =
        find(&fields.metadata).map_or_else(BTreeMap::new, |it| json::texts(Some(it)));
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reading: &Reading, name: &str, data: &str) -> Result<Instance, String> {
        instance("ours", reading, name, Some(data.as_bytes()))
    }

    fn address(instance: Instance) -> (String, u16) {
        assert_eq!(instance.layout, "ours");
        (instance.host, instance.port)
    }

    #[test]
    fn an_entry_is_read_as_its_layout_says() {
        let url = "tri%3A%2F%2F10.0.0.1%3A80%2Fs%3Fweight%3D7%26zone%3Db";
        for (reading, name, data) in [
            (Reading::Url(Source::Name), url, ""),
            (Reading::Url(Source::Data), "x", "tri://10.0.0.1:80/s?weight=7"),
            (Reading::Address(Source::Name), "10.0.0.1%3A80", "{}"),
            (Reading::Address(Source::Data), "x", " 10.0.0.1:80\n"),
            (Reading::Json(Fields::default()), "x", r#"{"host":"10.0.0.1","port":"80"}"#),
            (Reading::Curator, "x", r#"{"address":"10.0.0.1","port":80}"#),
            (Reading::Kratos, "x", r#"{"endpoints":["grpc://10.0.0.1:80"]}"#),
            (Reading::Serverset, "x", r#"{"serviceEndpoint":{"host":"10.0.0.1","port":80}}"#),
        ] {
            let read = read(&reading, name, data).unwrap_or_else(|why| panic!("{data}: {why}"));
            assert_eq!(address(read), ("10.0.0.1".to_owned(), 80), "{reading:?}");
        }
    }

    #[test]
    fn json_is_read_by_the_names_that_its_people_gave() {
        let keys = |text: &str| text.split('/').map(str::to_owned).collect::<Keys>();
        let named = Reading::Json(Fields {
            address: Some(keys("net/addr")),
            weight: keys("w"),
            status: keys("state"),
            metadata: keys("tags"),
            ..Fields::default()
        });
        let data = r#"{"net":{"addr":"[2001:DB8::1]:80"},"w":3,"state":"UP","tags":{"a":"b","n":1},"version":"2"}"#;
        let one = read(&named, "x", data).unwrap();
        assert_eq!((one.weight, one.status.as_str(), one.release.as_deref()), (3, "up", Some("2")));
        assert_eq!((one.metadata["a"].as_str(), one.metadata["n"].as_str()), ("b", "1"));
        assert_eq!(address(one), ("2001:db8::1".to_owned(), 80));
        for (data, word) in [
            ("", "no data"),
            ("[]", "JSON"),
            ("{}", "net/addr"),
            (r#"{"net":"x"}"#, "net/addr"),
            (r#"{"net":{"addr":"h"}}"#, "host:port"),
        ] {
            let why = read(&named, "x", data).unwrap_err();
            assert!(why.contains(word), "{data}: {why}");
        }
        let plain = Reading::Json(Fields::default());
        for (data, word) in [
            (r#"{"port":1}"#, "host"),
            (r#"{"host":"h"}"#, "port"),
            (r#"{"host":"h","port":70000}"#, "port"),
            (r#"{"host":"h","port":0}"#, "port is 0"),
            (r#"{"host":"h","port":1,"weight":-3}"#, "weight is -3"),
        ] {
            let why = read(&plain, "x", data).unwrap_err();
            assert!(why.contains(word), "{data}: {why}");
        }
        assert!(read(&Reading::Address(Source::Name), "leader", "").is_err());
    }
}
