use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nix::errno::Errno;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Probe;
use crate::identity::Network;

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It works.
    Answers,
    /// Nothing listens there: its host says so.
    Refuses,
    /// It does not work: no answer in time, or one that says so.
    Silent,
    /// Nothing was learnt: this node itself was not able to ask.
    Unasked,
}

/// Probes on a node's behalf.
pub trait Prober: Send + Sync + 'static {
    /// Returns whether this node may probe an address.
    fn allows(&self, ip: IpAddr) -> bool;

    /// Returns whether there may be an address in a network that this node may probe.
    fn allows_some(&self, _network: Network) -> bool {
        true
    }

    /// Probes an address, which is allowed, for so long at most. `probe` is of the same address.
    fn probe(&self, at: SocketAddr, probe: Probe, within: Duration) -> BoxFuture<'static, Found>;
}

/// Probes over the network, but only addresses in these networks: whoever may register could else make a node connect to
/// wherever it likes.
#[derive(Clone, Debug)]
pub struct NetProber {
    networks: Vec<Network>,
}

impl NetProber {
    /// Returns a prober of these networks; `None` without any, for then there is nothing to probe.
    pub fn new(networks: Vec<Network>) -> Option<NetProber> {
        (!networks.is_empty()).then_some(NetProber { networks })
    }
}

impl Prober for NetProber {
    fn allows(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }

    fn allows_some(&self, network: Network) -> bool {
        self.networks.iter().any(|own| own.overlaps(network))
    }

    fn probe(&self, at: SocketAddr, probe: Probe, within: Duration) -> BoxFuture<'static, Found> {
        let asking = async move {
            match TcpStream::connect(at).await {
                Ok(stream) => drop(stream),
                Err(err) => return found_by(err.raw_os_error()),
            }
            // That something listens is all that the simplest kind asks.
            if matches!(probe, Probe::Tcp { .. }) {
                return Found::Answers;
            }
            match probe.run().await {
                Ok(()) => Found::Answers,
                Err(failure) => match found_by(failure.code) {
                    // It listened a moment ago.
                    Found::Refuses => Found::Silent,
                    found => found,
                },
            }
        };
        timeout(within, asking).map(|found| found.unwrap_or(Found::Silent)).boxed()
    }
}

/// Returns what an error of this number, if it has one, tells of who was asked.
fn found_by(code: Option<i32>) -> Found {
    match code.map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Found::Refuses,
        // Of files, ports, memory this node has none left: that says nothing about anybody else.
        Some(
            Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EAGAIN
            | Errno::EADDRNOTAVAIL
            | Errno::ENETDOWN,
        ) => Found::Unasked,
        _ => Found::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_port_that_listens_answers_and_one_that_does_not_refuses() {
        let prober = NetProber::new(vec![Network::parse("127.0.0.0/8").unwrap()]).unwrap();
        assert!(prober.allows("127.0.0.9".parse().unwrap()));
        assert!(!prober.allows("10.0.0.1".parse().unwrap()));
        let some = |network| prober.allows_some(Network::parse(network).unwrap());
        assert!(some("0.0.0.0/0") && some("127.0.0.9") && !some("10.0.0.0/8"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let tcp = Probe::Tcp { addr: at.to_string() };
        let http = Probe::Http { url: format!("http://{at}/health") };
        let answering = tokio::spawn(async move {
            let mut answers = ["200 OK", "503 No"].into_iter().peekable();
            while answers.peek().is_some() {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 1024];
                // A connection that asks nothing only wants to know whether anybody listens.
                if stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
                    let status = answers.next().unwrap();
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        assert_eq!(prober.probe(at, tcp.clone(), PATIENCE).await, Found::Answers);
        assert_eq!(prober.probe(at, http.clone(), PATIENCE).await, Found::Answers);
        assert_eq!(prober.probe(at, http, PATIENCE).await, Found::Silent);
        answering.await.unwrap();
        assert_eq!(prober.probe(at, tcp, PATIENCE).await, Found::Refuses);
        assert!(NetProber::new(Vec::new()).is_none());
    }

    #[test]
    fn a_node_that_is_not_able_to_ask_has_learnt_nothing() {
        for (code, found) in [
            (Errno::EMFILE, Found::Unasked),
            (Errno::ENFILE, Found::Unasked),
            (Errno::ENOBUFS, Found::Unasked),
            (Errno::EADDRNOTAVAIL, Found::Unasked),
            (Errno::ECONNREFUSED, Found::Refuses),
            (Errno::EHOSTUNREACH, Found::Silent),
            (Errno::ECONNRESET, Found::Silent),
        ] {
            assert_eq!(found_by(Some(code as i32)), found, "{code}");
        }
        assert_eq!(found_by(None), Found::Silent);
    }

    #[tokio::test]
    async fn what_the_operating_system_says_is_known_through_all_layers() {
        let at = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for probe in [format!("tcp://{at}"), format!("http://{at}/"), format!("grpc://{at}")] {
            let failure = probe.parse::<Probe>().unwrap().run().await.unwrap_err();
            assert_eq!(failure.code, Some(Errno::ECONNREFUSED as i32), "{probe}: {failure}");
        }
    }
}
