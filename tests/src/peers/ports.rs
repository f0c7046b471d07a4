//! Free ports for programs that must be told theirs.
//!
//! A port found by binding port 0 can be taken by any outgoing connection before its program binds it. So
//! these come from below the kernel's range for outgoing connections, and a lock file per port, held until
//! the test's process ends, keeps tests that run at the same time apart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Above what services use, below Linux' default `ip_local_port_range` (32768).
const RANGE: std::ops::Range<u16> = 20_000..32_000;

static HELD: Mutex<BTreeMap<u16, File>> = Mutex::new(BTreeMap::new());

/// A TCP and UDP port that nobody uses, and that no other test is given while this one's process lives.
pub fn free_port() -> u16 {
    let user = rustix::process::getuid().as_raw();
    let locks = std::env::temp_dir().join(format!("srs-proxy-test-ports-{user}"));
    fs::create_dir_all(&locks).expect("the directory of port locks");
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    // Processes begin at different places, so that they do not try each other's ports first.
    let first = std::process::id().wrapping_mul(97);
    let count = u32::from(RANGE.end - RANGE.start);
    for step in 0..count {
        let offset = first.wrapping_add(step) % count;
        let port = RANGE.start + u16::try_from(offset).expect("an offset within the range");
        if held.contains_key(&port) {
            continue;
        }
        let lock = File::create(locks.join(port.to_string())).expect("a port's lock file");
        if lock.try_lock().is_ok() && is_free(port) {
            held.insert(port, lock);
            return port;
        }
    }
    panic!("no port free in {RANGE:?}");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
