//! A bounded splice moves its bytes and not one more: then the machine has the rest of the stream.

mod common;
mod film;

use film::film;
use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Transport};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, Runtime, bind_tcp};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

const ORIGIN: Leg = Leg::new(1, 0);

/// A frame's length, before its body.
const HEADER: usize = 4;

/// Takes the headers of frames, has their bodies spliced to the origin, and says `k` to each and `e` at the end.
struct Frames(SocketAddr);

impl Machine for Frames {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { bytes, .. } => {
                let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(0) };
                let limit = NonZeroU64::new(u32::from_be_bytes(*header).into());
                cx.actions.push(Action::Splice { from: Leg::CLIENT, to: ORIGIN, limit });
                return Ok(HEADER);
            }
            Input::Spliced { leg } => {
                assert_eq!(leg, Leg::CLIENT);
                cx.actions.write(Leg::CLIENT, &b"k"[..]);
            }
            Input::Eof { leg: Leg::CLIENT, .. } => {
                cx.actions.write(Leg::CLIENT, &b"e"[..]);
                cx.actions.close(ORIGIN, Close::Flush);
                cx.actions.close(Leg::CLIENT, Close::Flush);
            }
            Input::Tick => {
                let origin = std::mem::replace(&mut self.0, ([0; 4], 0).into());
                cx.actions.push(Action::Open { leg: ORIGIN, to: origin, transport: Transport::Tcp });
                cx.actions.push(Action::Pause { leg: Leg::CLIENT });
            }
            Input::Opened { .. } => cx.actions.push(Action::Resume { leg: Leg::CLIENT }),
            _ => {}
        }
        Ok(0)
    }

    /// Connects before the first byte is read.
    fn deadline(&self) -> Option<Time> {
        (self.0.port() != 0).then_some(Time::ZERO)
    }
}

fn frames() -> (Runtime, TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let origin = listener.local_addr().unwrap();
    let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
    let proxy = sockets[0].local_addr().unwrap();
    let machine = Arc::new(move |_| -> BoxMachine { Box::new(Frames(origin)) });
    let runtime =
        common::serve(Listener::Tcp("frames", Class::Session, sockets, machine), origin, common::STALL);
    let client = TcpStream::connect(proxy).unwrap();
    client.set_nodelay(true).unwrap();
    let (origin, _) = listener.accept().unwrap();
    for stream in [&client, &origin] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    (runtime, client, origin)
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

#[test]
fn frames_of_all_sizes_are_told_apart_however_they_arrive() {
    let sizes = [1, 2, 65_531, 65_532, 65_536, 1, 1 << 20, 5, 20_000_000, 70_000, 48 * 1024, 3, 600_000];
    let bodies: Vec<Vec<u8>> = sizes.iter().zip(0..).map(|(size, seed)| film(*size, seed)).collect();
    let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
    for piece in [50_001, 1 << 20, stream.len()] {
        let (runtime, mut client, mut origin) = frames();
        let (mut writer, sent) = (client.try_clone().unwrap(), stream.clone());
        let writing = std::thread::spawn(move || {
            for part in sent.chunks(piece) {
                writer.write_all(part).unwrap();
            }
        });
        // The origin is slower than the client: the proxy finds its socket full again and again.
        let mut got = vec![0; sizes.iter().sum()];
        for part in got.chunks_mut(100_000) {
            origin.read_exact(part).unwrap();
            std::thread::yield_now();
        }
        assert!(got == bodies.concat());
        writing.join().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "k".repeat(sizes.len()) + "e");
        assert_eq!(origin.read(&mut [0]).unwrap(), 0);
        runtime.stop();
    }
}

#[test]
fn what_arrived_with_the_last_spliced_byte_makes_no_event_and_is_not_forgotten() {
    let (runtime, mut client, mut origin) = frames();
    for size in (1..2000).step_by(7).chain([65_536 - HEADER, 65_536, 200_000]) {
        let body = film(size, size as u8);
        // Two at once; nothing more comes until both are answered.
        client.write_all(&[frame(&body), frame(&body)].concat()).unwrap();
        let mut got = vec![0; 2 * size];
        origin.read_exact(&mut got).unwrap();
        assert!(got == [&body[..], &body].concat());
        let mut said = [0; 2];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"kk");
    }
    runtime.stop();
}

#[test]
fn a_stream_that_ends_too_early_is_reported_as_ended() {
    let (runtime, mut client, mut origin) = frames();
    client.write_all(&1000u32.to_be_bytes()).unwrap();
    client.write_all(&[7; 999]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut got, mut said) = (Vec::new(), String::new());
    origin.read_to_end(&mut got).unwrap();
    client.read_to_string(&mut said).unwrap();
    assert_eq!((got, said.as_str()), (vec![7; 999], "e"));
    runtime.stop();
}
