//! Which process has the other end of a connection, as the kernel knows it. Linux only.

use std::fs;
use std::net::SocketAddr;

/// Returns the inode of the socket whose local address is this, from the text of `/proc/net/tcp`.
fn inode(table: &str, local: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(local) = local else { return None };
    // The address is printed as the number that its bytes are in memory.
    let ip = u32::from_ne_bytes(local.ip().octets());
    let wanted = format!("{ip:08X}:{:04X}", local.port());
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.nth(1) == Some(&wanted);
        let inode = words.nth(7)?.parse().ok()?;
        (is_it && inode != 0).then_some(inode)
    })
}

/// Returns which of these processes has the socket with this local address; `None` when it is nobody's of them.
/// Cost: reads the kernel's list of sockets and the open files of the processes.
pub(super) fn owner(local: SocketAddr, pids: impl IntoIterator<Item = u32>) -> Option<u32> {
    let inode = inode(&fs::read_to_string("/proc/net/tcp").ok()?, local)?;
    let wanted = format!("socket:[{inode}]");
    pids.into_iter().find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut links = files.into_iter().flatten().flatten();
        links.any(|file| {
            fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::owner;

    #[test]
    fn the_process_at_the_other_end_of_a_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, far_end) = listener.accept().unwrap();
        assert_eq!(far_end, connection.local_addr().unwrap());
        let own = std::process::id();
        assert_eq!(owner(far_end, [1, own]), Some(own));
        assert_eq!(owner(far_end, []), None);
        drop(connection);
    }
}
