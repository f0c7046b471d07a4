//! WebRTC datagram by datagram, between a client and an origin that are sockets: clients of both IP versions, their
//! goodbyes, and a drain between an offer and its first check.

use rustix::process::Signal;
use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ports::free_port, wait_until};
use srs_proxy_tests::sim::rtc::wire::{self, check, media, success};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// How long after `DELETE` a session may have its socket.
const GOODBYE: Duration = Duration::from_secs(2);

/// The ICE user names of the recorded session, and the stream that it is of.
const SERVER: &str = "e6w71khp";
const CLIENT: &str = "ASq+";
const WHEP: &str = "/rtc/v1/whep/?app=live&stream=x";

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rtc").join(name)).expect("a fixture")
}

fn socket(ip: impl Into<IpAddr>) -> UdpSocket {
    let socket = UdpSocket::bind((ip.into(), 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("patience");
    socket
}

#[track_caller]
fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (buffer[..length].to_vec(), from)
}

fn created() -> Answer {
    let answer = Answer::new(201, "Created").field("Content-Type", "application/sdp");
    answer.field("Location", "/session/7").body(&fixture("whep-chromium.answer.sdp"))
}

/// What a client asks that has this ICE user name.
fn offer(user: &str) -> Request {
    let sdp = String::from_utf8(fixture("whep-chromium.offer.sdp")).expect("text");
    let request = Request::new("POST", WHEP).field("Content-Type", "application/sdp");
    request.body(sdp.replace(CLIENT, user).as_bytes())
}

#[track_caller]
fn ask(proxy: &Proxy, request: &Request) -> Response {
    Connection::open(proxy.http_api()).expect("a connection").ask(request).expect("an answer")
}

/// A client of this name at this address of the proxy checks, and its origin grants it: the client, and the socket that
/// the proxy has for it.
#[track_caller]
fn connect(to: SocketAddr, user: &str, origin: &UdpSocket) -> (UdpSocket, SocketAddr) {
    connect_from(to.ip(), to, user, origin)
}

/// The same, from this address of the host. What comes from anywhere but `to` is not received.
#[track_caller]
fn connect_from(from: IpAddr, to: SocketAddr, user: &str, origin: &UdpSocket) -> (UdpSocket, SocketAddr) {
    let client = socket(from);
    client.connect(to).expect("connected");
    let transaction: [u8; 12] = [user.as_bytes()[0]; 12];
    client.send(&check(transaction, &format!("{SERVER}:{user}"), 0)).expect("sent");
    let (asked, leg) = received(origin);
    assert_eq!(wire::read(&asked).expect("a check").transaction, transaction, "{to}");
    origin.send_to(&success(transaction), leg).expect("sent");
    assert_eq!(received(&client).0, success(transaction), "{to}");
    (client, leg)
}

#[test]
fn clients_of_both_ip_versions_are_served_at_a_bare_port_and_freed_by_their_goodbyes() {
    let api = HttpOrigin::start(|seen: &Seen| match &seen.method[..] {
        "POST" => created(),
        _ => Answer::new(200, "OK"),
    });
    let origin = socket(Ipv4Addr::LOCALHOST);
    let port = free_port();
    let proxy = Proxy::with(&[("PROXY_WEBRTC_SERVER", &port.to_string()), ("PROXY_WORKERS", "2")]);
    proxy.register_rtc("origin", api.addr(), origin.local_addr().expect("an address"));
    let clients = [("one4", IpAddr::from(Ipv4Addr::LOCALHOST)), ("two6", Ipv6Addr::LOCALHOST.into())];
    for (user, ip) in clients {
        let answer = ask(&proxy, &offer(user));
        assert_eq!(answer.status, 201);
        let resource = answer.header("location").expect("a resource").to_owned();
        let (client, leg) = connect((ip, port).into(), user, &origin);
        client.send(&media(1, 0)).expect("sent");
        assert_eq!(received(&origin), (media(1, 0), leg), "{ip}");
        origin.send_to(&media(1, 1), leg).expect("sent");
        assert_eq!(received(&client).0, media(1, 1), "{ip}");
        assert_eq!(proxy.rtc_sessions().len(), 1);

        assert_eq!(ask(&proxy, &Request::new("DELETE", &resource)).status, 200);
        wait_until("the session is freed", GOODBYE, || proxy.rtc_sessions().is_empty());
        client.send(&check([9; 12], &format!("{SERVER}:{user}"), 0)).expect("sent");
        proxy.wait_read(proxy.rtc());
        assert!(proxy.rtc_sessions().is_empty(), "{ip}: its name is nobody's");
    }
}

#[test]
fn on_a_host_with_several_addresses_answers_leave_from_the_one_that_was_asked() {
    let api = HttpOrigin::start(|_: &Seen| created());
    let origin = socket(Ipv4Addr::LOCALHOST);
    let port = free_port();
    let addresses = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
    let listed = addresses.map(|ip| format!("{ip}:{port}")).join(",");
    let candidates = addresses.map(|ip| ip.to_string()).join(",");
    let proxy = Proxy::with(&[("PROXY_WEBRTC_SERVER", &listed), ("PROXY_WEBRTC_CANDIDATE", &candidates)]);
    proxy.register_rtc("origin", api.addr(), origin.local_addr().expect("an address"));
    for (user, ip) in ["one4", "two4"].into_iter().zip(addresses) {
        let answer = ask(&proxy, &offer(user));
        let offered = String::from_utf8(answer.body.to_vec()).expect("text");
        assert!(addresses.iter().all(|ip| offered.contains(&format!("{ip} {port} typ host"))), "{offered}");
        let (client, leg) = connect_from(Ipv4Addr::LOCALHOST.into(), (ip, port).into(), user, &origin);
        origin.send_to(&media(1, 1), leg).expect("sent");
        assert_eq!(received(&client).0, media(1, 1), "{ip}");
    }
}

#[test]
fn an_offer_that_is_being_answered_when_the_drain_begins_becomes_a_session() {
    let ((arrive, arrived), (release, released)) = (mpsc::channel(), mpsc::channel());
    let released = Mutex::new(released);
    let api = HttpOrigin::start(move |_: &Seen| {
        // Each answer waits for its turn.
        let _ = arrive.send(());
        let _ = released.lock().expect("nobody panicked").recv_timeout(PATIENCE);
        created()
    });
    let origin = socket(Ipv4Addr::LOCALHOST);
    let mut proxy = Proxy::with(&[("PROXY_GRACE_QUIT_TIMEOUT", "20s"), ("PROXY_FORCE_QUIT_TIMEOUT", "40s")]);
    proxy.register_rtc("origin", api.addr(), origin.local_addr().expect("an address"));
    release.send(()).expect("somebody waits");
    assert_eq!(ask(&proxy, &offer("aaaa")).status, 201);
    arrived.recv_timeout(PATIENCE).expect("the origin is asked");
    let (early, leg) = connect(proxy.rtc(), "aaaa", &origin);
    thread::scope(|scope| {
        let late = scope.spawn(|| ask(&proxy, &offer("bbbb")));
        arrived.recv_timeout(PATIENCE).expect("the origin is asked");
        proxy.signal(Signal::TERM);
        wait_until("nobody else is let in", PATIENCE, || TcpStream::connect(proxy.http_api()).is_err());
        release.send(()).expect("somebody waits");
        assert_eq!(late.join().expect("no panic").status, 201);
        connect(proxy.rtc(), "bbbb", &origin);
    });
    early.send(&media(1, 0)).expect("sent");
    assert_eq!(received(&origin), (media(1, 0), leg), "the other one goes on");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_end(PATIENCE).status.code(), Some(0));
}
