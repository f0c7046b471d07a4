//! A thousand flows come and go: their descriptors do, too. Alone in its process, whose descriptors it counts.

mod common;
mod toy;

use rustix::process::{Resource, getrlimit, setrlimit};
use srs_proxy_runtime_mio::{BoxMachine, Listener, bind_udp};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use toy::{BYE, Toy};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const PATIENCE: Duration = Duration::from_secs(20);
const FLOWS: usize = 1000;
/// Datagrams on their way at once: few enough for any socket's buffer.
const AT_ONCE: usize = 50;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_flows_leave_no_descriptor_behind() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let origin = UdpSocket::bind(LOOPBACK).unwrap();
    origin.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = origin.local_addr().unwrap();
    let sockets = bind_udp(LOOPBACK.into(), 1).unwrap();
    let hub = sockets[0].local_addr().unwrap();
    let new = move |_| Box::new(Toy::new(Some(at))) as BoxMachine;
    let runtime = common::serve(Listener::Udp("toy", sockets, Arc::new(new)), at, common::STALL);
    let clients: Vec<UdpSocket> = (0..FLOWS).map(|_| UdpSocket::bind(LOOPBACK).unwrap()).collect();
    let base = descriptors();
    let mut buffer = [0; 16];
    for round in 0..2 {
        for some in clients.chunks(AT_ONCE) {
            for client in some {
                client.send_to(b"hello", hub).unwrap();
            }
            for _ in some {
                assert_eq!(origin.recv(&mut buffer).unwrap(), 5);
            }
        }
        assert_eq!(descriptors(), base + FLOWS, "one socket each, round {round}");
        for some in clients.chunks(AT_ONCE) {
            for client in some {
                client.send_to(BYE, hub).unwrap();
            }
            for _ in some {
                assert_eq!(
                    origin.recv(&mut buffer).unwrap(),
                    BYE.len(),
                    "what a leg was sent goes before its end"
                );
            }
        }
        let begin = Instant::now();
        while descriptors() > base {
            assert!(begin.elapsed() < PATIENCE, "{} of {base} descriptors", descriptors());
            std::thread::yield_now();
        }
    }
    runtime.stop();
}
