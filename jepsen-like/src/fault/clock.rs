//! What a node takes for the time, and how that is found out.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock::wall_ms;

/// Where Debian, Fedora and Arch put the library.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns the library that lies to processes about the time; `None` when it is not installed.
pub(super) fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).is_file())
}

/// Sends a request past everything but the network of this machine, and returns the bytes of the answer.
pub(super) async fn ask(addr: &str) -> Option<String> {
    let request = "GET /healthz HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n";
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PATIENCE, exchange).await.ok()?
}

/// Returns how far a node's wall clock is ahead of this program's, s, by the date of its answers.
pub(super) async fn ahead_s(addr: &str) -> Option<i64> {
    let answer = ask(addr).await?;
    let date = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value.trim())
    })?;
    let own = i64::try_from(wall_ms() / 1_000).ok()?;
    Some(seconds(date)? - own)
}

/// Returns the seconds since 1970 of a date as HTTP writes it, `Sun, 22 Nov 2026 05:46:04 GMT`.
fn seconds(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let (day, year) = (day.parse::<i64>().ok()?, year.parse::<i64>().ok()?);
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let parts: Vec<i64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hour, minute, second] = parts[..] else { return None };
    // The year is taken to begin in March, so that the day that is not in all years is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn dates_are_read_as_http_writes_them() {
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(seconds("Fri, 01 Mar 2024 00:00:00 GMT"), Some(1_709_251_200));
        assert_eq!(seconds("Sun, 22 Nov 2026 05:46:04 GMT"), Some(1_795_326_364));
        assert_eq!(seconds("yesterday"), None);
    }
}
