//! How a connection ended is told as it was: in good order, or broken.

mod common;

use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Transport};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, Runtime, bind_tcp};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const ORIGIN: Leg = Leg::new(1, 0);
const PATIENCE: Duration = Duration::from_secs(20);

/// Passes on what its origin sends, by itself or by the driver, and tells how the origin ended.
struct Listens {
    origin: Option<SocketAddr>,
    splices: bool,
    heard: Sender<bool>,
}

impl Machine for Listens {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { leg, bytes } => {
                if leg == ORIGIN {
                    cx.actions.forward(Leg::CLIENT, 0..bytes.len());
                }
                return Ok(bytes.len());
            }
            Input::Eof { leg: ORIGIN, broken } => {
                self.heard.send(broken).unwrap();
                cx.actions.close(ORIGIN, Close::Flush);
                cx.actions.close(Leg::CLIENT, Close::Flush);
            }
            Input::Tick => {
                let to = self.origin.take().unwrap();
                cx.actions.push(Action::Open { leg: ORIGIN, to, transport: Transport::Tcp });
            }
            Input::Opened { .. } if self.splices => {
                cx.actions.push(Action::Splice { from: ORIGIN, to: Leg::CLIENT, limit: None });
            }
            _ => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        self.origin.map(|_| Time::ZERO)
    }
}

fn serve(splices: bool) -> (Runtime, TcpStream, TcpStream, Receiver<bool>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let origin = listener.local_addr().unwrap();
    let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
    let proxy = sockets[0].local_addr().unwrap();
    let (heard, hears) = channel();
    let machine = move |_| {
        let heard = heard.clone();
        Box::new(Listens { origin: Some(origin), splices, heard }) as BoxMachine
    };
    let listeners = Listener::Tcp("ends", Class::Session, sockets, Arc::new(machine));
    let runtime = common::serve(listeners, origin, common::STALL);
    let client = TcpStream::connect(proxy).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (origin, _) = listener.accept().unwrap();
    (runtime, client, origin, hears)
}

#[test]
fn an_end_in_good_order_and_a_break_are_told_apart() {
    for splices in [false, true] {
        for broken in [false, true] {
            let (runtime, mut client, mut origin, hears) = serve(splices);
            origin.write_all(b"some").unwrap();
            let mut got = [0; 4];
            client.read_exact(&mut got).unwrap();
            if broken {
                socket2::SockRef::from(&origin).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(origin);
            assert_eq!(hears.recv_timeout(PATIENCE), Ok(broken), "spliced: {splices}");
            runtime.stop();
        }
    }
}
