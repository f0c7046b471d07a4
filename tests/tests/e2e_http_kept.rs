//! Connections to origins serve many clients, one after the other: no client ever gets what was meant for another, and
//! nothing of a client stays behind.

use srs_proxy_tests::peers::http::{Connection, Request};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen, Step};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

/// Clients at the same time.
const CLIENTS: usize = 40;

/// Requests of each.
const REQUESTS: usize = 60;

/// Descriptors that may be held for connections that are kept, beside those in use.
const KEPT: usize = 64;

#[track_caller]
fn connect(proxy: &Proxy) -> Connection {
    Connection::open(proxy.http()).expect("a connection")
}

/// What nobody asked for.
const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[test]
fn what_an_origin_says_unasked_is_nobodys_answer() {
    let poison = || Step::Send(POISON.to_vec());
    let raw = |head: &[u8]| Answer::raw(&[head, POISON].concat());
    let cases = [
        ("after a length", "GET", Answer::ok("video/mp4", b"media").then(poison())),
        ("after chunks", "GET", Answer::new(200, "OK").chunks(&[b"media"], &[]).then(poison())),
        ("after no body", "GET", Answer::new(404, "Not Found").then(poison())),
        ("after 204", "GET", raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
        ("after 304", "GET", raw(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")),
        ("after HEAD", "HEAD", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")),
        (
            "later",
            "GET",
            Answer::ok("video/mp4", b"media").then(Step::After(Duration::from_millis(300))).then(poison()),
        ),
    ];
    for (what, method, answer) in cases {
        // One connection's first answer is followed by what nobody asked for.
        let origin = HttpOrigin::start(move |seen| match &seen.target[..] {
            "/live/first.m4s" => answer.clone(),
            target => Answer::ok("video/mp4", target.as_bytes()),
        });
        let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
        let mut first = connect(&proxy);
        first.ask(&Request::new(method, "/live/first.m4s")).unwrap_or_else(|why| panic!("{what}: {why}"));
        // What comes when the next request is on its way cannot be told from its answer.
        wait_until("all is said", PATIENCE, || origin.records()[0].answers == 1);
        for n in 0..30 {
            let target = format!("/live/{n}.m4s");
            let mut other = connect(&proxy);
            let connection = if n % 2 == 0 { &mut first } else { &mut other };
            let answer = connection.ask(&Request::get(&target)).unwrap_or_else(|why| panic!("{what}: {why}"));
            assert_eq!(answer.body.text(), target, "{what}");
        }
    }
}

#[test]
fn a_connection_that_the_origin_does_not_keep_is_not_used_again() {
    let old = |seen: &Seen| {
        format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{}", seen.target.len(), seen.target)
    };
    type Script = fn(&Seen) -> Answer;
    let cases: [(&str, Script); 3] = [
        ("close", |seen| Answer::ok("video/mp4", seen.target.as_bytes()).field("Connection", "Close")),
        ("close among others", |seen| {
            Answer::new(200, "OK").field("Connection", "x, close").chunks(&[seen.target.as_bytes()], &[])
        }),
        ("until the end", |seen| Answer::new(200, "OK").until_close(seen.target.as_bytes())),
    ];
    for (what, answer) in cases {
        let origin = HttpOrigin::start(answer);
        assert_one_each(&origin, what);
    }
    let origin = HttpOrigin::start(move |seen| Answer::raw(old(seen).as_bytes()));
    assert_one_each(&origin, "HTTP/1.0");
}

/// Each connection of the origin serves one request.
#[track_caller]
fn assert_one_each(origin: &HttpOrigin, what: &str) {
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
    for n in 0..10 {
        let target = format!("/live/{n}.m4s");
        let answer =
            connect(&proxy).ask(&Request::get(&target)).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!((answer.status, answer.body.text()), (200, target), "{what}");
    }
    let mut connections: Vec<_> = origin.requests().iter().map(|seen| seen.connection).collect();
    connections.dedup();
    assert_eq!(connections.len(), 10, "{what}");
}

#[test]
fn an_answer_that_is_not_read_to_its_end_does_not_reach_the_next_client() {
    let long = vec![b'x'; 3_000_000];
    let origin = HttpOrigin::start(move |seen| match seen.target.contains("long") {
        true => Answer::ok("video/mp4", &long),
        false => Answer::ok("video/mp4", seen.target.as_bytes()),
    });
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
    for n in 0..30 {
        let mut leaving = connect(&proxy);
        leaving.send_request(&Request::get("/live/long.m4s")).expect("it is sent");
        if n % 2 == 0 {
            leaving.head("GET").expect("a head");
        }
        drop(leaving);
        let target = format!("/live/{n}.m4s");
        let answer = connect(&proxy).ask(&Request::get(&target)).expect("an answer");
        assert_eq!(answer.body.text(), target);
    }
}

/// A body that tells whose it is, of a size that depends on the request.
fn body_of(target: &str) -> Vec<u8> {
    let size = target.bytes().fold(7_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 70_000);
    target.bytes().cycle().take(size).collect()
}

#[test]
fn many_clients_with_many_requests_each_get_their_own_answers() {
    let origin = HttpOrigin::start(|seen| {
        let body = body_of(&seen.target);
        match seen.target.len() % 4 {
            0 => Answer::new(200, "OK").chunks(&body.chunks(1000).collect::<Vec<_>>(), &[]),
            1 => Answer::new(404, "Not Found").body(&body),
            2 => Answer::new(200, "OK").until_close(&body),
            _ => Answer::ok("video/mp4", &body),
        }
    });
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "2")]);
    let start = proxy.usage();
    let addr = proxy.http();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            thread::spawn(move || {
                let mut connection = Connection::open(addr).expect("a connection");
                for n in 0..REQUESTS {
                    let target = format!("/live/c{client}-{}.m4s", "n".repeat(n));
                    let request = match n % 5 {
                        0 => Request::new("POST", &target).body(target.as_bytes()),
                        1 => Request::new("HEAD", &target),
                        _ => Request::get(&target),
                    };
                    connection.send_request(&request).expect("it is sent");
                    if (client + n) % 11 == 0 {
                        // It leaves without its answer.
                        connection = Connection::open(addr).expect("a connection");
                        continue;
                    }
                    let method = if n % 5 == 1 { "HEAD" } else { "GET" };
                    let answer = connection.response(method).unwrap_or_else(|why| panic!("{target}: {why}"));
                    let expected = if method == "HEAD" { Vec::new() } else { body_of(&target) };
                    assert!(answer.body.0 == expected, "{target}: {answer:?}");
                    if answer.fields.lists("connection", "close") {
                        connection = Connection::open(addr).expect("a connection");
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every answer is right");
    }
    wait_until("what is left are kept connections", PATIENCE, || {
        proxy.usage().descriptors <= start.descriptors + KEPT
    });
}

#[test]
fn an_origin_that_has_answered_sees_an_end_in_good_order() {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let proxy = Proxy::before(origin.local_addr().expect("an address"), &[]);
    let mut client = Connection::open(proxy.http()).expect("a connection");
    client.send_request(&Request::get("/live/x.ts")).expect("it is sent");
    let (mut stream, _) = origin.accept().expect("the proxy");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        request.extend(byte);
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        .expect("an answer");
    assert_eq!(stream.read(&mut [0]).expect("an end, not a break"), 0);
}
