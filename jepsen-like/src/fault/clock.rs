//! What makes a node believe in another time, and how it is asked for a sign of life.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

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
