//! The SRT hub at the desk: how its sessions come to life.

use crate::sim::desk;
use crate::srt::wire::Handshake;
use srs_proxy_core::machine::Leg;
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked};
use srs_proxy_core::srt::{DropReason, SrtHub};
use std::net::SocketAddr;

/// One SRT hub and its driver.
pub type Desk = desk::Desk<SrtHub>;

/// The cookie that every origin here gives.
const ORIGIN_COOKIE: u32 = 0x0c00_c1e0;

impl Desk {
    /// How many datagrams were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.hub().drops().count(reason)
    }

    /// The hub's cookie for an address.
    pub fn cookie(&mut self, from: SocketAddr, socket: u32) -> u32 {
        let sent = self.client(from, &Handshake::induction(socket).bytes());
        let [sent] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(sent.to, Some(from));
        Handshake::read(&sent.bytes).expect("an induction").cookie
    }

    /// The oldest question is answered: the origin is at `to`; and the socket is open. It was sent an induction.
    pub fn route(&mut self, to: SocketAddr) -> Leg {
        self.answer(Answer::Picked(Picked { origin: OriginId::new("origin", "0", "1"), to }));
        self.opened().expect("a socket was asked for")
    }

    /// The origin answers the induction; the conclusion that it gets then.
    pub fn welcome(&mut self, leg: Leg) -> Handshake {
        let induction = Handshake::induction(1);
        let sent = self.origin(leg, &induction.welcome(ORIGIN_COOKIE).bytes());
        let [sent] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(sent.by, leg);
        let conclusion = Handshake::read(&sent.bytes).expect("a conclusion");
        assert_eq!(conclusion.cookie, ORIGIN_COOKIE);
        conclusion
    }

    /// A caller gets a connection with an origin at `to`, whose socket has this id; its leg, and the id that the caller
    /// was told.
    pub fn establish(
        &mut self,
        from: SocketAddr,
        socket: u32,
        id: &str,
        to: SocketAddr,
        theirs: u32,
    ) -> (Leg, u32) {
        let cookie = self.cookie(from, socket);
        let sent = self.client(from, &Handshake::conclusion(socket, cookie, id.as_bytes()).bytes());
        assert_eq!(sent, [], "nothing goes to nowhere");
        let leg = self.route(to);
        self.sent();
        let conclusion = self.welcome(leg);
        let sent = self.origin(leg, &conclusion.accepted(theirs).bytes());
        let [sent] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(sent.to, Some(from));
        (leg, Handshake::read(&sent.bytes).expect("a conclusion").from)
    }
}
