use crate::types::MemberStatus;

/// Returns what `/zookeeper/config` says of these members, a line each, in ZooKeeper's form:
/// `server.<id>=<host>:<port>:<port>:participant|observer;<client host>:<client port>`. Clients connect to what
/// they read there, so nothing is said before it is known of every member where its ZooKeeper door is.
pub(super) fn lines(members: &[MemberStatus]) -> String {
    let line = |status: &MemberStatus| {
        let zk_addr = status.member.zk_addr.as_deref()?;
        // ZooKeeper has one port for following and another for elections, and its Java client refuses a line where
        // they are equal. Here one serves both; the second is that of the HTTP door, as `reconfig` takes it.
        let (_, port) = status.member.http_addr.rsplit_once(':')?;
        let role = if status.voter { "participant" } else { "observer" };
        let (node, peer_addr) = (status.member.node, &status.member.peer_addr);
        Some(format!("server.{node}={peer_addr}:{port}:{role};{zk_addr}\n"))
    };
    members.iter().map(line).collect::<Option<String>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::types::{Member, MemberStatus};

    fn member(node: u64, zk_addr: Option<&str>, voter: bool) -> MemberStatus {
        let member = Member {
            node,
            peer_addr: format!("h{node}:7000"),
            http_addr: format!("h{node}:8000"),
            zk_addr: zk_addr.map(str::to_owned),
        };
        MemberStatus { member, voter, matched: None, lag: None }
    }

    #[test]
    fn all_members_are_told_in_the_form_that_clients_parse_or_none() {
        let known = [member(1, Some("a:2181"), true), member(2, Some("[::1]:2182"), false)];
        let expected = "server.1=h1:7000:8000:participant;a:2181\n\
                        server.2=h2:7000:8000:observer;[::1]:2182\n";
        assert_eq!(lines(&known), expected);
        let [first, second] = known;
        assert_eq!(lines(&[first, member(3, None, true), second]), "");
        assert_eq!(lines(&[]), "");
    }
}
