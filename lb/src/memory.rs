//! The load balancer of a proxy that stands alone: all state in this process, every answer at once.
//!
//! One lock guards all of it. What is done under it is O(1) for a known stream or session and O(origins) for a
//! new stream; only the list of origins looks at every stream.

use crate::expiring::{Expiring, Full};
use crate::fleet::{Fleet, Member, Updated};
use crate::{Asker, HlsService, OriginLoadBalancer, OriginService, Outcome, RtcService, SESSION_LIFE};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{HlsSession, OriginStatus, Picked, Refusal, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long a stream that nobody published keeps its origin without a pick or a player: whoever asks for names
/// that do not exist shall not fill the table for long.
pub const CLAIM_LIFE: Duration = Duration::from_secs(60);

/// How long a stream that was published keeps its origin without a pick, player or publisher: long enough for an
/// encoder that reboots or a pause in a show, so that what the origin still holds of the stream is found again.
pub const STREAM_IDLE: Duration = Duration::from_secs(3600);

/// How long a publisher's word counts after it was last heard; it is heard every 20 s.
pub const PUBLISHER_FRESH: Duration = Duration::from_secs(60);

/// How many expired entries of each table one tick frees: about a millisecond's work.
const FREED_BY_TICK: usize = 4096;

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

/// The load balancer in memory.
pub struct Memory {
    state: Mutex<State>,
}

struct State {
    fleet: Fleet,
    /// Streams that were picked, but not published as far as we know.
    claims: Expiring<StreamKey, Home>,
    /// Streams that are or were published.
    streams: Expiring<StreamKey, Home>,
    hls: Expiring<Arc<str>, HlsSession>,
    /// The id of each stream's HLS session, which lives as long as the session.
    hls_ids: Expiring<StreamKey, Arc<str>>,
    rtc: Expiring<Arc<str>, RtcSession>,
}

/// Where a stream is.
#[derive(Clone, Copy, Debug)]
struct Home {
    member: Member,
    /// When its publisher was last heard of there.
    published: Option<Time>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// An empty load balancer. An origin is alive for `ttl` after a heartbeat; `seed` decides the choices.
    pub fn new(ttl: Duration, limits: Limits, seed: u64) -> Self {
        let state = State {
            fleet: Fleet::new(ttl, limits.origins, Pcg32::seed_from_u64(seed)),
            claims: Expiring::new(CLAIM_LIFE, limits.streams),
            streams: Expiring::new(STREAM_IDLE, limits.streams),
            hls: Expiring::new(SESSION_LIFE, limits.sessions),
            hls_ids: Expiring::new(SESSION_LIFE, limits.sessions),
            rtc: Expiring::new(SESSION_LIFE, limits.sessions),
        };
        Self { state: Mutex::new(state) }
    }

    /// Every change is whole when the lock is let go, so that a panic elsewhere spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl<T> From<Result<T, Refusal>> for Outcome<T> {
    fn from(result: Result<T, Refusal>) -> Self {
        result.map_or_else(Self::Refused, Self::Now)
    }
}

impl State {
    fn pick(&mut self, now: Time, key: &StreamKey, need: Protocol) -> Result<Picked, Refusal> {
        let home = self.home(now, key);
        let present = home.map(|home| home.member);
        if let Some(taken) = present.and_then(|member| self.fleet.take(now, member, need)) {
            // The stream is there and nowhere else: if its origin does not serve the protocol, none does.
            return taken.ok_or(Refusal::NoOrigin);
        }
        let (member, picked) = self.fleet.choose(now, need, present).ok_or(Refusal::NoOrigin)?;
        let published = home.filter(|home| home.member == member).and_then(|home| home.published);
        let was_published = self.streams.get(now, key).is_some();
        let table = if was_published { &mut self.streams } else { &mut self.claims };
        table.insert(now, key.clone(), Home { member, published })?;
        Ok(picked)
    }

    /// The stream's home, which is thereby used.
    fn home(&mut self, now: Time, key: &StreamKey) -> Option<Home> {
        let published = self.streams.get(now, key).copied();
        published.or_else(|| self.claims.get(now, key).copied())
    }

    fn publishing(&mut self, now: Time, key: &StreamKey, origin: &OriginId) {
        let Some(member) = self.fleet.usable(now, origin) else { return };
        // Of two publishers at two origins, the one that was first stays.
        let is_fresh = |home: &Home| home.published.is_some_and(|at| now.since(at) < PUBLISHER_FRESH);
        if self.home(now, key).is_some_and(|home| home.member != member && is_fresh(&home)) {
            return;
        }
        // With a table that is full, it stays a claim, which lives as long as its publisher is heard of.
        let home = Home { member, published: Some(now) };
        if self.streams.insert(now, key.clone(), home).is_ok() {
            self.claims.forget(key);
        }
    }

    fn load_or_store_hls(&mut self, now: Time, new: HlsSession) -> Result<HlsSession, Refusal> {
        if let Some(id) = self.hls_ids.get(now, &new.key)
            && let Some(session) = self.hls.get(now, id)
            && session.key == new.key
        {
            return Ok(session.clone());
        }
        self.hls.insert(now, Arc::clone(&new.spbhid), new.clone())?;
        self.hls_ids.insert(now, new.key.clone(), Arc::clone(&new.spbhid))?;
        Ok(new)
    }

    fn load_hls(&mut self, now: Time, spbhid: &str) -> Option<HlsSession> {
        let session = self.hls.get(now, spbhid)?;
        // By its id, too, a session is in use for its stream.
        self.hls_ids.get(now, &session.key);
        Some(session.clone())
    }
}

impl OriginService for Memory {
    fn update(&self, asker: &Asker, origin: Origin) -> Outcome<()> {
        let id = origin.id();
        let updated = self.state().fleet.update(asker.now, origin);
        match &updated {
            Ok(Updated::Heartbeat) => {}
            Ok(Updated::New) => log::info!("origin {id} registered"),
            Ok(Updated::Replaced(old)) => log::info!("origin {id} registered, replaces {old}"),
            Err(_) => log::warn!("origin {id} refused: too many origins"),
        }
        updated.map(|_| ()).into()
    }

    fn pick(&self, asker: &Asker, key: &StreamKey, need: Protocol) -> Outcome<Picked> {
        self.state().pick(asker.now, key, need).into()
    }

    fn unreachable(&self, now: Time, origin: &OriginId) {
        let pause = self.state().fleet.unreachable(now, origin);
        if let Some(pause) = pause {
            log::warn!("origin {origin} cannot be reached, left alone for {} s", pause.as_secs());
        }
    }

    fn playing(&self, now: Time, key: &StreamKey) {
        self.state().home(now, key);
    }

    fn publishing(&self, now: Time, key: &StreamKey, origin: &OriginId) {
        self.state().publishing(now, key, origin);
    }

    fn origins(&self, asker: &Asker) -> Outcome<Vec<OriginStatus>> {
        let state = self.state();
        let mut streams = HashMap::<_, Vec<_>>::new();
        for (key, home) in state.streams.iter(asker.now).chain(state.claims.iter(asker.now)) {
            streams.entry(home.member).or_default().push(key.clone());
        }
        let statuses = state.fleet.iter(asker.now).map(|(member, origin, health, age)| OriginStatus {
            origin: origin.clone(),
            health,
            heartbeat_age: u64::try_from(age.as_micros()).unwrap_or(u64::MAX),
            streams: streams.remove(&member).unwrap_or_default(),
        });
        let mut statuses: Vec<_> = statuses.collect();
        drop(state);
        for status in &mut statuses {
            status.streams.sort_unstable();
        }
        statuses.sort_by_cached_key(|status| status.origin.id());
        Outcome::Now(statuses)
    }
}

impl HlsService for Memory {
    fn load_or_store_hls(&self, asker: &Asker, new: HlsSession) -> Outcome<HlsSession> {
        self.state().load_or_store_hls(asker.now, new).into()
    }

    fn load_hls(&self, asker: &Asker, spbhid: &str) -> Outcome<Option<HlsSession>> {
        Outcome::Now(self.state().load_hls(asker.now, spbhid))
    }
}

impl RtcService for Memory {
    fn store_rtc(&self, asker: &Asker, session: RtcSession) -> Outcome<()> {
        let ufrag = Arc::clone(&session.ufrag);
        self.state().rtc.insert(asker.now, ufrag, session).map_err(Refusal::from).into()
    }

    fn load_rtc(&self, asker: &Asker, ufrag: &str) -> Outcome<Option<RtcSession>> {
        Outcome::Now(self.state().rtc.get(asker.now, ufrag).cloned())
    }

    fn flowing(&self, now: Time, session: &RtcSession) {
        let mut state = self.state();
        state.home(now, &session.key);
        // One that is known is thereby renewed; one that was lost comes back, if there is room.
        let _full = state.rtc.insert(now, Arc::clone(&session.ufrag), session.clone());
    }
}

impl OriginLoadBalancer for Memory {
    fn tick(&self, now: Time) {
        let mut state = self.state();
        state.claims.expire(now, FREED_BY_TICK);
        state.streams.expire(now, FREED_BY_TICK);
        state.hls.expire(now, FREED_BY_TICK);
        state.hls_ids.expire(now, FREED_BY_TICK);
        state.rtc.expire(now, FREED_BY_TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Setup, Subject};

    /// A load balancer in memory, in virtual time.
    struct InMemory {
        memory: Arc<Memory>,
        now: Time,
    }

    impl Subject for InMemory {
        fn balancer(&self) -> Arc<dyn OriginLoadBalancer> {
            Arc::clone(&self.memory) as _
        }

        fn now(&self) -> Time {
            self.now
        }

        fn advance(&mut self, by: Duration) {
            self.now = self.now + by;
        }
    }

    fn subject(setup: Setup) -> Box<dyn Subject> {
        let memory = Arc::new(Memory::new(setup.ttl, setup.limits, setup.seed));
        Box::new(InMemory { memory, now: Time::ZERO })
    }

    #[test]
    fn it_behaves_as_every_load_balancer_must() {
        conformance::run(&subject);
    }

    #[test]
    fn what_has_expired_is_gone_from_memory_after_a_tick() {
        let memory = Memory::new(Duration::from_secs(300), Limits::default(), 1);
        let mut state = memory.state();
        for n in 0..1000 {
            let key = StreamKey::new("", "live", &n.to_string()).unwrap();
            let id: Arc<str> = n.to_string().into();
            let hls = HlsSession { spbhid: Arc::clone(&id), key: key.clone(), full_url: "".into() };
            state.load_or_store_hls(Time::ZERO, hls).unwrap();
            state.rtc.insert(Time::ZERO, Arc::clone(&id), RtcSession { ufrag: id, key }).unwrap();
        }
        drop(state);
        memory.tick(Time::ZERO + SESSION_LIFE);
        let state = memory.state();
        for table in [format!("{:?}", state.hls), format!("{:?}", state.hls_ids), format!("{:?}", state.rtc)]
        {
            assert!(table.contains("index: {}"), "{table}");
        }
    }
}
