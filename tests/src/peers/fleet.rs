//! A fleet at work: two proxies that share a store, two origins, and a stream of each protocol with its players. It tells
//! whether anybody notices what is done to the store, and what becomes of who comes meanwhile.

use super::arrivals::{Watcher, wait_arrivals};
use super::http;
use super::nms::NodeMediaServer;
use super::proxy::Proxy;
use super::session::Session;
use super::srt::{SrtOrigin, playing, publishing};
use super::srt_callers::{Caller, Callers};
use super::{PATIENCE, ffmpeg, wait_for, wait_until};
use crate::rtmp::ClientScript;
use std::time::{Duration, Instant};

/// How soon all proxies know what one is told: they look once a second, and another one is a busy machine's. A requirement;
/// who only sets up a fleet has [`wait_known`].
pub const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// Within this a question is answered or refused, whatever the store does. A requirement: a proxy waits 0.9 s for it at most.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How much longer than without a store a gap between arrivals may be, on a busy machine: below the time that a proxy waits
/// for its store.
pub const JITTER: Duration = Duration::from_millis(450);

/// The key of the stream that runs all the time.
pub const KEY: &str = "__defaultVhost__/live/x";

/// Arrivals of some seconds: the film has 25 pictures and 43 pieces of sound in one.
const SOME_SECONDS: u64 = 170;

/// An origin of RTMP, FLV and SRT.
#[derive(Debug)]
struct Origin {
    media: NodeMediaServer,
    srt: SrtOrigin,
}

/// The fleet. Its origins are `0` and `1`, each registered at the proxy of that number; the stream `live/x` is published
/// at the first proxy and has players of RTMP and FLV at both; `live/srt` is published at the first and played at the
/// second.
#[derive(Debug)]
pub struct Fleet {
    proxies: [Proxy; 2],
    watchers: Vec<Watcher>,
    /// Players of each protocol through a proxy that has no store: what they wait for, no store is to blame for.
    storeless: [Watcher; 2],
    callers: Callers,
    /// The longest gap of each player when all was well.
    usual: Vec<Duration>,
    _publisher: ffmpeg::Publisher,
    _origins: [Origin; 2],
    _alone: Proxy,
}

/// Waits until each of these proxies knows so many origins, as they must before a test begins.
#[track_caller]
pub fn wait_known(proxies: &[Proxy], origins: usize) {
    for proxy in proxies {
        wait_until("every proxy knows all origins", PATIENCE, || proxy.origins().len() == origins);
    }
}

impl Fleet {
    /// Starts all, and watches it for some seconds.
    #[track_caller]
    pub fn start(proxies: [Proxy; 2]) -> Self {
        let origins = [(); 2].map(|()| Origin { media: NodeMediaServer::start(), srt: SrtOrigin::start() });
        for (n, Origin { media, srt }) in origins.iter().enumerate() {
            let more = [("http", media.http()), ("srt", srt.addr())];
            proxies[n].register_serving(&n.to_string(), "1", media.rtmp(), &more);
        }
        wait_known(&proxies, origins.len());
        let publisher = ffmpeg::Publisher::start(&proxies[0].url("live/x"));
        let watchers = proxies.iter().flat_map(|proxy| {
            [Watcher::rtmp(proxy.rtmp(), "live", "x"), Watcher::http(proxy.http(), "/live/x.flv")]
        });
        let watchers = watchers.collect();
        let holders = proxies[0].holders(KEY);
        let home = &origins[usize::from(holders == ["1"])].media;
        let alone = Proxy::with(&[("PROXY_WORKERS", "2")]);
        alone.register_serving("home", "1", home.rtmp(), &[("http", home.http())]);
        let storeless =
            [Watcher::rtmp(alone.rtmp(), "live", "x"), Watcher::http(alone.http(), "/live/x.flv")];
        let mut callers = Callers::start(&[
            Caller::publisher("p", proxies[0].srt(), publishing("live/srt")),
            Caller::player("v", proxies[1].srt(), playing("live/srt")),
        ]);
        callers.wait_connected();
        let usual = Vec::new();
        let mut fleet = Self {
            proxies,
            watchers,
            storeless,
            callers,
            usual,
            _publisher: publisher,
            _origins: origins,
            _alone: alone,
        };
        fleet.usual = fleet.watch("before");
        fleet
    }

    /// The proxies.
    pub fn proxies(&self) -> &[Proxy; 2] {
        &self.proxies
    }

    /// Watches for some seconds. Media must arrive everywhere, and nobody may wait longer for it than when all was well, or
    /// than without a store meanwhile, but for what a busy machine adds.
    #[track_caller]
    pub fn assert_no_stall(&mut self, when: &str) {
        for (n, gap) in self.watch(when).into_iter().enumerate() {
            let (name, usual) = (self.watchers[n].name(), self.usual[n]);
            assert!(
                gap < usual + JITTER,
                "{when}, {name}: {gap:?} more without media than without a store, before {usual:?}"
            );
        }
    }

    /// Waits some seconds, in which media must arrive everywhere; gives by how much the longest gap of each player, since it
    /// was last asked, is longer than that of the one of its protocol without a store.
    #[track_caller]
    fn watch(&mut self, when: &str) -> Vec<Duration> {
        self.callers.wait_flow(&["v"], 1);
        wait_arrivals(&self.watchers, SOME_SECONDS);
        wait_arrivals(&self.storeless, 1);
        let longest = |watcher: &Watcher| {
            let gaps = watcher.take();
            println!("{when}: {}: {gaps}", watcher.name());
            gaps.longest()
        };
        let storeless = self.storeless.each_ref().map(longest);
        // RTMP and HTTP by turns, as those.
        let gaps = self.watchers.iter().zip(storeless.iter().cycle());
        gaps.map(|(watcher, storeless)| longest(watcher).saturating_sub(*storeless)).collect()
    }

    /// What is known is found at once, at both proxies.
    #[track_caller]
    pub fn assert_known_is_found(&self) {
        for proxy in &self.proxies {
            let asked = Instant::now();
            drop(Watcher::http(proxy.http(), "/live/x.flv"));
            let http = asked.elapsed();
            let asked = Instant::now();
            drop(Watcher::rtmp(proxy.rtmp(), "live", "x"));
            let rtmp = asked.elapsed();
            println!("a known stream: HTTP after {http:?}, RTMP after {rtmp:?}");
            assert!(http < ANSWERED_WITHIN && rtmp < ANSWERED_WITHIN, "HTTP {http:?}, RTMP {rtmp:?}");
        }
    }

    /// What is new is refused at once, at both proxies, in the form of its protocol.
    #[track_caller]
    pub fn assert_new_is_refused(&self, name: &str) {
        for (n, proxy) in self.proxies.iter().enumerate() {
            let asked = Instant::now();
            let answer = http::get(proxy.http(), &format!("/live/{name}-http{n}.flv")).expect("an answer");
            let http = asked.elapsed();
            assert_eq!(answer.status, 503, "{}", answer.body);
            for script in [
                ClientScript::publish("live", &format!("{name}-publish{n}")),
                ClientScript::play("live", &format!("{name}-play{n}")),
            ] {
                let asked = Instant::now();
                let mut session = Session::start(proxy.rtmp(), script);
                session.wait("a refusal", PATIENCE, |session| session.refusal().is_some());
                let rtmp = asked.elapsed();
                println!("a new stream: HTTP after {http:?}, RTMP after {rtmp:?}: {:?}", session.refusal());
                assert!(http < ANSWERED_WITHIN && rtmp < ANSWERED_WITHIN, "HTTP {http:?}, RTMP {rtmp:?}");
            }
        }
    }

    /// What is new finds an origin, sooner or later before the deadline, and the other proxy finds it there at once.
    #[track_caller]
    pub fn assert_new_works(&self, name: &str, deadline: Duration) {
        let asked = Instant::now();
        let _publisher = wait_for("a new stream can be published", deadline, || {
            begin(&self.proxies[0], ClientScript::publish("live", name))
        });
        println!("{name} is published after {:?}", asked.elapsed());
        let key = format!("__defaultVhost__/live/{name}");
        let holders = self.proxies[0].holders(&key);
        assert_eq!(holders.len(), 1, "{holders:?}");
        // Its own way to the store may take another moment to be back.
        let left = deadline.saturating_sub(asked.elapsed()) + ANSWERED_WITHIN;
        wait_until("the other proxy finds it", left, || {
            begin(&self.proxies[1], ClientScript::play("live", name)).is_some()
        });
        println!("{name} is found at the other proxy after {:?}", asked.elapsed());
        assert_eq!(self.proxies[1].holders(&key), holders);
    }

    /// The API answers at both proxies, and knows the origins.
    #[track_caller]
    pub fn assert_api_answers(&self) {
        for proxy in &self.proxies {
            let asked = Instant::now();
            for name in ["0", "1"] {
                assert_eq!(proxy.health(name).as_deref(), Some("alive"));
            }
            assert_eq!(http::get(proxy.system_api(), "/api/v1/versions").expect("an answer").status, 200);
            assert!(asked.elapsed() < ANSWERED_WITHIN, "{:?}", asked.elapsed());
        }
    }

    /// Ends all. Nobody has noticed anything.
    #[track_caller]
    pub fn end(self) {
        for watcher in &self.watchers {
            watcher.assert_running();
        }
        let ends = self.callers.leave();
        assert!(ends.len() == 2 && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
    }
}

/// Publishes or plays; `None` if it is refused.
#[track_caller]
fn begin(proxy: &Proxy, script: ClientScript) -> Option<Session> {
    let mut session = Session::start(proxy.rtmp(), script);
    wait_until("it is answered", PATIENCE, || {
        session.turn();
        session.is_started() || session.refusal().is_some() || session.ended().is_some()
    });
    session.is_started().then_some(session)
}
