use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::{Fields, Wrong};
use crate::identity::{Network, fix_up};
use crate::registry::Claim;
use crate::types::{Acl, AclId, Perms};

/// Rules in their order, found by whom they speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// Those that speak of anyone.
    anyone: Vec<usize>,
    ids: BTreeMap<AclId, Vec<usize>>,
    networks: BTreeMap<Network, Vec<usize>>,
    /// How many bits the networks have.
    widths: BTreeSet<u32>,
}

/// One rule: it speaks of a client that is one of `who`, and of what it registers if that fits all that is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: String,
    who: Vec<Who>,
    /// If there are any, every host that is registered must be one of these for a rule that allows, and any of them for one
    /// that denies: naming another host besides is no way around it.
    hosts: Vec<Host>,
    labels: BTreeMap<String, String>,
}

/// Whether a rule allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Allow,
    Deny,
}

/// What a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Creating znodes and setting their data.
    Register,
    /// Following them.
    Subscribe,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Anyone,
    Network(Network),
    Identity(AclId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// The address from which the client speaks.
    Peer,
    Network(Network),
}

impl Rules {
    pub(super) fn push(&mut self, rule: Rule) {
        let at = self.rules.len();
        for who in &rule.who {
            match who {
                Who::Anyone => self.anyone.push(at),
                Who::Identity(id) => self.ids.entry(id.clone()).or_default().push(at),
                Who::Network(network) => {
                    self.widths.insert(network.bits());
                    self.networks.entry(*network).or_default().push(at);
                }
            }
        }
        self.rules.push(rule);
    }

    /// Returns the rules that speak of somebody, in their order. Adds to `compared` what that took. Cost: O(identities · (widths
    /// of networks + log rules) + those that are found).
    pub(super) fn of<'a>(&'a self, authority: &[AclId], compared: &mut usize) -> Vec<&'a Rule> {
        let mut found: Vec<usize> = self.anyone.clone();
        if !self.ids.is_empty() {
            for id in authority {
                *compared += 1;
                found.extend(self.ids.get(id).into_iter().flatten());
            }
        }
        for address in addresses(authority) {
            for network in self.widths.iter().filter_map(|bits| Network::around(address, *bits)) {
                *compared += 1;
                found.extend(self.networks.get(&network).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|at| self.rules.get(at)).collect()
    }
}

impl Rule {
    pub(super) fn parse(default_id: String, mut fields: Fields) -> Result<(What, Rule), Wrong> {
        let id = fields.text("id")?.unwrap_or(default_id);
        let what = match fields.text("what")?.as_deref() {
            None | Some("register") => What::Register,
            Some("subscribe") => What::Subscribe,
            Some(other) => {
                let why = format!("{other:?} is neither register nor subscribe");
                return Err(fields.wrong("what", why));
            }
        };
        let texts = fields.texts("who")?.unwrap_or_default();
        let who = texts.iter().map(|text| Who::parse(text));
        let who =
            who.collect::<Result<Vec<Who>, String>>().map_err(|why| fields.wrong("who", why))?;
        if who.is_empty() {
            return Err(
                fields.wrong("who", "it is missing: a list of networks, identities or \"anyone\"")
            );
        }
        if what == What::Subscribe
            && let Some(name) = ["host", "labels"].into_iter().find(|name| fields.has(name))
        {
            let why = "it speaks of what is registered: who subscribes registers nothing";
            return Err(fields.wrong(name, why));
        }
        let texts = fields.texts("host")?.unwrap_or_default();
        let hosts = texts.iter().map(|text| Host::parse(text));
        let hosts = hosts
            .collect::<Result<Vec<Host>, String>>()
            .map_err(|why| fields.wrong("host", why))?;
        let labels = fields.labels("labels")?;
        fields.finish()?;
        Ok((what, Rule { id, who, hosts, labels }))
    }

    /// Returns whether it speaks of what is registered, and not only of who registers.
    pub(super) fn is_of_registrations(&self) -> bool {
        !self.hosts.is_empty() || !self.labels.is_empty()
    }

    /// Returns why what somebody registers does not fit a rule of this side; `None` when it does.
    pub(super) fn misfit(&self, side: Side, authority: &[AclId], said: &Claim) -> Option<String> {
        if !self.hosts.is_empty() {
            if said.addresses.is_empty() {
                return Some("it registers no host that is understood".to_owned());
            }
            let fits = |(host, _): &&(String, Option<u16>)| {
                self.hosts.iter().any(|rule| rule.fits(host, authority))
            };
            let mut hosts = said.addresses.iter();
            let other = match side {
                Side::Allow => hosts.find(|host| !fits(host)),
                Side::Deny if hosts.any(|host| fits(&host)) => None,
                Side::Deny => said.addresses.first(),
            };
            if let Some((host, _)) = other {
                return Some(format!("it registers the host {host}"));
            }
        }
        let wrong = |(key, wanted): &(&String, &String)| said.labels.get(*key) != Some(*wanted);
        self.labels.iter().find(wrong).map(|(key, wanted)| {
            let found =
                said.labels.get(key).map_or("missing".to_owned(), |found| format!("{found:?}"));
            format!("its label {key} is {found}, not {wanted:?}")
        })
    }
}

impl Who {
    /// Reads `anyone`, a network, or `scheme:id` as it stands in access control lists.
    fn parse(text: &str) -> Result<Who, String> {
        if text == "anyone" {
            return Ok(Who::Anyone);
        }
        if let Some(network) = Network::parse(text) {
            return Ok(Who::Network(network));
        }
        let (scheme, id) = text.split_once(':').unwrap_or(("", text));
        let id = AclId { scheme: scheme.to_owned(), id: id.to_owned() };
        let rule = Acl { perms: Perms::ALL, id: id.clone() };
        match fix_up(&[rule], &[]) {
            Ok(_) if matches!(scheme, "digest" | "x509") => Ok(Who::Identity(id)),
            _ => Err(format!(
                "{text:?} is none of anyone, ADDRESS, ADDRESS/BITS, digest:NAME:HASH, x509:NAME"
            )),
        }
    }
}

impl Host {
    /// Reads `peer` or a network.
    fn parse(text: &str) -> Result<Host, String> {
        match text {
            "peer" => Ok(Host::Peer),
            text => Network::parse(text)
                .map(Host::Network)
                .ok_or_else(|| format!("{text:?} is none of peer, ADDRESS, ADDRESS/BITS")),
        }
    }

    fn fits(&self, host: &str, authority: &[AclId]) -> bool {
        // A name could become any address once it is registered.
        let Ok(host) = host.parse::<IpAddr>() else { return false };
        match self {
            Host::Peer => addresses(authority).any(|address| address == host.to_canonical()),
            Host::Network(network) => network.contains(host),
        }
    }
}

/// Yields the addresses among somebody's identities.
fn addresses(authority: &[AclId]) -> impl Iterator<Item = IpAddr> {
    let ids = authority.iter().filter(|id| id.scheme == "ip");
    ids.filter_map(|id| id.id.parse::<IpAddr>().ok()).map(|address| address.to_canonical())
}
