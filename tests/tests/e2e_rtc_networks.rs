//! Clients of both IP versions at one port, datagram by datagram: their checks, media and goodbyes, wherever they signalled.

use srs_proxy_tests::peers::http::{Connection, Request};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ports::free_port, wait_until};
use srs_proxy_tests::sim::rtc::wire::{self, check, media, success};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
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

#[test]
fn clients_of_both_ip_versions_are_served_at_a_bare_port_and_freed_by_their_goodbyes() {
    let api = HttpOrigin::start(|seen: &Seen| match &seen.method[..] {
        "POST" => Answer::new(201, "Created")
            .field("Content-Type", "application/sdp")
            .field("Location", "/session/7")
            .body(&fixture("whep-chromium.answer.sdp")),
        _ => Answer::new(200, "OK"),
    });
    let origin = socket(Ipv4Addr::LOCALHOST);
    let port = free_port();
    let proxy = Proxy::with(&[("PROXY_WEBRTC_SERVER", &port.to_string()), ("PROXY_WORKERS", "2")]);
    proxy.register_rtc("origin", api.addr(), origin.local_addr().expect("an address"));
    let ask = |request: Request| {
        Connection::open(proxy.http_api()).expect("a connection").ask(&request).expect("an answer")
    };
    let offer = String::from_utf8(fixture("whep-chromium.offer.sdp")).expect("text");
    let clients = [("one4", IpAddr::from(Ipv4Addr::LOCALHOST)), ("two6", Ipv6Addr::LOCALHOST.into())];
    for (round, (user, ip)) in clients.into_iter().enumerate() {
        let request = Request::new("POST", WHEP).field("Content-Type", "application/sdp");
        let answer = ask(request.body(offer.replace(CLIENT, user).as_bytes()));
        let name = format!("{SERVER}:{user}");
        assert_eq!(answer.status, 201);
        let resource = answer.header("location").expect("a resource").to_owned();

        let client = socket(ip);
        client.connect((ip, port)).expect("connected");
        let transaction = [round as u8; 12];
        client.send(&check(transaction, &name, 0)).expect("sent");
        let (asked, leg) = received(&origin);
        assert_eq!(wire::read(&asked).expect("a check").transaction, transaction, "{ip}");
        origin.send_to(&success(transaction), leg).expect("sent");
        assert_eq!(received(&client).0, success(transaction), "{ip}");
        client.send(&media(1, 0)).expect("sent");
        assert_eq!(received(&origin), (media(1, 0), leg), "{ip}");
        origin.send_to(&media(1, 1), leg).expect("sent");
        assert_eq!(received(&client).0, media(1, 1), "{ip}");
        assert_eq!(proxy.rtc_sessions().len(), 1);

        assert_eq!(ask(Request::new("DELETE", &resource)).status, 200);
        wait_until("the session is freed", GOODBYE, || proxy.rtc_sessions().is_empty());
        client.send(&check([9; 12], &name, 0)).expect("sent");
        proxy.wait_read();
        assert!(proxy.rtc_sessions().is_empty(), "{ip}: its name is nobody's");
    }
}
