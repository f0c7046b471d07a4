//! When the process is about to end, every session is told so once and may finish what it does.

mod common;

use srs_proxy_core::machine::{Close, Cx, Fault, Input, Leg, Machine};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, bind_tcp};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
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
            Input::Eof { leg } => cx.actions.close(leg, Close::Flush),
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
    let begin = Instant::now();
    while !runtime.is_finished() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}
