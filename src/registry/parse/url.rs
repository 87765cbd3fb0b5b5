//! Entries that are URLs: Dubbo's by interface, and Motan's.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::{Endpoint, Instance};
use crate::types::{normal_host, parse_address};

/// A URL, taken apart.
pub(in crate::registry) struct Url {
    pub(in crate::registry) scheme: String,
    pub(in crate::registry) host: String,
    pub(in crate::registry) port: Option<u16>,
    pub(in crate::registry) parameters: BTreeMap<String, String>,
}

impl Url {
    pub(in crate::registry) fn parse(text: &str) -> Result<Url, String> {
        let wrong = || format!("{:?} is not a URL", text.chars().take(80).collect::<String>());
        let is_scheme =
            |scheme: &str| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if scheme.is_empty() || !is_scheme(scheme) {
            return Err(wrong());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = rest.split('/').next().unwrap_or(rest);
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = parse_address(authority).ok_or_else(wrong)?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pair =
            |pair: &str| pair.split_once('=').map(|(key, value)| (decoded(key), decoded(value)));
        let parameters = query.split('&').filter_map(pair).collect();
        Ok(Url { scheme: scheme.to_owned(), host, port, parameters })
    }

    fn instance(self, layout: &'static str) -> Result<Instance, String> {
        let port = self.port.ok_or("its URL has no port")?;
        let mut instance = Instance::at(layout, &self.host, port)?;
        instance.endpoints = vec![Endpoint { protocol: self.scheme, host: self.host, port }];
        let said = |name: &str| self.parameters.get(name).cloned();
        if let Some(weight) = said("weight").and_then(|weight| weight.parse().ok()) {
            instance.weight = weight;
        }
        let is_off = |name: &str, off: &str| said(name).is_some_and(|value| value == off);
        if is_off("disabled", "true") || is_off("enabled", "false") {
            instance.status = "out_of_service".to_owned();
        }
        instance.group = said("group").filter(|group| !group.is_empty());
        instance.release = said("version");
        instance.metadata_revision = said("revision");
        instance.metadata = self.parameters;
        Ok(instance)
    }
}

fn decoded(name: &str) -> Result<Url, String> {
    let decoded = percent_decode_str(name).decode_utf8();
    Url::parse(&decoded.map_err(|_| "its name is not UTF-8 behind the escapes".to_owned())?)
}

/// Reads the name of a provider of Dubbo.
pub(super) fn dubbo(name: &str) -> Result<Instance, String> {
    let url = decoded(name)?;
    if matches!(url.scheme.as_str(), "consumer" | "override" | "route" | "empty") {
        return Err(format!("it is a {}:// URL, which is no provider", url.scheme));
    }
    url.instance("dubbo")
}

/// Returns the parameters of the URL that a name is.
pub(super) fn parameters(name: &str) -> Result<BTreeMap<String, String>, String> {
    let Url { host, mut parameters, .. } = decoded(name)?;
    parameters.insert("host".to_owned(), host);
    Ok(parameters)
}

/// Reads the data of an entry of Motan.
pub(super) fn motan(data: Option<&[u8]>) -> Result<Instance, String> {
    let data = data.filter(|data| !data.is_empty()).ok_or("it has no data")?;
    let text = std::str::from_utf8(data).map_err(|_| "its data is not UTF-8".to_owned())?;
    Url::parse(text.trim())?.instance("motan")
}

/// A rule of Dubbo that changes what providers say: a child of `configurators`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it means; `None` for all.
    host: Option<String>,
    /// At which port; `None` for any.
    port: Option<u16>,
    weight: Option<u32>,
    disabled: Option<bool>,
}

impl Rule {
    /// Makes an instance what the rule says, if it means it.
    pub fn apply(&self, instance: &mut Instance) {
        let is_meant = self.host.as_ref().is_none_or(|host| *host == normal_host(&instance.host))
            && self.port.is_none_or(|port| port == instance.port);
        if !is_meant {
            return;
        }
        instance.weight = self.weight.unwrap_or(instance.weight);
        match self.disabled {
            Some(true) => instance.status = "out_of_service".to_owned(),
            Some(false) if instance.status == "out_of_service" => instance.status = "up".to_owned(),
            _ => {}
        }
    }
}

/// Reads the name of a configurator. Error: it is none.
pub fn rule(name: &str) -> Result<Rule, String> {
    let url = decoded(name)?;
    if url.scheme != "override" {
        return Err(format!("it is a {}:// URL, which is no configurator", url.scheme));
    }
    let said = |name: &str| url.parameters.get(name);
    let is_off = said("enabled").is_some_and(|enabled| enabled == "false");
    Ok(Rule {
        host: (url.host != "0.0.0.0").then_some(url.host),
        port: url.port.filter(|port| *port != 0),
        weight: said("weight").filter(|_| !is_off).and_then(|weight| weight.parse().ok()),
        disabled: said("disabled").filter(|_| !is_off).map(|disabled| disabled == "true"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_scheme_is_no_url() {
        assert!(Url::parse("service-discovery-registry://h:1").is_ok());
        for text in ["a_b://h:1", "://h:1", "see http://h:1", "h:1"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_changes_whom_it_means() {
        let named = |host: &str| dubbo(&format!("dubbo%3A%2F%2F{host}%3A20880%2FS")).unwrap();
        let all = rule("override%3A%2F%2F0.0.0.0%2FS%3Fweight%3D0").unwrap();
        let one = rule("override%3A%2F%2F10.0.0.1%3A20880%2FS%3Fdisabled%3Dtrue").unwrap();
        let other = rule("override%3A%2F%2F10.0.0.1%3A1%2FS%3Fdisabled%3Dtrue").unwrap();
        let off = rule("override%3A%2F%2F0.0.0.0%2FS%3Fweight%3D0%26enabled%3Dfalse").unwrap();
        let after = |rules: &[&Rule], host| {
            let mut instance = named(host);
            rules.iter().for_each(|rule| rule.apply(&mut instance));
            (instance.weight, instance.status)
        };
        assert_eq!(after(&[&all, &one], "10.0.0.1"), (0, "out_of_service".to_owned()));
        assert_eq!(after(&[&all, &one], "10.0.0.2"), (0, "up".to_owned()));
        assert_eq!(after(&[&other, &off], "10.0.0.1"), (100, "up".to_owned()));
        assert!(rule("route%3A%2F%2F0.0.0.0%2FS").is_err() && rule("x").is_err());
    }
}
