//! What stands at the far end of a leg: scripts that see bytes and timers. No sockets, no knowledge of the driver.

use super::dice::Dice;
use srs_proxy_core::time::{Duration, Time};
use std::net::SocketAddr;

/// How a peer saw its connection end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// In good order, after the last byte.
    Fin,
    /// It broke.
    Reset,
}

/// A scripted client or origin. It is called when something happens, and acts through [`Io`].
pub trait Peer {
    /// The connection stands.
    fn start(&mut self, _io: &mut Io<'_>) {}

    /// Bytes of the stream came, in order.
    fn bytes(&mut self, _io: &mut Io<'_>, _bytes: &[u8]) {}

    /// A datagram came.
    fn datagram(&mut self, _io: &mut Io<'_>, _from: SocketAddr, _bytes: &[u8]) {}

    /// The other side ended; after a [`End::Fin`] one may go on writing, though nobody may care.
    fn end(&mut self, io: &mut Io<'_>, _end: End) {
        io.close();
    }

    /// A timer of [`Io::wake`] rings.
    fn timer(&mut self, _io: &mut Io<'_>, _tag: u32) {}

    /// Whether it could serve another session: nothing it got or wrote is half a message.
    fn between_messages(&self) -> bool {
        true
    }
}

/// What a peer can do.
#[derive(Debug)]
pub struct Io<'a> {
    /// Now.
    pub now: Time,
    /// The peer's own dice.
    pub dice: &'a mut Dice,
    /// Written bytes the network has not taken yet.
    pub backlog: usize,
    pub(crate) deeds: &'a mut Vec<Deed>,
}

/// What a peer has done.
#[derive(Debug)]
pub(crate) enum Deed {
    Write(Vec<u8>),
    Send(SocketAddr, Vec<u8>),
    Close,
    Reset,
    Read(bool),
    Wake(Duration, u32),
}

impl Io<'_> {
    /// Writes to the stream. Always taken; what the network does not take yet is the backlog.
    pub fn write(&mut self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.backlog += bytes.len();
        self.deeds.push(Deed::Write(bytes));
    }

    /// Sends a datagram.
    pub fn send(&mut self, to: SocketAddr, bytes: impl Into<Vec<u8>>) {
        self.deeds.push(Deed::Send(to, bytes.into()));
    }

    /// Ends the stream after what was written.
    pub fn close(&mut self) {
        self.deeds.push(Deed::Close);
    }

    /// Breaks the connection.
    pub fn reset(&mut self) {
        self.deeds.push(Deed::Reset);
    }

    /// Reads no more; the window fills.
    pub fn stop_reading(&mut self) {
        self.deeds.push(Deed::Read(false));
    }

    /// Reads again.
    pub fn go_on_reading(&mut self) {
        self.deeds.push(Deed::Read(true));
    }

    /// Calls [`Peer::timer`] after a while.
    pub fn wake(&mut self, after: Duration, tag: u32) {
        self.deeds.push(Deed::Wake(after, tag));
    }
}
