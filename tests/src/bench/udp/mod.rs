//! The datagram benchmark: WebRTC-shaped and SRT-sized flows through several relays in turn, and what a datagram
//! cost each of them.
//!
//! Clients and origin live in this process, in one thread ([`swarm`]); each peer is a process of its own
//! ([`peer`]), the floors too ([`relay`]). Every datagram carries its flow, sequence and time ([`wire`]); a row
//! counts only if none was lost, damaged or reordered.

pub mod case;
pub mod peer;
pub mod relay;
pub mod signal;
pub mod swarm;
pub mod wire;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::SockRef;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Messages received at once, at most.
const SLOTS: usize = 32;
/// What one message may hold in bytes, and where the next begins: not at the same place of a page.
const SLOT: usize = 64 * 1024;
const STRIDE: usize = SLOT + 1216;
/// What the kernel may hold of a socket, in bytes, as far as it lets us.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// A socket with large buffers that never blocks; with `gro` the kernel may hand over several datagrams as one
/// message.
fn socket(gro: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    tune(&socket, gro)?;
    Ok(socket)
}

fn tune(socket: &UdpSocket, gro: bool) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    SockRef::from(socket).set_recv_buffer_size(SOCKET_BUFFER)?;
    SockRef::from(socket).set_send_buffer_size(SOCKET_BUFFER)?;
    setsockopt(socket, sockopt::UdpGroSegment, &gro)?;
    Ok(())
}

/// Receives many messages in one call.
struct Receiver {
    state: UdpSocketState,
    buffer: Vec<u8>,
    meta: Vec<RecvMeta>,
}

impl Receiver {
    fn new() -> io::Result<Self> {
        // Receiving needs none of the options that this sets on the socket.
        let state = UdpSocketState::new(UdpSockRef::from(&UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?))?;
        Ok(Self { state, buffer: vec![0; SLOTS * STRIDE], meta: vec![RecvMeta::default(); SLOTS] })
    }

    /// How many messages came; 0 if there are none now.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut slots: Vec<_> =
            self.buffer.chunks_exact_mut(STRIDE).map(|slot| IoSliceMut::new(&mut slot[..SLOT])).collect();
        match self.state.recv(UdpSockRef::from(socket), &mut slots, &mut self.meta) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Who sent a message, where it is, and the size of its datagrams, of which the last may be shorter.
    fn message(&self, index: usize) -> (SocketAddr, Range<usize>, usize) {
        let meta = &self.meta[index];
        let start = index * STRIDE;
        (meta.addr, start..start + meta.len, meta.stride.max(1))
    }
}

/// Sends datagrams of `size` bytes, the last perhaps shorter, in one call.
fn send_segments(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    datagrams: &[u8],
    size: usize,
) -> io::Result<usize> {
    let size = u16::try_from(size).map_err(io::Error::other)?;
    let control = [ControlMessage::UdpGsoSegments(&size)];
    let to = to.map(SockaddrStorage::from);
    let pieces = [IoSlice::new(datagrams)];
    Ok(sendmsg(socket.as_raw_fd(), &pieces, &control, MsgFlags::empty(), to.as_ref())?)
}

fn send(socket: &UdpSocket, to: Option<SocketAddr>, datagram: &[u8]) -> io::Result<usize> {
    match to {
        Some(to) => socket.send_to(datagram, to),
        None => socket.send(datagram),
    }
}
