//! What is printed and how a command ends: formats as pure functions, stdout, and exit codes.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::json;

use crate::client;
use crate::client::model::{Cluster, DigestAnswer, Payload, Service, Stat};
use crate::sdk::Instance;

/// Why a command ended without being done.
#[derive(Debug)]
pub enum Failure {
    /// The cluster refused or could not be reached.
    Client(client::Error),
    /// The words make no sense together.
    Usage(String),
    /// Something on this machine failed; the text names it and what to do.
    Local(String),
    /// Whoever read the output has gone; nothing is left to say.
    Pipe,
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Client(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Client(error) => error.fmt(f),
            Failure::Usage(text) | Failure::Local(text) => f.write_str(text),
            Failure::Pipe => f.write_str("the output is closed"),
        }
    }
}

impl Failure {
    /// Returns the exit code that the help of `roost` promises.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Pipe => 0,
            Failure::Usage(_) | Failure::Client(client::Error::Invalid(_)) => 2,
            Failure::Local(_) => 1,
            Failure::Client(error) => match error.code() {
                "no_node" => 4,
                "bad_version" => 5,
                "unreachable" | "client_timeout" | "no_leader" | "timeout" | "stopping" => 3,
                _ => 1,
            },
        }
    }

    /// Prints the one line on stderr; nothing for [`Failure::Pipe`].
    pub fn report(&self, as_json: bool) {
        let (code, message) = match self {
            Failure::Pipe => return,
            Failure::Client(error) => (error.code(), error.message()),
            Failure::Usage(text) => ("usage", text.as_str()),
            Failure::Local(text) => ("local", text.as_str()),
        };
        if as_json {
            eprintln!("{}", json!({ "code": code, "message": message }));
        } else {
            eprintln!("roost: {self}");
        }
    }
}

/// Where results go: stdout, as text for people or as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether to print JSON.
    pub json: bool,
}

impl Output {
    /// Prints a result: the value in one line of JSON, or the text, which ends its own lines.
    pub fn result(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Failure> {
        if !self.json {
            return self.write(&text());
        }
        let mut line = serde_json::to_vec(value).map_err(|err| Failure::Local(err.to_string()))?;
        line.push(b'\n');
        self.write(&line)
    }

    /// Prints bytes as they are.
    pub fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|err| match err.kind() {
            io::ErrorKind::BrokenPipe => Failure::Pipe,
            _ => Failure::Local(format!("cannot write the output: {err}")),
        })
    }
}

/// Returns the lines of a stat in zkCli's format.
pub(super) fn stat_lines(stat: &Stat) -> String {
    format!(
        "cZxid = {:#x}\nctime = {}\nmZxid = {:#x}\nmtime = {}\npZxid = {:#x}\ncversion = {}\ndataVersion = {}\n\
         aclVersion = {}\nephemeralOwner = {}\ndataLength = {}\nnumChildren = {}\n",
        stat.czxid,
        time(stat.ctime_ms),
        stat.mzxid,
        time(stat.mtime_ms),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner.as_deref().unwrap_or("0x0"),
        stat.data_length,
        stat.num_children,
    )
}

/// Returns a time of the wall clock, ms since 1970, for people.
pub(super) fn time(ms: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms.min(MS_MAX)))
}

/// The last ms of the year 9999, the latest that httpdate can print.
const MS_MAX: u64 = 253_402_300_799_999;

/// Returns the line of a znode's data: the bytes as they are, `null` when there are none.
pub(super) fn data_line(payload: &Payload) -> Vec<u8> {
    let mut line = payload.0.clone().unwrap_or_else(|| b"null".to_vec());
    line.push(b'\n');
    line
}

/// Returns the line of a change: a sign, the path, and the data on one line if there are any.
pub(super) fn change_line(sign: char, path: &str, payload: &Payload) -> Vec<u8> {
    let mut line = format!("{sign} {path}").into_bytes();
    if let Some(data) = &payload.0 {
        line.push(b' ');
        // One change is one line, whatever the data hold.
        line.extend(
            data.iter().map(|&byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }),
        );
    }
    line.push(b'\n');
    line
}

/// Returns rows as columns, as wide as their widest cell and two spaces apart; the first row is the head.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Returns the providers of a service as a table.
pub(super) fn service_table(service: &Service) -> String {
    let head = ["ID", "ADDRESS", "WEIGHT", "STATUS", "HEALTH", "SESSION", "METADATA"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for provider in &service.providers {
        let metadata: Vec<_> =
            provider.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        rows.push(vec![
            provider.id.clone(),
            Instance::fixed(&provider.host, provider.port).addr(),
            provider.weight.to_string(),
            provider.status.clone(),
            provider.health.clone(),
            provider.session.clone().unwrap_or_default(),
            metadata.join(" "),
        ]);
    }
    let mut out = table(&rows);
    out.push_str(&format!("{} consumers\n", service.consumers.len()));
    for provider in &service.unparsable {
        out.push_str(&format!("unparsable: {}: {}\n", provider.id, provider.reason));
    }
    out
}

/// Returns the members of a cluster as a table; `digests` are each node's own word, in the order of the
/// members.
pub(super) fn status_table(cluster: &Cluster, digests: &[Result<DigestAnswer, String>]) -> String {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let cluster_id = cluster.cluster_id.as_deref().unwrap_or("not initialized");
    let leader = number(cluster.leader);
    let out = format!("cluster {cluster_id}, leader {leader}, term {}\n", cluster.term);
    let head = ["NODE", "ROLE", "HTTP", "PEER", "MATCHED", "LAG", "APPLIED", "ZXID", "DIGEST"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (status, digest) in cluster.members.iter().zip(digests) {
        let role = if cluster.leader == Some(status.member.node) {
            "leader"
        } else {
            status.role.as_str()
        };
        let mut row = vec![
            status.member.node.to_string(),
            role.to_owned(),
            status.member.http_addr.clone(),
            status.member.peer_addr.clone(),
            number(status.matched),
            number(status.lag),
        ];
        row.extend(match digest {
            Ok(digest) => [number(digest.applied), digest.zxid.to_string(), digest.digest.clone()],
            Err(code) => ["-".to_owned(), "-".to_owned(), code.clone()],
        });
        rows.push(row);
    }
    out + &table(&rows)
}

#[cfg(test)]
mod tests {
    use super::{Failure, change_line, data_line, service_table, stat_lines, table};
    use crate::client::model::{Payload, Stat};
    use crate::client::{Error, Refusal};

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let refused = |code: &str| {
            Failure::Client(Error::Refused(Refusal { code: code.to_owned(), ..Refusal::default() }))
        };
        for (failure, code) in [
            (refused("node_exists"), 1),
            (refused("not_initialized"), 1),
            (Failure::Local(String::new()), 1),
            (Failure::Usage(String::new()), 2),
            (Failure::Client(Error::Invalid(String::new())), 2),
            (Failure::Client(Error::Unreachable(String::new())), 3),
            (Failure::Client(Error::Timeout(String::new())), 3),
            (refused("no_leader"), 3),
            (refused("no_node"), 4),
            (refused("bad_version"), 5),
            (Failure::Pipe, 0),
        ] {
            assert_eq!(failure.exit_code(), code, "{failure:?}");
        }
    }

    #[test]
    fn an_ipv6_host_of_a_provider_stands_in_brackets() {
        let provider = serde_json::json!({
            "id": "a", "host": "::1", "port": 80, "weight": 100, "status": "up", "czxid": 1, "version": 0
        });
        let service = serde_json::json!({"name": "web", "providers": [provider], "zxid": 1});
        let shown = service_table(&serde_json::from_value(service).unwrap());
        assert!(shown.contains("[::1]:80"), "{shown}");
    }

    #[test]
    fn a_stat_looks_as_in_zkcli() {
        let stat =
            Stat { czxid: 0x1f, ctime_ms: 1_000, version: 3, data_length: 5, ..Stat::default() };
        assert_eq!(
            stat_lines(&stat),
            "cZxid = 0x1f\nctime = Thu, 01 Jan 1970 00:00:01 GMT\nmZxid = 0x0\n\
             mtime = Thu, 01 Jan 1970 00:00:00 GMT\npZxid = 0x0\ncversion = 0\ndataVersion = 3\naclVersion = 0\n\
             ephemeralOwner = 0x0\ndataLength = 5\nnumChildren = 0\n"
        );
        let absurd = Stat { mtime_ms: u64::MAX, ..Stat::default() };
        assert!(stat_lines(&absurd).contains("9999"));
    }

    #[test]
    fn a_change_is_one_line_whatever_the_data() {
        let payload = |data: &[u8]| Payload(Some(data.to_vec()));
        assert_eq!(change_line('+', "/a", &payload(b"x\ny")), b"+ /a x y\n");
        assert_eq!(change_line('-', "/a", &Payload(None)), b"- /a\n");
        assert_eq!(data_line(&Payload(None)), b"null\n");
        assert_eq!(data_line(&payload(b"\xff")), b"\xff\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["A", "B"]), row(["émile", ""])]), "A      B\némile\n");
    }
}
