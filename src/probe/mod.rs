//! Asking something over the network whether it works: a connection, a GET, or gRPC's health service.
//!
//! [`Probe`] is what is asked, for programs that ask by hand and on their own account. A node asks through a [`Prober`], the
//! seam at which tests put another: what a node is made to connect to is decided by others, so [`NetProber`] has a list of
//! networks and knows no names.
//!
//! What it lacks on purpose: what follows from an answer, and when to ask.

#[cfg(feature = "server")]
mod prober;

use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;

use tokio::net::TcpStream;

#[cfg(feature = "server")]
pub use prober::{Found, NetProber, Prober};

/// How to find out whether something works. Its text form is a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `tcp://host:port`: it accepts a connection.
    Tcp {
        /// Where.
        addr: String,
    },
    /// `http://host:port/path`: it answers a GET with 2xx.
    Http {
        /// The URL.
        url: String,
    },
    /// `grpc://host:port/service`: its gRPC health service says `SERVING`; of the whole server when no service is named.
    Grpc {
        /// Where.
        addr: String,
        /// The service, or nothing.
        service: String,
    },
}

/// Why a probe found nothing that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// In words, with the probe.
    pub why: String,
    /// The operating system's number of the error, where it was one of its.
    pub code: Option<i32>,
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl ProbeFailure {
    fn of(probe: &Probe, err: &(dyn Error + 'static)) -> ProbeFailure {
        let cause = innermost(err);
        let code = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        ProbeFailure { why: format!("{probe}: {cause}"), code }
    }

    fn said(probe: &Probe, what: &dyn fmt::Display) -> ProbeFailure {
        ProbeFailure { why: format!("{probe}: {what}"), code: None }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp { addr } => write!(f, "tcp://{addr}"),
            Probe::Http { url } => f.write_str(url),
            Probe::Grpc { addr, service } => write!(f, "grpc://{addr}/{service}"),
        }
    }
}

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Probe, String> {
        let bad = || {
            let forms = "tcp://host:port, http://host:port/path or grpc://host:port[/service]";
            format!("{text:?} is no check: expected {forms}")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (addr, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = addr.rsplit_once(':').unwrap_or((addr, "80"));
        let has_port = addr.contains(':') || scheme == "http";
        if host.is_empty() || !has_port || port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(bad());
        }
        let addr = addr.to_owned();
        match scheme {
            "tcp" if path.is_empty() => Ok(Probe::Tcp { addr }),
            "http" => Ok(Probe::Http { url: text.to_owned() }),
            "grpc" => Ok(Probe::Grpc { addr, service: path.to_owned() }),
            _ => Err(bad()),
        }
    }
}

impl Probe {
    /// Carries it out once. Error: it does not work, and why. Takes as long as the other side makes it: bound it.
    pub async fn run(&self) -> Result<(), ProbeFailure> {
        match self {
            Probe::Tcp { addr } => {
                TcpStream::connect(addr).await.map(drop).map_err(|err| ProbeFailure::of(self, &err))
            }
            Probe::Http { url } => {
                let request = self.http(false)?.get(url);
                let response = request.send().await.map_err(|err| ProbeFailure::of(self, &err))?;
                match response.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(ProbeFailure::said(self, &status)),
                }
            }
            Probe::Grpc { addr, service } => self.grpc(addr, service).await,
        }
    }

    /// Calls `grpc.health.v1.Health/Check`. The messages are so small that they are written and read by hand.
    async fn grpc(&self, addr: &str, service: &str) -> Result<(), ProbeFailure> {
        let url = format!("http://{addr}/grpc.health.v1.Health/Check");
        let request = self
            .http(true)?
            .post(url)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(health_request(service));
        let mut response = request.send().await.map_err(|err| ProbeFailure::of(self, &err))?;
        if let Some(code) = response.headers().get("grpc-status").filter(|code| *code != "0") {
            let what = format!("gRPC status {}", code.to_str().unwrap_or("?"));
            return Err(ProbeFailure::said(self, &what));
        }
        // No more is read than it takes, whatever the other side sends.
        let mut body = Vec::new();
        while body.len() < SERVING_BYTES {
            match response.chunk().await.map_err(|err| ProbeFailure::of(self, &err))? {
                Some(chunk) => body.extend(chunk.into_iter().take(SERVING_BYTES)),
                None => break,
            }
        }
        match is_serving(&body) {
            true => Ok(()),
            false => Err(ProbeFailure::said(self, &"it does not say SERVING")),
        }
    }

    fn http(&self, is_http2: bool) -> Result<reqwest::Client, ProbeFailure> {
        let builder =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let builder = if is_http2 { builder.http2_prior_knowledge() } else { builder };
        builder.build().map_err(|err| ProbeFailure::of(self, &err))
    }
}

/// Returns the innermost cause in words: the outer layers repeat the URL.
pub(crate) fn describe(err: &reqwest::Error) -> String {
    innermost(err).to_string()
}

fn innermost<'a>(err: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = err;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

/// Returns a frame with a `HealthCheckRequest`: field 1 is the service.
fn health_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0A);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length as u8 & 0x7F) | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    // Not compressed, then the length.
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// Bytes of a frame by which a `HealthCheckResponse` is judged.
const SERVING_BYTES: usize = 7;

/// Returns whether a frame holds a `HealthCheckResponse` whose field 1, the status, is 1, `SERVING`.
fn is_serving(body: &[u8]) -> bool {
    body.len() >= SERVING_BYTES && body[0] == 0 && body[5..].starts_with(&[0x08, 0x01])
}

#[cfg(test)]
mod tests {
    use super::{Probe, health_request, is_serving};

    #[test]
    fn a_check_is_a_url_with_a_place_to_ask() {
        for good in [
            "tcp://a:1",
            "tcp://[::1]:80",
            "http://a/health",
            "http://a:8080/",
            "grpc://a:1/",
            "grpc://a:1/x.Y",
        ] {
            assert_eq!(good.parse::<Probe>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "a:1",
            "tcp://a",
            "tcp://:1",
            "tcp://a:0",
            "tcp://a:1/x",
            "https://a",
            "udp://a:1",
            "grpc://a",
        ] {
            assert!(bad.parse::<Probe>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_health_messages_are_those_of_the_protocol() {
        assert_eq!(health_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(health_request("ab"), [0, 0, 0, 0, 4, 0x0A, 2, b'a', b'b']);
        assert_eq!(health_request(&"s".repeat(300))[..8], [0, 0, 0, 1, 47, 0x0A, 0xAC, 0x02]);
        assert!(is_serving(&[0, 0, 0, 0, 2, 0x08, 0x01]));
        for not in
            [&[][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 0x08, 0x02], &[1, 0, 0, 0, 2, 0x08, 0x01]]
        {
            assert!(!is_serving(not));
        }
    }
}
