//! SRT callers played by hand, packet by packet, for what no real caller does.

use super::{PATIENCE, wait_for};
use crate::srt::wire::{Handshake, INDUCTION};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// After this time callers ask again.
const RETRY: Duration = Duration::from_millis(250);

/// Asks for a cookie as a caller does that is called `socket`: again and again, since a datagram may be lost in a flood.
#[track_caller]
pub fn ask_cookie(caller: &UdpSocket, socket: u32) -> Handshake {
    wait_for("an answer to an induction", PATIENCE, || {
        caller.send(&Handshake::induction(socket).bytes()).expect("it is sent");
        next(caller, RETRY).filter(|answer| answer.kind == INDUCTION)
    })
}

/// The next handshake that is no answer to an induction.
#[track_caller]
pub fn receive(caller: &UdpSocket) -> Handshake {
    wait_for("a handshake", PATIENCE, || next(caller, RETRY).filter(|answer| answer.kind != INDUCTION))
}

/// The next packet, if it comes in time and is a handshake.
fn next(caller: &UdpSocket, within: Duration) -> Option<Handshake> {
    let mut buffer = [0; 2048];
    caller.set_read_timeout(Some(within)).expect("a timeout");
    caller.recv(&mut buffer).ok().and_then(|count| Handshake::read(&buffer[..count]))
}

/// A caller's UDP socket.
#[track_caller]
pub fn socket(to: SocketAddr) -> UdpSocket {
    socket_of(Ipv4Addr::LOCALHOST.into(), to)
}

/// A caller's UDP socket at an address of this machine.
#[track_caller]
pub fn socket_of(own: IpAddr, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((own, 0)).expect("a free port");
    socket.connect(to).expect("a server on loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}
