//! The WebRTC hub at the desk: how its sessions come to life.

use crate::sim::desk;
use srs_proxy_core::machine::Leg;
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked, RtcSession};
use srs_proxy_core::rtc::{DropReason, RtcHub};
use std::net::SocketAddr;

/// One WebRTC hub and its driver.
pub type Desk = desk::Desk<RtcHub>;

impl Desk {
    /// How many datagrams were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.hub().drops().count(reason)
    }

    /// A session that nobody knows here comes to life: its client checks, the load balancer knows it, its origin is
    /// at `to`, and grants the check. Its socket is the answer.
    pub fn establish(&mut self, from: SocketAddr, session: &RtcSession, to: SocketAddr) -> Leg {
        let transaction = self.dice.bytes(12).try_into().expect("12 bytes");
        let sent = self.client(from, &super::check(transaction, &session.username, 0));
        assert_eq!(sent, [], "nothing goes to nowhere");
        let leg = self.route(session, to);
        let sent = self.sent();
        assert!(sent.len() == 1 && sent[0].by == leg, "the check goes to the origin: {sent:?}");
        let sent = self.origin(leg, &super::success(transaction));
        assert!(sent.len() == 1 && sent[0].to == Some(from), "the answer goes to the client: {sent:?}");
        leg
    }

    /// The oldest two questions are answered: which session it is, and where its origin; and the socket is open.
    pub fn route(&mut self, session: &RtcSession, to: SocketAddr) -> Leg {
        self.answer(Answer::Rtc(Some(session.clone())));
        self.answer(Answer::Picked(Picked { origin: OriginId::new("origin", "0", "1"), to }));
        self.opened().expect("a socket was asked for")
    }
}
