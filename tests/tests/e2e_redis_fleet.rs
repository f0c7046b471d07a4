//! Many proxies, one fleet: origins that register at one proxy are every proxy's, and what is published at one plays at
//! another, by every protocol.

use srs_proxy_tests::peers::fleet::wait_known;
use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::nms::NodeMediaServer;
use srs_proxy_tests::peers::packets::compare;
use srs_proxy_tests::peers::pion::{Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::playlist::{resolve, uris};
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::redis::Redis;
use srs_proxy_tests::peers::rtc::{Client, Program, Role};
use srs_proxy_tests::peers::srt::{SrtOrigin, playing, publishing, url};
use srs_proxy_tests::peers::srt_callers::{Caller, Callers};
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Origins, and streams of each kind: were they picked anew at the second proxy, they would be missed.
const MANY: usize = 3;

/// How long after a goodbye the fleet may know of a session.
const GOODBYE: Duration = Duration::from_secs(4);

/// Packets a player takes: some seconds of the film.
const PACKETS: usize = 300;

/// How many of them must be shared by two players that start at nearly the same time.
const SHARED: usize = 150;

/// Frames that are enough to say that media flows.
const FRAMES: u64 = 50;

/// Where the second proxy takes WebRTC media: another address of the loopback, at the first one's port, as behind a
/// balancer of UDP.
const ELSEWHERE: &str = "127.0.0.2";

/// Two proxies on one Redis; the first one's WebRTC clients are led to the second one's port.
struct Fleet {
    first: Proxy,
    second: Proxy,
    /// Where the second takes WebRTC media.
    media: SocketAddr,
    _redis: Redis,
}

impl Fleet {
    #[track_caller]
    fn start() -> Self {
        let redis = Redis::start();
        let media = SocketAddr::new(ELSEWHERE.parse().expect("an address"), free_port());
        let here = format!("{}:{}", Ipv4Addr::LOCALHOST, media.port());
        let leading = [("PROXY_WEBRTC_SERVER", &*here), ("PROXY_WEBRTC_CANDIDATE", ELSEWHERE)];
        let first = Proxy::on_redis(redis.port(), &leading);
        let second = Proxy::on_redis(redis.port(), &[("PROXY_WEBRTC_SERVER", &media.to_string())]);
        Self { first, second, media, _redis: redis }
    }

    /// Where the first takes WebRTC media.
    fn first_media(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.media.port()).into()
    }

    /// Waits until the second proxy, too, knows as many origins.
    #[track_caller]
    fn wait_known(&self, origins: usize) {
        wait_known(std::slice::from_ref(&self.second), origins);
    }
}

#[track_caller]
fn ask(proxy: &Proxy, target: &str) -> Response {
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    connection.ask(&Request::get(target)).expect("an answer")
}

#[test]
fn rtmp_and_hls_play_at_the_other_proxy() {
    let fleet = Fleet::start();
    let origins: [Nginx; MANY] = std::array::from_fn(|_| Nginx::start());
    for (n, origin) in origins.iter().enumerate() {
        fleet.first.register_serving(&n.to_string(), "1", origin.rtmp(), &[("http", origin.http())]);
    }
    fleet.wait_known(MANY);
    let streams = ["x", "y", "z"];
    let _publishers =
        streams.map(|name| ffmpeg::Publisher::start(&fleet.first.url(&format!("hls/{name}?token=t"))));
    for name in streams {
        assert_eq!(ffmpeg::codecs(&fleet.second.url(&format!("hls/{name}"))), ["aac", "h264"], "{name}");
        let holds = |origin: &&Nginx| origin.has_publisher(name);
        let origin = origins.iter().find(holds).expect("it is at an origin");
        // The playlist of the first proxy, its segments of the second.
        let playlist = format!("/hls/{name}.m3u8?token=t");
        let mut named = Vec::new();
        wait_until("there is a playlist", PATIENCE, || {
            let answer = ask(&fleet.first, &playlist);
            named = uris(&answer.body.text()).iter().map(|uri| resolve(&playlist, uri)).collect();
            answer.status == 200 && named.len() >= MANY
        });
        for target in named.iter().rev().take(MANY) {
            assert!(target.contains("spbhid="), "{target}");
            let segment = ask(&fleet.second, target);
            let direct = Connection::open(origin.http()).and_then(|mut at| at.ask(&Request::get(target)));
            let direct = direct.expect("an answer of the origin");
            assert_eq!((segment.status, direct.status), (200, 200), "{target}");
            assert!(segment.body.0 == direct.body.0, "{target}");
        }
        // The session's id is one for all proxies.
        let id = |proxy: &Proxy| {
            let text = ask(proxy, &playlist).body.text();
            text.split_once("spbhid=").map(|(_, id)| id.lines().next().unwrap_or_default().to_owned())
        };
        assert_eq!(id(&fleet.first), id(&fleet.second));
    }
}

#[test]
fn flv_and_rtmp_are_the_same_at_the_other_proxy_as_at_the_origin() {
    let fleet = Fleet::start();
    let origins: [NodeMediaServer; MANY] = std::array::from_fn(|_| NodeMediaServer::start());
    for (n, origin) in origins.iter().enumerate() {
        fleet.first.register_serving(&n.to_string(), "1", origin.rtmp(), &[("http", origin.http())]);
    }
    fleet.wait_known(MANY);
    let streams = ["x", "y", "z"];
    let _publishers = streams.map(|name| ffmpeg::Publisher::start(&fleet.first.url(&format!("live/{name}"))));
    for name in streams {
        let holder = fleet.first.holders(&format!("__defaultVhost__/live/{name}")).pop();
        let holder: usize = holder.and_then(|name| name.parse().ok()).expect("its origin");
        let (origin, path) = (&origins[holder], format!("live/{name}"));
        let pairs = [
            [format!("http://{}/{path}.flv", origin.http()), fleet.second.http_url(&format!("{path}.flv"))],
            [format!("rtmp://{}/{path}", origin.rtmp()), fleet.second.url(&path)],
        ];
        for players in pairs.map(|urls| urls.map(|url| ffmpeg::PacketPlayer::start(&url, PACKETS))) {
            let [direct, played] = players.map(ffmpeg::PacketPlayer::finish);
            assert!(compare(&direct, &played).expect("the same packets").packets >= SHARED, "{name}");
        }
    }
}

#[test]
fn webrtc_signalled_at_one_proxy_has_its_media_at_the_other() {
    let fleet = Fleet::start();
    let origins: [Pion; MANY] = std::array::from_fn(|_| Pion::start(Location::Query));
    for (n, origin) in origins.iter().enumerate() {
        fleet.first.register_rtc(&n.to_string(), origin.api(), origin.media());
    }
    fleet.wait_known(MANY);
    let names = ["x", "y", "z"];
    let _publishers = names.map(|name| {
        let publisher = Publisher::start(&fleet.first.rtc_url("whip", "live", name), 100);
        let path = format!("live/{name}");
        wait_until("the track has arrived", PATIENCE, || {
            origins.iter().filter(|origin| origin.tracks(&path) == 1).count() == 1
        });
        publisher
    });
    assert_eq!(fleet.second.rtc_sessions().len(), MANY, "all media came to the other proxy");
    assert!(fleet.first.rtc_sessions().is_empty(), "none to the proxy that signalled");
    // The second proxy keeps the origins' address, which is the first one's too, and gives its port, which is the same.
    for (proxy, media) in [(&fleet.first, fleet.media), (&fleet.second, fleet.first_media())] {
        for name in names {
            let viewers = proxy.rtc_url("whep", "live", name);
            let seen = Viewers::start(&viewers, 2, Duration::from_secs(1), true).finish();
            assert_eq!((seen.connected, seen.lost, seen.deleted), (2, 0, 2), "{name}: {seen:?}");
            assert_eq!(seen.remotes.into_iter().collect::<Vec<_>>(), [media], "{name}");
        }
    }
}

#[test]
fn whip_and_whep_of_real_media_cross_the_fleet() {
    let fleet = Fleet::start();
    let origin = Pion::start(Location::Query);
    fleet.first.register_rtc("origin", origin.api(), origin.media());
    fleet.wait_known(1);
    let api = fleet.first.http_api();
    let mut publishing = Client::start(Program::Aiortc, Role::Whip, "live/cam", api, FRAMES);
    publishing.wait_flow();
    wait_until("both tracks have arrived", PATIENCE, || origin.tracks("live/cam") == 2);
    let mut playing = Client::start(Program::Aiortc, Role::Whep, "live/cam", api, FRAMES);
    playing.wait_flow();
    for seen in [playing.leave(), publishing.leave()] {
        assert!(seen.frames >= FRAMES, "{seen:?}");
        assert!(seen.is_nearly_whole(), "{seen:?}");
        assert_eq!((seen.remote, &seen.deleted[..]), (Some(fleet.media), &[200][..]), "{seen:?}");
    }
    assert!(fleet.first.rtc_sessions().is_empty(), "no media came to the proxy that signalled");
}

#[test]
fn srt_plays_at_the_other_proxy() {
    let fleet = Fleet::start();
    let origins: [SrtOrigin; MANY] = std::array::from_fn(|_| SrtOrigin::start());
    for (n, origin) in origins.iter().enumerate() {
        fleet.first.register_srt(&n.to_string(), origin.addr());
    }
    fleet.wait_known(MANY);
    let names = ["0", "1", "2", "3", "4", "5"];
    let streams = names.map(|name| format!("live/{name}"));
    let callers = names.iter().zip(&streams).flat_map(|(name, stream)| {
        let publisher = Caller::publisher(&format!("p{name}"), fleet.first.srt(), publishing(stream));
        [publisher, Caller::player(name, fleet.second.srt(), playing(stream))]
    });
    let mut callers = Callers::start(&callers.collect::<Vec<_>>());
    callers.wait_connected();
    callers.wait_flow(&names, 3);
    let ends = callers.leave();
    assert!(ends.len() == 2 * names.len() && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");

    // A film, published by ffmpeg.
    let publisher = ffmpeg::Publisher::start(&url(fleet.first.srt(), &publishing("live/film"), ""));
    assert_eq!(ffmpeg::codecs(&url(fleet.second.srt(), &playing("live/film"), "")), ["aac", "h264"]);
    drop(publisher);
}

#[test]
fn who_publishes_by_whip_is_known_to_the_fleet_until_it_says_goodbye() {
    let (redis, origin) = (Redis::start(), Pion::start(Location::Bare));
    let proxies = [0, 1].map(|_| Proxy::on_redis(redis.port(), &[]));
    proxies[0].register_rtc("origin", origin.api(), origin.media());
    let publisher = || redis.cli(&["get", "srs-proxy-publisher:__defaultVhost__/live/x"]);
    let sessions =
        || redis.cli(&["keys", "srs-proxy-ufrag:*"]).lines().filter(|line| !line.is_empty()).count();
    let publishing = Publisher::start(&proxies[0].rtc_url("whip", "live", "x"), 50);
    wait_until("the fleet knows who publishes", PATIENCE, || !publisher().is_empty());
    let viewers = Viewers::start(&proxies[1].rtc_url("whep", "live", "x"), 2, Duration::from_secs(1), true);
    assert_eq!(sessions(), 3);
    let seen = viewers.finish();
    assert_eq!((seen.connected, seen.lost, seen.deleted), (2, 0, 2), "{seen:?}");
    wait_until("the viewers' sessions are gone", GOODBYE, || sessions() == 1);
    assert!(!publisher().is_empty(), "that viewers leave is nothing to it");
    publishing.leave();
    wait_until("the publisher is gone", GOODBYE, || publisher().is_empty() && sessions() == 0);
    for proxy in &proxies {
        wait_until("its sockets are freed", GOODBYE, || proxy.rtc_sessions().is_empty());
    }
}
