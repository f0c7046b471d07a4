//! One session of the hub: where it stands, at which addresses its client is, and which checks are out. Sends no datagram.

use crate::flow::{Network, Slotted};
use crate::key::StreamKey;
use crate::machine::{Action, Cx, Fault, Leg, Note, Ticket};
use crate::origin::OriginId;
use crate::query::{Picked, Report, RtcSession};
use crate::rtc::stun::TransactionId;
use crate::time::{Duration, Time};
use crate::usage::{USE_INTERVAL, Usage};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use smallvec::SmallVec;

/// Addresses of one client: a browser checks from each of its networks, over IPv4 and IPv6.
pub(super) const MAX_PATHS: usize = 8;

/// Checks of one session that wait for their responses.
const MAX_ASKED: usize = 64;

/// Of them, those of one network: a client sends one each 50 ms (RFC 8445 §14.2), and its origin is less than 0.8 s away.
/// Who forges checks from a few networks takes nobody else's place.
const MAX_ASKED_OF_ONE: usize = 16;

/// Checks that were granted, of which one may come again.
const MAX_GRANTED: usize = 8;

/// Checks of one session that are remembered.
pub(super) const MAX_CHECKS: usize = MAX_ASKED + MAX_GRANTED;

/// After this time no response to a check is waited for: longer than any round trip.
const TRANSACTION_LIFE: Duration = Duration::from_secs(10);

/// A client that was silent for so long at its present address is where it was checked last: twice what lies
/// between two checks of a living path.
const PATH_SILENCE: Duration = Duration::from_secs(5);

/// Datagrams of one session that wait for its origin.
const MAX_PARKED: usize = 4;

/// The longest of them, in bytes: what passes any IPv6 link.
pub(super) const MAX_PARKED_DATAGRAM: usize = 1280;

#[derive(Debug)]
pub(super) struct Session {
    /// The USERNAME of its checks.
    pub(super) name: Arc<str>,
    /// Who asked for it first, and is charged for it.
    pub(super) network: Network,
    /// Its own socket towards its origin; open from `Opening` on.
    pub(super) leg: Leg,
    pub(super) stage: Stage,
}

impl Slotted for Session {
    fn leg(&self) -> Leg {
        self.leg
    }

    fn network(&self) -> Network {
        self.network
    }
}

/// Where a session stands. The transitions are in the hub, and in docs/webrtc.md.
#[derive(Debug)]
pub(super) enum Stage {
    /// Is there such a session, and of which stream?
    Loading(Ticket, Parked),
    /// Which origin has that stream?
    Picking(Ticket, Parked, RtcSession),
    /// The socket towards it is being opened.
    Opening(Parked, RtcSession, Picked),
    /// Datagrams flow.
    Live(Live),
}

impl Stage {
    /// The question that is to be answered.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Loading(ticket, _) | Self::Picking(ticket, ..) => Some(*ticket),
            Self::Live(live) => live.end,
            Self::Opening(..) => None,
        }
    }

    /// What waits until datagrams flow.
    pub(super) fn parked(&self) -> Option<&Parked> {
        match self {
            Self::Loading(_, parked) | Self::Picking(_, parked, _) | Self::Opening(parked, ..) => {
                Some(parked)
            }
            Self::Live(_) => None,
        }
    }

    /// The same, to park more.
    pub(super) fn parked_mut(&mut self) -> Option<&mut Parked> {
        match self {
            Self::Loading(_, parked) | Self::Picking(_, parked, _) | Self::Opening(parked, ..) => {
                Some(parked)
            }
            Self::Live(_) => None,
        }
    }
}

/// Checks that wait for their session's origin.
#[derive(Debug, Default)]
pub(super) struct Parked(Vec<(SocketAddr, TransactionId, Bytes)>);

impl Parked {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, _, bytes)| bytes.len()).sum()
    }

    /// Whether this check is here already; a retransmission changes nothing.
    pub(super) fn has(&self, from: SocketAddr, transaction: TransactionId) -> bool {
        self.0.iter().any(|(known, id, _)| *known == from && *id == transaction)
    }

    /// Parks a check, if there is room.
    pub(super) fn push(&mut self, from: SocketAddr, transaction: TransactionId, bytes: &[u8]) -> bool {
        let fits = self.0.len() < MAX_PARKED && bytes.len() <= MAX_PARKED_DATAGRAM;
        if fits {
            self.0.push((from, transaction, Bytes::copy_from_slice(bytes)));
        }
        fits
    }

    /// Takes all of them, in order.
    pub(super) fn into_iter(self) -> impl Iterator<Item = (SocketAddr, TransactionId, Bytes)> {
        self.0.into_iter()
    }
}

/// A session whose datagrams flow.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) flow: RtcSession,
    origin: OriginId,
    /// The question whether its client has left by signalling.
    pub(super) end: Option<Ticket>,
    /// Addresses of which the origin has granted a check, the client's present one first.
    paths: SmallVec<[Path; 1]>,
    /// Checks that the origin has not answered yet, or not long ago.
    asked: Vec<Asked>,
    /// Since when it is.
    since: Time,
    /// When the origin was heard last.
    origin_heard: Time,
    /// What the load balancer is told of it, once it has a client.
    usage: Option<Usage>,
    /// Its client has sent media.
    publishes: bool,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    address: SocketAddr,
    heard: Time,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    transaction: TransactionId,
    from: SocketAddr,
    at: Time,
    /// It has a USERNAME, so that its success is the origin's word for where the client is.
    is_check: bool,
    granted: bool,
}

/// Whose check an origin's response answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    /// The address that asked.
    pub(super) from: SocketAddr,
    /// It is granted now, and was not before.
    pub(super) granted: bool,
}

impl Live {
    pub(super) fn new(flow: RtcSession, origin: OriginId, end: Ticket, now: Time) -> Self {
        Self {
            flow,
            origin,
            end: Some(end),
            paths: SmallVec::new(),
            asked: Vec::new(),
            since: now,
            origin_heard: now,
            usage: None,
            publishes: false,
        }
    }

    /// Where the client is.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        self.paths.first().map(|path| path.address)
    }

    /// Every address it is known at, the present one first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.paths.iter().map(|path| path.address)
    }

    /// A datagram came from one of its addresses. With what is no check a client says which one it uses; a check is
    /// sent from all of them.
    pub(super) fn hear(&mut self, from: SocketAddr, now: Time, is_use: bool) {
        let Some(at) = self.paths.iter().position(|path| path.address == from) else { return };
        if let Some(path) = self.paths.get_mut(at) {
            path.heard = now;
        }
        if is_use && at > 0 {
            self.bring_to_front(at);
        }
    }

    /// A datagram came from its origin.
    pub(super) fn hear_origin(&mut self, now: Time) {
        self.origin_heard = now;
    }

    /// Remembers who sent a check, so that the response goes there. False if it is another's.
    pub(super) fn ask(&mut self, transaction: TransactionId, from: SocketAddr, now: Time) -> bool {
        self.remember(transaction, from, now, true)
    }

    /// The same of a request that is no check: its response says nothing of who is there.
    pub(super) fn ask_else(&mut self, transaction: TransactionId, from: SocketAddr, now: Time) -> bool {
        self.remember(transaction, from, now, false)
    }

    fn remember(&mut self, transaction: TransactionId, from: SocketAddr, now: Time, is_check: bool) -> bool {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.transaction == transaction) {
            if asked.from == from {
                asked.at = now;
            }
            return asked.from == from;
        }
        self.asked.retain(|asked| now.since(asked.at) < TRANSACTION_LIFE);
        self.asked.push(Asked { transaction, from, at: now, is_check, granted: false });
        self.make_room(from);
        true
    }

    /// The origin answered a check: whose was it? `None` if it is not known (any more). It stays known for a while:
    /// the answer may come twice, and the check again, from somebody who has overheard it.
    pub(super) fn answered(
        &mut self,
        transaction: TransactionId,
        is_success: bool,
        now: Time,
    ) -> Option<Answered> {
        let asked = self.asked.iter_mut().find(|asked| asked.transaction == transaction)?;
        if now.since(asked.at) >= TRANSACTION_LIFE {
            return None;
        }
        let granted = is_success && asked.is_check && !asked.granted;
        asked.granted |= granted;
        let from = asked.from;
        if granted {
            self.forget_granted();
        }
        Some(Answered { from, granted })
    }

    /// Forgets a check that waits for its response, if there are too many: the oldest of the newcomer's own network, if
    /// that has too many, or of all. Those from the client's known addresses stay, for the origin has granted checks from
    /// there, unless they are the newcomer's own.
    fn make_room(&mut self, newcomer: SocketAddr) {
        let network = Network::from(newcomer.ip());
        let is_own = |asked: &Asked| Network::from(asked.from.ip()) == network;
        let waiting = || self.asked.iter().enumerate().filter(|(_, asked)| !asked.granted);
        let own = waiting().filter(|(_, asked)| is_own(asked)).count();
        let (has_too_many, are_too_many) = (own > MAX_ASKED_OF_ONE, waiting().count() > MAX_ASKED);
        let is_victim = |asked: &Asked| {
            let is_safe = asked.from != newcomer && self.addresses().any(|known| known == asked.from);
            !is_safe && (!has_too_many || is_own(asked))
        };
        let oldest = waiting().find(|(_, asked)| is_victim(asked)).map(|(at, _)| at);
        if let Some(oldest) = oldest.filter(|_| has_too_many || are_too_many) {
            self.asked.remove(oldest);
        }
    }

    /// Forgets the oldest check that was granted, if there are too many. They have room of their own: what was granted
    /// must not be heard again from elsewhere, so forged checks do not push it out; nor does it push out those that wait
    /// for their responses.
    fn forget_granted(&mut self) {
        let mut granted = self.asked.iter().enumerate().filter(|(_, asked)| asked.granted);
        let oldest = granted.next().map(|(at, _)| at);
        if let Some(oldest) = oldest.filter(|_| granted.count() >= MAX_GRANTED) {
            self.asked.remove(oldest);
        }
    }

    /// The origin has granted a check from this address. A new one is where the client is now; a known one only if
    /// the client is silent at the present one. Returns the address that had to make room.
    pub(super) fn confirm(&mut self, address: SocketAddr, now: Time) -> Option<SocketAddr> {
        if let Some(at) = self.paths.iter().position(|path| path.address == address) {
            let silent = |path: &Path| now.since(path.heard) >= PATH_SILENCE;
            if self.paths.first().is_some_and(silent) {
                self.bring_to_front(at);
            }
            return None;
        }
        let surplus = if self.paths.len() >= MAX_PATHS { self.paths.pop() } else { None };
        self.paths.insert(0, Path { address, heard: now });
        surplus.map(|path| path.address)
    }

    /// This address is another session's now. If that is of the same stream, and the address was the last, the client has
    /// restarted ICE and goes on there: this end is not the end of what it publishes.
    pub(super) fn leave(&mut self, address: SocketAddr, to: &StreamKey) {
        self.paths.retain(|path| path.address != address);
        if self.paths.is_empty() && self.flow.key == *to {
            self.usage = None;
            self.publishes = false;
        }
    }

    /// Forgets what was not heard of for `idle`: addresses, which are returned, and checks.
    pub(super) fn forget_silent(&mut self, now: Time, idle: Duration) -> SmallVec<[SocketAddr; 1]> {
        self.asked.retain(|asked| now.since(asked.at) < TRANSACTION_LIFE);
        let mut silent = SmallVec::new();
        self.paths.retain(|path| {
            let is_silent = now.since(path.heard) >= idle;
            if is_silent {
                silent.push(path.address);
            }
            !is_silent
        });
        silent
    }

    /// When it is over, if nothing more is heard: from the client, or from the origin.
    pub(super) fn ends_at(&self, idle: Duration) -> Time {
        self.heard().min(self.origin_heard) + idle
    }

    /// Who was silent, if that is how it ends.
    pub(super) fn silent(&self) -> Fault {
        let what = "silent for too long";
        if self.heard() <= self.origin_heard { Fault::Client(what) } else { Fault::Origin(what) }
    }

    /// What is said of its end.
    fn ended(&self, now: Time, fault: Option<Fault>) -> Note {
        Note::Ended {
            key: self.flow.key.clone(),
            client: self.client(),
            fault,
            lasted: now.since(self.since),
        }
    }

    /// Whether it has had a client, of which the load balancer is told from then on.
    pub(super) fn has_begun(&self) -> bool {
        self.usage.is_some()
    }

    /// Tells the load balancer, if it is time to, that the session's media flow and its stream is in use: not of a
    /// session of which nothing was heard since.
    pub(super) fn tell(&mut self, cx: &mut Cx<'_>) {
        if self.client().is_none() && self.usage.is_none() {
            return;
        }
        let heard = self.heard();
        let key = || self.flow.key.clone();
        let usage = self.usage.get_or_insert_with(|| Usage::from(cx.now, Report::Playing(key())));
        if usage.next() > cx.now {
            return;
        }
        if cx.now.since(heard) >= USE_INTERVAL {
            return usage.rest(cx.now);
        }
        cx.actions.push(Action::Tell(Report::Flowing(self.flow.clone())));
        usage.tell(cx);
    }

    /// When to do that again, once it has begun.
    pub(super) fn tell_at(&self) -> Option<Time> {
        self.usage.as_ref().map(Usage::next)
    }

    /// Its client, at one of its addresses, has sent media: it publishes, of which the load balancer hears at once.
    pub(super) fn send_media(&mut self, cx: &mut Cx<'_>) {
        if !core::mem::replace(&mut self.publishes, true) {
            let report = Report::Publishing(self.flow.key.clone(), self.origin.clone());
            self.usage = Some(Usage::begin(cx, report));
        }
    }

    /// It is over, whyever: what the load balancer and the log hear of that.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>, leg: Leg, fault: Option<Fault>) {
        cx.actions.note_of(leg, self.ended(cx.now, fault));
        if let Some(usage) = self.usage.take() {
            usage.end(cx);
        }
    }

    /// How many checks are remembered.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    fn heard(&self) -> Time {
        self.paths.iter().map(|path| path.heard).fold(self.since, Time::max)
    }

    fn bring_to_front(&mut self, at: usize) {
        if let Some(front) = self.paths.get_mut(..=at) {
            front.rotate_right(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        let key = StreamKey::new("", "live", "s").unwrap();
        let flow = RtcSession { username: "a:b".into(), key, resource: "".into() };
        Live::new(flow, OriginId::from_text("o"), Ticket(1), Time::ZERO)
    }

    fn address(n: usize) -> SocketAddr {
        ([10, 0, 0, 1], n as u16).into()
    }

    const fn id(n: usize) -> TransactionId {
        TransactionId([n as u8; 12])
    }

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn a_new_address_is_the_present_one_and_media_move_back_to_a_known_one() {
        let mut live = live();
        assert_eq!(live.client(), None);
        live.confirm(address(1), at(0));
        live.confirm(address(2), at(1));
        assert_eq!(live.client(), Some(address(2)));
        live.hear(address(1), at(2), false);
        live.confirm(address(1), at(3));
        assert_eq!(live.client(), Some(address(2)), "checks are sent from all");
        live.hear(address(1), at(4), true);
        assert_eq!(live.client(), Some(address(1)));
        live.hear(address(3), at(5), true);
        assert_eq!(live.client(), Some(address(1)), "who was not granted moves nothing");
        assert_eq!(live.addresses().collect::<Vec<_>>(), [address(1), address(2)]);
    }

    #[test]
    fn a_check_from_a_known_address_moves_a_client_that_is_silent_elsewhere() {
        let mut live = live();
        live.confirm(address(1), at(0));
        live.confirm(address(2), at(1));
        live.confirm(address(1), at(5000));
        assert_eq!(live.client(), Some(address(2)));
        live.confirm(address(1), at(5001));
        assert_eq!(live.client(), Some(address(1)));
    }

    #[test]
    fn the_address_that_was_of_no_use_for_longest_makes_room() {
        let mut live = live();
        for n in 0..MAX_PATHS {
            assert_eq!(live.confirm(address(n), at(0)), None);
        }
        live.hear(address(0), at(1), true);
        assert_eq!(live.confirm(address(99), at(2)), Some(address(1)));
        assert_eq!(live.addresses().count(), MAX_PATHS);
    }

    #[test]
    fn a_response_goes_to_who_asked_and_grants_once() {
        let mut live = live();
        assert!(live.ask(id(1), address(1), at(0)));
        assert!(live.ask(id(1), address(1), at(1)), "a retransmission");
        assert!(!live.ask(id(1), address(2), at(2)), "the same from elsewhere");
        assert_eq!(live.answered(id(2), true, at(3)), None);
        let from = address(1);
        assert_eq!(live.answered(id(1), false, at(3)), Some(Answered { from, granted: false }));
        assert_eq!(live.answered(id(1), true, at(4)), Some(Answered { from, granted: true }));
        assert_eq!(live.answered(id(1), true, at(5)), Some(Answered { from, granted: false }));
        assert_eq!(live.answered(id(1), true, at(10_001)), None, "too late");
    }

    #[test]
    fn forged_checks_do_not_push_out_what_was_granted() {
        let mut live = live();
        assert!(live.ask(id(0), address(1), at(0)));
        assert!(live.answered(id(0), true, at(0)).is_some());
        for n in 1..=2 * MAX_ASKED {
            assert!(live.ask(id(n), address(2), at(1)));
        }
        assert!(!live.ask(id(0), address(2), at(2)), "overheard, and sent again");
        assert_eq!(live.asked(), MAX_ASKED_OF_ONE + 1);
    }

    #[test]
    fn checks_that_are_remembered_are_few_and_each_network_has_its_own_room() {
        let mut live = live();
        let of = |network: usize| SocketAddr::from(([10, 0, 1, network as u8], 7));
        assert!(live.ask(id(0), address(1), at(1)));
        for network in 0..(MAX_ASKED - 1) / MAX_ASKED_OF_ONE {
            for n in 1..=2 * MAX_ASKED_OF_ONE {
                assert!(live.ask(id(network * 2 * MAX_ASKED_OF_ONE + n), of(network), at(1)));
            }
        }
        assert!(live.asked() <= MAX_ASKED);
        assert_eq!(live.answered(id(1), true, at(2)), None, "an old one of a network that has more");
        assert!(live.answered(id(2 * MAX_ASKED_OF_ONE), true, at(2)).is_some());
        assert!(live.answered(id(0), true, at(2)).is_some());
        for n in 0..100 {
            assert!(live.ask(id(100 + n), of(100 + n), at(3)));
            assert!(live.asked() <= MAX_CHECKS);
        }
        assert_eq!(live.answered(id(100), true, at(4)), None, "the oldest of all");
        live.forget_silent(at(20_000), Duration::from_secs(30));
        assert_eq!(live.asked(), 0);
    }

    #[test]
    fn a_known_address_keeps_its_checks_whoever_forges_some() {
        let mut live = live();
        live.confirm(address(1), at(0));
        assert!(live.ask(id(0), address(1), at(1)));
        for n in 1..200 {
            // From the same network, and from many.
            let from = if n % 2 == 0 { address(n) } else { ([10, 0, 1, n as u8], 7).into() };
            assert!(live.ask(id(n), from, at(1)));
        }
        assert!(live.answered(id(0), true, at(2)).is_some());
        for n in 200..220 {
            assert!(live.ask(id(n), address(1), at(3)));
        }
        assert!(live.asked() <= MAX_CHECKS, "its own, too, are bounded");
    }

    #[test]
    fn either_sides_silence_ends_it() {
        const IDLE: Duration = Duration::from_secs(30);
        let mut live = live();
        assert_eq!(live.ends_at(IDLE), at(30_000));
        live.confirm(address(1), at(1000));
        assert_eq!(live.ends_at(IDLE), at(30_000), "the origin");
        live.hear_origin(at(5000));
        assert_eq!(live.ends_at(IDLE), at(31_000), "the client");
        live.hear(address(1), at(2000), false);
        assert_eq!(live.ends_at(IDLE), at(32_000));
        assert!(live.forget_silent(at(31_999), IDLE).is_empty());
        assert_eq!(live.forget_silent(at(32_000), IDLE).as_slice(), [address(1)]);
    }

    #[test]
    fn few_and_short_datagrams_are_parked() {
        let mut parked = Parked::default();
        assert!(!parked.push(address(1), id(0), &[0; MAX_PARKED_DATAGRAM + 1]));
        for n in 0..MAX_PARKED {
            assert!(!parked.has(address(1), id(n)));
            assert!(parked.push(address(1), id(n), &[0; 100]));
            assert!(parked.has(address(1), id(n)));
        }
        assert!(!parked.push(address(1), id(9), &[0; 100]));
        assert_eq!(parked.bytes(), 100 * MAX_PARKED);
    }
}
