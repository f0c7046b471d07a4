//! The runtime carries a datagram hub: one listening socket, a socket of its own towards the origin for each
//! client, answers that come late.

mod common;
mod toy;

use srs_proxy_runtime_mio::{BoxMachine, Listener, bind_udp};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use toy::Toy;

#[test]
fn each_client_talks_with_the_origin_over_a_socket_of_its_own() {
    const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
    let origin = UdpSocket::bind(LOOPBACK).unwrap();
    let at = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        // Answers with where the datagram came from, so that a mix-up shows.
        while let Ok((n, from)) = origin.recv_from(&mut buffer) {
            let answer = format!("{} from {}", String::from_utf8_lossy(&buffer[..n]), from.port());
            origin.send_to(answer.as_bytes(), from).unwrap();
        }
    });
    let sockets = bind_udp(LOOPBACK.into(), 1).unwrap();
    let hub = sockets[0].local_addr().unwrap();
    let listener = Listener::Udp("toy", sockets, Arc::new(|_| Box::new(Toy::new(None)) as BoxMachine));
    let runtime = common::serve(listener, at, common::STALL);

    let clients: Vec<UdpSocket> = (0..20).map(|_| UdpSocket::bind(LOOPBACK).unwrap()).collect();
    let mut paths = Vec::new();
    for round in 0..3 {
        for (index, client) in clients.iter().enumerate() {
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.send_to(format!("{round}.{index}").as_bytes(), hub).unwrap();
        }
        for (index, client) in clients.iter().enumerate() {
            let mut buffer = [0; 2048];
            let n = client.recv(&mut buffer).unwrap();
            let answer = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let (what, path) = answer.split_once(" from ").unwrap();
            assert_eq!(what, format!("{round}.{index}"));
            paths.push((index, path.to_owned()));
        }
    }
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), clients.len(), "a client's path to the origin does not change");
    assert_eq!(runtime.sessions(), 0, "a hub is no session");
    runtime.drain();
    let begin = Instant::now();
    while !runtime.is_finished() {
        assert!(begin.elapsed() < Duration::from_secs(10), "and does not hold up the end");
        std::thread::yield_now();
    }
}
