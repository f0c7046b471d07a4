//! One UDP leg: a hub's listening socket, or its connected socket towards an origin.
//!
//! A datagram that the socket does not take waits for a moment in a short queue; when that is full the newest is
//! dropped and counted, for late media is worth less than what comes next.

use mio::net::UdpSocket;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// Datagrams that wait for a full socket: a few milliseconds of one stream.
const MAX_WAITING: usize = 32;

#[derive(Debug)]
pub(crate) struct UdpLeg {
    socket: UdpSocket,
    pub(crate) readable: bool,
    waiting: VecDeque<(Option<SocketAddr>, Vec<u8>)>,
    /// Datagrams dropped.
    pub(crate) dropped: u64,
}

impl UdpLeg {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        Self { socket, readable: false, waiting: VecDeque::new(), dropped: 0 }
    }

    /// Receives one datagram; `None` if there is none now. Errors that a peer can cause (ICMP) are passed over.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok(got) => return Some(got),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.readable = false;
                    return None;
                }
            }
        }
    }

    /// Sends one datagram, lets it wait, or drops it.
    pub(crate) fn send(&mut self, peer: Option<SocketAddr>, datagram: &[u8]) {
        if self.waiting.is_empty() && self.try_send(peer, datagram) {
            return;
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((peer, datagram.to_vec()));
        } else {
            self.dropped += 1;
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) {
        while let Some((peer, datagram)) = self.waiting.pop_front() {
            if !self.try_send(peer, &datagram) {
                self.waiting.push_front((peer, datagram));
                return;
            }
        }
    }

    /// Whether the datagram is done with: sent, or refused for good.
    fn try_send(&mut self, peer: Option<SocketAddr>, datagram: &[u8]) -> bool {
        let sent = match peer {
            Some(peer) => self.socket.send_to(datagram, peer),
            None => self.socket.send(datagram),
        };
        match sent {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.dropped += 1;
                true
            }
        }
    }
}
