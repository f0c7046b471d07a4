//! When the process is about to end, every session is told so once and may finish what it does; hubs have a last word.

mod common;

use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, Runtime, bind_tcp, bind_udp};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Echoes what it hears until the client's end; says `d` when it is told to finish, and ends at once if it heard nothing.
#[derive(Default)]
struct Echo {
    busy: bool,
}

impl Machine for Echo {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { bytes, .. } => {
                self.busy = true;
                cx.actions.forward(Leg::CLIENT, 0..bytes.len());
                return Ok(bytes.len());
            }
            Input::Drain => {
                cx.actions.write(Leg::CLIENT, &b"d"[..]);
                if !self.busy {
                    cx.actions.close(Leg::CLIENT, Close::Flush);
                }
            }
            Input::Eof { leg, .. } => cx.actions.close(leg, Close::Flush),
            _ => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

#[test]
fn sessions_are_told_once_and_the_worker_waits_for_the_busy_ones() {
    let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
    let at = sockets[0].local_addr().unwrap();
    let machine = Arc::new(|_| -> BoxMachine { Box::new(Echo::default()) });
    let runtime = common::serve(Listener::Tcp("echo", Class::Session, sockets, machine), at, common::STALL);
    let connect = || {
        let client = TcpStream::connect(at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    };
    let (mut idle, mut busy) = (connect(), connect());
    let mut heard = [0; 2];
    busy.write_all(b"a").unwrap();
    busy.read_exact(&mut heard[..1]).unwrap();
    runtime.drain();
    let mut last = String::new();
    idle.read_to_string(&mut last).unwrap();
    assert_eq!(last, "d");
    drop(idle);
    busy.read_exact(&mut heard[..1]).unwrap();
    runtime.drain();
    busy.write_all(b"b").unwrap();
    busy.read_exact(&mut heard[1..]).unwrap();
    assert_eq!(&heard, b"db", "told once, and served on");
    assert!(!runtime.is_finished());
    drop(busy);
    assert_finishes(&runtime);
    assert_eq!(runtime.cut(), 0);
}

fn assert_finishes(runtime: &Runtime) {
    let begin = Instant::now();
    while !runtime.is_finished() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

/// A hub that knows its clients, until they say `b`. Tells each its own number and, at the end, goodbye.
struct Numbered {
    number: u8,
    clients: BTreeSet<SocketAddr>,
    is_draining: bool,
}

impl Machine for Numbered {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        let mut tell = |peer, bytes: [u8; 1]| {
            cx.actions.push(Action::Write {
                to: Leg::CLIENT,
                peer: Some(peer),
                bytes: bytes.to_vec().into(),
            });
        };
        match input {
            Input::Datagram { from, bytes: b"b", .. } => {
                self.clients.remove(&from);
                tell(from, [self.number]);
            }
            Input::Datagram { from, .. } if !self.is_draining || self.clients.contains(&from) => {
                self.clients.insert(from);
                tell(from, [self.number]);
            }
            Input::Drain => self.is_draining = true,
            Input::Stop => self.clients.iter().for_each(|client| tell(*client, *b"g")),
            _ => {}
        }
        Ok(0)
    }

    fn sessions(&self) -> usize {
        self.clients.len()
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// Hubs at four workers, and clients, each with the number of the hub it came to.
fn hubs() -> (Runtime, Vec<(UdpSocket, u8)>) {
    const WORKERS: usize = 4;
    let sockets = bind_udp((Ipv4Addr::LOCALHOST, 0).into(), WORKERS).unwrap();
    let at = sockets[0].local_addr().unwrap();
    let made = AtomicU8::new(0);
    let machine = Arc::new(move |_| -> BoxMachine {
        let number = made.fetch_add(1, Ordering::Relaxed);
        Box::new(Numbered { number, clients: BTreeSet::new(), is_draining: false })
    });
    let runtime = common::serve(Listener::Udp("numbered", sockets, machine), at, common::STALL);
    let client = |_| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let number = say(&socket, b"a");
        (socket, number)
    };
    let clients = Vec::from_iter((0..64).map(client));
    let reached = clients.iter().map(|(_, number)| *number).collect::<BTreeSet<_>>();
    assert_eq!(reached.len(), WORKERS, "64 clients come to all workers");
    (runtime, clients)
}

fn say(client: &UdpSocket, what: &[u8]) -> u8 {
    client.send(what).unwrap();
    hear(client)
}

fn hear(client: &UdpSocket) -> u8 {
    let mut answer = [0];
    client.recv(&mut answer).unwrap();
    answer[0]
}

#[test]
fn what_is_left_at_one_worker_stays_there_when_the_others_have_nothing() {
    let (runtime, clients) = hubs();
    let (stay, leave): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(_, number)| *number == 2);
    for (client, number) in &leave {
        assert_eq!(say(client, b"b"), *number);
    }
    runtime.drain();
    for _ in 0..1000 {
        for (client, number) in &stay {
            assert_eq!(say(client, b"a"), *number);
        }
    }
    assert!(!runtime.is_finished());
    for (client, number) in &stay {
        assert_eq!(say(client, b"b"), *number);
    }
    assert_finishes(&runtime);
    assert_eq!(runtime.cut(), 0);
}

#[test]
fn whoever_is_left_at_the_end_is_told_and_counted() {
    let (runtime, clients) = hubs();
    runtime.drain();
    runtime.stop();
    assert!(clients.iter().all(|(client, _)| hear(client) == b'g'));
    assert_finishes(&runtime);
    assert_eq!(runtime.cut(), clients.len());
}

#[test]
fn a_peer_that_does_not_close_is_waited_for_no_longer_than_others() {
    let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
    let at = sockets[0].local_addr().unwrap();
    let machine = Arc::new(|_| -> BoxMachine { Box::new(Echo::default()) });
    let runtime = common::serve(Listener::Tcp("echo", Class::Session, sockets, machine), at, common::STALL);
    let mut idle = TcpStream::connect(at).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while runtime.sessions() == 0 {
        std::thread::yield_now();
    }
    runtime.drain();
    // It hears the last word and the end, and stays.
    let mut heard = Vec::new();
    idle.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"d");
    assert_finishes(&runtime);
}
