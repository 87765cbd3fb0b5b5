//! Values on the command line that clap cannot read by itself. An error says what was expected.

use std::net::SocketAddr;
use std::time::Duration;

use crate::client::model::Member;

/// Reads `500ms`, `10s`, `2m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let ms_per_unit = match &text[digits..] {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        _ => return Err("expected a number and ms, s or m".to_owned()),
    };
    let number: u64 =
        text[..digits].parse().map_err(|_| "expected a number and ms, s or m".to_owned())?;
    match number.checked_mul(ms_per_unit) {
        Some(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        _ => Err("expected between 1ms and one day".to_owned()),
    }
}

/// Reads `NAME:PASSWORD`; the password may contain colons.
pub(super) fn credentials(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once(':').ok_or("expected NAME:PASSWORD")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// Reads a zxid, decimal or hex with `0x`.
pub(super) fn zxid(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|err| err.to_string())
}

/// Reads `ID=PEER,HTTP` or `ID=PEER,HTTP,ZK`, each address being `HOST:PORT`.
pub(super) fn member(text: &str) -> Result<Member, String> {
    let parse = || {
        let (node, addresses) = text.split_once('=')?;
        let node = node.parse().ok()?;
        let mut addresses = addresses.split(',').map(str::to_owned);
        let (peer_addr, http_addr) = (addresses.next()?, addresses.next()?);
        let zk_addr = addresses.next();
        let all = [Some(&peer_addr), Some(&http_addr), zk_addr.as_ref()];
        let valid = all.into_iter().flatten().all(|addr| host_port(addr).is_ok());
        (valid && addresses.next().is_none()).then_some(Member {
            node,
            peer_addr,
            http_addr,
            zk_addr,
        })
    };
    parse().ok_or_else(|| "expected ID=HOST:PORT,HOST:PORT[,HOST:PORT]".to_owned())
}

/// Reads `KEY=VALUE`; the value may hold more of `=`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Reads `HOST:PORT`; an IPv6 host stands in brackets, which are not returned.
pub(super) fn host_port(text: &str) -> Result<(String, u16), String> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok((addr.ip().to_string(), addr.port()));
    }
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) if !host.is_empty() && !host.contains([':', '/']) => {
            Ok((host.to_owned(), port))
        }
        _ => Err("expected HOST:PORT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, host_port, member};

    #[test]
    fn malformed_values_are_refused() {
        for text in ["", "s", "1h", "-1s", "0s", "999999999999m"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "host", "host:", ":80", "host:70000", "http://host:80", "::1:80"] {
            assert!(host_port(text).is_err(), "{text:?}");
        }
        for text in ["1", "1=a:1", "x=a:1,b:2", "1=a,b:2"] {
            assert!(member(text).is_err(), "{text:?}");
        }
        assert_eq!(member("1=a:1,b:2").unwrap().http_addr, "b:2");
        assert_eq!(member("1=a:1,b:2,c:3").unwrap().zk_addr.as_deref(), Some("c:3"));
    }
}
