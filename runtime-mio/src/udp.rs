//! One UDP leg: a hub's listening socket, or its connected socket towards an origin. Knows no task.
//!
//! A datagram that the socket does not take waits for a moment in a short queue; when that is full the newest is
//! dropped and counted, for late media is worth less than what comes next.

use crate::batch::Run;
use crate::budget::Held;
use crate::listen;
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

/// What the kernel may hold of one session's socket in each direction, in bytes: a key frame of a heavy stream at once.
/// The system's 208 KiB are some 90 full datagrams, for each is charged with its overhead.
const LEG_BUFFER: usize = 1024 * 1024;

/// Datagrams of one batch that are like the one before, which make it a burst.
const BURST: usize = 3;

/// A burst counts for so much, a batch that is none takes one off…
const BURST_WEIGHT: u8 = 4;

/// … and at so much bursts are the rule with this leg.
const BURSTY: u8 = 8 * BURST_WEIGHT;

#[derive(Debug)]
pub(crate) struct UdpLeg {
    pub(crate) socket: UdpSocket,
    pub(crate) readable: bool,
    /// Addresses on the wire are IPv6, those of IPv4 mapped.
    mapped: bool,
    /// Whom the socket is connected to.
    peer: Option<SocketAddr>,
    /// How much there has been of bursts, up to `BURSTY`: then the kernel is asked to hand them over as one message
    /// (GRO), for good, since what it has put together must never be taken for one datagram. Single ones are cheaper
    /// without.
    bursts: u8,
    /// The kernel cuts one large send into datagrams.
    pub(crate) segments: bool,
    /// The run of the current batch that was last added for this leg.
    pub(crate) run: usize,
    waiting: VecDeque<(Option<SocketAddr>, Box<[u8]>)>,
    _held: Option<Held>,
}

impl UdpLeg {
    /// A listening socket, which has what buffers it was bound with.
    pub(crate) fn hub(socket: UdpSocket, segments: bool) -> Self {
        Self::new(socket, None, segments)
    }

    /// A socket of its own, connected to `to`.
    pub(crate) fn connect(to: SocketAddr, segments: bool, held: Held) -> io::Result<Self> {
        // Connecting binds it, too.
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.connect(&to.into())?;
        listen::ask_for_buffers(&SockRef::from(&socket), LEG_BUFFER);
        let socket = UdpSocket::from_std(socket.into());
        Ok(Self { _held: Some(held), ..Self::new(socket, Some(to), segments) })
    }

    fn new(socket: UdpSocket, peer: Option<SocketAddr>, segments: bool) -> Self {
        let mapped = socket.local_addr().is_ok_and(|local| local.is_ipv6());
        Self {
            socket,
            readable: false,
            mapped,
            peer,
            bursts: 0,
            segments,
            run: 0,
            waiting: VecDeque::new(),
            _held: None,
        }
    }

    /// Receives one datagram. Not if the kernel may have put several together.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self.peer {
            Some(peer) => Ok((self.socket.recv(buffer)?, peer)),
            None => self.socket.recv_from(buffer),
        }
    }

    /// Whether the kernel hands over several datagrams as one message.
    pub(crate) fn coalesces(&self) -> bool {
        self.bursts == BURSTY
    }

    /// So many datagrams of a batch were like the one before.
    pub(crate) fn saw(&mut self, alike: usize) {
        self.bursts = if alike < BURST {
            self.bursts.saturating_sub(1)
        } else {
            (self.bursts + BURST_WEIGHT).min(BURSTY)
        };
        if self.coalesces() && setsockopt(&self.socket, sockopt::UdpGroSegment, &true).is_err() {
            // It cannot, and is asked again when the next bursts come.
            self.bursts = 0;
        }
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
            && let Some(pending) = Pending::of(error)
        {
            // That may be about an earlier datagram, and then this one has not been tried.
            lost.unreachable += u64::from(pending == Pending::Unreachable);
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

/// What an ICMP message said of an earlier datagram (`icmp_err_convert` of the kernel, and its like for IPv6); told once, the
/// socket is as good as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pending {
    /// Nobody is there, or nobody may go there.
    Unreachable,
    /// It was too long, or not understood.
    Other,
}

impl Pending {
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::ACCESS => Some(Self::Unreachable),
            Errno::MSGSIZE | Errno::OPNOTSUPP | Errno::PROTO => Some(Self::Other),
            _ => None,
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, Piece};
    use crate::budget::Budget;
    use srs_proxy_core::machine::Leg;
    use std::net::Ipv4Addr;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    /// A leg that is blocked when its peer does not read, which on loopback no UDP socket ever is.
    fn leg_and_peer() -> (UdpLeg, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(std::net::UdpSocket::from(OwnedFd::from(near)));
        // A few datagrams fill it.
        listen::ask_for_buffers(&SockRef::from(&socket), 4096);
        (UdpLeg::new(socket, None, false), far)
    }

    fn read_available(from: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 8];
        std::iter::from_fn(|| from.recv(&mut buffer).ok().map(|_| buffer[0])).collect()
    }

    #[test]
    fn what_a_full_socket_does_not_take_waits_then_the_newest_is_dropped_and_counted() {
        let (mut leg, far) = leg_and_peer();
        let mut lost = Lost::default();
        let mut taken = 0;
        while !leg.is_blocked() {
            leg.send(None, &[taken], &mut lost);
            taken += 1;
        }
        // One waits already.
        let waiting = MAX_WAITING as u8 - 1;
        for number in taken..taken + waiting + 5 {
            leg.send(None, &[number], &mut lost);
        }
        assert_eq!(lost, Lost { blocked: 5, ..Lost::default() });
        let mut got = Vec::new();
        while leg.is_blocked() {
            got.extend(read_available(&far));
            leg.flush(&mut lost);
        }
        got.extend(read_available(&far));
        assert_eq!(got, Vec::from_iter(0..taken + waiting), "in order, the oldest");
        assert_eq!(lost.blocked, 5);
    }

    #[test]
    fn a_run_that_meets_a_full_socket_waits_in_order() {
        let (mut leg, far) = leg_and_peer();
        let (mut lost, mut batch) = (Lost::default(), Batch::new().unwrap());
        for number in 0..20 {
            batch.add(Leg::CLIENT, &mut leg, None, Piece::Bytes(vec![number].into()));
        }
        assert_eq!(batch.runs.len(), 1);
        leg.send_run(&batch.runs[0], &[], &mut lost);
        let mut got = Vec::new();
        while got.len() < 20 {
            got.extend(read_available(&far));
            leg.flush(&mut lost);
        }
        assert_eq!(got, Vec::from_iter(0..20));
        assert_eq!(lost, Lost::default());
    }

    #[test]
    fn what_icmp_says_is_told_from_what_the_socket_says() {
        let of = |errno: Errno| Pending::of(&errno.into());
        for errno in [Errno::CONNREFUSED, Errno::ACCESS, Errno::NOPROTOOPT, Errno::HOSTDOWN] {
            assert_eq!(of(errno), Some(Pending::Unreachable));
        }
        assert_eq!(of(Errno::MSGSIZE), Some(Pending::Other));
        assert_eq!((of(Errno::AGAIN), of(Errno::NOMEM)), (None, None));
    }

    #[test]
    fn what_came_before_costs_a_datagram_nothing() {
        let far = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = far.local_addr().unwrap();
        let held = Budget::new(1).take_anyway(1);
        let mut leg = UdpLeg::connect(at, false, held).unwrap();
        drop(far);
        let mut lost = Lost::default();
        leg.send(None, b"nobody", &mut lost);
        let far = std::net::UdpSocket::bind(at).unwrap();
        leg.send(None, b"somebody", &mut lost);
        let mut buffer = [0; 16];
        assert_eq!(far.recv(&mut buffer).unwrap(), 8);
        assert_eq!(lost, Lost { unreachable: 1, ..Lost::default() });
    }

    fn udp_leg(segments: bool) -> (UdpLeg, std::net::UdpSocket) {
        let far = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let held = Budget::new(1).take_anyway(1);
        (UdpLeg::connect(far.local_addr().unwrap(), segments, held).unwrap(), far)
    }

    /// Runs of the datagrams 0, 1, 2 … with these sizes, as they go out.
    fn run_through(mut leg: UdpLeg, far: &std::net::UdpSocket, sizes: &[usize]) -> (UdpLeg, Lost, usize) {
        let (mut lost, mut batch) = (Lost::default(), Batch::new().unwrap());
        for (number, size) in sizes.iter().enumerate() {
            batch.add(Leg::CLIENT, &mut leg, None, Piece::Bytes(vec![number as u8; *size].into()));
        }
        let runs = std::mem::take(&mut batch.runs);
        runs.iter().for_each(|run| leg.send_run(run, &[], &mut lost));
        for (number, size) in sizes.iter().enumerate() {
            let mut buffer = [0; 65536];
            let length = far.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], vec![number as u8; *size]);
        }
        (leg, lost, runs.len())
    }

    #[test]
    fn a_run_ends_with_a_shorter_datagram_at_a_longer_one_and_at_the_kernels_limits() {
        for (sizes, expected) in [
            (vec![100; 3], 1),
            (vec![100, 100, 40, 100], 2),
            (vec![100, 101, 101], 2),
            (vec![1; 65], 2),
            (vec![20_000; 4], 2),
            (vec![0, 0, 5, 0], 4),
        ] {
            for segments in [true, false] {
                let (leg, far) = udp_leg(segments);
                let (_, lost, runs) = run_through(leg, &far, &sizes);
                assert_eq!((runs, lost), (expected, Lost::default()), "{sizes:?}");
            }
        }
    }

    #[test]
    fn a_device_that_cannot_have_large_sends_gets_datagrams_one_by_one() {
        // UDP-Lite never cuts: the kernel answers as for such a device.
        let lite = Some(Protocol::from(136));
        let far = Socket::new(Domain::IPV4, Type::DGRAM, lite).unwrap();
        far.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let near = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), lite).unwrap();
        near.connect(&far.local_addr().unwrap()).unwrap();
        let leg = UdpLeg::new(UdpSocket::from_std(near.into()), None, true);
        let (leg, lost, _) = run_through(leg, &far.into(), &[100; 5]);
        assert_eq!((leg.segments, lost), (false, Lost::default()), "and it is not tried again");
    }
}
