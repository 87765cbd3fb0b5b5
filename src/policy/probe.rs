use core::net::IpAddr;

use super::{Fields, Wrong};
use crate::identity::Network;
use crate::limits::{
    PROBE_INTERVAL_MS_MAX, PROBE_INTERVAL_MS_MIN, PROBE_NETWORKS_MAX, PROBE_ROW_MAX,
    PROBE_TIMEOUT_MS_MAX, PROBE_TIMEOUT_MS_MIN,
};

/// The time for a probe, ms, when a policy names none.
const TIMEOUT_MS_DEFAULT: u64 = 500;
/// As it, for the time between two probes.
const INTERVAL_MS_DEFAULT: u64 = 5_000;
/// As it, for how many probes in a row make an instance healthy.
const RISE_DEFAULT: u64 = 2;
/// As it, for how many make it unhealthy.
const FALL_DEFAULT: u64 = 3;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Whether the port accepts a connection.
    Tcp,
    /// Whether a GET of this path is answered with 2xx.
    Http(String),
    /// Whether the gRPC health service says `SERVING` of this service; of the whole server when it is empty.
    Grpc(String),
}

/// How a provider is asked that is asked all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// Time between two probes, ms.
    pub interval_ms: u64,
    /// So many in a row that succeed make it healthy.
    pub rise: u64,
    /// So many in a row that fail make it unhealthy.
    pub fall: u64,
}

impl Rounds {
    fn parse(fields: &mut Fields) -> Result<Rounds, Wrong> {
        let interval_ms =
            fields.whole("interval_ms", PROBE_INTERVAL_MS_MIN..=PROBE_INTERVAL_MS_MAX)?;
        let rise = fields.whole("rise", 1..=PROBE_ROW_MAX)?;
        let fall = fields.whole("fall", 1..=PROBE_ROW_MAX)?;
        Ok(Rounds {
            interval_ms: interval_ms.unwrap_or(INTERVAL_MS_DEFAULT),
            rise: rise.unwrap_or(RISE_DEFAULT),
            fall: fall.unwrap_or(FALL_DEFAULT),
        })
    }
}

/// That the registry asks a provider itself, before it believes its silence or all the time. The pattern is that of the path
/// whose children are a service's providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// What is asked.
    pub manner: Manner,
    /// How long the answer may take, ms.
    pub timeout_ms: u64,
    /// How it is asked all the time; `None` when only its silence is a reason to ask.
    pub rounds: Option<Rounds>,
    /// Only addresses in one of these are asked.
    networks: Vec<Network>,
}

impl Probing {
    pub(super) fn parse(fields: &mut Fields) -> Result<Probing, Wrong> {
        let rounds = match fields.text("on")?.as_deref() {
            None | Some("expiry") => {
                let of_rounds = ["interval_ms", "rise", "fall"];
                if let Some(name) = of_rounds.into_iter().find(|name| fields.has(name)) {
                    return Err(fields.wrong(name, "only what is on continuous has one"));
                }
                None
            }
            Some("continuous") => Some(Rounds::parse(fields)?),
            Some(other) => {
                let why = format!("{other:?} is neither expiry nor continuous");
                return Err(fields.wrong("on", why));
            }
        };
        let (path, service) = (fields.text("path")?, fields.text("service")?);
        let manner = match (fields.need_text("probe")?.as_str(), path, service) {
            ("tcp", None, None) => Manner::Tcp,
            ("http", path, None) => {
                let path = path.unwrap_or_else(|| "/".to_owned());
                let is_path = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic());
                if !is_path || path.contains('#') {
                    return Err(fields.wrong("path", "it is no path of a URL: /health"));
                }
                Manner::Http(path)
            }
            ("grpc", None, service) => {
                let service = service.unwrap_or_default();
                if !service.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
                    return Err(fields.wrong("service", "it is no name of a gRPC service"));
                }
                Manner::Grpc(service)
            }
            ("tcp" | "grpc", Some(_), _) => return Err(fields.wrong("path", "only http has one")),
            ("tcp" | "http", _, Some(_)) => {
                return Err(fields.wrong("service", "only grpc has one"));
            }
            (other, ..) => {
                return Err(fields.wrong("probe", format!("{other:?} is none of tcp, http, grpc")));
            }
        };
        let timeout_ms = fields.whole("timeout_ms", PROBE_TIMEOUT_MS_MIN..=PROBE_TIMEOUT_MS_MAX)?;
        let timeout_ms = timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
        if rounds.is_some_and(|rounds| rounds.interval_ms < timeout_ms) {
            return Err(
                fields.wrong("timeout_ms", "the next probe would come before this one ends")
            );
        }
        let texts = fields.texts("networks")?.unwrap_or_default();
        if texts.is_empty() || texts.len() > PROBE_NETWORKS_MAX {
            let why = format!("1 to {PROBE_NETWORKS_MAX} networks say who may be probed");
            return Err(fields.wrong("networks", why));
        }
        let network = |text: &String| {
            Network::parse(text)
                .ok_or_else(|| fields.wrong("networks", format!("{text:?} is no network")))
        };
        Ok(Probing {
            manner,
            timeout_ms,
            rounds,
            networks: texts.iter().map(network).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the networks of which it lets addresses be probed.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Returns whether it lets an address be probed.
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Manner, Probing, Rounds};

    fn parse(json: &str) -> Result<Probing, String> {
        let mut fields = Fields::parse(json.as_bytes()).unwrap();
        Probing::parse(&mut fields).map_err(|wrong| wrong.field)
    }

    #[test]
    fn a_probe_says_what_is_asked_and_whom() {
        let http = parse(r#"{"probe":"http","path":"/health?x=1","networks":["10.0.0.0/8"]}"#);
        let http = http.unwrap();
        assert_eq!((&http.manner, http.timeout_ms), (&Manner::Http("/health?x=1".to_owned()), 500));
        assert!(http.allows("10.9.9.9".parse().unwrap()));
        assert!(!http.allows("11.0.0.1".parse().unwrap()));
        let grpc = parse(r#"{"probe":"grpc","service":"a.B","timeout_ms":50,"networks":["::1"]}"#);
        let grpc = grpc.unwrap();
        assert_eq!((&grpc.manner, grpc.rounds), (&Manner::Grpc("a.B".to_owned()), None));
        let always = parse(r#"{"probe":"tcp","on":"continuous","networks":["::1"]}"#).unwrap();
        let rounds = Rounds { interval_ms: 5_000, rise: 2, fall: 3 };
        assert_eq!((always.timeout_ms, always.rounds), (500, Some(rounds)));
        for (json, field) in [
            (r#"{"networks":["10.0.0.0/8"]}"#, "probe"),
            (r#"{"probe":"udp","networks":["10.0.0.0/8"]}"#, "probe"),
            (r#"{"probe":"tcp"}"#, "networks"),
            (r#"{"probe":"tcp","networks":[]}"#, "networks"),
            (r#"{"probe":"tcp","networks":["hall-7"]}"#, "networks"),
            (r#"{"probe":"tcp","path":"/","networks":["10.0.0.1"]}"#, "path"),
            (r#"{"probe":"http","path":"health","networks":["10.0.0.1"]}"#, "path"),
            (r#"{"probe":"http","path":"/a b","networks":["10.0.0.1"]}"#, "path"),
            (r#"{"probe":"http","service":"x","networks":["10.0.0.1"]}"#, "service"),
            (r#"{"probe":"grpc","service":"a/b","networks":["10.0.0.1"]}"#, "service"),
            (r#"{"probe":"tcp","timeout_ms":1,"networks":["10.0.0.1"]}"#, "timeout_ms"),
            (r#"{"probe":"tcp","on":"always","networks":["10.0.0.1"]}"#, "on"),
            (r#"{"probe":"tcp","interval_ms":900,"networks":["10.0.0.1"]}"#, "interval_ms"),
            (r#"{"probe":"tcp","on":"expiry","rise":2,"networks":["10.0.0.1"]}"#, "rise"),
            (r#"{"probe":"tcp","on":"continuous","fall":0,"networks":["10.0.0.1"]}"#, "fall"),
            (r#"{"probe":"tcp","on":"continuous","rise":11,"networks":["10.0.0.1"]}"#, "rise"),
            (
                r#"{"probe":"tcp","on":"continuous","interval_ms":199,"networks":["::1"]}"#,
                "interval_ms",
            ),
            (
                r#"{"probe":"tcp","on":"continuous","interval_ms":900,"timeout_ms":901,"networks":["::1"]}"#,
                "timeout_ms",
            ),
        ] {
            assert_eq!(parse(json).unwrap_err(), field, "{json}");
        }
    }
}
