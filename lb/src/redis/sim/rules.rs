//! What must hold in every world. Changes nothing in it but its own notes.

use super::clients::Known;
use super::weather::SLOW;
use super::world::{Event, TICK, World, is_recent};
use crate::SESSION_LIFE;
use crate::redis::{Load, PATIENCE};
use crate::view::{PUBLISHER_FRESH, STREAM_IDLE};
use srs_proxy_core::origin::{OriginId, Protocol};
use srs_proxy_core::query::{Answer, Need, Query, Refusal};
use srs_proxy_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// After a fault of the store: the longest pause before a proxy tries again, a census, what was known a moment ago.
const CALM: Duration = Duration::from_secs(8);
/// After a fault of the store: every session has reported once more.
const RENEWED: Duration = Duration::from_secs(30);
/// For how long a publisher's word may stand in the way of another's: its life, and the other's next report.
const RIVALRY: Duration = Duration::from_secs(60 + 20);
/// From what moved a stream until the store knows.
const CAUSE: Duration = Duration::from_secs(3);
/// How long a session lives at least after its last use: what counts is its last renewal, and one may be lost with its
/// proxy.
const IN_USE: Duration = Duration::from_secs(85);

#[derive(Default)]
pub(super) struct Rules {
    /// When something was last wrong with the store.
    rough: Time,
    /// When it was last full.
    full: Time,
    /// When some proxy last found an origin not usable.
    doubts: HashMap<OriginId, Time>,
    /// Origins that were deregistered. They may have come back, but who was there is counted there no more.
    pub(super) gone: HashSet<OriginId>,
    /// When a publisher last reported.
    pub(super) told: HashMap<(usize, OriginId), Time>,
    /// When somebody last asked for a stream to publish it.
    pub(super) wants: HashMap<usize, Time>,
    /// What all proxies say in the end.
    polled: Option<BTreeMap<usize, BTreeSet<String>>>,
    is_over: bool,
}

impl Rules {
    /// Whether nobody does anything any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }
}

impl World {
    /// Something is wrong with the store.
    pub(super) fn be_rough(&mut self) {
        self.rules.rough = self.now;
        if self.weather.is_full() {
            self.rules.full = self.now;
        }
    }

    /// Notes who is in doubt at a proxy.
    pub(super) fn doubt(&mut self, proxy: usize) {
        let Some(rig) = &self.proxies[proxy].rig else { return };
        for stream in &self.streams {
            if let Some((_, Some(origin))) = stream.mapped.back() {
                let server = origin.as_str().split('-').next().unwrap_or_default();
                let is_usable = rig.look(self.now, |view| match view.fleet.find(origin) {
                    Some(_) => Some(view.fleet.usable(self.now, origin).is_some()),
                    // It lives another life there.
                    None => view.fleet.has(server).then_some(false),
                });
                if !is_usable.unwrap_or_else(|| self.store.get(&self.keys.server(origin.as_str())).is_some())
                {
                    self.rules.doubts.insert(origin.clone(), self.now);
                }
            }
        }
    }

    /// Where the store has a stream.
    pub(super) fn mapped(&self, stream: usize) -> Option<&OriginId> {
        self.streams[stream].mapped.back()?.1.as_ref()
    }

    /// The store was written: what moved had a reason, and what is in use is there.
    pub(super) fn note(&mut self) {
        if self.weather.is_rough() {
            self.be_rough();
        }
        let calm = self.now.since(self.rules.rough);
        for n in 0..self.streams.len() {
            let url = self.keys.url(&self.streams[n].key);
            let held = self.store.get(&url);
            let held = held.and_then(|held| self.keys.id_of(&held).map(OriginId::from_text));
            let before = self.mapped(n).cloned();
            if calm >= CALM && held != before && before.is_some() && self.now < self.streams[n].end {
                self.check_move(n, before.as_ref(), held.as_ref());
            }
            if calm >= RENEWED && held.is_none() {
                let mut users = self.sessions.running.values().filter(|session| session.stream == n);
                let user = users.find(|session| {
                    before.as_ref() == Some(&session.origin) && !self.rules.gone.contains(&session.origin)
                });
                assert!(user.is_none(), "stream {n} is in use at {before:?}, and its mapping ends");
            }
            if calm >= CALM {
                self.check_given_back(n, held.as_ref());
            }
            let left = self.store.ttl(&url).flatten().unwrap_or_default();
            let publisher = self.keys.publisher(&self.streams[n].key);
            let word = self.store.get(&publisher).map(|id| OriginId::from_text(id.as_str()));
            let word_left = self.store.ttl(&publisher).flatten().unwrap_or_default();
            let (now, stream) = (self.now, &mut self.streams[n]);
            stream.end = now + left;
            stream.word = word.map(|word| (word, now + word_left));
            if held != before {
                stream.mapped.push_back((now, held));
                while stream.mapped.get(1).is_some_and(|(since, _)| !is_recent(now, *since)) {
                    stream.mapped.pop_front();
                }
            }
        }
    }

    fn check_move(&self, stream: usize, from: Option<&OriginId>, to: Option<&OriginId>) {
        let was = |at: Option<&Time>| at.is_some_and(|at| self.now.since(*at) <= CAUSE);
        let is_doubted = from.is_some_and(|from| was(self.rules.doubts.get(from)));
        let is_published = to.is_some_and(|to| was(self.rules.told.get(&(stream, to.clone()))));
        assert!(is_doubted || is_published, "stream {stream} moves from {from:?} to {to:?} without a reason");
        // A stream that is published moves only with another publisher.
        let Some(publisher) = self.sessions.publisher(stream) else { return };
        let is_said = self.streams[stream]
            .word
            .as_ref()
            .is_some_and(|(at, end)| at == &publisher.origin && *end > self.now);
        let is_there = from == Some(&publisher.origin) && !self.rules.gone.contains(&publisher.origin);
        let is_reached = self.reaches(publisher.proxy, &publisher.origin, publisher.protocol);
        let is_wanted = was(self.rules.wants.get(&stream));
        assert!(
            is_wanted || !is_said || !is_there || !is_reached,
            "stream {stream} moves from {from:?}, where it is published, to {to:?}"
        );
    }

    /// A stream whose publisher has run undisturbed through faults of the store is where it was, seconds after them.
    fn check_given_back(&self, stream: usize, held: Option<&OriginId>) {
        let Some(publisher) = self.sessions.publisher(stream) else { return };
        let origin = &publisher.origin;
        let lately = |at: &Time| self.now.since(*at) <= RIVALRY;
        let is_gone = self.rules.gone.contains(origin);
        // Somebody may have taken it elsewhere to publish it there, from where its origin is not reached.
        let is_wanted = self.rules.wants.get(&stream).is_some_and(lately);
        let mut told = self.rules.told.iter().filter(|((told, _), at)| *told == stream && lately(at));
        let has_rival = told.any(|((_, at), _)| at != origin);
        // A full store takes no word, and the next comes with the next report.
        let was_full = lately(&self.rules.full) && self.rules.full > Time::ZERO;
        let is_new = self.now.since(publisher.since) <= CALM || publisher.since >= self.rules.rough;
        if !is_gone && !is_wanted && !has_rival && !was_full && !is_new {
            assert_eq!(held, Some(origin), "stream {stream} is published there");
        }
    }

    /// Nothing lives longer than it may.
    pub(super) fn check_lives(&self) {
        for (key, left) in self.store.lives() {
            let most = match key.trim_start_matches("eu:").split(':').next() {
                Some("srs-proxy-all-servers") => continue,
                Some("srs-proxy-server") => super::world::TTL,
                Some("srs-proxy-url") => STREAM_IDLE,
                Some("srs-proxy-publisher") => PUBLISHER_FRESH,
                _ => SESSION_LIFE,
            };
            assert!(left.is_some_and(|left| left <= most), "{key} lives for {left:?}");
        }
    }

    /// Nobody waits for too long.
    pub(super) fn overdue(&self, proxy: usize) {
        let oldest = self.proxies[proxy].rig.as_ref().and_then(|rig| rig.oldest());
        let waits = oldest.map(|oldest| self.now.since(oldest));
        assert!(waits.is_none_or(|waits| waits <= PATIENCE + TICK), "a question waits for {waits:?}");
    }

    /// Whether an answer may be given now.
    pub(super) fn judge(&mut self, proxy: usize, query: &Query, answer: &Answer) {
        if self.weather.is_rough() {
            self.be_rough();
        }
        if let (Some(polled), Query::Pick { key, need: Need { protocol: Protocol::Rtmp, .. } }) =
            (&mut self.rules.polled, query)
        {
            let stream = self.streams.iter().position(|stream| stream.key == *key).expect("a stream");
            let said = match answer {
                Answer::Picked(picked) => picked.origin.to_string(),
                other => format!("{other:?}"),
            };
            polled.entry(stream).or_default().insert(said);
        }
        let is_known = matches!(
            (query, answer),
            (Query::Pick { .. }, Answer::Picked(_) | Answer::Refused(_))
                | (Query::StoreHls(_), Answer::Hls(Some(_)))
                | (Query::LoadHls(_), Answer::Hls(_) | Answer::Refused(_))
                | (Query::StoreRtc(_), Answer::Rtc(Some(_)))
                | (Query::LoadRtc(_), Answer::Rtc(_) | Answer::Refused(_))
                | (Query::Register(_), Answer::Registered)
                | (Query::Drain { .. } | Query::Deregister(_), Answer::Known(_) | Answer::Refused(_))
        );
        assert!(is_known, "{query:?} is answered with {answer:?}");
        if self.now.since(self.rules.rough) < CALM {
            return;
        }
        let (now, rough) = (self.now, self.rules.rough);
        let is_refused = matches!(answer, Answer::Refused(Refusal::Unavailable | Refusal::Full));
        assert!(!is_refused, "{query:?} is refused by proxy {proxy}: {answer:?}");
        match (query, answer) {
            (Query::Pick { key, .. }, Answer::Picked(picked)) => {
                let mapped = &self.streams[self.stream(key)].mapped;
                let ends = mapped.iter().skip(1).map(|(since, _)| *since).chain([now]);
                let mut lately = mapped.iter().zip(ends).filter(|(_, end)| is_recent(now, *end));
                let was = lately.any(|((_, origin), _)| origin.as_ref() == Some(&picked.origin));
                assert!(was, "proxy {proxy} says {picked:?}, the store {mapped:?}");
            }
            (Query::StoreHls(_), Answer::Hls(Some(session))) => {
                let known = self.sessions.hls.iter().filter(|known| known.session.key == session.key);
                let (these, others): (Vec<_>, Vec<_>) =
                    known.partition(|known| known.session.spbhid == session.spbhid);
                let is_old = these.iter().any(|known| !lives(known, now, rough));
                let has_other = others.iter().any(|known| lives(known, now, rough));
                assert!(is_old || !has_other, "{session:?} besides another");
            }
            (Query::LoadHls(spbhid), Answer::Hls(None)) => {
                let known = self.sessions.hls.iter().find(|known| known.session.spbhid == *spbhid);
                assert!(!known.is_some_and(|known| lives(known, now, rough)), "{spbhid} is lost");
            }
            (Query::LoadRtc(ufrag), Answer::Rtc(None)) => {
                let known = self.sessions.rtc.iter().find(|known| known.session.username == *ufrag);
                assert!(!known.is_some_and(|known| lives(known, now, rough)), "{ufrag} is lost");
            }
            _ => {}
        }
    }

    /// Asks every proxy about every stream, for the last time.
    pub(super) fn poll(&mut self) {
        self.rules.polled = Some(BTreeMap::new());
        for proxy in 0..self.proxies.len() {
            for stream in 0..self.streams.len() {
                let key = self.streams[stream].key.clone();
                self.ask(proxy, Query::Pick { key, need: Need::to_play(Protocol::Rtmp) });
            }
        }
        self.after(SLOW * 4, Event::Hush);
    }

    pub(super) fn hush(&mut self) {
        self.rules.is_over = true;
    }

    /// All faults are long over, and nobody does anything.
    pub(super) fn conclude(self) {
        let polled = self.rules.polled.as_ref().expect("answers");
        assert_eq!(polled.len(), self.streams.len());
        for (stream, said) in polled {
            // Where nobody is left to serve it, those who remember more try more.
            let is_served = said.iter().any(|id| self.server_of(&OriginId::from_text(id.as_str())).is_some());
            assert!(said.len() == 1 || !is_served, "stream {stream}: {said:?}");
            if let Some(publisher) = self.sessions.publisher(*stream) {
                assert!(said.contains(publisher.origin.as_str()), "{} publishes: {said:?}", publisher.origin);
            }
        }
        let list = self.store.get(&self.keys.all_servers()).unwrap_or_default();
        for server in self.servers.iter().filter(|server| server.is_up) {
            let key = self.keys.server(server.origin().id());
            assert!(self.store.get(&key).is_some() && list.contains(&format!("{key:?}")), "{key} in {list}");
        }
        for proxy in self.proxies.iter().filter_map(|proxy| proxy.rig.as_ref()) {
            assert_eq!(proxy.audit(self.now), Load::default());
        }
    }
}

/// Whether a session must be known: nothing was wrong since long before it was stored, and it is in use.
fn lives<T>(known: &Known<T>, now: Time, rough: Time) -> bool {
    known.stored.since(rough) >= CALM && now.since(known.used) < IN_USE
}
