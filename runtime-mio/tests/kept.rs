//! A connection that is clean outlives its session and serves the next; one that is not is closed.

mod common;

use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Note, Opened, Transport};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Ended, Listener, Observer, Runtime, SessionId, bind_tcp};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Has every line of the client answered by the origin, over a kept connection; tells what it was.
struct Asking {
    origin: SocketAddr,
    leg: Leg,
    what: &'static str,
}

impl Machine for Asking {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { leg: Leg::CLIENT, .. } if self.what.is_empty() => {
                self.leg = Leg::new(1, self.leg.generation + 1);
                self.what = "asked";
                cx.actions.push(Action::Open { leg: self.leg, to: self.origin, transport: Transport::Kept });
                cx.actions.push(Action::Pause { leg: Leg::CLIENT });
            }
            Input::Opened { leg, what } => {
                assert_eq!(leg, self.leg);
                self.what = if what == Opened::Reused { "reused " } else { "fresh " };
                cx.actions.push(Action::Resume { leg: Leg::CLIENT });
            }
            Input::Stream { leg, bytes } => {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
                if leg == Leg::CLIENT {
                    cx.actions.forward(self.leg, 0..end + 1);
                } else {
                    cx.actions.write(Leg::CLIENT, self.what.as_bytes());
                    cx.actions.forward(Leg::CLIENT, 0..end + 1);
                    cx.actions.close(self.leg, Close::Keep);
                    self.what = "";
                }
                return Ok(end + 1);
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

struct World {
    runtime: Runtime,
    proxy: SocketAddr,
    origin: TcpListener,
}

impl World {
    fn new() -> Self {
        Self::with(|listener, origin| common::serve(listener, origin, common::STALL))
    }

    fn with(serve: impl FnOnce(Listener, SocketAddr) -> Runtime) -> Self {
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = origin.local_addr().unwrap();
        let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
        let proxy = sockets[0].local_addr().unwrap();
        let machine = Arc::new(move |_| -> BoxMachine {
            Box::new(Asking { origin: at, leg: Leg::new(1, 0), what: "" })
        });
        let runtime = serve(Listener::Tcp("asking", Class::Session, sockets, machine), at);
        Self { runtime, proxy, origin }
    }

    fn client(&self) -> BufReader<TcpStream> {
        let client = TcpStream::connect(self.proxy).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        BufReader::new(client)
    }

    fn accept(&self) -> BufReader<TcpStream> {
        let (stream, _) = self.origin.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        BufReader::new(stream)
    }
}

fn ask(client: &mut BufReader<TcpStream>) {
    client.get_mut().write_all(b"?\n").unwrap();
}

fn answer(origin: &mut BufReader<TcpStream>, with: &str) {
    assert_eq!(line(origin), "?");
    origin.get_mut().write_all(with.as_bytes()).unwrap();
}

fn line(from: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// One question and its answer over a fresh connection.
fn first(world: &World) -> (BufReader<TcpStream>, BufReader<TcpStream>) {
    let mut client = world.client();
    ask(&mut client);
    let mut origin = world.accept();
    answer(&mut origin, "1\n");
    assert_eq!(line(&mut client), "fresh 1");
    (client, origin)
}

#[test]
fn one_connection_serves_many_sessions_one_after_the_other() {
    let world = World::new();
    let (mut client, mut origin) = first(&world);
    for round in 0..100 {
        if round % 3 == 0 {
            client = world.client();
        }
        ask(&mut client);
        answer(&mut origin, &format!("{round}\n"));
        assert_eq!(line(&mut client), format!("reused {round}"));
    }
    world.runtime.stop();
}

/// Tells of each session what it received from its client and from origins.
struct Ledger(Mutex<Sender<(u64, u64)>>);

impl Observer for Ledger {
    fn accepted(&self, _: SessionId, _: &'static str, _: SocketAddr) {}
    fn note(&self, _: SessionId, _: &Note) {}
    fn ended(&self, _: SessionId, ended: &Ended<'_>) {
        assert_eq!(ended.fault, None);
        self.0.lock().unwrap().send((ended.received, ended.from_origin)).unwrap();
    }
}

#[test]
fn a_session_counts_what_it_received_over_connections_that_others_use_too() {
    let (send, ended) = channel();
    let observer: Arc<dyn Observer> = Arc::new(Ledger(Mutex::new(send)));
    let world = World::with(|listener, at| common::serve_observed(listener, at, common::STALL, &observer));
    let (client, mut origin) = first(&world);
    let mut second = world.client();
    for _ in 0..3 {
        ask(&mut second);
        answer(&mut origin, "a long answer\n");
        assert_eq!(line(&mut second), "reused a long answer");
    }
    drop(client);
    assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Ok((2, 2)));
    drop(second);
    assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Ok((6, 42)));
    world.runtime.stop();
}

#[test]
fn two_sessions_at_once_have_two_connections() {
    let world = World::new();
    let (mut client, mut origin) = first(&world);
    ask(&mut client);
    assert_eq!(line(&mut origin), "?");
    let (_, mut other) = first(&world);
    origin.get_mut().write_all(b"2\n").unwrap();
    assert_eq!(line(&mut client), "reused 2");
    // Both are kept now, and the first was used last.
    ask(&mut client);
    answer(&mut origin, "3\n");
    assert_eq!(line(&mut client), "reused 3");
    // While it is in use the other one serves.
    ask(&mut client);
    assert_eq!(line(&mut origin), "?");
    let mut second = world.client();
    ask(&mut second);
    answer(&mut other, "4\n");
    assert_eq!(line(&mut second), "reused 4");
    world.runtime.stop();
}

#[test]
fn what_the_origin_ended_or_spoke_on_is_not_used_again() {
    let world = World::new();
    let (mut client, origin) = first(&world);
    drop(origin);
    ask(&mut client);
    let mut origin = world.accept();
    answer(&mut origin, "2\n");
    assert_eq!(line(&mut client), "fresh 2");
    origin.get_mut().write_all(b"unasked").unwrap();
    ask(&mut client);
    let mut other = world.accept();
    answer(&mut other, "3\nand more than was asked for");
    assert_eq!(line(&mut client), "fresh 3");
    ask(&mut client);
    answer(&mut world.accept(), "4\n");
    assert_eq!(line(&mut client), "fresh 4");
    world.runtime.stop();
}

#[test]
fn an_unused_connection_is_closed_before_its_peer_loses_patience() {
    let world = World::new();
    let (_client, mut origin) = first(&world);
    let begin = Instant::now();
    assert_eq!(origin.read(&mut [0]).unwrap(), 0);
    assert!(begin.elapsed() > Duration::from_secs(3));
    world.runtime.stop();
}

#[test]
fn a_drain_closes_what_is_kept_and_keeps_no_more() {
    let world = World::new();
    let (mut client, mut origin) = first(&world);
    world.runtime.drain();
    let begin = Instant::now();
    assert_eq!(origin.read(&mut [0]).unwrap(), 0);
    assert!(begin.elapsed() < Duration::from_secs(3));
    ask(&mut client);
    let mut origin = world.accept();
    answer(&mut origin, "2\n");
    assert_eq!(line(&mut client), "fresh 2");
    let begin = Instant::now();
    assert_eq!(origin.read(&mut [0]).unwrap(), 0);
    assert!(begin.elapsed() < Duration::from_secs(3));
    world.runtime.stop();
}
