//! Strangers at the port for WebRTC media: forged names, floods, broken and lying datagrams. A live session goes on, new
//! ones begin, and nothing is kept.

use srs_proxy_tests::peers::nat::Nat;
use srs_proxy_tests::peers::pion::{LONGEST, Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use srs_proxy_tests::sim::rtc::wire;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Where the one client is that is led through a translator, so that its checks are known.
const INSIDE: &str = "127.0.0.2";

/// Where strangers are: in another network than the clients.
const STRANGERS: &str = "127.0.0.66:0";

/// Names of a flood.
const NAMES: u64 = 10_000;

/// Datagrams that are sent before the proxy is given time to read them: fewer than its socket holds.
const BURST: usize = 50;

/// A viewer never waits so long for the next of a hundred packets a second, on a busy machine. What did not reach it is
/// counted, too.
const LONGEST_GAP: Duration = Duration::from_secs(3);

/// What junk may leave behind: pages that the allocator keeps, KiB.
const LEFT_KIB: u64 = 2 * 1024;

/// What happens while a session is live.
#[derive(Debug)]
struct Scene {
    viewers: Viewers,
    publisher: Publisher,
    nat: Nat,
    proxy: Proxy,
    // Its publisher and viewers need it.
    _origin: Pion,
}

impl Scene {
    #[track_caller]
    fn start() -> Self {
        let origin = Pion::start(Location::Query);
        let settings = [("PROXY_WEBRTC_CANDIDATE", INSIDE), ("PROXY_WORKERS", "1")];
        let proxy = Proxy::before_rtc(&origin, &settings);
        let inside = SocketAddr::new(INSIDE.parse().expect("an address"), proxy.rtc().port());
        let nat = Nat::start(inside, proxy.rtc());
        let direct = format!("http://{}/rtc/v1/whip/?app=live&stream=x", origin.api());
        let publisher = Publisher::start(&direct, 100);
        wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
        let viewers = Viewers::start(&proxy.rtc_url("whep", "live", "x"), 1, LONGEST, true);
        let scene = Self { viewers, publisher, nat, proxy, _origin: origin };
        scene.wait_flow();
        scene
    }

    #[track_caller]
    fn wait_flow(&self) {
        let before = self.nat.passed();
        wait_until("media come to the viewer", PATIENCE, || self.nat.passed() > before + 50);
    }

    /// Sends datagrams no faster than they are read.
    #[track_caller]
    fn send(&self, socket: &UdpSocket, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        for (n, datagram) in datagrams.into_iter().enumerate() {
            socket.send_to(&datagram, self.proxy.rtc()).expect("a datagram is sent");
            if n % BURST == 0 {
                self.proxy.wait_read(self.proxy.rtc());
            }
        }
        self.proxy.wait_read(self.proxy.rtc());
    }

    /// Media went on all the time, another viewer can come, and there is no more than before.
    #[track_caller]
    fn end(self, descriptors: usize, rss_kib: u64) {
        self.wait_flow();
        let usage = self.proxy.usage();
        // Fewer, if a connection to the origin that was kept has been closed meanwhile.
        assert!(usage.descriptors <= descriptors, "{usage:?} {:?}", self.proxy.rtc_sessions());
        let left = usage.rss_kib.saturating_sub(rss_kib);
        println!("{left} KiB more");
        assert!(left < LEFT_KIB, "{left} KiB more");
        let url = self.proxy.rtc_url("whep", "live", "x");
        let other = Viewers::start(&url, 1, Duration::from_secs(1), true).finish();
        assert_eq!((other.connected, other.lost), (1, 0), "{other:?}");
        let seen = self.viewers.leave();
        assert_eq!((seen.connected, seen.lost, seen.deleted), (1, 0, 1), "{seen:?}");
        assert!(seen.gap < LONGEST_GAP, "{:?} without media", seen.gap);
        drop(self.publisher);
    }
}

fn stranger() -> UdpSocket {
    let socket = UdpSocket::bind(STRANGERS).expect("a socket");
    socket.set_nonblocking(true).expect("a socket that does not block");
    socket
}

/// What has come to a socket.
fn received(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
}

fn transaction(n: u64) -> [u8; 12] {
    let mut id = *b"strangerhere";
    id[..8].copy_from_slice(&n.to_be_bytes());
    id
}

#[test]
fn who_forges_a_name_or_repeats_a_check_gets_no_media_and_stops_none() {
    let scene = Scene::start();
    let genuine = scene.nat.check();
    let name = wire::read(&genuine).and_then(|check| check.username).expect("the client's name");
    let name = String::from_utf8(name).expect("a name");
    let sockets: Vec<_> = (0..20).map(|_| stranger()).collect();
    let before = scene.proxy.usage();
    for (n, socket) in (0..).zip(&sockets) {
        let forged = (0..50).map(|m| wire::check(transaction(n << 32 | m), &name, n));
        scene.send(socket, forged);
        // Overheard, and then what a client would send next.
        scene.send(socket, [scene.nat.check(), vec![22, 254, 253, 0], vec![128; 100]]);
    }
    scene.wait_flow();
    for socket in &sockets {
        for datagram in received(socket) {
            let answer = wire::read(&datagram).expect("nothing but STUN");
            assert_eq!(answer.kind, wire::ERROR, "an error at most");
        }
    }
    scene.end(before.descriptors, before.rss_kib);
}

#[test]
fn a_flood_of_names_that_nobody_has_leaves_nothing() {
    let scene = Scene::start();
    let socket = stranger();
    // Once, so that the tables have grown that are kept.
    scene.send(&socket, (0..NAMES).map(|n| wire::check(transaction(n), &format!("first{n}:flood"), n)));
    scene.wait_flow();
    let before = scene.proxy.usage();
    scene.send(&socket, (0..NAMES).map(|n| wire::check(transaction(n), &format!("name{n}:flood"), n)));
    assert!(received(&socket).is_empty(), "strangers are not answered");
    scene.end(before.descriptors, before.rss_kib);
}

#[test]
fn truncated_and_lying_stun_of_every_length_is_dropped() {
    let scene = Scene::start();
    let genuine = scene.nat.check();
    let socket = stranger();
    let before = scene.proxy.usage();
    scene.send(&socket, (0..genuine.len()).map(|length| genuine[..length].to_vec()));
    // The message's length, then each byte of it, says something else.
    let lengths = (0..=u16::MAX).step_by(97).chain(0..200);
    scene.send(
        &socket,
        lengths.map(|length| {
            let mut lying = genuine.clone();
            lying[2..4].copy_from_slice(&length.to_be_bytes());
            lying
        }),
    );
    let changes = (0..genuine.len()).flat_map(|at| [0, 1, 0x7f, 0xff].map(|byte| (at, byte)));
    let changes = changes.filter(|(at, byte)| genuine[*at] != *byte);
    scene.send(
        &socket,
        changes.map(|(at, byte)| {
            let mut lying = genuine.clone();
            lying[at] = byte;
            lying
        }),
    );
    assert!(received(&socket).iter().all(|datagram| datagram[..2] != [1, 1]), "no check was granted");
    // From the client's own address too.
    for length in 0..genuine.len() {
        scene.nat.inject(&genuine[..length]);
    }
    scene.wait_flow();
    // A changed name may be looked up, and its session waits for a moment.
    wait_until("nothing is left", PATIENCE, || scene.proxy.usage().descriptors <= before.descriptors);
    scene.end(before.descriptors, before.rss_kib);
}

#[test]
fn junk_shaped_like_media_from_anywhere_is_dropped() {
    let scene = Scene::start();
    let sockets: Vec<_> = (0..10).map(|_| stranger()).collect();
    // Bursts, so that every page has been used of the buffers that are kept for many at once.
    for _ in 0..10 {
        scene.send(&sockets[0], vec![vec![0; 65_000]; BURST / 2]);
    }
    let before = scene.proxy.usage();
    for first in 0..=255_u8 {
        let socket = &sockets[usize::from(first) % sockets.len()];
        let lengths = [0, 1, 2, 3, 12, 13, 20, 100, 1200, 1472, 9000, 65_000];
        scene.send(socket, lengths.map(|length| vec![first; length]));
    }
    assert!(sockets.iter().all(|socket| received(socket).is_empty()), "strangers are not answered");
    scene.end(before.descriptors, before.rss_kib);
}
