//! Entries whose data are JSON: those of Curator and who builds on it, of Kratos, and of serversets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::url::Url;
use super::{Endpoint, Instance};
use crate::types::normal_host;

/// The framework of instances that are applications of Dubbo, which offer interfaces.
pub const DUBBO_APPLICATION: &str = "dubbo_application";

type Object = Map<String, Value>;

pub(super) fn object(data: Option<&[u8]>) -> Result<Object, String> {
    let data = data.filter(|data| !data.is_empty()).ok_or("it has no data")?;
    serde_json::from_slice(data).map_err(|why| format!("its data is not the JSON expected: {why}"))
}

/// Returns the texts of an object, numbers and truth values as texts too; what is nested is passed over.
pub(super) fn texts(object: Option<&Value>) -> BTreeMap<String, String> {
    let text = |(key, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return None,
        };
        Some((key.clone(), text))
    };
    object.and_then(Value::as_object).into_iter().flatten().filter_map(text).collect()
}

/// Returns the port under this name; `None` where it is null or missing.
fn port(object: &Object, name: &str) -> Result<Option<u16>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
            port.map(Some).ok_or_else(|| format!("its {name} is {value}"))
        }
    }
}

fn address(object: &Object, name: &str) -> Result<(String, u16), String> {
    let host =
        object.get(name).and_then(Value::as_str).ok_or_else(|| format!("it has no {name}"))?;
    let port = match port(object, "sslPort")?.filter(|port| *port != 0) {
        Some(port) => Some(port),
        None => port_of(object)?,
    };
    Ok((normal_host(host), port.ok_or("it has no port")?))
}

fn port_of(object: &Object) -> Result<Option<u16>, String> {
    port(object, "port")
}

/// Reads an entry of Curator's service discovery, by whichever framework.
pub(super) fn curator(data: Option<&[u8]>) -> Result<Instance, String> {
    let json = object(data)?;
    let (host, port) = address(&json, "address")?;
    let payload = json.get("payload").and_then(Value::as_object);
    let metadata = texts(payload.and_then(|payload| payload.get("metadata")));
    let class = payload.and_then(|payload| payload.get("@class")).and_then(Value::as_str);
    let is_dubbo = metadata.keys().any(|key| key.starts_with("dubbo."));
    let layout = match class {
        _ if is_dubbo => DUBBO_APPLICATION,
        Some(class) if class.starts_with("org.springframework.") => "spring",
        _ => "curator",
    };
    let mut instance = Instance::at(layout, &host, port)?;
    let is_off = json.get("enabled") == Some(&Value::Bool(false));
    match metadata.get("instance_status").map(String::as_str) {
        _ if is_off => instance.status = "out_of_service".to_owned(),
        None | Some("UP") => {}
        Some(status) => instance.status = status.to_ascii_lowercase(),
    }
    instance.metadata_revision = metadata.get("dubbo.metadata.revision").cloned();
    if let Some(endpoints) = metadata.get("dubbo.endpoints") {
        instance.endpoints = dubbo_endpoints(&host, endpoints);
    }
    if let Some(weight) = metadata.get("weight").and_then(|weight| weight.parse().ok()) {
        instance.weight = weight;
    }
    instance.group = metadata.get("group").cloned();
    instance.release = metadata.get("version").cloned();
    instance.metadata = metadata;
    Ok(instance)
}

fn dubbo_endpoints(host: &str, text: &str) -> Vec<Endpoint> {
    let all: Vec<Object> = serde_json::from_str(text).unwrap_or_default();
    let endpoint = |object: Object| {
        let protocol = object.get("protocol")?.as_str()?.to_owned();
        Some(Endpoint { protocol, host: host.to_owned(), port: port_of(&object).ok()?? })
    };
    all.into_iter().filter_map(endpoint).collect()
}

/// Reads an entry of Kratos: the first of its endpoints is its address.
pub(super) fn kratos(data: Option<&[u8]>) -> Result<Instance, String> {
    let json = object(data)?;
    let urls = json.get("endpoints").and_then(Value::as_array);
    let mut endpoints = Vec::new();
    for url in urls.into_iter().flatten().filter_map(Value::as_str) {
        let Url { scheme, host, port, .. } = Url::parse(url)?;
        let port = port.ok_or("an endpoint has no port")?;
        endpoints.push(Endpoint { protocol: scheme, host, port });
    }
    let first = endpoints.first().ok_or("it has no endpoints")?;
    let instance = Instance::at("kratos", &first.host, first.port)?;
    let release = json.get("version").and_then(Value::as_str).filter(|text| !text.is_empty());
    let release = release.map(str::to_owned);
    let metadata = texts(json.get("metadata"));
    let weight = metadata.get("weight").and_then(|weight| weight.parse().ok());
    let weight = weight.unwrap_or(instance.weight);
    Ok(Instance { endpoints, release, metadata, weight, ..instance })
}

/// Reads a member of a serverset.
pub(super) fn serverset(data: Option<&[u8]>) -> Result<Instance, String> {
    let json = object(data)?;
    let service = json.get("serviceEndpoint").and_then(Value::as_object);
    let (host, port) = address(service.ok_or("it has no serviceEndpoint")?, "host")?;
    let mut instance = Instance::at("serverset", &host, port)?;
    instance.endpoints.push(Endpoint { protocol: String::new(), host, port });
    let others = json.get("additionalEndpoints").and_then(Value::as_object);
    for (name, endpoint) in others.into_iter().flatten() {
        let (host, port) =
            address(endpoint.as_object().ok_or("an endpoint is no object")?, "host")?;
        instance.endpoints.push(Endpoint { protocol: name.clone(), host, port });
    }
    instance.status = match json.get("status").and_then(Value::as_str).unwrap_or("ALIVE") {
        "ALIVE" => "up".to_owned(),
        "STARTING" => "starting".to_owned(),
        "STOPPING" => "draining".to_owned(),
        "STOPPED" | "DEAD" => "out_of_service".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    instance.metadata = texts(json.get("metadata"));
    if let Some(shard) = json.get("shard").filter(|shard| shard.is_number()) {
        instance.metadata.insert("shard".to_owned(), shard.to_string());
    }
    Ok(instance)
}
