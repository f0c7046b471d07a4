//! A fleet with another make of proxy in it: what that one has written is understood, and what ours writes has the same
//! keys, fields and lives. The values are recorded; only addresses, times and names that differ are put in.

use rustix::process::Signal;
use serde_json::{Value, json};
use srs_proxy_tests::peers::PATIENCE;
use srs_proxy_tests::peers::fleet::wait_known;
use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::redis::Redis;
use srs_proxy_tests::peers::session::Session;
use srs_proxy_tests::rtmp::{ClientScript, OriginScript};
use srs_proxy_tests::sim::rtc::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// A registration as it was recorded.
const RECORDED: &str = r#"{"ip":"192.0.2.2","device_id":"origin1","server_id":"vid-8f503b0","service_id":"ib2f72c6","pid":"15486","rtmp":["19351"],"http":["8081"],"api":["19851"],"srt":["udp://0.0.0.0:10081"],"rtc":["udp://0.0.0.0:8001"],"update_at":"2026-11-22T10:34:52.070553836Z"}"#;

/// The life of registrations, and of sessions.
const LIVES: [i64; 2] = [300, 120];

/// How much of a life may be gone when it is looked at, seconds.
const GONE: i64 = 10;

/// What an origin is called in Redis: the end of its registration's key.
const IDS: [&str; 2] = ["vid-8f503b0-ib2f72c6-15486", "vid-4c1d2aa-z2s3w865-42583"];

/// More streams than two proxies which draw lots would agree on.
const STREAMS: usize = 12;

/// An origin that says who it is, and is there for every protocol.
struct Origin {
    rtmp: Recorder,
    http: HttpOrigin,
    rtc: UdpSocket,
}

impl Origin {
    #[track_caller]
    fn start(name: &'static str) -> Self {
        let rtc = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        rtc.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        let http = HttpOrigin::start(move |seen: &Seen| match &seen.target {
            target if target.contains(".m3u8") => playlist(),
            target if target.contains("/rtc/v1/") => whip(),
            _ => Answer::ok("video/x-flv", name.as_bytes()),
        });
        let rtmp = Recorder::start(Behaviour::Answer(OriginScript::default()));
        Self { rtmp, http, rtc }
    }

    fn rtc(&self) -> SocketAddr {
        self.rtc.local_addr().expect("its address")
    }

    /// Its registration as the other proxy writes it.
    fn recorded(&self, id: &str) -> String {
        let mut registration: Value = serde_json::from_str(RECORDED).expect("JSON");
        let mut parts = id.rsplitn(3, '-');
        registration["pid"] = json!(parts.next());
        registration["service_id"] = json!(parts.next());
        registration["server_id"] = json!(parts.next());
        registration["ip"] = json!("127.0.0.1");
        registration["rtmp"] = json!([self.rtmp.rtmp().port().to_string()]);
        registration["http"] = json!([self.http.addr().port().to_string()]);
        registration["api"] = json!([self.http.addr().port().to_string()]);
        registration["rtc"] = json!([format!("udp://0.0.0.0:{}", self.rtc().port())]);
        registration.to_string()
    }
}

fn playlist() -> Answer {
    Answer::ok("application/vnd.apple.mpegurl", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nvec-0.ts\n")
}

/// What browsers and SRS have said to each other.
fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rtc").join(name)).expect("a fixture")
}

fn whip() -> Answer {
    let created = Answer::new(201, "Created").field("Content-Type", "application/sdp");
    created.field("Location", "/rtc/v1/whip/?action=delete").body(&fixture("whep-chromium.answer.sdp"))
}

#[track_caller]
fn get(proxy: &Proxy, target: &str) -> Response {
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    connection.ask(&Request::get(target)).expect("an answer")
}

fn key(stream: &str) -> String {
    format!("__defaultVhost__/live/{stream}")
}

fn hls_session(spbhid: &str, stream: &str) -> String {
    let url = format!("http://127.0.0.1/live/{stream}.m3u8");
    format!(r#"{{"spbhid":"{spbhid}","stream_url":"{}","full_url":"{url}"}}"#, key(stream))
}

/// Puts in what the other proxy writes when origins register and streams are asked for: stream `vecN` is at origin N mod 2.
#[track_caller]
fn write_as_recorded(redis: &Redis, origins: &[Origin; 2]) {
    let set = |key: &str, value: &str, life: Option<i64>| {
        let life = life.map(|life| life.to_string());
        let mut words = vec!["SET", key, value];
        words.extend(life.iter().flat_map(|life| ["EX", life]));
        assert_eq!(redis.cli(&words), "OK");
    };
    let servers = IDS.map(|id| format!("srs-proxy-server:{id}"));
    set("srs-proxy-all-servers", &json!(servers).to_string(), None);
    for n in 0..2 {
        set(&servers[n], &origins[n].recorded(IDS[n]), Some(295));
    }
    for n in 0..STREAMS {
        let stream = format!("vec{n}");
        set(&format!("srs-proxy-url:{}", key(&stream)), &servers[n % 2], None);
        let spbhid = format!("3f2bb{n:02}");
        set(&format!("srs-proxy-hls:{}", key(&stream)), &hls_session(&spbhid, &stream), Some(119));
        set(&format!("srs-proxy-spbhid:{spbhid}"), &hls_session(&spbhid, &stream), Some(119));
        let ufrag = format!("srv{n}:cli{n}");
        let session = json!({ "stream_url": key(&stream), "ufrag": &ufrag }).to_string();
        set(&format!("srs-proxy-rtc:{}", key(&stream)), &session, Some(119));
        set(&format!("srs-proxy-ufrag:{ufrag}"), &session, Some(119));
    }
}

/// The proxy serves everything that was put in.
#[track_caller]
fn assert_understood(proxy: &Proxy, origins: &[Origin; 2]) {
    wait_known(std::slice::from_ref(proxy), origins.len());
    for n in 0..STREAMS {
        let home = n % 2;
        // By the mapping.
        let answer = get(proxy, &format!("/live/vec{n}.flv"));
        assert_eq!((answer.status, &*answer.body.text()), (200, IDS[home]), "vec{n}");
        let mut session = Session::start(proxy.rtmp(), ClientScript::play("live", &format!("vec{n}")));
        session.wait_started(PATIENCE);
        let here = origins[home].rtmp.count(|record| record.stream() == Some(&format!("vec{n}")));
        assert_eq!(here, 1, "vec{n}");
        // By the id of its HLS session, which a playlist names too.
        let spbhid = format!("3f2bb{n:02}");
        let answer = get(proxy, &format!("/live/vec{n}-0.ts?spbhid={spbhid}"));
        assert_eq!((answer.status, &*answer.body.text()), (200, IDS[home]), "{spbhid}");
        let text = get(proxy, &format!("/live/vec{n}.m3u8")).body.text();
        assert!(text.contains(&format!("vec-0.ts?spbhid={spbhid}")), "{text}");
        // By the names of its WebRTC session.
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let check = wire::check([u8::try_from(n).expect("few streams"); 12], &format!("srv{n}:cli{n}"), 1);
        client.send_to(&check, proxy.rtc()).expect("a datagram is sent");
        let mut buffer = [0; 1500];
        let count = origins[home].rtc.recv(&mut buffer).expect("the check arrives");
        assert_eq!(buffer[..count], check, "srv{n}:cli{n}");
    }
}

#[test]
fn what_the_other_proxy_wrote_before_ours_started_is_understood() {
    let redis = Redis::start();
    let origins = IDS.map(Origin::start);
    write_as_recorded(&redis, &origins);
    let proxy = Proxy::on_redis(redis.port(), &[("PROXY_REDIS_MIXED_FLEET", "on")]);
    assert_understood(&proxy, &origins);
}

#[test]
fn a_fleet_that_is_mixed_but_not_said_to_be_is_told_of_once() {
    let redis = Redis::start();
    let origins = IDS.map(Origin::start);
    write_as_recorded(&redis, &origins);
    let proxies =
        ["off", "on"].map(|mixed| Proxy::on_redis(redis.port(), &[("PROXY_REDIS_MIXED_FLEET", mixed)]));
    wait_known(&proxies, origins.len());
    for proxy in &proxies {
        for n in 0..STREAMS {
            assert_eq!(get(proxy, &format!("/live/vec{n}.flv")).status, 200);
        }
    }
    let [told, is_on] = proxies.map(|mut proxy| {
        proxy.signal(Signal::TERM);
        proxy.wait_end(PATIENCE);
        proxy.log().matches("PROXY_REDIS_MIXED_FLEET must be on").count()
    });
    assert_eq!((told, is_on), (1, 0));
}

#[test]
fn what_the_other_proxy_writes_while_ours_runs_is_understood() {
    let redis = Redis::start();
    let origins = IDS.map(Origin::start);
    let proxy = Proxy::on_redis(redis.port(), &[("PROXY_REDIS_MIXED_FLEET", "on")]);
    assert_eq!(get(&proxy, "/live/vec0.flv").status, 503, "nobody is there yet");
    write_as_recorded(&redis, &origins);
    assert_understood(&proxy, &origins);
}

/// An endpoint as the other proxy reads it: a port, or a scheme, an address and a port.
fn is_readable(endpoint: &str) -> bool {
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let whole = |rest: &str| rest.parse::<SocketAddr>().is_ok();
    is_port(endpoint) || endpoint.split_once("://").is_some_and(|(_, rest)| whole(rest))
}

#[track_caller]
fn object(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// A proxy of ours is told an origin and is asked for a stream by every protocol; gives what is in Redis then: of each key
/// the value and its life. Keys that only proxies of ours know are left out.
#[track_caller]
fn written(origin: &Origin, settings: &[(&str, &str)]) -> BTreeMap<String, (String, i64)> {
    let redis = Redis::start();
    let proxy = Proxy::on_redis(redis.port(), settings);
    let registration = json!({
        "device_id": "origin1", "ip": "127.0.0.1", "server": "vid-8f503b0", "service": "ib2f72c6", "pid": "15486",
        "rtmp": [origin.rtmp.rtmp().port().to_string()], "http": [origin.http.addr().port().to_string()],
        "api": [origin.http.addr().port().to_string()], "srt": ["udp://0.0.0.0:10081"],
        "rtc": [format!("udp://127.0.0.1:{}", origin.rtc().port())],
    });
    assert_eq!(proxy.post_registration(&registration, &[]).status, 200);
    let mut publisher = Session::start(proxy.rtmp(), ClientScript::publish("live", "vec?token=t"));
    publisher.wait_started(PATIENCE);
    // As a player asks: by a name with a port, and with what lets it in.
    let playlist = Request::get("/live/vec.m3u8?token=t").host("127.0.0.1:8080");
    let answer = Connection::open(proxy.http()).and_then(|mut http| http.ask(&playlist)).expect("an answer");
    assert_eq!(answer.status, 200);
    let offer = Request::new("POST", "/rtc/v1/whep/?app=live&stream=vec");
    let offer = offer.field("Content-Type", "application/sdp").body(&fixture("whep-chromium.offer.sdp"));
    let answer = Connection::open(proxy.http_api()).and_then(|mut api| api.ask(&offer)).expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
    let names = redis.cli(&["keys", "*"]);
    let ours = ["marks", "loads", "publisher:"].map(|name| format!("srs-proxy-{name}"));
    let shared = names.lines().filter(|name| !ours.iter().any(|ours| name.starts_with(ours)));
    let read = |name: &str| {
        let life = redis.cli(&["ttl", name]).parse().expect("seconds");
        (name.to_owned(), (redis.cli(&["get", name]), life))
    };
    shared.map(read).collect()
}

#[test]
fn ours_writes_the_same_keys_fields_and_lives() {
    let origin = Origin::start(IDS[0]);
    let written = written(&origin, &[("PROXY_REDIS_MIXED_FLEET", "on")]);
    println!("{written:#?}");
    let value = |name: &str| &*written.get(name).unwrap_or_else(|| panic!("{name} is missing")).0;
    let life = |name: &str| written[name].1;
    let lives = |name: &str, whole: i64| assert!((whole - GONE..=whole).contains(&life(name)), "{name}");
    let server = format!("srs-proxy-server:{}", IDS[0]);

    // Origins.
    assert_eq!(value("srs-proxy-all-servers"), json!([server]).to_string());
    assert_eq!(life("srs-proxy-all-servers"), -1);
    let (ours, recorded) = (object(value(&server)), object(RECORDED));
    assert_eq!(ours.keys().collect::<Vec<_>>(), recorded.keys().collect::<Vec<_>>());
    for same in ["device_id", "server_id", "service_id", "pid"] {
        assert_eq!(ours[same], recorded[same], "{same}");
    }
    assert_eq!(ours["ip"], "127.0.0.1");
    for list in ["rtmp", "http", "api", "srt", "rtc"] {
        let endpoints: Vec<String> = serde_json::from_value(ours[list].clone()).expect("texts");
        assert!(
            endpoints.len() == 1 && endpoints.iter().all(|endpoint| is_readable(endpoint)),
            "{endpoints:?}"
        );
    }
    let shape = |time: &Value| {
        let time = time.as_str().expect("a time").to_owned();
        time.chars()
            .take("2026-11-22T10:34:52".len())
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect()
    };
    let shapes: [String; 2] = [shape(&ours["update_at"]), shape(&recorded["update_at"])];
    assert_eq!(shapes[0], shapes[1]);
    assert!(ours["update_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    lives(&server, LIVES[0]);

    // The stream, which does not expire.
    let url = format!("srs-proxy-url:{}", key("vec"));
    assert_eq!((value(&url), life(&url)), (&*server, -1));

    // Its sessions, by stream and by id.
    let mut names = BTreeSet::from(["srs-proxy-all-servers".to_owned(), server, url]);
    let hls = format!("srs-proxy-hls:{}", key("vec"));
    let session = object(value(&hls));
    let spbhid = session["spbhid"].as_str().expect("an id");
    assert_eq!(session, object(&hls_session(spbhid, "vec")));
    let by_id = format!("srs-proxy-spbhid:{spbhid}");
    assert_eq!(value(&by_id), value(&hls));
    let rtc = format!("srs-proxy-rtc:{}", key("vec"));
    let session = object(value(&rtc));
    let ufrag = session["ufrag"].as_str().expect("names");
    assert!(ufrag.split_once(':').is_some_and(|(server, client)| !server.is_empty() && !client.is_empty()));
    assert_eq!(session, object(&json!({ "stream_url": key("vec"), "ufrag": ufrag }).to_string()));
    let by_ufrag = format!("srs-proxy-ufrag:{ufrag}");
    assert_eq!(value(&by_ufrag), value(&rtc));
    for name in [hls, by_id, rtc, by_ufrag] {
        lives(&name, LIVES[1]);
        names.insert(name);
    }
    assert_eq!(written.keys().cloned().collect::<BTreeSet<_>>(), names, "and nothing else");
}

#[test]
fn among_proxies_of_ours_a_stream_that_is_not_used_is_forgotten() {
    let origin = Origin::start(IDS[0]);
    let written = written(&origin, &[]);
    let (_, life) = written[&format!("srs-proxy-url:{}", key("vec"))];
    assert!(life > 0, "{life}");
}

#[test]
fn a_prefix_keeps_fleets_apart_in_one_database() {
    let origin = Origin::start(IDS[0]);
    let redis = Redis::start();
    let fleets =
        ["north", "south"].map(|prefix| Proxy::on_redis(redis.port(), &[("PROXY_REDIS_KEY_PREFIX", prefix)]));
    fleets[0].register_http("0", origin.http.addr());
    assert_eq!(get(&fleets[0], "/live/x.flv").status, 200);
    let names = redis.cli(&["keys", "*"]);
    let of_south =
        |name: &str| name.starts_with("south:srs-proxy-loads") || name.starts_with("south:srs-proxy-marks");
    assert!(names.lines().all(|name| name.starts_with("north:srs-proxy-") || of_south(name)), "{names:?}");
    let server = "north:srs-proxy-server:0-service-1-1";
    assert_eq!(redis.cli(&["get", &format!("north:srs-proxy-url:{}", key("x"))]), server);
    assert_eq!(redis.cli(&["get", "north:srs-proxy-all-servers"]), json!([server]).to_string());
    assert_eq!(get(&fleets[1], "/live/x.flv").status, 503);
    assert!(fleets[1].origins().is_empty());
}
