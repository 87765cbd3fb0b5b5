//! A switch for nodes in namespaces, in this process: it hands Ethernet frames from one port to another, late, twice, in
//! another order or not at all, as the state of the network says. The kernel of a machine without netem cannot do that.
//!
//! ```text
//! node's eth0 ─ veth ─ port ─▶ frame (whose, and is it whole?) ─▶ exchange (when, how often?) ─▶ port ─ veth ─ eth0
//! ```
//!
//! A port is the near end of a pair of veths, read and written by a packet socket, so no TAP device and no unsafe code is
//! needed for it. One thread serves all ports: frames that are due at one moment leave in the order in which they came.
//!
//! What a [`Link`](crate::schedule::Link) between two nodes does to frames, in each direction by itself:
//! - *cut*, *loss*: it is dropped, also when it was under way. What TCP does about that is the kernels' matter.
//! - *little bandwidth*: it waits for those before it, and is dropped if these are too many.
//! - *delay, jitter*: so much later, and those behind it no sooner: a link has one order.
//! - *reorder*: held back alone, so that those behind overtake it.
//! - *duplicate*: handed on twice.
//!
//! The port of this host is well always: clients come in by proxies, and what they suffer happens there.
//!
//! What it deliberately lacks: learning of addresses (a port's number is the last byte of its MAC address), IPv6, and
//! frames that are damaged, which the receiver's kernel drops like lost ones.

mod exchange;
mod frame;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind,
    recvfrom, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use self::exchange::Exchange;
use self::frame::To;
use super::Links;
use crate::clock::Clock;

/// The port of this host; those of nodes have their numbers.
pub const HOST: u8 = 0;

/// Longest frame: an MTU of 1,500 bytes and the header.
const FRAME_BYTES_MAX: usize = 1_514;
/// What may wait in a port until the thread comes to it; more is lost, as at any switch.
const PORT_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Frames that are read from one port before the next is looked at.
const FRAMES_AT_ONCE: usize = 64;
/// What the kernel says of a frame that it sent itself from the near end.
const PACKET_OUTGOING: u8 = 4;

/// A running switch. Dropping it stops it; the interfaces are left alone.
#[derive(Debug)]
pub struct Switch {
    /// Closing it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts a switch with these ports, each with the name of its interface, which must be up. Needs the capability
    /// CAP_NET_RAW. Frames are mended, so the far ends need not compute checksums, but must not send more than an MTU.
    pub fn start(interfaces: &[(u8, String)], links: &Links) -> Result<Switch, String> {
        let ports = interfaces.iter().map(|(port, name)| Ok((*port, open(name)?)));
        let ports = ports.collect::<Result<Vec<_>, String>>()?;
        let failed = |err: std::io::Error| format!("no switch: {err}");
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let exchange = Exchange::new(links.clone());
        let thread = std::thread::Builder::new().name("switch".into());
        let thread = thread.spawn(move || serve(&ports, &stopped, exchange)).map_err(failed)?;
        Ok(Switch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens an interface for frames.
fn open(name: &str) -> Result<OwnedFd, String> {
    let failed = |err: nix::Error| format!("no port {name}: {err}");
    let mut known = getifaddrs().map_err(failed)?;
    let addr = known.find_map(|known| match known.interface_name == name {
        true => known.address?.as_link_addr().copied(),
        false => None,
    });
    let addr = addr.ok_or_else(|| format!("there is no interface {name}"))?;
    let (flags, all) = (SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let port = socket(AddressFamily::Packet, SockType::Raw, flags, all).map_err(failed)?;
    setsockopt(&port, sockopt::RcvBufForce, &PORT_BYTES_MAX).map_err(failed)?;
    bind(port.as_raw_fd(), &addr as &dyn SockaddrLike).map_err(failed)?;
    Ok(port)
}

/// Hands frames on until it is told to stop.
fn serve(ports: &[(u8, OwnedFd)], stopped: &UnixStream, mut exchange: Exchange) {
    let clock = Clock::start();
    let numbers: Vec<u8> = ports.iter().map(|(number, _)| *number).collect();
    let mut buffer = [0; FRAME_BYTES_MAX];
    let fds = ports.iter().map(|(_, port)| port.as_fd()).chain([stopped.as_fd()]);
    let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    loop {
        let now_us = clock.now_us();
        let wait = exchange.next_due_us().map(|due_us| due_us.saturating_sub(now_us));
        let _ = ppoll(&mut fds, wait.map(|us| TimeSpec::from(Duration::from_micros(us))), None);
        let is_ready = |fd: &PollFd| fd.any().unwrap_or(true);
        if fds.last().is_none_or(is_ready) {
            return;
        }
        for ((number, port), fd) in ports.iter().zip(&fds) {
            if !is_ready(fd) {
                continue;
            }
            for _ in 0..FRAMES_AT_ONCE {
                let Ok((count, from)) = recvfrom::<LinkAddr>(port.as_raw_fd(), &mut buffer) else {
                    break;
                };
                if from.is_some_and(|from| from.pkttype() == PACKET_OUTGOING) {
                    continue;
                }
                let frame = &mut buffer[..count];
                let Some(to) = frame::destination(frame) else { continue };
                frame::mend(frame);
                let others = numbers.iter().filter(|other| *other != number);
                for other in others.filter(|other| to == To::All || to == To::Port(**other)) {
                    exchange.take(clock.now_us(), *number, *other, frame);
                }
            }
        }
        while let Some((to, frame)) = exchange.due(clock.now_us()) {
            let port = ports.iter().find(|(number, _)| *number == to);
            // What an interface does not take is lost.
            let _ = port.map(|(_, port)| send(port.as_raw_fd(), &frame, MsgFlags::empty()));
        }
    }
}
