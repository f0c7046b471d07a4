//! The runtime moves bytes: after a late answer, in both directions, past slow readers, to the last one.

mod common;
mod film;

use film::film;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, OpenError, Ticket, Transport};
use srs_proxy_core::origin::Protocol;
use srs_proxy_core::query::{Answer, Need, Query};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, Runtime, bind_tcp};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ORIGIN: Leg = Leg::new(1, 0);

/// Asks for an origin when the first byte comes, consumes nothing, and splices both directions.
struct Toy;

impl Machine for Toy {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { leg: Leg::CLIENT, .. } => {
                let key = StreamKey::new("__defaultVhost__", "live", "toy").unwrap();
                cx.actions.push(Action::Pause { leg: Leg::CLIENT });
                cx.actions.push(Action::Ask {
                    ticket: Ticket(1),
                    query: Query::Pick { key, need: Need::to_play(Protocol::Rtmp) },
                });
            }
            Input::Answer { answer: Answer::Picked(picked), .. } => {
                cx.actions.push(Action::Open { leg: ORIGIN, to: picked.to, transport: Transport::Tcp });
            }
            Input::Opened { .. } => {
                cx.actions.push(Action::Splice { from: Leg::CLIENT, to: ORIGIN, limit: None });
                cx.actions.push(Action::Splice { from: ORIGIN, to: Leg::CLIENT, limit: None });
                cx.actions.push(Action::Resume { leg: Leg::CLIENT });
            }
            Input::OpenFailed { why: OpenError::Unreachable, .. } => {
                cx.actions.write(Leg::CLIENT, &b"unreachable"[..]);
                cx.actions.close(Leg::CLIENT, Close::Flush);
            }
            Input::Eof { .. } => {
                cx.actions.close(Leg::CLIENT, Close::Flush);
                cx.actions.close(ORIGIN, Close::Flush);
            }
            _ => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

fn start(origin: SocketAddr) -> (Runtime, SocketAddr) {
    start_with(origin, || Box::new(Toy))
}

/// Answers the first bytes with its last words, while the client is still sending.
struct Rude;

impl Machine for Rude {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        if let Input::Stream { leg, .. } = input {
            cx.actions.write(leg, &b"go away"[..]);
            cx.actions.close(leg, Close::Flush);
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

fn start_with(origin: SocketAddr, new: fn() -> BoxMachine) -> (Runtime, SocketAddr) {
    let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
    let at = sockets[0].local_addr().unwrap();
    let listener = Listener::Tcp("toy", Class::Session, sockets, Arc::new(move |_| new()));
    (common::serve(listener, origin, common::STALL), at)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn every_byte_arrives_in_both_directions_even_if_the_readers_are_slow() {
    let (up, down) = (film(20_000_000, 1), film(20_000_000, 2));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (runtime, proxy) = start(listener.local_addr().unwrap());
    let (up_sent, down_sent) = (up.clone(), down.clone());
    let origin = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut writer = stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || writer.write_all(&down_sent).unwrap());
        let mut got = vec![0; 20_000_000];
        // Small reads with the processor given away in between: the proxy finds the socket full again and again.
        for part in got.chunks_mut(10_000) {
            stream.read_exact(part).unwrap();
            std::thread::yield_now();
        }
        writing.join().unwrap();
        got
    });
    let mut client = TcpStream::connect(proxy).unwrap();
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&up_sent).unwrap());
    let mut got = vec![0; 20_000_000];
    for part in got.chunks_mut(7_000) {
        client.read_exact(part).unwrap();
        std::thread::yield_now();
    }
    writing.join().unwrap();
    assert!(got == down);
    assert!(origin.join().unwrap() == up);
    drop(client);
    wait_until("the session ends", || runtime.sessions() == 0);
    runtime.stop();
}

#[test]
fn what_was_received_before_a_close_is_delivered() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (runtime, proxy) = start(listener.local_addr().unwrap());
    let sent = film(5_000_000, 3);
    let copy = sent.clone();
    let client = std::thread::spawn(move || {
        let mut client = TcpStream::connect(proxy).unwrap();
        client.write_all(&copy).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        rest
    });
    let (mut origin, _) = listener.accept().unwrap();
    let mut got = Vec::new();
    origin.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    drop(origin);
    assert!(client.join().unwrap().is_empty());
    wait_until("the session ends", || runtime.sessions() == 0);
    runtime.stop();
}

#[test]
fn last_words_reach_a_client_that_is_still_sending() {
    // A port that was free a moment ago and has no listener.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (runtime, proxy) = start(nobody);
    let mut client = TcpStream::connect(proxy).unwrap();
    client.write_all(&film(100_000, 4)).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"unreachable");
    wait_until("the session ends", || runtime.sessions() == 0);
    runtime.drain();
    drop(client);
    wait_until("the worker ends", || runtime.is_finished());
}

#[test]
fn a_refusal_is_not_taken_back_by_a_reset() {
    let (runtime, proxy) = start_with(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), || Box::new(Rude));
    for _ in 0..50 {
        let mut client = TcpStream::connect(proxy).unwrap();
        client.write_all(&film(300_000, 5)).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"go away");
    }
    runtime.stop();
}

#[test]
fn a_thousand_sessions_leave_nothing_behind() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (runtime, proxy) = start(listener.local_addr().unwrap());
    for _ in 0..1000 {
        let mut client = TcpStream::connect(proxy).unwrap();
        client.write_all(b"x").unwrap();
        let (mut origin, _) = listener.accept().unwrap();
        let mut got = [0; 1];
        origin.read_exact(&mut got).unwrap();
    }
    wait_until("the sessions end", || runtime.sessions() == 0);
    // Other tests of this process come and go, but none holds many.
    wait_until("the descriptors are closed", || descriptors() < 100);
    runtime.stop();
}
