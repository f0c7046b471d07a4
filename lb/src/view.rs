//! What one proxy knows of origins, streams and sessions. All there is for a proxy that stands alone; what it has
//! seen lately of a shared store otherwise. Asks nobody and locks nothing.
//!
//! What is done with a known stream or session is O(1), with a new stream O(origins); only the list of origins
//! looks at every stream.

use crate::expiring::{Expiring, Full};
use crate::fleet::{Fleet, Member, Seat, Updated};
use crate::rtc::RtcTable;
use crate::{SESSION_LIFE, Setup};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{HlsSession, Need, OriginStatus, Picked, Refusal, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use std::collections::HashMap;
use std::sync::Arc;

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

#[derive(Debug)]
pub(crate) struct View {
    pub(crate) fleet: Fleet,
    /// Streams that were picked, but not published as far as we know.
    claims: Expiring<StreamKey, Home>,
    /// Streams that are or were published.
    streams: Expiring<StreamKey, Home>,
    /// Of those that were picked or published through this proxy: for as long as they are.
    seats: Expiring<StreamKey, Seat>,
    hls: Expiring<Arc<str>, HlsSession>,
    /// The id of each stream's HLS session, which lives as long as the session.
    hls_ids: Expiring<StreamKey, Arc<str>>,
    pub(crate) rtc: RtcTable,
}

/// Where a stream is.
#[derive(Debug)]
struct Home {
    member: Member,
    /// When its publisher was last heard of there.
    published: Option<Time>,
}

/// Where a stream is, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) member: Member,
    /// Whether its publisher was heard of there lately: then it is nowhere else.
    pub(crate) is_published: bool,
}

impl Home {
    /// Whether its publisher was heard of lately.
    fn is_fresh(&self, now: Time) -> bool {
        self.published.is_some_and(|at| now.since(at) < PUBLISHER_FRESH)
    }
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl View {
    /// Nothing is known yet.
    pub(crate) fn new(setup: &Setup) -> Self {
        let limits = setup.limits;
        Self {
            fleet: Fleet::new(setup),
            claims: Expiring::new(CLAIM_LIFE, limits.streams),
            streams: Expiring::new(STREAM_IDLE, limits.streams),
            seats: Expiring::new(PUBLISHER_FRESH.max(CLAIM_LIFE), limits.streams),
            hls: Expiring::new(SESSION_LIFE, limits.sessions),
            hls_ids: Expiring::new(SESSION_LIFE, limits.sessions),
            rtc: RtcTable::new(limits.sessions),
        }
    }

    /// Takes a registration or heartbeat.
    pub(crate) fn update(&mut self, now: Time, origin: Origin) -> Result<(), Refusal> {
        let id = origin.id();
        let updated = self.fleet.update(now, origin);
        match &updated {
            Ok(updated) => announce(&id, updated),
            Err(_) => log::warn!("origin {id} refused: too many origins"),
        }
        updated.map(|_| ())
    }

    /// Takes a registration out of a shared store, where it has `left` to live.
    pub(crate) fn learn(&mut self, now: Time, origin: Origin, left: Duration) {
        let id = origin.id();
        if let Some(updated) = self.fleet.learn(now, origin, left) {
            announce(&id, &updated);
        }
    }

    /// An origin did not take a connection. Returns how often in a row, and for how long it is left alone, if that is
    /// news.
    pub(crate) fn unreachable(
        &mut self,
        now: Time,
        origin: &OriginId,
        protocol: Protocol,
    ) -> Option<(u32, Duration)> {
        let (failures, pause) = self.fleet.unreachable(now, origin, protocol)?;
        log::warn!(
            "origin {origin} cannot be reached by {}, left alone for {} s",
            protocol.as_str(),
            pause.as_secs()
        );
        Some((failures, pause))
    }

    /// Begins or ends that an origin gets no new streams. Whether it is known.
    pub(crate) fn drain(&mut self, origin: &OriginId, on: bool) -> bool {
        let known = self.fleet.set_draining(origin, on);
        if known {
            log::info!(
                "origin {origin} {}",
                if on { "drains: no new streams" } else { "takes new streams again" }
            );
        }
        known
    }

    /// Forgets an origin. Whether it was known.
    pub(crate) fn deregister(&mut self, origin: &OriginId) -> bool {
        let known = self.fleet.forget(origin);
        if known {
            log::info!("origin {origin} deregistered");
        }
        known
    }

    pub(crate) fn pick(&mut self, now: Time, key: &StreamKey, need: Need) -> Result<Picked, Refusal> {
        if let Some(taken) = self.take(now, key, need) {
            return taken;
        }
        let place = self.place(now, key);
        let present = place.map(|place| place.member);
        let member = self.fleet.nominate(now, key, need, present).ok_or(Refusal::NoOrigin)?;
        let is_bound = place.is_some_and(|place| place.is_published && self.fleet.id(place.member).is_some());
        if is_bound && present != Some(member) && !need.publishes {
            // It is published where it is: no other origin has anything to play.
            return Err(Refusal::NoOrigin);
        }
        self.settle(now, key, member)?;
        self.seat(now, key, member);
        self.fleet.send(now, member, need).ok_or(Refusal::NoOrigin)
    }

    /// The answer to a client of a stream that stays where it is. `None` if another origin may be chosen.
    pub(crate) fn take(&mut self, now: Time, key: &StreamKey, need: Need) -> Option<Result<Picked, Refusal>> {
        let Place { member, is_published } = self.place(now, key)?;
        let stays = self.fleet.keeps(now, member, need, is_published);
        // The stream is there and nowhere else: if its origin does not serve the protocol, none does.
        stays.then(|| self.fleet.send(now, member, need).ok_or(Refusal::NoOrigin))
    }

    /// The stream is at this origin, wherever it was.
    pub(crate) fn settle(&mut self, now: Time, key: &StreamKey, member: Member) -> Result<(), Refusal> {
        self.fleet.id(member).ok_or(Refusal::NoOrigin)?;
        if self.seats.peek_mut(key).is_some_and(|seat| seat.member() != member) {
            self.seats.forget(key);
        }
        let was_published = self.streams.get(now, key).is_some();
        let table = if was_published { &mut self.streams } else { &mut self.claims };
        let before = table.get(now, key).filter(|home| home.member == member);
        let published = before.and_then(|home| home.published);
        Ok(table.insert(now, key.clone(), Home { member, published })?)
    }

    /// It has come there through this proxy.
    pub(crate) fn claimed(&mut self, now: Time, key: &StreamKey, origin: &OriginId) {
        if let Some(member) = self.fleet.find(origin) {
            self.seat(now, key, member);
        }
    }

    /// The stream counts there for a while. At other proxies, through which it did not come, it does not: each tells the
    /// others of its own.
    fn seat(&mut self, now: Time, key: &StreamKey, member: Member) {
        if self.seats.get(now, key).is_some_and(|seat| seat.member() == member) {
            return;
        }
        if let Some(seat) = self.fleet.seat(member) {
            // What finds no room is not counted.
            let _full = self.seats.insert(now, key.clone(), seat);
        }
    }

    /// The stream's home, which is thereby used.
    pub(crate) fn home(&mut self, now: Time, key: &StreamKey) -> Option<Member> {
        self.place(now, key).map(|place| place.member)
    }

    /// Where the stream is, which is thereby used.
    pub(crate) fn place(&mut self, now: Time, key: &StreamKey) -> Option<Place> {
        let published = self.streams.get(now, key);
        let home = published.or_else(|| {
            // As long as it is asked for and played it is not idle, published or not.
            self.seats.get(now, key);
            self.claims.get(now, key)
        })?;
        Some(Place { member: home.member, is_published: home.is_fresh(now) })
    }

    /// A stream is published there, or was when that was `heard`.
    pub(crate) fn publishing(&mut self, now: Time, heard: Time, key: &StreamKey, origin: &OriginId) {
        let Some(member) = self.fleet.find(origin) else { return };
        let place = self.place(now, key);
        if place.is_none_or(|place| place.member != member) {
            // Of two publishers at two origins, the one that was first stays, unless its origin is not usable any more.
            let other = place.filter(|place| place.is_published);
            let other = other.and_then(|place| self.fleet.id(place.member));
            let is_taken = other.is_some_and(|other| self.fleet.usable(now, other).is_some());
            if is_taken || self.fleet.usable(now, origin).is_none() {
                return;
            }
        }
        let home = self.streams.get(now, key);
        let before = home.filter(|home| home.member == member).and_then(|home| home.published);
        self.seat(now, key, member);
        // With a table that is full, it stays a claim, which lives as long as its publisher is heard of.
        let home = Home { member, published: before.max(Some(heard)) };
        if self.streams.insert(now, key.clone(), home).is_ok() {
            self.claims.forget(key);
        }
    }

    /// Its publisher there is gone.
    pub(crate) fn ended(&mut self, key: &StreamKey, origin: &OriginId) {
        for table in [&mut self.streams, &mut self.claims] {
            if let Some(home) = table.peek_mut(key)
                && self.fleet.id(home.member) == Some(origin)
            {
                home.published = None;
                self.seats.forget(key);
            }
        }
    }

    pub(crate) fn load_or_store_hls(&mut self, now: Time, new: HlsSession) -> Result<HlsSession, Refusal> {
        if let Some(session) = self.hls_of(now, &new.key) {
            return Ok(session);
        }
        self.store_hls(now, new.clone())?;
        Ok(new)
    }

    /// This is the stream's session, whatever was.
    pub(crate) fn store_hls(&mut self, now: Time, session: HlsSession) -> Result<(), Refusal> {
        self.hls_ids.insert(now, session.key.clone(), Arc::clone(&session.spbhid))?;
        self.learn_hls(now, session)
    }

    /// Keeps a session that was asked for by its id. Which one its stream gives to new clients is another matter.
    pub(crate) fn learn_hls(&mut self, now: Time, session: HlsSession) -> Result<(), Refusal> {
        Ok(self.hls.insert(now, Arc::clone(&session.spbhid), session)?)
    }

    /// The stream's session, which is thereby used.
    pub(crate) fn hls_of(&mut self, now: Time, key: &StreamKey) -> Option<HlsSession> {
        let session = self.hls.get(now, self.hls_ids.get(now, key)?)?;
        (session.key == *key).then(|| session.clone())
    }

    pub(crate) fn load_hls(&mut self, now: Time, spbhid: &str) -> Option<HlsSession> {
        let session = self.hls.get(now, spbhid)?;
        // By its id, too, a session is in use for its stream.
        self.hls_ids.get(now, &session.key);
        Some(session.clone())
    }

    pub(crate) fn store_rtc(&mut self, now: Time, session: RtcSession) -> Result<(), Refusal> {
        Ok(self.rtc.store(now, session)?)
    }

    pub(crate) fn flowing(&mut self, now: Time, session: &RtcSession) {
        // One that is known is thereby renewed; one that was lost comes back, if there is room.
        let _full = self.store_rtc(now, session.clone());
    }

    /// All origins and their streams, in no particular order.
    pub(crate) fn origins(&self, now: Time) -> Vec<OriginStatus> {
        let mut streams = HashMap::<_, Vec<_>>::new();
        for (key, home) in self.streams.iter(now).chain(self.claims.iter(now)) {
            streams.entry(home.member).or_default().push(key.clone());
        }
        let statuses = self.fleet.iter(now).map(|(member, origin, health, age)| OriginStatus {
            origin: origin.clone(),
            health,
            heartbeat_age: u64::try_from(age.as_micros()).unwrap_or(u64::MAX),
            streams: streams.remove(&member).unwrap_or_default(),
        });
        statuses.collect()
    }

    /// The streams whose publishers were heard of lately, where, and when.
    pub(crate) fn published(&self, now: Time) -> Vec<(StreamKey, OriginId, Time)> {
        let published = self.streams.iter(now).filter(|(_, home)| home.is_fresh(now));
        let at = |home: &Home| self.fleet.id(home.member).cloned();
        published.filter_map(|(key, home)| Some((key.clone(), at(home)?, home.published?))).collect()
    }

    /// All HLS sessions, and for how long they live if they are not used.
    pub(crate) fn all_hls(&self, now: Time) -> Vec<(HlsSession, Duration)> {
        self.hls.lives(now).map(|(session, left)| (session.clone(), left)).collect()
    }

    /// All WebRTC sessions, and for how long they live if they are not used.
    pub(crate) fn all_rtc(&self, now: Time) -> Vec<(RtcSession, Duration)> {
        self.rtc.lives(now).map(|(session, left)| (session.clone(), left)).collect()
    }

    /// Frees some of what has expired.
    pub(crate) fn expire(&mut self, now: Time) {
        self.fleet.expire(now);
        self.claims.expire(now, FREED_BY_TICK);
        self.streams.expire(now, FREED_BY_TICK);
        self.seats.expire(now, FREED_BY_TICK);
        self.hls.expire(now, FREED_BY_TICK);
        self.hls_ids.expire(now, FREED_BY_TICK);
        self.rtc.expire(now, FREED_BY_TICK);
    }
}

fn announce(id: &OriginId, updated: &Updated) {
    match updated {
        Updated::Heartbeat => {}
        Updated::New => log::info!("origin {id} registered"),
        Updated::Replaced(old) => log::info!("origin {id} registered, replaces {old}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(stream: &str) -> StreamKey {
        StreamKey::new("", "live", stream).unwrap()
    }

    #[test]
    fn streams_count_for_as_long_as_they_are_claimed_or_published() {
        let mut view = View::new(&Setup::default());
        let origin = Origin {
            device_id: "".into(),
            server: "a".into(),
            service: "s".into(),
            pid: "1".into(),
            endpoints: vec![(Protocol::Rtmp, ([127, 0, 0, 1], 1935).into())],
        };
        let id = origin.id();
        view.update(Time::ZERO, origin.clone()).unwrap();
        let need = Need::to_play(Protocol::Rtmp);
        for stream in ["asked", "played", "ended", "silent", "published"] {
            view.pick(Time::ZERO, &key(stream), need).unwrap();
        }
        for stream in ["ended", "silent", "published"] {
            view.publishing(Time::ZERO, Time::ZERO, &key(stream), &id);
        }
        let streams = |view: &View| view.fleet.loads().first().map_or(0, |(_, streams)| *streams);
        assert_eq!(streams(&view), 5);
        view.ended(&key("ended"), &OriginId::from_text("another"));
        assert_eq!(streams(&view), 5);
        view.ended(&key("ended"), &id);
        assert_eq!(streams(&view), 4);
        let mut now = Time::ZERO;
        for _ in 0..30 {
            now = now + Duration::from_secs(20);
            view.update(now, origin.clone()).unwrap();
            view.home(now, &key("played"));
            view.publishing(now, now, &key("published"), &id);
            view.expire(now);
        }
        assert_eq!(streams(&view), 2);
        // Those that were published are known for long, and somebody asks for them.
        view.pick(now, &key("ended"), need).unwrap();
        assert_eq!(streams(&view), 2);
        view.publishing(now, now, &key("ended"), &id);
        assert_eq!(streams(&view), 3);
    }

    #[test]
    fn what_has_expired_is_gone_from_memory_after_a_tick() {
        let mut view = View::new(&Setup::default());
        for n in 0..1000 {
            let key = StreamKey::new("", "live", &n.to_string()).unwrap();
            let id: Arc<str> = n.to_string().into();
            let hls = HlsSession { spbhid: Arc::clone(&id), key: key.clone(), full_url: "".into() };
            view.load_or_store_hls(Time::ZERO, hls).unwrap();
            view.store_rtc(Time::ZERO, RtcSession { username: Arc::clone(&id), key, resource: id }).unwrap();
        }
        view.expire(Time::ZERO + SESSION_LIFE);
        let tables = format!("{:?} {:?} {:?}", view.hls, view.hls_ids, view.rtc);
        assert_eq!(tables.matches("index: {}").count(), 4, "{tables}");
    }
}
