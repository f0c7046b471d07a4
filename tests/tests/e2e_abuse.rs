//! Clients that talk nonsense, or nothing: they are shown the door, and nobody else notices.

use socket2::{Domain, Socket, Type};
use srs_proxy_tests::peers::http;
use srs_proxy_tests::peers::proxy::{Proxy, TCP_SERVERS, registration};
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::session::Session;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use srs_proxy_tests::rtmp::{ClientScript, OriginScript, kind};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// A handshake that is not version 3, TLS, an endless HTTP head, a body without end, and noise.
fn nonsense() -> Vec<Vec<u8>> {
    let noise = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let chunks = [&[3][..], &[0; 1536], &[0; 1536], &[0xFF; 4096]].concat();
    vec![
        vec![6; 4000],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(100_000)].concat(),
        [
            b"POST /api/v1/srs/register HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
            vec![b'{'; 100_000],
        ]
        .concat(),
        [
            b"POST /api/v1/srs/register HTTP/1.1\r\nContent-Length: 100000\r\n\r\n".to_vec(),
            vec![b'['; 100_000],
        ]
        .concat(),
        chunks,
        noise,
    ]
}

/// Reads until the other side closes.
#[track_caller]
fn assert_closed(mut stream: TcpStream, what: &str) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(why) => {
                let still_open =
                    matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!still_open, "{what}: not closed within {PATIENCE:?}");
                return;
            }
        }
    }
}

#[test]
fn nonsense_is_closed_and_a_running_stream_goes_on() {
    let origin = Recorder::start(Behaviour::Answer(OriginScript::default()));
    let mut proxy = Proxy::with(&[("PROXY_WORKERS", "1")]);
    proxy.register("origin", "1", origin.rtmp());
    let mut publisher = Session::start(proxy.rtmp(), ClientScript::publish("live", "x"));
    publisher.wait_started(PATIENCE);

    let all = TCP_SERVERS.iter().flat_map(|server| nonsense().into_iter().map(move |bytes| (server, bytes)));
    let talkers: Vec<_> = all
        .map(|(server, bytes)| {
            let mut stream = TcpStream::connect(proxy.addr(server)).expect("a connection");
            // The proxy may close before it has taken everything.
            let _ = stream.write_all(&bytes);
            (stream, format!("{server} got {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(20)])))
        })
        .collect();
    for (stream, what) in talkers {
        assert_closed(stream, &what);
    }

    publisher.client().send_media(kind::VIDEO, 40, &b"still here"[..]);
    publisher.wait("it is sent", PATIENCE, Session::is_flushed);
    origin.wait_record("the publisher goes on", PATIENCE, |record| {
        record.media().any(|message| message.payload[..] == b"still here"[..])
    });
    assert!(proxy.is_running());
}

#[test]
fn whoever_says_nothing_is_closed() {
    let proxy = Proxy::start();
    let silent: Vec<_> = TCP_SERVERS
        .map(|server| (server, TcpStream::connect(proxy.addr(server)).expect("a connection")))
        .into();
    for (server, stream) in silent {
        assert_closed(stream, server);
    }
    // Half a handshake is no more.
    let mut half = TcpStream::connect(proxy.rtmp()).expect("a connection");
    half.write_all(&[3; 1000]).expect("half a handshake");
    assert_closed(half, "half a handshake");
}

#[test]
fn one_network_leaves_room_for_others() {
    let origin = Recorder::start(Behaviour::Answer(OriginScript::default()));
    let proxy = Proxy::with(&[("PROXY_SESSIONS_PER_NETWORK", "2")]);
    proxy.register("origin", "1", origin.rtmp());
    let publish = |stream: &str| Session::start(proxy.rtmp(), ClientScript::publish("live", stream));
    let mut crowd = [publish("a"), publish("b")];
    for session in &mut crowd {
        session.wait_started(PATIENCE);
    }
    for server in ["PROXY_RTMP_SERVER", "PROXY_HTTP_SERVER"] {
        assert_closed(TcpStream::connect(proxy.addr(server)).expect("a connection"), server);
    }
    wait_until("the log says why", PATIENCE, || proxy.log().contains("(PROXY_SESSIONS_PER_NETWORK)"));
    // Another network, and who steers the proxy.
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), proxy.http());
    other
        .write_all(b"GET /api/v1/versions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    other.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(proxy.origins().len(), 1);
    // Whoever leaves makes room.
    let [first, _second] = crowd;
    drop(first);
    wait_until("there is room again", PATIENCE, || {
        let mut session = publish("c");
        wait_until("it is served or closed", PATIENCE, || {
            session.turn();
            session.is_started() || session.ended().is_some()
        });
        session.is_started()
    });
}

fn connect_from(ip: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((ip, 0)).into()).expect("an address of this host");
    socket.connect(&to.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream
}

#[test]
fn an_answer_comes_however_the_request_is_split() {
    let proxy = Proxy::start();
    let origin: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    let body = registration("a", "1", origin).to_string();
    let request = format!(
        "POST /api/v1/srs/register HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(proxy.system_api()).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).expect("the connection stays open");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(proxy.origins().len(), 1);
    assert_eq!(http::get(proxy.system_api(), "/api/v1/versions").expect("an answer").status, 200);
}
