//! Which origin owns which stream. Knows no protocol and no socket; built once and handed to whoever asks.
//!
//! No call blocks. Each gives its answer at once ([`Outcome::Now`]), or later through the asker's
//! [`Mailbox`], or a refusal.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod expiring;
mod fleet;
mod memory;
mod policy;
pub mod redis;
mod rtc;
mod view;

pub use fleet::{MAX_QUARANTINE, PROBE, QUARANTINE};
pub use memory::Memory;
pub use policy::{MAX_WEIGHT, Policy, WeightProblem, Weights, WeightsError};
pub use view::{CLAIM_LIFE, PUBLISHER_FRESH, STREAM_IDLE};

use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{
    Answer, HlsSession, Need, OriginStatus, Picked, Query, Refusal, Report, RtcSession,
};
use srs_proxy_core::time::{Duration, Time};
use std::sync::{Arc, Mutex, PoisonError};

/// How much a load balancer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Origins.
    pub origins: usize,
    /// Streams that have an origin.
    pub streams: usize,
    /// HLS sessions, and as many WebRTC sessions.
    pub sessions: usize,
}

impl Default for Limits {
    /// Far beyond what one proxy can carry, and some 100 MB when all is full.
    fn default() -> Self {
        Self { origins: 1024, streams: 1 << 18, sessions: 1 << 18 }
    }
}

/// What a load balancer is built with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How long an origin is alive after a heartbeat.
    pub ttl: Duration,
    /// How much is held.
    pub limits: Limits,
    /// How the origin of a new stream is chosen.
    pub policy: Policy,
    /// How much each origin gets.
    pub weights: Weights,
    /// Decides what is left to chance.
    pub seed: u64,
}

impl Default for Setup {
    /// What a proxy has that is told nothing, but for the seed.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            limits: Limits::default(),
            policy: Policy::default(),
            weights: Weights::default(),
            seed: 0,
        }
    }
}

/// What became of a question.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome<T> {
    /// The answer.
    Now(T),
    /// It will be put into the asker's mailbox.
    Later,
    /// No.
    Refused(Refusal),
}

impl<T> From<Result<T, Refusal>> for Outcome<T> {
    fn from(result: Result<T, Refusal>) -> Self {
        result.map_or_else(Self::Refused, Self::Now)
    }
}

/// Wakes the owner of a [`Mailbox`].
pub trait Notify: Send + Sync {
    /// Called after an answer was put in; cheap and never blocking.
    fn notify(&self);
}

/// Whose answer it is: the asking session, as its worker names it, and the machine's own ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    /// The session; unique in its worker for as long as anyone could answer.
    pub session: u64,
    /// The machine's ticket.
    pub ticket: Ticket,
}

/// Late answers for one worker, and whose they are.
pub struct Mailbox {
    answers: Mutex<Vec<(ReplyTo, Answer)>>,
    notify: Box<dyn Notify>,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(notify: Box<dyn Notify>) -> Self {
        Self { answers: Mutex::new(Vec::new()), notify }
    }

    /// Puts an answer in and wakes the owner.
    pub fn put(&self, to: ReplyTo, answer: Answer) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push((to, answer));
        self.notify.notify();
    }

    /// Wakes the owner without an answer.
    pub fn wake(&self) {
        self.notify.notify();
    }

    /// Takes all answers out.
    pub fn take(&self) -> Vec<(ReplyTo, Answer)> {
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who asks, and when.
#[derive(Clone)]
pub struct Asker {
    /// Now.
    pub now: Time,
    /// Where a late answer goes.
    pub mailbox: Arc<Mailbox>,
    /// Whose it is.
    pub reply_to: ReplyTo,
}

/// Origins, and the streams they own.
pub trait OriginService: Send + Sync {
    /// Takes a registration or heartbeat. Another life of the same `server` replaces the old one at once.
    fn update(&self, asker: &Asker, origin: Origin) -> Outcome<()>;

    /// The origin that owns `key`; chosen, atomically, if none does or if it is not usable any more.
    fn pick(&self, asker: &Asker, key: &StreamKey, need: Need) -> Outcome<Picked>;

    /// An origin did not take a connection of this protocol: it is left alone for a moment.
    fn unreachable(&self, now: Time, origin: &OriginId, protocol: Protocol);

    /// A stream is being played. Told when that begins and every few seconds as long as it goes on.
    fn playing(&self, now: Time, key: &StreamKey);

    /// A stream is being published at `origin`. Told when that begins and every few seconds as long as it goes
    /// on. If a pick has mapped the stream elsewhere meanwhile, and nobody publishes there, it is mapped back.
    fn publishing(&self, now: Time, key: &StreamKey, origin: &OriginId);

    /// The stream's publisher at `origin` is gone.
    fn ended(&self, now: Time, key: &StreamKey, origin: &OriginId);

    /// All origins.
    fn origins(&self, asker: &Asker) -> Outcome<Vec<OriginStatus>>;

    /// Begins or ends that an origin gets no new streams. Those that it has stay, and another life of its server
    /// gets new ones. Whether it is known.
    fn drain(&self, asker: &Asker, origin: &OriginId, on: bool) -> Outcome<bool>;

    /// Forgets an origin: each of its streams gets another at its next pick. A heartbeat would bring it back.
    /// Whether it was known.
    fn deregister(&self, asker: &Asker, origin: &OriginId) -> Outcome<bool>;
}

/// How long an HLS or WebRTC session lives after its last use.
pub const SESSION_LIFE: Duration = Duration::from_secs(120);

/// HLS sessions, by stream and by id. They end [`SESSION_LIFE`] after their last use.
pub trait HlsService: Send + Sync {
    /// The stream's session; `new` if there was none.
    fn load_or_store_hls(&self, asker: &Asker, new: HlsSession) -> Outcome<HlsSession>;

    /// The session with this id.
    fn load_hls(&self, asker: &Asker, spbhid: &str) -> Outcome<Option<HlsSession>>;
}

/// WebRTC sessions, by USERNAME. They end [`SESSION_LIFE`] after their last use, or when they are left.
pub trait RtcService: Send + Sync {
    /// Stores a session.
    fn store_rtc(&self, asker: &Asker, session: RtcSession) -> Outcome<()>;

    /// The session with this USERNAME.
    fn load_rtc(&self, asker: &Asker, username: &str) -> Outcome<Option<RtcSession>>;

    /// That this session ends: answered at once if there is no such session, later when it is left at this proxy, or
    /// never.
    fn end_of_rtc(&self, asker: &Asker, username: &str) -> Outcome<()>;

    /// The session that was stored here with just this stream and resource is over. Who waits for its end is
    /// answered.
    fn leave(&self, now: Time, key: &StreamKey, resource: &Arc<str>);

    /// A session's media flows. Told when that begins and every few seconds as long as it goes on.
    fn flowing(&self, now: Time, session: &RtcSession);
}

/// All that a proxy asks a load balancer.
pub trait OriginLoadBalancer: OriginService + HlsService + RtcService {
    /// Frees what has expired. Called now and then; nothing depends on it but memory.
    fn tick(&self, now: Time);
}

/// Asks a machine's question. `None`: the answer comes later.
pub fn ask(lb: &dyn OriginLoadBalancer, asker: &Asker, query: Query) -> Option<Answer> {
    fn answer<T>(outcome: Outcome<T>, now: impl FnOnce(T) -> Answer) -> Option<Answer> {
        match outcome {
            Outcome::Now(value) => Some(now(value)),
            Outcome::Later => None,
            Outcome::Refused(why) => Some(Answer::Refused(why)),
        }
    }
    match query {
        Query::Pick { key, need } => answer(lb.pick(asker, &key, need), Answer::Picked),
        Query::StoreHls(new) => {
            answer(lb.load_or_store_hls(asker, new), |session| Answer::Hls(Some(session)))
        }
        Query::LoadHls(spbhid) => answer(lb.load_hls(asker, &spbhid), Answer::Hls),
        Query::StoreRtc(new) => {
            let stored = new.clone();
            answer(lb.store_rtc(asker, new), |()| Answer::Rtc(Some(stored)))
        }
        Query::LoadRtc(ufrag) => answer(lb.load_rtc(asker, &ufrag), Answer::Rtc),
        Query::EndOfRtc(username) => answer(lb.end_of_rtc(asker, &username), |()| Answer::Rtc(None)),
        Query::Register(origin) => answer(lb.update(asker, origin), |()| Answer::Registered),
        Query::Origins => answer(lb.origins(asker), Answer::Origins),
        Query::Drain { origin, on } => answer(lb.drain(asker, &origin, on), Answer::Known),
        Query::Deregister(origin) => answer(lb.deregister(asker, &origin), Answer::Known),
    }
}

/// Passes on a machine's report.
pub fn tell(lb: &dyn OriginLoadBalancer, now: Time, report: &Report) {
    match report {
        Report::Unreachable(origin, protocol) => lb.unreachable(now, origin, *protocol),
        Report::Playing(key) => lb.playing(now, key),
        Report::Publishing(key, origin) => lb.publishing(now, key, origin),
        Report::Ended(key, origin) => lb.ended(now, key, origin),
        Report::Flowing(session) => lb.flowing(now, session),
        Report::Left(key, resource) => lb.leave(now, key, resource),
    }
}

/// The list of origins as it is shown: by id, and each with its streams in order.
fn in_order(mut origins: Vec<OriginStatus>) -> Vec<OriginStatus> {
    for status in &mut origins {
        status.streams.sort_unstable();
    }
    origins.sort_by_cached_key(|status| status.origin.id());
    origins
}
