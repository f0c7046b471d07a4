//! What happened while Redis was away, cut off, full or emptied is made good when it is back, and what one proxy did not
//! hear does not undo what others did.

use rustix::process::Signal;
use srs_proxy_tests::peers::fleet::{ANSWERED_WITHIN, KNOWN_WITHIN, wait_known};
use srs_proxy_tests::peers::http;
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen};
use srs_proxy_tests::peers::playlist::{resolve, uris};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::redis::Redis;
use srs_proxy_tests::peers::session::{Session, drive};
use srs_proxy_tests::peers::slow::Slow;
use srs_proxy_tests::peers::srt::playing;
use srs_proxy_tests::peers::srt_callers::{Caller, refusal};
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use srs_proxy_tests::rtmp::{ClientScript, OriginScript};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Within this all is as before when Redis is back: the longest pause between two attempts to connect, and some work.
const RECOVERY: Duration = Duration::from_secs(7);

/// More streams than two proxies which draw lots would agree on.
const STREAMS: usize = 12;

/// How late a slow Redis answers: far within the half second that a proxy waits, all of which a busy machine may need.
const SLOW: Duration = Duration::from_millis(200);

/// A Redis that answers later than a proxy waits.
const TOO_SLOW: Duration = Duration::from_millis(800);

/// How long it is tried what a proxy does while its Redis hangs or is too slow.
const SOME_TIME: Duration = Duration::from_secs(4);

/// An origin of RTMP that only says yes, and of HTTP that says who it is.
struct Origin {
    rtmp: Recorder,
    http: HttpOrigin,
}

impl Origin {
    #[track_caller]
    fn start(name: usize) -> Self {
        let http = HttpOrigin::start(move |seen: &Seen| match &seen.target {
            target if target.contains(".m3u8") => {
                let text = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nx-0.ts\n";
                Answer::ok("application/vnd.apple.mpegurl", text)
            }
            _ => Answer::ok("video/x-flv", name.to_string().as_bytes()),
        });
        Self { rtmp: Recorder::start(Behaviour::Answer(OriginScript::default())), http }
    }

    #[track_caller]
    fn register(&self, proxy: &Proxy, name: usize) {
        let more = [("http", self.http.addr())];
        proxy.register_serving(&name.to_string(), "1", self.rtmp.rtmp(), &more);
    }
}

/// Two proxies, of which the second has a path of its own to Redis, and two origins.
struct Scene {
    redis: Redis,
    path: Slow,
    proxies: [Proxy; 2],
    origins: [Origin; 2],
}

impl Scene {
    #[track_caller]
    fn start(settings: &[(&str, &str)]) -> Self {
        let redis = Redis::start();
        let path = Slow::start((Ipv4Addr::LOCALHOST, redis.port()).into());
        let ports = [redis.port(), path.addr().port()];
        let proxies = ports.map(|port| Proxy::on_redis(port, settings));
        let origins = [0, 1].map(Origin::start);
        for (n, origin) in origins.iter().enumerate() {
            origin.register(&proxies[n], n);
        }
        wait_known(&proxies, origins.len());
        Self { redis, path, proxies, origins }
    }

    /// Where each of some streams is, which both proxies must agree on.
    #[track_caller]
    fn homes(&self, name: &str) -> Vec<String> {
        let home = |n: usize| {
            let answers = self.proxies.each_ref().map(|proxy| get(proxy, &format!("/live/{name}{n}.flv")));
            assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200], "{name}{n}");
            let [one, other] = answers.map(|answer| answer.body.text());
            assert_eq!(one, other, "{name}{n}");
            one
        };
        (0..STREAMS).map(home).collect()
    }

    /// Waits until this proxy finds an origin for a new stream.
    #[track_caller]
    fn wait_back(&self, proxy: usize) {
        let mut tries = 0;
        wait_until("a new stream finds an origin", RECOVERY, || {
            tries += 1;
            get(&self.proxies[proxy], &format!("/live/back{proxy}-{tries}.flv")).status == 200
        });
    }

    /// The list of all registrations in Redis.
    #[track_caller]
    fn list(&self) -> BTreeSet<String> {
        let list = self.redis.cli(&["get", "srs-proxy-all-servers"]);
        if list.is_empty() { BTreeSet::new() } else { serde_json::from_str(&list).expect("a list in JSON") }
    }

    /// Where Redis says that a stream is.
    #[track_caller]
    fn mapping(&self, stream: &str) -> String {
        self.redis.cli(&["get", &format!("srs-proxy-url:{}", key(stream))])
    }
}

fn key(stream: &str) -> String {
    format!("__defaultVhost__/live/{stream}")
}

fn server_key(name: impl std::fmt::Display) -> String {
    format!("srs-proxy-server:{name}-service-1-1")
}

#[track_caller]
fn get(proxy: &Proxy, target: &str) -> http::Response {
    http::get(proxy.http(), target).expect("an answer")
}

fn publish(proxy: &Proxy, stream: &str) -> Session {
    Session::start(proxy.rtmp(), ClientScript::publish("live", stream))
}

#[test]
fn a_redis_that_is_emptied_under_a_running_fleet_is_filled_again() {
    let scene = Scene::start(&[]);
    let names: Vec<_> = (0..STREAMS).map(|n| format!("s{n}")).collect();
    let publishers = names.iter().enumerate().map(|(n, name)| publish(&scene.proxies[n % 2], name));
    let mut publishers: Vec<_> = publishers.collect();
    drive(&mut publishers, "all are published", PATIENCE, Session::is_started);
    let homes = scene.homes("s");
    scene.redis.cli(&["flushall"]);
    let emptied = Instant::now();
    wait_until("all origins are there again", RECOVERY, || {
        scene.list() == [0, 1].map(server_key).into()
            && [0, 1].iter().all(|n| scene.redis.cli(&["exists", &server_key(n)]) == "1")
    });
    println!("origins are there again after {:?}", emptied.elapsed());
    wait_until("all streams are there again", RECOVERY, || {
        names.iter().zip(&homes).all(|(name, home)| scene.mapping(name) == server_key(home))
    });
    println!("streams are there again after {:?}", emptied.elapsed());
    assert_eq!(scene.homes("s"), homes, "nothing has moved");
}

#[test]
fn an_origin_that_registers_while_redis_is_away_is_everybodys_when_it_is_back() {
    let mut scene = Scene::start(&[]);
    scene.redis.kill();
    let new = Origin::start(2);
    let asked = Instant::now();
    new.register(&scene.proxies[0], 2);
    assert!(asked.elapsed() < ANSWERED_WITHIN, "{:?}", asked.elapsed());
    scene.redis.restart();
    wait_until("both proxies know it", RECOVERY, || {
        scene.proxies.iter().all(|proxy| proxy.health("2").as_deref() == Some("alive"))
    });
    wait_until("all origins are there", RECOVERY, || scene.list() == [0, 1, 2].map(server_key).into());
}

#[test]
fn what_was_said_of_origins_outlives_a_redis_that_forgets() {
    let mut scene = Scene::start(&[]);
    let tell = |method: &str, path: &str| {
        let path = format!("/api/v1/origins/{path}");
        let answer = http::request(scene.proxies[0].system_api(), method, &path, &[], "").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    tell("POST", "0-service-1-1/drain");
    let new = Origin::start(2);
    new.register(&scene.proxies[1], 2);
    wait_known(&scene.proxies, 3);
    tell("DELETE", "2-service-1-1");
    let is_said =
        |proxy: &Proxy| proxy.health("0").as_deref() == Some("draining") && proxy.health("2").is_none();
    for proxy in &scene.proxies {
        wait_until("it is known", PATIENCE, || is_said(proxy));
    }
    scene.redis.kill();
    scene.redis.restart();
    scene.wait_back(0);
    scene.wait_back(1);
    wait_until("the origins are there again", RECOVERY, || scene.list() == [0, 1].map(server_key).into());
    // The next looks at Redis change nothing.
    let back = Instant::now();
    wait_until("time has passed", PATIENCE, || {
        for proxy in &scene.proxies {
            assert!(is_said(proxy), "after {:?}: {:?}", back.elapsed(), proxy.origins());
        }
        back.elapsed() >= KNOWN_WITHIN
    });
    assert!(scene.homes("x").iter().all(|home| home == "1"));
}

#[test]
fn a_stream_that_a_proxy_maps_elsewhere_in_an_empty_redis_is_mapped_back_to_its_publisher() {
    let mut scene = Scene::start(&[]);
    let names: Vec<_> = (0..STREAMS).map(|n| format!("s{n}")).collect();
    let mut publishers: Vec<_> = names.iter().map(|name| publish(&scene.proxies[1], name)).collect();
    drive(&mut publishers, "all are published", PATIENCE, Session::is_started);
    let homes = |scene: &Scene| -> Vec<_> { names.iter().map(|name| scene.mapping(name)).collect() };
    let before = homes(&scene);
    // The first proxy, which has never been asked for them, is back before the second.
    scene.path.set_closed(true);
    scene.redis.kill();
    scene.redis.restart();
    scene.wait_back(0);
    for name in &names {
        Session::start(scene.proxies[0].rtmp(), ClientScript::play("live", name)).wait_started(PATIENCE);
    }
    scene.path.set_closed(false);
    wait_until("all are where they are published", RECOVERY, || homes(&scene) == before);
    // What the first proxy has heard a moment ago it does not ask again.
    wait_until("players find them there", RECOVERY, || {
        names.iter().zip(&before).all(|(name, home)| {
            Session::start(scene.proxies[0].rtmp(), ClientScript::play("live", name)).wait_started(PATIENCE);
            scene.proxies[0].holders(&key(name)).pop().map(server_key).as_ref() == Some(home)
        })
    });
}

#[test]
fn without_redis_webrtc_and_srt_refuse_what_is_new_in_their_own_form() {
    let mut scene = Scene::start(&[]);
    scene.redis.kill();
    for proxy in &scene.proxies {
        let asked = Instant::now();
        let sdp = [("Content-Type", "application/sdp")];
        let offer = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
        let answer =
            http::request(proxy.http_api(), "POST", "/rtc/v1/whep/?app=live&stream=new", &sdp, offer);
        assert_eq!(answer.expect("an answer").status, 503);
        assert!(asked.elapsed() < ANSWERED_WITHIN, "{:?}", asked.elapsed());
        let refused = refusal(Caller::player("c", proxy.srt(), playing("live/new")));
        println!("{refused:?}");
        assert!(refused.code >= 1000 && refused.after < ANSWERED_WITHIN, "{refused:?}");
    }
}

#[test]
fn an_hls_session_that_began_without_redis_goes_on_everywhere_when_it_is_back() {
    let mut scene = Scene::start(&[]);
    let home = get(&scene.proxies[0], "/live/x.flv").body.text();
    scene.redis.kill();
    let playlist = |proxy: usize| {
        let answer = get(&scene.proxies[proxy], "/live/x.m3u8");
        let named = uris(&answer.body.text()).first().map(|uri| resolve("/live/x.m3u8", uri));
        (answer.status, named.unwrap_or_default())
    };
    let (status, segment) = playlist(0);
    assert_eq!(status, 200);
    assert!(segment.contains("spbhid="), "{segment}");
    let answer = get(&scene.proxies[0], &segment);
    assert_eq!((answer.status, answer.body.text()), (200, home.clone()));
    scene.redis.restart();
    scene.wait_back(0);
    scene.wait_back(1);
    // The player asks for its playlist again and again.
    wait_until("the other proxy knows the session", RECOVERY, || {
        assert_eq!(playlist(0), (200, segment.clone()), "it is one session");
        let answer = get(&scene.proxies[1], &segment);
        answer.status == 200 && answer.body.text() == home
    });
    assert_eq!(playlist(1), (200, segment));
}

#[test]
fn a_proxy_that_was_cut_off_learns_where_streams_are_by_now() {
    let mut scene = Scene::start(&[]);
    let mut first = publish(&scene.proxies[1], "x");
    first.wait_started(PATIENCE);
    let dead: usize = scene.proxies[1].holders(&key("x"))[0].parse().expect("its number");
    let other = 1 - dead;
    scene.path.set_closed(true);
    wait_until("the second proxy knows that it is cut off", PATIENCE, || {
        get(&scene.proxies[1], "/live/unknown.flv").status == 503
    });

    // The origin dies, and the first proxy's clients find another.
    scene.origins[dead] = Origin::start(dead);
    first.wait_ended(PATIENCE);
    let mut again = publish(&scene.proxies[0], "x");
    again.wait_started(PATIENCE);
    assert_eq!(scene.proxies[0].holders(&key("x")), [other.to_string()]);
    // What the second knows is of no use. It says so at once.
    let asked = Instant::now();
    let mut lost = publish(&scene.proxies[1], "x");
    lost.wait("an answer", PATIENCE, |session| session.refusal().is_some());
    assert!(asked.elapsed() < ANSWERED_WITHIN, "{:?}", asked.elapsed());

    scene.path.set_closed(false);
    scene.wait_back(1);
    let mut player = Session::start(scene.proxies[1].rtmp(), ClientScript::play("live", "x"));
    player.wait_started(PATIENCE);
    for proxy in &scene.proxies {
        assert_eq!(proxy.holders(&key("x")), [other.to_string()]);
    }
    assert_eq!(scene.mapping("x"), server_key(other), "it was not given back what is no more");
}

#[test]
fn what_a_cut_off_proxy_chose_by_rendezvous_yields_to_what_the_fleet_has() {
    let scene = Scene::start(&[("PROXY_LB_POLICY", "rendezvous")]);
    // Elsewhere than rendezvous would have them.
    let chosen: Vec<_> =
        scene.homes("x").iter().map(|home| 1 - home.parse::<usize>().expect("a number")).collect();
    scene.path.set_closed(true);
    for (n, home) in chosen.iter().enumerate() {
        let mapping = format!("srs-proxy-url:{}", key(&format!("y{n}")));
        scene.redis.cli(&["set", &mapping, &server_key(home)]);
    }
    wait_until("the second proxy knows that it is cut off", PATIENCE, || {
        scene.proxies[1].log().contains("Redis is away")
    });
    for n in 0..STREAMS {
        assert_eq!(get(&scene.proxies[1], &format!("/live/y{n}.flv")).status, 200, "y{n}");
    }
    scene.path.set_closed(false);
    wait_until("the second proxy is back", RECOVERY, || scene.proxies[1].log().contains("Redis is back"));
    let homes: Vec<_> =
        scene.homes("y").iter().map(|home| home.parse::<usize>().expect("a number")).collect();
    assert_eq!(homes, chosen);
}

#[test]
fn a_proxy_that_dies_takes_no_stream_with_it() {
    let scene = Scene::start(&[]);
    let homes = scene.homes("x");
    let [first, second] = scene.proxies;
    first.signal(Signal::KILL);
    for (n, home) in homes.iter().enumerate() {
        assert_eq!(get(&second, &format!("/live/x{n}.flv")).body.text(), *home, "x{n}");
    }
    // One that starts in its place knows all at once.
    let third = Proxy::on_redis(scene.redis.port(), &[]);
    assert_eq!(third.origins().len(), 2);
    for (n, home) in homes.iter().enumerate() {
        assert_eq!(get(&third, &format!("/live/x{n}.flv")).body.text(), *home, "x{n}");
    }
}

#[test]
fn connections_to_redis_that_are_cut_are_made_anew_at_once() {
    let scene = Scene::start(&[]);
    let homes = scene.homes("x");
    for round in 0..3 {
        scene.redis.cli(&["client", "kill", "type", "normal"]);
        let cut = Instant::now();
        for proxy in 0..2 {
            scene.wait_back(proxy);
        }
        println!("round {round}: both proxies are back after {:?}", cut.elapsed());
        assert!(cut.elapsed() < ANSWERED_WITHIN, "{:?}", cut.elapsed());
    }
    assert_eq!(scene.homes("x"), homes);
}

#[test]
fn a_redis_that_takes_nothing_more_is_no_reason_to_forget() {
    let scene = Scene::start(&[]);
    let homes = scene.homes("x");
    scene.redis.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    scene.redis.cli(&["config", "set", "maxmemory", "1"]);
    let asked = Instant::now();
    let status = get(&scene.proxies[0], "/live/new.flv").status;
    println!("a new stream: {status} after {:?}", asked.elapsed());
    assert!(status == 503 && asked.elapsed() < ANSWERED_WITHIN, "{status} after {:?}", asked.elapsed());
    assert_eq!(scene.homes("x"), homes, "what is known is found");
    assert!(scene.proxies.iter().all(|proxy| proxy.origins().len() == 2));
    scene.redis.cli(&["config", "set", "maxmemory", "0"]);
    scene.wait_back(0);
    assert_eq!(scene.homes("x"), homes);
}

#[test]
fn a_redis_that_hangs_costs_little_and_keeps_no_proxy_from_quitting() {
    /// One that is connected, one that connects, and what an attempt that was given up still holds.
    const ATTEMPTS: usize = 4;
    let mut scene = Scene::start(&[]);
    let before = scene.proxies[0].usage();
    scene.redis.signal(Signal::STOP);
    let hangs = Instant::now();
    let mut asked = 0;
    while hangs.elapsed() < SOME_TIME {
        let start = Instant::now();
        assert_eq!(get(&scene.proxies[0], &format!("/live/new{asked}.flv")).status, 503);
        assert!(start.elapsed() < ANSWERED_WITHIN, "{:?}", start.elapsed());
        asked += 1;
        let now = scene.proxies[0].usage();
        assert!(now.threads <= before.threads + ATTEMPTS, "{before:?}, then {now:?}");
        assert!(now.descriptors <= before.descriptors + ATTEMPTS, "{before:?}, then {now:?}");
    }
    scene.proxies[0].signal(Signal::TERM);
    assert_eq!(scene.proxies[0].wait_end(KNOWN_WITHIN).status.code(), Some(0));
    scene.redis.signal(Signal::CONT);
}

#[test]
fn many_new_streams_at_once_share_the_way_to_a_slow_redis() {
    const MANY: usize = 100;
    let scene = Scene::start(&[]);
    scene.path.set_delay(SLOW);
    let asked = Instant::now();
    let new = (0..MANY).map(|n| publish(&scene.proxies[1], &format!("new{n}")));
    let mut new: Vec<_> = new.collect();
    drive(&mut new, "all are published", PATIENCE, Session::is_started);
    println!("{MANY} streams are published after {:?}", asked.elapsed());
    let one_by_one = SLOW * u32::try_from(MANY).expect("few streams");
    assert!(asked.elapsed() < one_by_one / 4, "{:?}", asked.elapsed());
}

#[test]
fn a_redis_that_is_too_slow_is_one_that_is_away() {
    let scene = Scene::start(&[]);
    let homes = scene.homes("x");
    let before = scene.path.came();
    scene.path.set_delay(TOO_SLOW);
    let second = &scene.proxies[1];
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    let mut asked = 0;
    // New ones, and those that are known, for some seconds.
    while begin.elapsed() < SOME_TIME {
        let start = Instant::now();
        let status = get(second, &format!("/live/new{asked}.flv")).status;
        assert!(status == 503 || status == 200, "{status}");
        let known = get(second, &format!("/live/x{}.flv", asked % STREAMS));
        assert_eq!((known.status, known.body.text()), (200, homes[asked % STREAMS].clone()));
        longest = longest.max(start.elapsed());
        asked += 1;
    }
    let tried = scene.path.came() - before;
    println!("{asked} times asked, the longest two answers took {longest:?}, {tried} connections");
    assert!(longest < 2 * ANSWERED_WITHIN, "{longest:?}");
    assert!(tried <= 12, "{tried} connections");
    scene.path.set_delay(Duration::ZERO);
    scene.wait_back(1);
    assert_eq!(scene.homes("x"), homes);
}

#[test]
fn heartbeats_at_any_proxy_keep_an_origin_alive_at_all() {
    /// How long an origin lives without a heartbeat, and in words: a proxy hears of one that comes every second at another
    /// up to a second later, and the rest is a busy machine's.
    const TTL: (Duration, &str) = (Duration::from_secs(4), "4s");
    let scene = Scene::start(&[("PROXY_ORIGIN_SERVER_TTL", TTL.1)]);
    // At one for longer than it lives, then at the other.
    for at in &scene.proxies {
        let begin = Instant::now();
        let mut beats = 0;
        wait_until("time has passed", PATIENCE, || {
            if begin.elapsed() >= Duration::from_secs(1) * beats {
                scene.origins[0].register(at, 0);
                beats += 1;
            }
            for proxy in &scene.proxies {
                assert_eq!(proxy.health("0").as_deref(), Some("alive"), "after {:?}", begin.elapsed());
            }
            begin.elapsed() >= TTL.0 * 3 / 2
        });
    }
    // Once more, for as long as the rest takes.
    scene.origins[0].register(&scene.proxies[0], 0);
    // The other has been silent, and gets nothing.
    assert!(scene.proxies.iter().all(|proxy| proxy.health("1").as_deref() != Some("alive")));
    assert!(scene.homes("x").iter().all(|home| home == "0"));
    wait_until("its registration ends", PATIENCE, || scene.redis.cli(&["exists", &server_key(1)]) == "0");
}

#[test]
fn rubbish_in_redis_hurts_nobody() {
    let scene = Scene::start(&[]);
    let homes = scene.homes("x");
    let rubbish: [&[&str]; 8] = [
        &["set", "srs-proxy-all-servers", "no list at all"],
        &["set", "srs-proxy-server:bad-service-1-1", "{\"ip\":7}"],
        &["set", "srs-proxy-url:__defaultVhost__/live/r0", "nobody"],
        &["set", "srs-proxy-url:__defaultVhost__/live/r1", "srs-proxy-server:bad-service-1-1"],
        &["rpush", "srs-proxy-url:__defaultVhost__/live/r2", "a", "b"],
        &["set", "srs-proxy-spbhid:abc", "[]"],
        &["set", "srs-proxy-ufrag:a:b", "null"],
        &["hset", "srs-proxy-marks", "0-service-1-1", "what?"],
    ];
    for words in rubbish {
        scene.redis.cli(words);
    }
    for proxy in &scene.proxies {
        for (name, expected) in [("r0.flv", 200), ("r1.flv", 200), ("r2.flv", 503), ("r3.ts?spbhid=abc", 200)]
        {
            let asked = Instant::now();
            let status = get(proxy, &format!("/live/{name}")).status;
            println!("{name}: {status} after {:?}", asked.elapsed());
            assert!(asked.elapsed() < ANSWERED_WITHIN, "{name}: {:?}", asked.elapsed());
            assert!(status == expected || name.contains("spbhid"), "{name}: {status}");
        }
    }
    assert_eq!(scene.homes("x"), homes, "what is known is found");
    // The next heartbeats put it right.
    for (n, origin) in scene.origins.iter().enumerate() {
        origin.register(&scene.proxies[n], n);
    }
    wait_until("the list is good again", PATIENCE, || {
        let list = scene.redis.cli(&["get", "srs-proxy-all-servers"]);
        serde_json::from_str::<BTreeSet<String>>(&list)
            .is_ok_and(|list| list == [0, 1].map(server_key).into())
    });
    wait_known(&scene.proxies, 2);
}

#[test]
fn an_origin_that_another_proxy_dropped_from_the_list_is_back_with_its_next_heartbeat() {
    let scene = Scene::start(&[]);
    let homes = scene.homes("x");
    // Two proxies of the other make that register at once lose one.
    scene.redis.cli(&["set", "srs-proxy-all-servers", &format!("[\"{}\"]", server_key(1))]);
    assert_eq!(scene.homes("x"), homes, "its streams stay, by its registration");
    scene.origins[0].register(&scene.proxies[1], 0);
    wait_until("it is listed", PATIENCE, || scene.list() == [0, 1].map(server_key).into());
    wait_known(&scene.proxies, 2);
    assert_eq!(scene.homes("x"), homes);
}
