use core::net::IpAddr;

use super::{Fields, Wrong};
use crate::identity::Network;
use crate::limits::{PROBE_NETWORKS_MAX, PROBE_TIMEOUT_MS_MAX, PROBE_TIMEOUT_MS_MIN};

/// The time for a probe, ms, when a policy names none.
const TIMEOUT_MS_DEFAULT: u64 = 500;

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

/// That the registry asks a provider itself, before it believes its silence. The pattern is that of the path whose children
/// are a service's providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// What is asked.
    pub manner: Manner,
    /// How long the answer may take, ms.
    pub timeout_ms: u64,
    /// Only addresses in one of these are asked.
    networks: Vec<Network>,
}

impl Probing {
    pub(super) fn parse(fields: &mut Fields) -> Result<Probing, Wrong> {
        match fields.text("on")?.as_deref() {
            None | Some("expiry") => {}
            Some(other) => {
                return Err(
                    fields.wrong("on", format!("{other:?}: probes are made on expiry only"))
                );
            }
        }
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
            timeout_ms: timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT),
            networks: texts.iter().map(network).collect::<Result<_, _>>()?,
        })
    }

    /// Returns whether it lets an address be probed.
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Manner, Probing};

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
        assert_eq!(grpc.unwrap().manner, Manner::Grpc("a.B".to_owned()));
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
            (r#"{"probe":"tcp","on":"continuous","networks":["10.0.0.1"]}"#, "on"),
        ] {
            assert_eq!(parse(json).unwrap_err(), field, "{json}");
        }
    }
}
