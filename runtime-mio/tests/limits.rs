//! Where there is no room: who waits, who does not, and who gives it back.

mod common;
mod toy;

use srs_proxy_core::machine::{Close, Cx, Fault, Input, Leg, Machine};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, bind_tcp, bind_udp};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use toy::{BYE, Toy};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const PATIENCE: Duration = Duration::from_secs(20);

/// More than the sockets of both sides hold.
const MUCH: usize = 16 << 20;

/// Echoes; at an `m` says as much as it can and ends.
struct Echo;

impl Machine for Echo {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { bytes: b"m", .. } => {
                cx.actions.write(Leg::CLIENT, vec![0; MUCH]);
                cx.actions.close(Leg::CLIENT, Close::Flush);
                return Ok(1);
            }
            Input::Stream { bytes, .. } => {
                cx.actions.forward(Leg::CLIENT, 0..bytes.len());
                return Ok(bytes.len());
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

fn listener(class: Class) -> (Listener, SocketAddr) {
    let sockets = bind_tcp(LOOPBACK.into(), 1).unwrap();
    let at = sockets[0].local_addr().unwrap();
    (Listener::Tcp("echo", class, sockets, Arc::new(|_| Box::new(Echo) as BoxMachine)), at)
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection that has been served, and the time it took.
fn served(at: SocketAddr) -> (TcpStream, Duration) {
    let begin = Instant::now();
    let mut stream = connect(at);
    stream.write_all(b"a").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    (stream, begin.elapsed())
}

/// A connection that is not served while those of `control` are.
fn waiting(at: SocketAddr, control: SocketAddr) -> TcpStream {
    let mut stream = connect(at);
    stream.write_all(b"a").unwrap();
    for _ in 0..20 {
        served(control);
    }
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn sessions_that_wait_for_room_do_not_hold_up_control_connections() {
    let ((sessions, at), (controls, control)) = (listener(Class::Session), listener(Class::Control));
    let runtime = common::serve_within(vec![sessions, controls], 1, at);
    let (first, _) = served(at);
    let mut second = waiting(at, control);
    // Each would wait for the 100 ms until sessions are looked at again.
    let slow = (0..50).filter(|_| served(control).1 >= Duration::from_millis(50)).count();
    assert!(slow < 25, "{slow} of 50 waited");
    drop(first);
    second.read_exact(&mut [0]).unwrap();
    runtime.stop();
}

#[test]
fn a_connection_that_is_being_closed_takes_room_until_it_is() {
    let ((sessions, at), (controls, control)) = (listener(Class::Session), listener(Class::Control));
    let runtime = common::serve_within(vec![sessions, controls], 1, at);
    let mut first = connect(at);
    first.write_all(b"m").unwrap();
    first.read_exact(&mut [0]).unwrap();
    let mut second = waiting(at, control);
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), MUCH - 1);
    drop(first);
    second.read_exact(&mut [0]).unwrap();
    runtime.stop();
}

#[test]
fn sockets_of_hubs_are_of_the_same_budget() {
    let origin = UdpSocket::bind(LOOPBACK).unwrap();
    origin.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = origin.local_addr().unwrap();
    let sockets = bind_udp(LOOPBACK.into(), 1).unwrap();
    let hub = sockets[0].local_addr().unwrap();
    let new = move |_| Box::new(Toy::new(Some(to))) as BoxMachine;
    let (controls, control) = listener(Class::Control);
    let (sessions, at) = listener(Class::Session);
    let hubs = Listener::Udp("toy", sockets, Arc::new(new));
    let runtime = common::serve_within(vec![hubs, sessions, controls], 2, to);
    let say = |client: &UdpSocket, what: &[u8]| {
        client.send_to(what, hub).unwrap();
        let mut buffer = [0; 16];
        let (length, _) = origin.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], what);
    };
    let clients: Vec<UdpSocket> = (0..4).map(|_| UdpSocket::bind(LOOPBACK).unwrap()).collect();
    clients[..3].iter().for_each(|client| say(client, b"hello"));
    let mut session = waiting(at, control);
    // A fourth is the last; a fifth finds none, and those that are there go on.
    say(&clients[3], b"hello");
    UdpSocket::bind(LOOPBACK).unwrap().send_to(b"too many", hub).unwrap();
    clients.iter().for_each(|client| say(client, b"again"));
    say(&clients[0], BYE);
    say(&clients[1], BYE);
    session.read_exact(&mut [0]).unwrap();
    runtime.stop();
}
