//! Redis: the load balancer's desk, whatever it is asked and told, and the records in the store.

use super::Script;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{Origin, Protocol};
use srs_proxy_core::query::{Answer, HlsSession, Need, Query, Report, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_lb::redis::{
    Census, Command, FOREVER, FakeRedis, Keys, Load, Lost, Mappings, Mark, PATIENCE, RedisClient, Reply, Rig,
    rewrite,
};
use srs_proxy_lb::{Limits, Policy, Setup};

/// What is read as a record can be written, and what is written reads the same.
pub fn redis_records(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for written in rewrite(text) {
        assert_eq!(rewrite(&written).first(), Some(&written), "what was written reads otherwise");
    }
}

/// How much the desk holds: so little that a story of a few deeds fills it.
const LIMITS: Limits = Limits { origins: 4, streams: 6, sessions: 6 };

fn key(n: u8) -> StreamKey {
    StreamKey::new("", "live", &(n % 8).to_string()).expect("a key")
}

/// Four lives of each of some servers.
fn origin(n: u8) -> Origin {
    let all = [Protocol::Rtmp, Protocol::Http, Protocol::Rtc];
    let served = if n.is_multiple_of(5) { &all[..1] } else { &all };
    Origin {
        device_id: "".into(),
        server: format!("o{}", n % 8 / 4).into(),
        service: "s".into(),
        pid: (n % 4).to_string().into(),
        endpoints: served.iter().map(|protocol| (*protocol, ([10, 0, 0, n], 1935).into())).collect(),
    }
}

fn hls(n: u8) -> HlsSession {
    HlsSession { spbhid: (n % 16).to_string().into(), key: key(n), full_url: "".into() }
}

fn rtc(n: u8) -> RtcSession {
    let resource = if n < 64 { "" } else { ["/1", "/2"][usize::from(n % 2)] };
    RtcSession { username: format!("{}:c", n % 16).into(), key: key(n), resource: resource.into() }
}

/// A store that says what a script says.
struct Liar<'a, 'b> {
    script: &'a mut Script<'b>,
    keys: &'a Keys,
    truth: Box<dyn RedisClient>,
}

impl Liar<'_, '_> {
    fn text(&mut self, kind: u8) -> String {
        let n = self.script.byte().unwrap_or(0);
        let id = origin(n).id();
        let (stream, name) = (key(n), n % 16);
        match kind % 8 {
            0 => String::from_utf8_lossy(self.script.bytes().unwrap_or(&[])).into_owned(),
            1 => self.keys.server(id),
            2 => id.as_str().to_owned(),
            3 => Keys::default().server(id),
            4 => format!(
                r#"{{"ip":"10.0.0.1","server_id":"o{}","service_id":"s","pid":"{}","rtmp":["1"]}}"#,
                n % 3,
                n % 4
            ),
            5 => format!(r#"{{"spbhid":"{name}","stream_url":"{stream}","full_url":""}}"#),
            6 => format!(r#"{{"stream_url":"{stream}","ufrag":"{name}:c"}}"#),
            _ => self.keys.url(stream),
        }
    }

    fn census(&mut self) -> Census {
        let what = self.script.byte().unwrap_or(0);
        let life = |n: u8| match n {
            255 => FOREVER,
            n => std::time::Duration::from_millis(u64::from(n) * 100),
        };
        let mark = |n: u8| match n % 4 {
            0 => Mark::Draining,
            1 => Mark::Gone,
            _ => Mark::Trouble(Protocol::ALL[usize::from(n / 4 % 5)], u32::MAX >> (n / 8)),
        };
        let registrations = (0..what % 6).map(|n| (self.text(what / 32 + 4 * (n % 2)), life(what))).collect();
        let marks = (0..what % 3).map(|n| (self.text(2), mark(what + n), life(what))).collect();
        let loads = (0..what % 3).map(|_| (self.text(2), u32::MAX)).collect();
        let (has_list, knows_us, is_full) = (what < 200, what & 7 > 0, what & 24 == 24);
        Census { has_list, knows_us, is_full, registrations, marks, loads }
    }

    fn reply(&mut self) -> Reply {
        match self.script.byte().unwrap_or(0) {
            n @ 0..=127 => Reply::Value(Some(self.text(n))),
            128..=159 => Reply::Value(None),
            160..=183 => Reply::Done,
            192..=199 => Reply::Failed("OOM command not allowed".to_owned()),
            200..=207 => Reply::Mapped { held: self.text(1), is_new: true, stays: false },
            208..=215 => Reply::Failed(self.text(0)),
            184..=191 => Reply::Met(Some((self.text(4), FOREVER))),
            216..=223 => Reply::Published { publisher: self.text(2), held: self.text(1) },
            224..=255 => Reply::Census(self.census()),
        }
    }
}

impl RedisClient for Liar<'_, '_> {
    fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
        let mut replies = self.truth.run(commands)?;
        match self.script.byte().unwrap_or(0) {
            0..=99 => {}
            100..=199 => {
                for reply in &mut replies {
                    if self.script.byte().is_some_and(|is_lie| is_lie % 2 == 1) {
                        *reply = self.reply();
                    }
                }
            }
            200..=219 => drop(replies.pop()),
            220..=235 => replies.push(self.reply()),
            236..=255 => return Err(Lost(String::new())),
        }
        Ok(replies)
    }
}

/// Anything may be asked and said in any order: each question is answered once and in time, and what is held is bounded.
pub fn redis_desk(bytes: &[u8]) {
    let mut script = Script(bytes);
    let keys = Keys::new(if bytes.len().is_multiple_of(2) { "eu" } else { "" });
    let store = FakeRedis::new(keys.clone());
    let mappings = if bytes.len().is_multiple_of(3) { Mappings::Stay } else { Mappings::End };
    let policy = [Policy::Random, Policy::LeastStreams, Policy::Rendezvous][bytes.len() % 3];
    let setup = Setup { limits: LIMITS, policy, seed: 7, ttl: Duration::from_secs(10), ..Setup::default() };
    let mut now = Time::ZERO;
    let mut liar = Liar { script: &mut script, keys: &keys, truth: store.client() };
    let Ok(mut rig) = Rig::start(now, &setup, mappings, keys.clone(), &mut liar) else { return };
    while let Some(deed) = script.byte() {
        let n = script.byte().unwrap_or(0);
        match deed % 21 {
            0..=2 => {
                let need = [Protocol::Rtmp, Protocol::Http, Protocol::Rtc][usize::from(deed % 21)];
                rig.ask(
                    now,
                    Query::Pick { key: key(n), need: Need { publishes: n > 200, ..Need::to_play(need) } },
                );
            }
            3 | 4 => drop(rig.ask(now, Query::Register(origin(n)))),
            5 => drop(rig.ask(now, Query::StoreHls(hls(n)))),
            6 => drop(rig.ask(now, Query::LoadHls(hls(n).spbhid))),
            7 => drop(rig.ask(now, Query::StoreRtc(rtc(n)))),
            8 => drop(rig.ask(now, Query::LoadRtc(rtc(n).username))),
            9 => drop(rig.ask(now, Query::Drain { origin: origin(n).id(), on: n < 128 })),
            10 => drop(rig.ask(now, Query::Deregister(origin(n).id()))),
            11 => rig.tell(now, &Report::Unreachable(origin(n).id(), Protocol::ALL[usize::from(n / 8 % 5)])),
            12 => rig.tell(now, &Report::Playing(key(n))),
            13 => rig.tell(now, &Report::Publishing(key(n), origin(n / 8).id())),
            14 => rig.tell(now, &Report::Flowing(rtc(n))),
            20 => rig.tell(now, &Report::Ended(key(n), origin(n / 8).id())),
            15 => {
                let by = Duration::from_millis(u64::from(n) * 20);
                store.advance(by);
                now = now + by;
                rig.tick(now);
            }
            16 if n < 128 => store.set_away(n.is_multiple_of(2)),
            16 => store.set_full(n.is_multiple_of(2)),
            17 => rig.lose(now),
            18 if n < 128 => drop(rig.ask(now, Query::EndOfRtc(rtc(n).username))),
            18 => {
                let RtcSession { key, resource, .. } = rtc(n);
                rig.tell(now, &Report::Left(key, resource));
            }
            _ => {
                rig.send(now);
                let mut liar = Liar { script: &mut script, keys: &keys, truth: store.client() };
                rig.run(&mut liar);
                rig.hear(now);
            }
        }
        rig.answers();
        rig.audit(now);
        let (_, Some(Answer::Origins(origins))) = rig.ask(now, Query::Origins) else { panic!("no origins") };
        let streams: usize = origins.iter().map(|status| status.streams.len()).sum();
        assert!(origins.len() <= LIMITS.origins && streams <= 2 * LIMITS.streams);
    }
    rig.tick(now + PATIENCE);
    rig.answers();
    assert_eq!(rig.oldest(), None, "nobody waits for longer");
    rig.lose(now + PATIENCE);
    rig.audit(now + PATIENCE);
    let is_done = (0..100).any(|_| {
        now = now + Duration::from_secs(6);
        rig.send(now);
        store.set_away(false);
        store.set_full(false);
        rig.run(&mut *store.client());
        rig.hear(now);
        rig.audit(now) == Load::default()
    });
    assert!(is_done, "it comes to rest");
}
