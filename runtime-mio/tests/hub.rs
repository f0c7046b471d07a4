//! The runtime carries a datagram hub over real sockets: one listening socket, a socket of its own towards the origin
//! for each client; batches, ICMP, addresses of both kinds.

mod common;
mod toy;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use srs_proxy_core::machine::Note;
use srs_proxy_runtime_mio::{BoxMachine, Ended, Listener, Lost, Observer, Runtime, SessionId, bind_udp};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use toy::Toy;

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const PATIENCE: Duration = Duration::from_secs(10);

/// Remembers what the runtime said last of what was lost.
#[derive(Default)]
struct Losses(Mutex<Lost>);

impl Losses {
    fn said(&self) -> Lost {
        *self.0.lock().unwrap()
    }
}

impl Observer for Losses {
    fn accepted(&self, _: SessionId, _: &'static str, _: SocketAddr) {}
    fn note(&self, _: SessionId, _: &Note) {}
    fn lost(&self, _: SessionId, lost: &Lost) {
        *self.0.lock().unwrap() = *lost;
    }
    fn ended(&self, _: SessionId, _: &Ended<'_>) {}
}

fn socket(address: impl Into<SocketAddr>) -> UdpSocket {
    let socket = UdpSocket::bind(address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A hub at `at` in front of `origin`, and what it loses.
fn hub(at: SocketAddr, origin: &UdpSocket) -> (Runtime, SocketAddr, Arc<Losses>) {
    let losses = Arc::new(Losses::default());
    let observer: Arc<dyn Observer> = Arc::clone(&losses) as _;
    let sockets = bind_udp(at, 1).unwrap();
    let hub = sockets[0].local_addr().unwrap();
    let listener = Listener::Udp("toy", sockets, Arc::new(|_| Box::new(Toy::new(None)) as BoxMachine));
    let origin = origin.local_addr().unwrap();
    (common::serve_observed(listener, origin, common::STALL, &observer), hub, losses)
}

/// Sends datagrams of one size, the last perhaps shorter, in one call.
fn send_segments(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) {
    let size = datagrams[0].len() as u16;
    let pieces: Vec<IoSlice<'_>> = datagrams.iter().map(|datagram| IoSlice::new(datagram)).collect();
    let control = [ControlMessage::UdpGsoSegments(&size)];
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &pieces, &control, MsgFlags::empty(), Some(&to)).unwrap();
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65536];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// Datagrams of these sizes, no two alike.
fn datagrams(sizes: &[usize], seed: u8) -> Vec<Vec<u8>> {
    let one = |(index, size): (usize, &usize)| {
        (0..*size).map(|at| (at as u8).wrapping_mul(31) ^ (index as u8) ^ seed).collect()
    };
    sizes.iter().enumerate().map(one).collect()
}

/// Opens a flow; where the origin sees it come from.
fn greet(client: &UdpSocket, hub: SocketAddr, origin: &UdpSocket) -> SocketAddr {
    client.send_to(b"hello", hub).unwrap();
    let (bytes, path) = receive(origin);
    assert_eq!(bytes, b"hello");
    path
}

#[test]
fn each_client_talks_with_the_origin_over_a_socket_of_its_own() {
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

#[test]
fn bursts_arrive_in_order_and_whole_both_ways_however_they_were_sent() {
    let (origin, client) = (socket(LOOPBACK), socket(LOOPBACK));
    let (runtime, hub, losses) = hub(LOOPBACK.into(), &origin);
    let path = greet(&client, hub, &origin);
    let near = client.local_addr().unwrap();
    let bursts = [
        vec![1200; 40],
        [vec![1000; 20], vec![300]].concat(),
        vec![1, 1, 1],
        vec![700],
        vec![64; 64],
        [vec![8000; 6], vec![1]].concat(),
    ];
    for (round, sizes) in bursts.iter().enumerate() {
        let sent = datagrams(sizes, round as u8);
        for as_one in [true, false] {
            for (from, to, at) in [(&client, hub, &origin), (&origin, path, &client)] {
                if as_one {
                    send_segments(from, to, &sent);
                } else {
                    sent.iter()
                        .for_each(|datagram| assert_eq!(from.send_to(datagram, to).unwrap(), datagram.len()));
                }
                for datagram in &sent {
                    let (bytes, from) = receive(at);
                    assert!(bytes == *datagram, "round {round}");
                    assert_eq!(from, if at.local_addr().unwrap() == near { hub } else { path });
                }
            }
        }
    }
    assert_eq!(losses.said(), Lost::default());
    runtime.stop();
}

#[test]
fn datagrams_of_mixed_sizes_and_clients_keep_their_order() {
    let (origin, clients) = (socket(LOOPBACK), [socket(LOOPBACK), socket(LOOPBACK), socket(LOOPBACK)]);
    let (runtime, hub, losses) = hub(LOOPBACK.into(), &origin);
    let paths: Vec<SocketAddr> = clients.iter().map(|client| greet(client, hub, &origin)).collect();
    let sizes: Vec<usize> = (0..30).map(|n| [500, 500, 900, 100, 500][n % 5]).collect();
    let sent = datagrams(&sizes, 0);
    for datagram in &sent {
        for client in &clients {
            client.send_to(datagram, hub).unwrap();
        }
    }
    let mut got = vec![Vec::new(); clients.len()];
    for _ in 0..sent.len() * clients.len() {
        let (bytes, from) = receive(&origin);
        got[paths.iter().position(|path| *path == from).unwrap()].push(bytes);
    }
    assert!(got.iter().all(|got| *got == sent));
    assert_eq!(losses.said(), Lost::default());
    runtime.stop();
}

#[test]
fn an_origin_that_was_away_for_a_while_is_heard_again_and_counted() {
    // At an address that no other socket here has: what is sent while it is away reaches nobody.
    let (origin, client) = (socket((Ipv4Addr::new(127, 0, 0, 2), 0)), socket(LOOPBACK));
    let (runtime, hub, losses) = hub(LOOPBACK.into(), &origin);
    let path = greet(&client, hub, &origin);
    let at = origin.local_addr().unwrap();
    drop(origin);
    let begin = Instant::now();
    while losses.said().unreachable == 0 {
        assert!(begin.elapsed() < PATIENCE, "the refusals are told");
        client.send_to(b"is anybody there?", hub).unwrap();
        std::thread::yield_now();
    }
    let origin = socket(at);
    let begin = Instant::now();
    let seen = loop {
        assert!(begin.elapsed() < PATIENCE, "the leg lives");
        client.send_to(b"again", hub).unwrap();
        let (bytes, from) = receive(&origin);
        if bytes == b"again" {
            break from;
        }
    };
    assert_eq!(seen, path, "over the same socket");
    origin.send_to(b"yes", path).unwrap();
    assert_eq!(receive(&client), (b"yes".to_vec(), hub));
    assert_eq!((losses.said().blocked, losses.said().failed), (0, 0));
    runtime.stop();
}

#[test]
fn a_client_of_either_kind_is_served_at_one_socket_and_seen_by_its_own_address() {
    let origin = socket(LOOPBACK);
    let (runtime, hub, losses) = hub((Ipv6Addr::UNSPECIFIED, 0).into(), &origin);
    assert!(hub.is_ipv6());
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let (client, hub) = (socket((ip, 0)), SocketAddr::new(ip, hub.port()));
        // The hub checks how it is told of the client.
        let path = greet(&client, hub, &origin);
        let sent = datagrams(&[1200; 20], 0);
        send_segments(&origin, path, &sent);
        origin.send_to(b"one", path).unwrap();
        for datagram in sent.iter().map(Vec::as_slice).chain([&b"one"[..]]) {
            let (bytes, from) = receive(&client);
            assert!(bytes == datagram);
            assert_eq!(from, hub);
        }
    }
    assert_eq!(losses.said(), Lost::default());
    runtime.stop();
}
