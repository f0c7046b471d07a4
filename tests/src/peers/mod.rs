//! Real programs for end-to-end tests: the proxy itself, origins, publishers, players. Linux only.
//!
//! Everything started here is stopped by its process id when its value is dropped; every wait has a
//! deadline and ends the test with what the program said. No test sleeps: it waits for a condition.

pub mod arrivals;
pub mod browser;
pub mod ffmpeg;
pub mod film;
pub mod fleet;
pub mod http;
pub mod http_origin;
pub mod lossy;
pub mod nat;
pub mod nginx;
pub mod nms;
pub mod packaged;
pub mod packets;
pub mod pion;
pub mod playlist;
pub mod ports;
pub mod proc;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod redis;
pub mod rtc;
pub mod session;
pub mod slow;
pub mod srt;
pub mod srt_by_hand;
pub mod srt_callers;
pub mod temp;
pub mod ts_origin;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take for an ordinary step on a busy two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at: short against what tests measure, long against what a look costs.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `look` gives a value; ends the test with `what` when `deadline` has passed.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `condition` holds; ends the test with `what` when `deadline` has passed.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Raises this process' limit of open descriptors, and so that of the programs it starts, to at least `needed`.
#[track_caller]
pub fn raise_descriptor_limit(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        assert!(
            limit.maximum.is_none_or(|most| most >= needed),
            "{needed} descriptors are not allowed: {limit:?}"
        );
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).expect("a higher limit of descriptors");
    }
}

/// `target/<profile>`, where this test's own executable and the proxy's are.
pub fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let deps = test.parent().expect("an executable lies in a directory");
    deps.parent().expect("tests lie in target/<profile>/deps").to_path_buf()
}

/// `target/peers`, where `scripts/setup` puts the peers that no system package has.
pub fn cache_dir() -> PathBuf {
    profile_dir().parent().expect("profiles lie in target").join("peers")
}
