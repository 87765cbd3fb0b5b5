//! `reconfig`: a change of the members as clients of ZooKeeper ask for it, made as roost makes it, one by one.
//!
//! Of a member's line `server.<id>=<host>:<port>:<port>[:participant|observer];[<host>:]<port>` the first port is that for
//! the other nodes, as in ZooKeeper; the second, which in ZooKeeper serves elections, is that of the HTTP door.
//!
//! What a change consists of is done step by step, and what is done stays done when a later step fails: the answer is the
//! error, and the members are what `/zookeeper/config` says.

use std::time::Duration;

use crate::identity::permits;
use crate::jute::{Reconfig, errors};
use crate::node::Node;
use crate::types::{AclId, Code, Error, Member, MemberStatus, NodeId, Perms};

/// How long the reply waits until the members are told as they are then.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
/// Where the members are told to clients.
pub(super) const CONFIG: &str = "/zookeeper/config";

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    leaving: Vec<NodeId>,
    /// Each with whether it votes.
    joining: Vec<(Member, bool)>,
}

/// Carries out a change that somebody with this authority asks for. Returns when the last member has joined or left; the
/// error is the number of the refusal.
pub(super) async fn carry_out(
    node: Node,
    authority: Vec<AclId>,
    wanted: Reconfig,
) -> Result<(), i32> {
    let tree = node.local();
    let config = tree.get(CONFIG).ok_or(errors::SYSTEM_ERROR)?;
    if !permits(config.acl(), &authority, Perms::WRITE) {
        return Err(Code::NoAuth.number());
    }
    let text = String::from_utf8_lossy(config.data().map(|data| &data[..]).unwrap_or_default());
    if wanted.config_id != -1 && wanted.config_id != version(&text) {
        return Err(Code::BadVersion.number());
    }
    let members = node.local_status().members;
    let change = plan(&wanted, &members).ok_or(Code::BadArguments.number())?;
    for (member, votes) in change.joining {
        let id = member.node;
        node.add_learner(member).await.map_err(|error| number(&error))?;
        if votes {
            node.promote(id).await.map_err(|error| number(&error))?;
        }
    }
    for id in change.leaving {
        node.remove(id).await.map_err(|error| number(&error))?;
    }
    shown(&node, version(&text)).await;
    Ok(())
}

/// Waits, but not for ever, until the members are told as they are now.
async fn shown(node: &Node, before: i64) {
    let shown = async {
        loop {
            let tree = node.local();
            let data = tree.get(CONFIG).and_then(|config| config.data().cloned());
            let text = String::from_utf8_lossy(data.as_deref().unwrap_or_default()).into_owned();
            if text.is_empty() || version(&text) != before {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    // They are changed all the same.
    let _ = tokio::time::timeout(PATIENCE, shown).await;
}

fn number(error: &Error) -> i32 {
    match error {
        Error::Refused(_) => Code::BadArguments.number(),
        Error::NoLeader | Error::Timeout(_) => errors::NEW_CONFIG_NO_QUORUM,
        _ => errors::SYSTEM_ERROR,
    }
}

/// Returns the version that the text of a configuration ends with, 0 without one.
fn version(text: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix("version="));
    line.and_then(|hex| i64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Returns what a request means for these members; `None` when it does not parse or contradicts itself.
fn plan(wanted: &Reconfig, members: &[MemberStatus]) -> Option<Change> {
    let lines = |text: &Option<String>| -> Option<Vec<(Member, bool)>> {
        let lines = text.as_deref().unwrap_or_default().split([',', '\n']).map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with("version=")).map(line).collect()
    };
    let is_member = |id: NodeId| members.iter().any(|status| status.member.node == id);
    let (mut joining, mut leaving) = (lines(&wanted.joining)?, Vec::new());
    if wanted.new_members.is_some() {
        let all = lines(&wanted.new_members)?;
        if !joining.is_empty() || wanted.leaving.is_some() || all.is_empty() {
            return None;
        }
        // A member keeps its addresses and its role: what asks for others must not be answered as if they were taken.
        let is_other = |(wanted, votes): &(Member, bool)| {
            let own = members.iter().find(|status| status.member.node == wanted.node);
            own.is_some_and(|own| !is_same(&own.member, wanted) || own.voter != *votes)
        };
        if all.iter().any(is_other) {
            return None;
        }
        let stays = |id: NodeId| all.iter().any(|(member, _)| member.node == id);
        leaving.extend(members.iter().map(|status| status.member.node).filter(|id| !stays(*id)));
        joining = all.into_iter().filter(|(member, _)| !is_member(member.node)).collect();
    } else if let Some(ids) = &wanted.leaving {
        for id in ids.split(',').map(str::trim).filter(|id| !id.is_empty()) {
            leaving.push(id.parse().ok()?);
        }
    }
    let is_known = joining.iter().any(|(member, _)| is_member(member.node));
    (!is_known).then_some(Change { leaving, joining })
}

/// Returns whether a line names a member as it is. One may leave out where its clients connect.
fn is_same(own: &Member, wanted: &Member) -> bool {
    let is_same_door = wanted.zk_addr.is_none() || wanted.zk_addr == own.zk_addr;
    (&own.peer_addr, &own.http_addr) == (&wanted.peer_addr, &wanted.http_addr) && is_same_door
}

/// Parses the line of one member.
fn line(text: &str) -> Option<(Member, bool)> {
    let (id, rest) = text.strip_prefix("server.")?.split_once('=')?;
    let (servers, client) = match rest.split_once(';') {
        Some((servers, client)) => (servers, Some(client)),
        None => (rest, None),
    };
    let (servers, votes) = match servers.strip_suffix(":observer") {
        Some(servers) => (servers, false),
        None => (servers.strip_suffix(":participant").unwrap_or(servers), true),
    };
    let (rest, http_port) = servers.rsplit_once(':')?;
    let (host, peer_port) = rest.rsplit_once(':')?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (http_port, peer_port) = (port(http_port)?, port(peer_port)?);
    if host.is_empty() || http_port == peer_port {
        return None;
    }
    let zk_addr = match client.map(|client| client.rsplit_once(':').unwrap_or((host, client))) {
        Some((client_host, client_port)) => {
            let host = if client_host == "0.0.0.0" { host } else { client_host };
            Some(format!("{host}:{}", port(client_port)?))
        }
        None => None,
    };
    let member = Member {
        node: id.parse().ok()?,
        peer_addr: format!("{host}:{peer_port}"),
        http_addr: format!("{host}:{http_port}"),
        zk_addr,
    };
    Some((member, votes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: NodeId) -> MemberStatus {
        let peer_addr = format!("h{node}:7000");
        let http_addr = format!("h{node}:8000");
        let member = Member { node, peer_addr, http_addr, zk_addr: None };
        MemberStatus { member, voter: true, matched: None, lag: None }
    }

    fn asked(joining: &str, leaving: &str, all: &str) -> Reconfig {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (joining, leaving, new_members) = (some(joining), some(leaving), some(all));
        Reconfig { joining, leaving, new_members, config_id: -1 }
    }

    #[test]
    fn a_line_names_the_addresses_of_a_member() {
        let (parsed, votes) = line("server.4=h:7004:8004:observer;0.0.0.0:2184").unwrap();
        assert_eq!((parsed.node, votes), (4, false));
        assert_eq!((parsed.peer_addr.as_str(), parsed.http_addr.as_str()), ("h:7004", "h:8004"));
        assert_eq!(parsed.zk_addr.as_deref(), Some("h:2184"));
        let (parsed, votes) = line("server.5=h:1:2;c:3").unwrap();
        assert_eq!((parsed.zk_addr.as_deref(), votes), (Some("c:3"), true));
        for bad in [
            "",
            "server.1",
            "server.x=h:1:2",
            "server.1=h:1",
            "server.1=:1:2",
            "server.1=h:1:1",
            "server.1=h:0:2",
            "server.1=h:1:2;x",
        ] {
            assert_eq!(line(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_list_of_all_members_is_a_difference_too() {
        let present = [member(1), member(2)];
        let change = plan(&asked("server.3=h:1:2", "1", ""), &present).unwrap();
        assert_eq!((change.leaving, change.joining.len()), (vec![1], 1));
        let all = "server.2=h2:7000:8000,server.3=h:1:2";
        let change = plan(&asked("", "", all), &present).unwrap();
        assert_eq!((change.leaving, change.joining[0].0.node), (vec![1], 3));
        for wrong in [asked("server.2=h:1:2", "", ""), asked("", "x", ""), asked("x", "", all)] {
            assert_eq!(plan(&wrong, &present), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_version_of_a_configuration_is_hexadecimal() {
        assert_eq!(version("server.1=a\nversion=1f"), 31);
        assert_eq!(version(""), 0);
    }

    #[test]
    fn who_stays_keeps_addresses_and_role() {
        let members = [member(1), member(2)];
        let all = |second: &str| {
            plan(&asked("", "", &format!("server.1=h1:7000:8000,{second}")), &members)
        };
        assert!(all("server.2=h2:7000:8000").is_some());
        for changed in [
            "server.2=other:7000:8000",
            "server.2=h2:7001:8000",
            "server.2=h2:7000:8001",
            "server.2=h2:7000:8000;2181",
            "server.2=h2:7000:8000:observer",
        ] {
            assert_eq!(all(changed), None, "{changed}");
        }
    }
}
