//! One UDP leg: a hub's listening socket, or its connected socket towards an origin. Knows no task.
//!
//! A datagram that the socket does not take waits for a moment in a short queue; when that is full the newest is
//! dropped and counted, for late media is worth less than what comes next.

use crate::batch::Run;
use crate::runtime::Lost;
use mio::net::UdpSocket;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use rustix::io::Errno;
use smallvec::SmallVec;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

/// Datagrams that wait for a full socket: a few milliseconds of one stream.
pub(crate) const MAX_WAITING: usize = 32;

/// What the kernel may hold of a hub's socket in each direction, in bytes, as far as `net.core.rmem_max` and
/// `wmem_max` let it: 10 ms of 2 Gbit/s, while the worker does something else.
const HUB_BUFFER: usize = 4 * 1024 * 1024;

/// The same for one session's socket: a key frame of a heavy stream at once. The system's 208 KiB are some 90 full
/// datagrams, for each is charged with its overhead.
const LEG_BUFFER: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct UdpLeg {
    pub(crate) socket: UdpSocket,
    pub(crate) readable: bool,
    /// Addresses on the wire are IPv6, those of IPv4 mapped.
    mapped: bool,
    /// The kernel cuts one large send into datagrams.
    pub(crate) segments: bool,
    /// The run of the current batch that was last added for this leg.
    pub(crate) run: usize,
    waiting: VecDeque<(Option<SocketAddr>, Box<[u8]>)>,
}

impl UdpLeg {
    /// A listening socket.
    pub(crate) fn hub(socket: UdpSocket, segments: bool) -> Self {
        Self::new(socket, HUB_BUFFER, segments)
    }

    /// A socket of its own, connected to `to`.
    pub(crate) fn connect(to: SocketAddr, segments: bool) -> io::Result<Self> {
        // Connecting binds it, too.
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.connect(&to.into())?;
        Ok(Self::new(UdpSocket::from_std(socket.into()), LEG_BUFFER, segments))
    }

    fn new(socket: UdpSocket, buffer: usize, segments: bool) -> Self {
        let options = SockRef::from(&socket);
        // A smaller buffer or uncut datagrams only cost more.
        let _ = options.set_recv_buffer_size(buffer);
        let _ = options.set_send_buffer_size(buffer);
        let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        let mapped = socket.local_addr().is_ok_and(|local| local.is_ipv6());
        Self { socket, readable: false, mapped, segments, run: 0, waiting: VecDeque::new() }
    }

    /// Whether datagrams wait for the socket to take more.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends one datagram, lets it wait, or drops it.
    pub(crate) fn send(&mut self, peer: Option<SocketAddr>, datagram: &[u8], lost: &mut Lost) {
        if !self.waiting.is_empty() || !self.try_send(peer, datagram, lost) {
            self.wait(peer, datagram, lost);
        }
    }

    /// Sends several datagrams to one peer at once: all of `size` bytes but the last, which may be shorter.
    pub(crate) fn send_run(&mut self, run: &Run, buffer: &[u8], lost: &mut Lost) {
        if let ([piece], 1) = (run.pieces.as_slice(), run.count) {
            return self.send(run.peer, piece.get(buffer), lost);
        }
        let pieces: SmallVec<[IoSlice<'_>; 16]> =
            run.pieces.iter().map(|piece| IoSlice::new(piece.get(buffer))).collect();
        if self.segments && self.waiting.is_empty() {
            match self.try_send_segments(run.peer, &pieces, run.size) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    for datagram in pieces.iter().flat_map(|piece| piece.chunks(run.size)) {
                        self.wait(run.peer, datagram, lost);
                    }
                    return;
                }
                // The device on the way cannot have it.
                Err(error) if is(&error, Errno::IO) => self.segments = false,
                // Perhaps another path's limit: one by one shows what is wrong with which.
                Err(_) => {}
            }
        }
        for datagram in pieces.iter().flat_map(|piece| piece.chunks(run.size)) {
            self.send(run.peer, datagram, lost);
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self, lost: &mut Lost) {
        while let Some((peer, datagram)) = self.waiting.pop_front() {
            if !self.try_send(peer, &datagram, lost) {
                self.waiting.push_front((peer, datagram));
                return;
            }
        }
    }

    fn wait(&mut self, peer: Option<SocketAddr>, datagram: &[u8], lost: &mut Lost) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((peer, datagram.into()));
        } else {
            lost.blocked += 1;
        }
    }

    /// Whether the datagram is done with: sent, or refused for good.
    fn try_send(&self, peer: Option<SocketAddr>, datagram: &[u8], lost: &mut Lost) -> bool {
        let send = || match peer {
            Some(peer) => self.socket.send_to(datagram, self.on_the_wire(peer)),
            None => self.socket.send(datagram),
        };
        let mut sent = send();
        if let Err(error) = &sent
            && is_icmp(error)
        {
            // That was about an earlier datagram, and this one has not been tried.
            lost.unreachable += 1;
            sent = send();
        }
        match sent {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                lost.failed += 1;
                true
            }
        }
    }

    fn try_send_segments(
        &self,
        peer: Option<SocketAddr>,
        pieces: &[IoSlice<'_>],
        size: usize,
    ) -> io::Result<()> {
        let size = u16::try_from(size).map_err(io::Error::other)?;
        let peer = peer.map(|peer| SockaddrStorage::from(self.on_the_wire(peer)));
        let control = [ControlMessage::UdpGsoSegments(&size)];
        sendmsg(self.socket.as_raw_fd(), pieces, &control, MsgFlags::empty(), peer.as_ref())?;
        Ok(())
    }

    fn on_the_wire(&self, peer: SocketAddr) -> SocketAddr {
        match peer.ip() {
            IpAddr::V4(ip) if self.mapped => (ip.to_ipv6_mapped(), peer.port()).into(),
            _ => peer,
        }
    }
}

/// Whether this is what an ICMP message said of an earlier datagram; told once, the socket is as good as before.
pub(crate) fn is_icmp(error: &io::Error) -> bool {
    [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH].iter().any(|&errno| is(error, errno))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
