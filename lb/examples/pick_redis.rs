//! Measures what picks and sessions cost with Redis: `cargo run --release -p srs-proxy-lb --example pick_redis URL`. Uses
//! keys of its own, which end by themselves.

use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{Answer, HlsSession, Need, Query, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_lb::redis::{Command, Lost, Mappings, RealRedis, Redis, RedisClient, RedisConfig, Reply};
use srs_proxy_lb::{
    Asker, Mailbox, Notify, OriginLoadBalancer, OriginService, ReplyTo, RtcService, Setup, ask,
};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Streams of a case.
const STREAMS: u32 = 20_000;

/// Questions on their way at once, where there are many.
const AT_ONCE: usize = 1000;

/// Streams with media.
const MEDIA_STREAMS: u32 = 1000;

/// How long media runs, and how often its sessions report.
const MEDIA: Duration = Duration::from_secs(60);
const REPORT: Duration = Duration::from_secs(20);

/// What went to Redis.
#[derive(Default)]
struct Sent {
    trips: AtomicU64,
    commands: AtomicU64,
}

impl Sent {
    fn now(&self) -> (u64, u64) {
        (self.trips.load(Ordering::Relaxed), self.commands.load(Ordering::Relaxed))
    }
}

struct Counting(RealRedis, Arc<Sent>);

impl RedisClient for Counting {
    fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
        self.1.trips.fetch_add(1, Ordering::Relaxed);
        // The census is each second's, and no session's.
        let asked = commands.iter().filter(|command| !matches!(command, Command::Census { .. })).count();
        self.1.commands.fetch_add(asked as u64, Ordering::Relaxed);
        self.0.run(commands)
    }
}

struct Bell(Mutex<Sender<()>>);

impl Notify for Bell {
    fn notify(&self) {
        // It is heard until the end.
        let _ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(());
    }
}

/// One who asks.
struct Desk {
    redis: Redis,
    begin: Instant,
    mailbox: Arc<Mailbox>,
    bell: Receiver<()>,
    /// The next stream that nobody else asks for.
    asked: AtomicU32,
}

impl Desk {
    fn asker(&self) -> Asker {
        let now = Time::ZERO + self.begin.elapsed();
        Asker { now, mailbox: Arc::clone(&self.mailbox), reply_to: ReplyTo { session: 0, ticket: Ticket(0) } }
    }

    /// Asks and waits for the answers, so many at once. How long each took, and all.
    fn ask_all(&self, queries: Vec<Query>, at_once: usize) -> (Vec<Duration>, Duration) {
        let begin = Instant::now();
        let mut times = Vec::new();
        for some in queries.chunks(at_once) {
            let begin = Instant::now();
            let mut waiting = 0;
            for query in some {
                match ask(&self.redis, &self.asker(), query.clone()) {
                    Some(answer) => assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}"),
                    None => waiting += 1,
                }
            }
            while waiting > 0 && self.bell.recv().is_ok() {
                for (_, answer) in self.mailbox.take() {
                    assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
                    waiting -= 1;
                    times.push(begin.elapsed());
                }
            }
        }
        times.sort_unstable();
        (times, begin.elapsed())
    }
}

impl Desk {
    /// What need not be soon is sent with what must be: asks until nothing else is left. How many commands were sent until
    /// then, without its own.
    fn rest(&self, sent: &Sent) -> u64 {
        let mut own = 0;
        loop {
            let before = sent.now().1;
            let next = self.asked.fetch_add(1, Ordering::Relaxed);
            self.ask_all(vec![pick(next)], 1);
            own += 1;
            if sent.now().1 == before + 1 {
                break sent.now().1 - own;
            }
        }
    }

    /// The origin of a stream.
    fn home(&self, n: u32) -> OriginId {
        loop {
            if let Some(Answer::Picked(picked)) = ask(&self.redis, &self.asker(), pick(n)) {
                return picked.origin;
            }
            self.bell.recv().expect("an answer");
            self.mailbox.take();
        }
    }
}

fn key(n: u32) -> StreamKey {
    StreamKey::from_text(&format!("bench.example.com/live/stream-{n}")).expect("a key")
}

fn pick(n: u32) -> Query {
    Query::Pick { key: key(n), need: Need::to_play(Protocol::Rtmp) }
}

fn main() {
    let url = std::env::args().nth(1).expect("the URL of a Redis");
    let config = RedisConfig::from_url(&url).expect("the URL of a Redis");
    let prefix = format!("bench-{}", std::process::id());
    let (sent, begin) = (Arc::new(Sent::default()), Instant::now());
    let client = Box::new(Counting(RealRedis::new(config.clone(), &prefix), Arc::clone(&sent)));
    let clock = Box::new(move || Time::ZERO + begin.elapsed());
    let setup = Setup { ttl: Duration::from_secs(120), seed: std::process::id().into(), ..Setup::default() };
    let redis = Redis::start(&setup, Mappings::End, config.keys(&prefix), client, clock).expect("a Redis");
    let (ring, bell) = channel();
    let mailbox = Arc::new(Mailbox::new(Box::new(Bell(Mutex::new(ring)))));
    let desk = Desk { redis, begin, mailbox, bell, asked: AtomicU32::new(STREAMS * 8) };
    let origins = ["a", "b", "c"].map(|server| Origin {
        device_id: "".into(),
        server: server.into(),
        service: "s".into(),
        pid: "1".into(),
        endpoints: vec![(Protocol::Rtmp, ([127, 0, 0, 1], 1935).into())],
    });
    desk.ask_all(origins.into_iter().map(Query::Register).collect(), 1);

    let report = |what: &str, queries: Vec<Query>, at_once| {
        let (count, before) = (queries.len() as u64, sent.now());
        let (times, all) = desk.ask_all(queries, at_once);
        let after = sent.now();
        let per = |now: u64, then: u64| (now - then) as f64 / count as f64;
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        println!(
            "{what}: {:.0}/s, p50 {:.3} ms, p99 {:.3} ms; {:.2} commands, {:.3} round trips each",
            count as f64 / all.as_secs_f64(),
            at(50).as_secs_f64() * 1e3,
            at(99).as_secs_f64() * 1e3,
            per(after.1, before.1),
            per(after.0, before.0),
        );
    };
    report("pick, new streams, one after the other", (0..STREAMS / 10).map(pick).collect(), 1);
    report("pick, new streams, 1000 at once", (STREAMS..STREAMS * 2).map(pick).collect(), AT_ONCE);
    let hls =
        |n| HlsSession { spbhid: format!("{n:x}").into(), key: key(n), full_url: "http://h/x.m3u8".into() };
    report("HLS session, one after the other", (0..2000).map(hls).map(Query::StoreHls).collect(), 1);
    let rtc = |n| RtcSession { username: format!("s{n}:c").into(), key: key(n), resource: "".into() };
    report("WebRTC session, one after the other", (0..2000).map(rtc).map(Query::StoreRtc).collect(), 1);

    desk.ask_all(vec![pick(0)], 1);
    let (asker, start, rounds) = (desk.asker(), Instant::now(), 1_000_000);
    let known = key(0);
    for _ in 0..rounds {
        black_box(desk.redis.pick(&asker, &known, Need::to_play(Protocol::Rtmp)));
    }
    println!("pick, known for less than a second: {} ns", start.elapsed().as_nanos() / rounds);

    // Whole sessions, of which each is asked for, and tells that it has begun.
    type Ask<'a> = &'a dyn Fn(u32) -> Query;
    let publish = |n| Query::Pick { key: key(n), need: Need::to_publish(Protocol::Rtmp) };
    let (store_rtc, store_hls) = (|n| Query::StoreRtc(rtc(n)), |n| Query::StoreHls(hls(n)));
    let now = || desk.asker().now;
    let some = |kind: u32| (0..MEDIA_STREAMS).map(move |n| STREAMS * (3 + kind) + n);
    let begun = |what: &str, kind: u32, queries: &[Ask<'_>], tell: &dyn Fn(u32)| {
        desk.rest(&sent);
        let before = sent.now().1;
        for ask in queries {
            desk.ask_all(some(kind).map(ask).collect(), AT_ONCE);
        }
        some(kind).for_each(tell);
        let commands = desk.rest(&sent) - before;
        println!("{what}: {:.2} commands for a whole session", commands as f64 / f64::from(MEDIA_STREAMS));
    };
    begun("RTMP or SRT, play", 0, &[&pick], &|n| desk.redis.playing(now(), &key(n)));
    begun("HLS", 1, &[&pick, &store_hls], &|_| {});
    begun("WHEP", 2, &[&pick, &store_rtc], &|n| desk.redis.flowing(now(), &rtc(n)));
    let at = desk.home(STREAMS * 6);
    let homes: Vec<_> = some(3).map(|n| (n, desk.home(n))).collect();
    begun("RTMP or SRT, publish", 3, &[&publish], &|n| {
        let home = homes.iter().find(|(at, _)| *at == n).map_or(&at, |(_, home)| home);
        desk.redis.publishing(now(), &key(n), home);
    });

    // A thousand publishers, players and WebRTC sessions, in a time of their own.
    let streams: Vec<_> = (0..MEDIA_STREAMS).map(|n| (n, desk.home(n))).collect();
    let before = sent.now().1;
    let mut now = desk.asker().now;
    for _ in 0..MEDIA.as_secs() / REPORT.as_secs() {
        now = now + REPORT;
        for (n, home) in &streams {
            desk.redis.publishing(now, &key(*n), home);
            desk.redis.playing(now, &key(*n));
            desk.redis.flowing(now, &rtc(*n));
        }
        desk.redis.tick(now);
    }
    let commands = desk.rest(&sent) - before;
    println!(
        "media: {:.3} commands a second for a stream with a publisher, a player and a WebRTC session",
        commands as f64 / f64::from(MEDIA_STREAMS) / MEDIA.as_secs_f64()
    );
}
