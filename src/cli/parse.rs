//! Values on the command line that clap cannot read by itself. An error says what was expected.

use std::net::SocketAddr;
use std::time::Duration;

use crate::client::model::Member;
use crate::limits::TTL_MS_MAX;

/// Reads how long something on this machine may take: `500ms`, `10s`, `2m`, `1h`, `1d`; a bare number is seconds. From 1 ms to a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match milliseconds(text)? {
        ms @ 1..=DAY_MS => Ok(Duration::from_millis(ms)),
        _ => Err("expected between 1ms and 1d".to_owned()),
    }
}

/// Reads how long something in the cluster shall live, which is whole seconds: `90s`, `2h`, `7d`. Returns seconds, from 1 to what a
/// znode can live.
pub(super) fn ttl(text: &str) -> Result<u64, String> {
    let ms = milliseconds(text)?;
    if ms == 0 || ms > TTL_MS_MAX {
        return Err(format!("expected between 1s and {}d", TTL_MS_MAX / DAY_MS));
    }
    match ms % 1_000 {
        0 => Ok(ms / 1_000),
        _ => Err("expected whole seconds".to_owned()),
    }
}

const DAY_MS: u64 = 86_400_000;

/// Returns `u64::MAX` for what is longer.
fn milliseconds(text: &str) -> Result<u64, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        _ => 0,
    };
    if number.is_empty() || ms_per_unit == 0 {
        return Err("expected a whole number and ms, s, m, h or d".to_owned());
    }
    // These are digits: what cannot be read is too long.
    Ok(number.parse().unwrap_or(u64::MAX).saturating_mul(ms_per_unit))
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

    use super::{duration, host_port, member, ttl};

    #[test]
    fn a_time_is_a_whole_number_and_a_unit() {
        for (text, ms) in [
            ("1ms", 1),
            ("250ms", 250),
            ("10", 10_000),
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("2h", 7_200_000),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text:?}");
        }
        for text in ["", "s", "h", "-1s", "+1s", "1.5h", "1 h", "1H", "1w", "1h30m", "1hs", "²s"] {
            for refused in [duration(text).map(drop), ttl(text).map(drop)] {
                assert_eq!(
                    refused.unwrap_err(),
                    "expected a whole number and ms, s, m, h or d",
                    "{text:?}"
                );
            }
        }
        // The last are more than 64 bits hold: in the product, and before.
        let long = ["0s", "25h", "2d", "999999999999999999d", "99999999999999999999999ms"];
        for text in long {
            assert_eq!(duration(text).unwrap_err(), "expected between 1ms and 1d", "{text:?}");
        }
    }

    #[test]
    fn a_ttl_is_whole_seconds_that_a_znode_can_live() {
        for (text, seconds) in
            [("1", 1), ("5000ms", 5), ("2h", 7_200), ("7d", 604_800), ("12725d", 1_099_440_000)]
        {
            assert_eq!(ttl(text), Ok(seconds), "{text:?}");
        }
        for text in ["0s", "12726d", "999999999999999999d", "99999999999999999999999s"] {
            assert_eq!(ttl(text).unwrap_err(), "expected between 1s and 12725d", "{text:?}");
        }
        for text in ["500ms", "1500ms"] {
            assert_eq!(ttl(text).unwrap_err(), "expected whole seconds", "{text:?}");
        }
    }

    #[test]
    fn malformed_values_are_refused() {
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
