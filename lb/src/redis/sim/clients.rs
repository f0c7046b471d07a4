//! The clients of a world: what they ask, and the sessions that come of it. Judges nothing.

use super::world::{Event, REPORT, World};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{OriginId, Protocol};
use srs_proxy_core::query::{Answer, HlsSession, Need, Query, Report, RtcSession};
use srs_proxy_core::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Sessions of a world at once.
const SESSIONS: usize = 12;

pub(super) struct Stream {
    pub(super) key: StreamKey,
    /// Where the store had it, and from when on.
    pub(super) mapped: VecDeque<(Time, Option<OriginId>)>,
    /// When its mapping ends.
    pub(super) end: Time,
    /// Where the store had it published, and until when.
    pub(super) word: Option<(OriginId, Time)>,
}

impl Stream {
    pub(super) fn new(key: StreamKey) -> Self {
        Self { key, mapped: VecDeque::from([(Time::ZERO, None)]), end: Time::ZERO, word: None }
    }
}

/// A client whose media flows.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) stream: usize,
    pub(super) proxy: usize,
    pub(super) origin: OriginId,
    /// By what the client is connected to it.
    pub(super) protocol: Protocol,
    pub(super) kind: Kind,
    pub(super) since: Time,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Kind {
    Publish,
    Play,
    Flow(RtcSession),
}

/// A session of HLS or WebRTC that was stored or found.
pub(super) struct Known<T> {
    pub(super) session: T,
    pub(super) stored: Time,
    pub(super) used: Time,
}

#[derive(Default)]
pub(super) struct Sessions {
    pub(super) running: BTreeMap<u32, Session>,
    pub(super) hls: Vec<Known<HlsSession>>,
    pub(super) rtc: Vec<Known<RtcSession>>,
    /// WebRTC sessions that were left.
    left: BTreeSet<Arc<str>>,
    names: u32,
}

impl Sessions {
    fn name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    /// Who publishes a stream, and where.
    pub(super) fn publisher(&self, stream: usize) -> Option<&Session> {
        self.running.values().find(|session| session.stream == stream && session.kind == Kind::Publish)
    }
}

impl World {
    pub(super) fn client(&mut self) {
        if self.rules.is_over() || self.is_still {
            return;
        }
        let longest = if self.is_healed { 2000 } else { 400 };
        let pause = self.dice.millis(20, longest);
        self.after(pause, Event::Client);
        let (stream, proxy) = (self.dice.below(self.streams.len()), self.dice.below(self.proxies.len()));
        let key = self.streams[stream].key.clone();
        let query = match self.dice.below(12) {
            0 => {
                let spbhid = self.sessions.name().to_string().into();
                Query::StoreHls(HlsSession { spbhid, key, full_url: "".into() })
            }
            1 | 2 => {
                let which = self.dice.below(self.sessions.hls.len());
                let Some(known) = self.sessions.hls.get(which) else { return };
                Query::LoadHls(known.session.spbhid.clone())
            }
            3 => {
                let username: Arc<str> = self.sessions.name().to_string().into();
                Query::StoreRtc(RtcSession { resource: Arc::clone(&username), username, key })
            }
            4 | 5 => {
                let which = self.dice.below(self.sessions.rtc.len());
                let Some(known) = self.sessions.rtc.get(which) else { return };
                Query::LoadRtc(known.session.username.clone())
            }
            6 if !self.is_healed => {
                let which = self.dice.below(self.sessions.running.len());
                let ended = self.sessions.running.keys().nth(which).copied();
                let is_ended = |name, _: &Session| Some(name) == ended;
                let flow = ended.and_then(|name| match self.sessions.running.get(&name) {
                    Some(Session { proxy, kind: Kind::Flow(session), .. }) => Some((*proxy, session.clone())),
                    _ => None,
                });
                self.cut_off(&is_ended);
                if let Some((proxy, session)) = flow {
                    self.leave(proxy, session);
                }
                return;
            }
            _ => {
                let protocol =
                    [Protocol::Rtmp, Protocol::Rtmp, Protocol::Http, Protocol::Rtc][self.dice.below(4)];
                let publishes = !self.is_healed && self.dice.percent(30);
                if publishes {
                    self.rules.wants.insert(stream, self.now);
                }
                Query::Pick { key, need: Need { publishes, ..Need::to_play(protocol) } }
            }
        };
        self.ask(proxy, query);
    }

    /// What a client does with an answer.
    pub(super) fn react(&mut self, proxy: usize, query: &Query, answer: &Answer) {
        match (query, answer) {
            (Query::Pick { key, need }, Answer::Picked(picked)) => {
                self.connect(proxy, key, *need, &picked.origin);
            }
            (Query::StoreHls(_) | Query::LoadHls(_), Answer::Hls(Some(session))) => {
                let known = &mut self.sessions.hls;
                used(known, self.now, session, |known| known.spbhid == session.spbhid);
            }
            // Another proxy may still know what was left at one.
            (_, Answer::Rtc(Some(session))) if self.sessions.left.contains(&session.username) => {}
            (Query::StoreRtc(_) | Query::LoadRtc(_), Answer::Rtc(Some(session))) => {
                used(&mut self.sessions.rtc, self.now, session, |known| known.username == session.username);
            }
            _ => {}
        }
    }

    fn connect(&mut self, proxy: usize, key: &StreamKey, need: Need, origin: &OriginId) {
        let protocol = need.protocol;
        if !self.reaches(proxy, origin, protocol) {
            let pause = self.dice.millis(0, 1500);
            let life = self.proxies[proxy].life;
            return self.after(pause, Event::Mourn(proxy, life, origin.clone(), protocol));
        }
        let is_free = self.sessions.publisher(self.stream(key)).is_none();
        match self.dice.below(2) {
            _ if need.publishes && is_free && !self.is_healed => {
                self.begin(proxy, key, protocol, origin, Kind::Publish);
            }
            // An origin takes no second one.
            _ if need.publishes => {}
            0 => self.begin(proxy, key, protocol, origin, Kind::Play),
            _ => {
                let known = self.sessions.rtc.iter().rev().find(|known| known.session.key == *key);
                if let Some(session) = known.map(|known| known.session.clone()) {
                    self.begin(proxy, key, protocol, origin, Kind::Flow(session));
                }
            }
        }
    }

    /// Media flows.
    fn begin(&mut self, proxy: usize, key: &StreamKey, protocol: Protocol, origin: &OriginId, kind: Kind) {
        if self.sessions.running.len() >= SESSIONS || self.rules.is_over() {
            return;
        }
        let name = self.sessions.name();
        let (stream, origin, since) = (self.stream(key), origin.clone(), self.now);
        self.sessions.running.insert(name, Session { stream, proxy, origin, protocol, kind, since });
        // Not within the question that led here.
        self.after(srs_proxy_core::time::Duration::ZERO, Event::Report(name));
    }

    /// A client of WebRTC says goodbye at one proxy, perhaps not the one where it began.
    fn leave(&mut self, proxy: usize, session: RtcSession) {
        self.sessions.rtc.retain(|known| known.session.username != session.username);
        self.sessions.left.insert(session.username);
        self.tell(proxy, &Report::Left(session.key, session.resource));
    }

    /// A session tells that it goes on.
    pub(super) fn report(&mut self, name: u32) {
        let running = self.sessions.running.get(&name).filter(|_| !self.rules.is_over());
        let Some(session) = running.cloned() else { return };
        let (proxy, key) = (session.proxy, self.streams[session.stream].key.clone());
        let report = match &session.kind {
            Kind::Publish => Report::Publishing(key, session.origin.clone()),
            Kind::Play => Report::Playing(key),
            Kind::Flow(session) => {
                self.tell(proxy, &Report::Flowing(session.clone()));
                Report::Playing(key)
            }
        };
        if session.kind == Kind::Publish {
            self.rules.told.insert((session.stream, session.origin.clone()), self.now);
        }
        self.tell(proxy, &report);
        self.after(REPORT, Event::Report(name));
    }

    /// These sessions end.
    pub(super) fn cut_off(&mut self, these: &dyn Fn(u32, &Session) -> bool) {
        let ended = self.sessions.running.extract_if(.., |name, session| these(*name, session));
        for (_, session) in ended.collect::<Vec<_>>() {
            if session.kind == Kind::Publish {
                let key = self.streams[session.stream].key.clone();
                let (proxy, life) = (session.proxy, self.proxies[session.proxy].life);
                let event = Event::Ended(proxy, life, Report::Ended(key, session.origin));
                self.after(srs_proxy_core::time::Duration::ZERO, event);
            }
        }
    }

    pub(super) fn stream(&self, key: &StreamKey) -> usize {
        self.streams.iter().position(|stream| stream.key == *key).expect("a stream")
    }
}

fn used<T: Clone>(all: &mut Vec<Known<T>>, now: Time, session: &T, is: impl Fn(&T) -> bool) {
    match all.iter_mut().find(|known| is(&known.session)) {
        Some(known) => known.used = now,
        None => all.push(Known { session: session.clone(), stored: now, used: now }),
    }
}
