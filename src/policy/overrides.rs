use std::collections::BTreeMap;

use super::{Fields, Wrong};
use crate::types::{parse_address, says_ip};

/// The greatest weight that can be given.
const WEIGHT_MAX: u64 = 10_000;
/// The words for how an instance stands.
const STATUSES: [&str; 4] = ["up", "starting", "draining", "out_of_service"];

/// Which of the instances that the pattern matches are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All.
    All,
    /// The one of this name, or that says this `host:port`.
    Instance(String),
    /// Those that say this address, in its normal form, and this port if one is named.
    Address(String, Option<u16>),
    /// Those with these labels.
    Selector(BTreeMap<String, String>),
}

/// How instances stand, whatever they say themselves. The pattern is that of their znodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// Which.
    pub target: Target,
    /// `up`, `starting`, `draining` or `out_of_service`.
    pub status: Option<String>,
    /// Share of the traffic; 0 for none.
    pub weight: Option<u32>,
    /// Added to their labels.
    pub labels: BTreeMap<String, String>,
}

impl Overrides {
    pub(super) fn parse(fields: &mut Fields) -> Result<Overrides, Wrong> {
        let instance = fields.text("instance")?;
        let ip = fields.text("ip")?;
        let selector = fields.labels("selector")?;
        let target = match (instance, ip, selector.is_empty()) {
            (None, None, true) => Target::All,
            (Some(id), None, true) if !id.is_empty() => Target::Instance(id),
            (None, Some(ip), true) => {
                let (host, port) = parse_address(&ip).ok_or_else(|| {
                    Wrong::new("ip", format!("{ip:?} is no address, with a port or without"))
                })?;
                Target::Address(host, port)
            }
            (None, None, false) => Target::Selector(selector),
            (Some(_), None, true) => return Err(Wrong::new("instance", "it is empty".to_owned())),
            _ => {
                let why = "at most one of instance, ip and selector says which are meant";
                return Err(Wrong::new("instance", why.to_owned()));
            }
        };
        let status = fields.text("status")?;
        if let Some(status) = status.as_deref().filter(|status| !STATUSES.contains(status)) {
            let why = format!("{status:?} is none of {}", STATUSES.join(", "));
            return Err(Wrong::new("status", why));
        }
        let weight = fields.whole("weight", 0..=WEIGHT_MAX)?.map(|weight| weight as u32);
        let labels = fields.labels("labels")?;
        if status.is_none() && weight.is_none() && labels.is_empty() {
            let why = "one of status, weight and labels has to be there";
            return Err(Wrong::new("status", why.to_owned()));
        }
        Ok(Overrides { target, status, weight, labels })
    }
}

/// As [`check_sense`](super::check_sense).
pub(super) fn check_sense(fields: &mut Fields) -> Result<(), Wrong> {
    if fields.has("selector") && fields.labels("selector")?.is_empty() {
        return Err(Wrong::new("selector", "it is empty, which would mean all"));
    }
    match fields.text("ip")? {
        Some(ip) if !says_ip(&ip) => {
            Err(Wrong::new("ip", format!("{ip:?} is no IP address, with a port or without")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Policy, Terms};
    use super::{Overrides, Target};

    fn parse(terms: &str) -> Result<Overrides, String> {
        let json = format!(
            r#"{{"set_by":"a","reason":"b","pattern":"/services/web/providers/*"{terms}}}"#
        );
        match Policy::parse(Kind::Overrides, json.as_bytes()) {
            Ok(Policy { terms: Terms::Overrides(overrides), .. }) => Ok(overrides),
            Ok(other) => panic!("{other:?}"),
            Err(wrong) => Err(wrong.field),
        }
    }

    #[test]
    fn an_override_says_of_whom_and_what_or_is_refused_with_the_field() {
        let whole =
            parse(r#","ip":"10.0.0.5:80","status":"out_of_service","weight":0,"labels":{"a":"b"}"#)
                .unwrap();
        assert_eq!(whole.target, Target::Address("10.0.0.5".to_owned(), Some(80)));
        assert_eq!((whole.weight, whole.status.as_deref()), (Some(0), Some("out_of_service")));
        assert_eq!(parse(r#","weight":5"#).unwrap().target, Target::All);
        for (terms, field) in [
            ("", "status"),
            (r#","status":"gone""#, "status"),
            (r#","weight":-1"#, "weight"),
            (r#","weight":10001"#, "weight"),
            (r#","weight":0,"ip":":80""#, "ip"),
            (r#","weight":0,"instance":"""#, "instance"),
            (r#","weight":0,"instance":"a","ip":"10.0.0.1""#, "instance"),
            (r#","weight":0,"colour":1"#, "colour"),
        ] {
            assert_eq!(parse(terms).unwrap_err(), field, "{terms}");
        }
    }
}
