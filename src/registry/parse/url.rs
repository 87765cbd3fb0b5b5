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
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = address(rest).ok_or_else(wrong)?;
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

/// Returns host and port of a URL, given what follows its scheme.
fn address(rest: &str) -> Option<(String, Option<u16>)> {
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    parse_address(authority.rsplit('@').next().unwrap_or(authority))
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

/// Parameters of a rule that say when it holds, or for whom; all others are put among those of the providers that it means.
const CONDITIONS: [&str; 14] = [
    "application",
    "category",
    "check",
    "compatible_config",
    "configVersion",
    "dynamic",
    "enabled",
    "group",
    "interface",
    "priority",
    "providerAddresses",
    "roost",
    "side",
    "version",
];
/// The parameter by which a rule says a status that Dubbo has no word for.
pub const RULE_STATUS: &str = "roost.status";

/// Returns whether a parameter of this name says in a rule when it holds, or for whom, or is known by another name.
pub fn is_of_rule(name: &str) -> bool {
    CONDITIONS.contains(&name) || ["weight", "disabled", RULE_STATUS].contains(&name)
}

/// A rule of Dubbo that changes what providers say: a child of `configurators`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it means; `None` for all.
    host: Option<String>,
    /// At which port; `None` for any.
    port: Option<u16>,
    /// Of which group and version; `None` for any.
    group: Option<String>,
    version: Option<String>,
    /// Of two for one host the greater has the later word.
    priority: i32,
    weight: Option<u32>,
    disabled: Option<bool>,
    status: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Rule {
    /// Returns whether it changes nothing that is shown of an instance.
    pub fn is_empty(&self) -> bool {
        self.weight.is_none()
            && self.disabled.is_none()
            && self.status.is_none()
            && self.labels.is_empty()
    }

    /// Returns whether it means the provider of Dubbo that has this name. Cost: O(length) for one at its address, and for any
    /// other next to nothing.
    pub fn means(&self, name: &str) -> bool {
        let text = percent_decode_str(name).decode_utf8_lossy();
        let address = text.split_once("://").and_then(|(_, rest)| address(rest));
        address.is_some_and(|(host, port)| self.is_at(&host, port))
            && dubbo(name).is_ok_and(|instance| self.is_of(&instance))
    }

    fn is_of(&self, instance: &Instance) -> bool {
        self.group.as_ref().is_none_or(|group| instance.group.as_ref() == Some(group))
            && self.version.as_ref().is_none_or(|it| instance.release.as_ref() == Some(it))
    }

    fn is_at(&self, host: &str, port: Option<u16>) -> bool {
        self.host.as_ref().is_none_or(|its| its == host)
            && self.port.is_none_or(|its| Some(its) == port)
    }

    fn apply(&self, instance: &mut Instance) {
        instance.weight = self.weight.unwrap_or(instance.weight);
        match self.disabled {
            Some(true) => instance.status = "out_of_service".to_owned(),
            Some(false) if instance.status == "out_of_service" => instance.status = "up".to_owned(),
            _ => {}
        }
        if let Some(status) = &self.status {
            instance.status.clone_from(status);
        }
        let labels = self.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        instance.metadata.extend(labels);
    }
}

/// The rules of a service of Dubbo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By the host that they mean; those that mean all come first.
    by_host: BTreeMap<Option<String>, Vec<Rule>>,
}

impl Rules {
    /// Returns those of these that change what is shown.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Rules {
        let mut by_host: BTreeMap<_, Vec<Rule>> = BTreeMap::new();
        for rule in rules.into_iter().filter(|rule| !rule.is_empty()) {
            by_host.entry(rule.host.clone()).or_default().push(rule);
        }
        by_host.values_mut().for_each(|rules| rules.sort_by_key(|rule| rule.priority));
        Rules { by_host }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// Makes an instance of Dubbo what the rules say that mean it: in the order in which Dubbo's consumers apply them, by host and
    /// then by priority. Cost: O(rules that mean its host).
    pub fn apply(&self, instance: &mut Instance) {
        let (host, port) = (normal_host(&instance.host), Some(instance.port));
        for key in [None, Some(host.clone())] {
            let rules = self.by_host.get(&key).into_iter().flatten();
            for rule in rules.filter(|rule| rule.is_at(&host, port)) {
                if rule.is_of(instance) {
                    rule.apply(instance);
                }
            }
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
    let given = |name: &str| said(name).filter(|it| !it.is_empty() && *it != "*");
    // What holds for the consumers of one application alone is no word on the instance.
    let is_off = said("enabled").is_some_and(|enabled| enabled == "false");
    let holds = !is_off && given("application").is_none();
    let changed = |name: &str| said(name).filter(|_| holds);
    let labels =
        url.parameters.iter().filter(|(key, _)| holds && !is_of_rule(key) && !key.starts_with('~'));
    Ok(Rule {
        group: given("group").cloned(),
        version: given("version").cloned(),
        priority: said("priority").and_then(|it| it.parse().ok()).unwrap_or_default(),
        weight: changed("weight").and_then(|weight| weight.parse().ok()),
        disabled: changed("disabled").map(|disabled| disabled == "true"),
        status: changed(RULE_STATUS).cloned(),
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        host: (url.host != "0.0.0.0").then_some(url.host),
        port: url.port.filter(|port| *port != 0),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_changes_whom_it_means() {
        let named = |host: &str| dubbo(&format!("dubbo%3A%2F%2F{host}%3A20880%2FS")).unwrap();
        let all = rule("override%3A%2F%2F0.0.0.0%2FS%3Fweight%3D0").unwrap();
        let one = rule("override%3A%2F%2F10.0.0.1%3A20880%2FS%3Fdisabled%3Dtrue").unwrap();
        let other = rule("override%3A%2F%2F10.0.0.1%3A1%2FS%3Fdisabled%3Dtrue").unwrap();
        let off = rule("override%3A%2F%2F0.0.0.0%2FS%3Fweight%3D0%26enabled%3Dfalse").unwrap();
        let after = |rules: &[&Rule], host| {
            let mut instance = named(host);
            Rules::new(rules.iter().copied().cloned()).apply(&mut instance);
            (instance.weight, instance.status)
        };
        assert!(one.means("dubbo%3A%2F%2Fu%4010.0.0.1%3A20880%2FS") && !off.means("x"));
        assert!(
            !one.means("dubbo%3A%2F%2F10.0.0.1%3A1%2FS")
                && !one.means("override%3A%2F%2F10.0.0.1%3A20880")
        );
        assert!(off.is_empty() && !one.is_empty());
        assert_eq!(after(&[&all, &one], "10.0.0.1"), (0, "out_of_service".to_owned()));
        assert_eq!(after(&[&all, &one], "10.0.0.2"), (0, "up".to_owned()));
        assert_eq!(after(&[&other, &off], "10.0.0.1"), (100, "up".to_owned()));
        assert!(rule("route%3A%2F%2F0.0.0.0%2FS").is_err() && rule("x").is_err());

        // By host and then by priority, whatever their order; of another group, or for some consumers alone, none.
        let of = |query: &str| rule(&format!("override%3A%2F%2F10.0.0.1%2FS%3F{query}")).unwrap();
        let (high, low) = (of("weight%3D5%26priority%3D2"), of("weight%3D6%26priority%3D1"));
        assert_eq!(after(&[&high, &low, &all], "10.0.0.1").0, 5);
        let (other, some) = (of("group%3Dg%26weight%3D1"), of("application%3Da%26weight%3D1"));
        assert_eq!(after(&[&other, &some], "10.0.0.1").0, 100);
        assert!(!other.means("dubbo%3A%2F%2F10.0.0.1%3A1%2FS") && some.is_empty());
        let own = named("10.0.0.1");
        let mut shown = own.clone();
        let status = of("roost.status%3Ddraining%26zone%3Db%26category%3Dconfigurators%26side%3Dx");
        Rules::new([status]).apply(&mut shown);
        assert_eq!((shown.status.as_str(), shown.metadata["zone"].as_str()), ("draining", "b"));
        let hidden = own.hidden_by(&shown);
        let expected = [("/metadata/zone", json!(null)), ("/status", json!("up"))];
        assert_eq!(hidden, expected.map(|(key, value)| (key.to_owned(), value)).into());
    }
}
