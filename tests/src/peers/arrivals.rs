//! Players that write down when media arrives: that a stream stalls is seen in the gaps between arrivals.

use super::session::Session;
use super::{PATIENCE, wait_until};
use crate::rtmp::ClientScript;
use hdrhistogram::Histogram;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a player waits for media before it looks whether it is to end: short against the gaps that are of interest.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Read at once.
const BUFFER: usize = 64 * 1024;

/// Gaps are told apart up to this, microseconds; longer ones count as this.
const LONGEST: u64 = 60_000_000;

/// To so many digits.
const DIGITS: u8 = 2;

/// A player, in a thread of its own. It keeps no media.
#[derive(Debug)]
pub struct Watcher {
    name: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    arrivals: u64,
    gaps: Histogram<u64>,
    /// Why it is over.
    over: Option<String>,
}

/// The times between arrivals.
#[derive(Clone, Debug)]
pub struct Gaps(Histogram<u64>);

/// What a look at the connection gave.
enum Look {
    Media,
    Nothing,
    Over(String),
}

impl Watcher {
    /// Plays `app/stream` by RTMP, and waits until media arrives.
    #[track_caller]
    pub fn rtmp(at: SocketAddr, app: &str, stream: &str) -> Self {
        let mut session = Session::start(at, ClientScript::play(app, stream));
        Self::start(format!("{app}/{stream} by RTMP at {at}"), move || {
            let came = session.turn();
            if session.ended().is_some() {
                return Look::Over(session.story());
            }
            let is_media = came && session.messages().next().is_some();
            if is_media {
                session.forget();
            } else if !came {
                thread::sleep(LOOK_EVERY);
            }
            if is_media { Look::Media } else { Look::Nothing }
        })
    }

    /// Fetches `target`, an endless stream, by HTTP, and waits until media arrives.
    #[track_caller]
    pub fn http(at: SocketAddr, target: &str) -> Self {
        let mut stream = TcpStream::connect(at).expect("a connection");
        stream.set_read_timeout(Some(LOOK_EVERY)).expect("a read timeout");
        let request = format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut buffer = vec![0; BUFFER];
        let mut begun = false;
        Self::start(format!("{target} at {at}"), move || match stream.read(&mut buffer) {
            Ok(0) => Look::Over("closed".to_owned()),
            Ok(count) if begun || buffer[..count].starts_with(b"HTTP/1.1 200 ") => {
                begun = true;
                Look::Media
            }
            Ok(count) => Look::Over(String::from_utf8_lossy(&buffer[..count]).into_owned()),
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Look::Nothing,
            Err(why) => Look::Over(why.to_string()),
        })
    }

    #[track_caller]
    fn start(name: String, mut look: impl FnMut() -> Look + Send + 'static) -> Self {
        let state = State { last: None, arrivals: 0, gaps: histogram(), over: None };
        let shared = Arc::new(Shared { stopped: AtomicBool::new(false), state: Mutex::new(state) });
        let watching = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !watching.stopped.load(Ordering::Relaxed) && watching.state().over.is_none() {
                match look() {
                    Look::Media => watching.state().arrived(Instant::now()),
                    Look::Nothing => {}
                    Look::Over(why) => watching.state().over = Some(why),
                }
            }
        });
        let watcher = Self { name, shared, thread: Some(thread) };
        wait_until(&format!("{}: media arrives", watcher.name), PATIENCE, || watcher.arrivals() > 0);
        watcher
    }

    /// How often media has arrived so far. Ends the test when the stream is over.
    #[track_caller]
    pub fn arrivals(&self) -> u64 {
        self.assert_running();
        self.shared.state().arrivals
    }

    /// The gaps since this was last asked, with the one that has not ended yet. Ends the test when the stream is over.
    #[track_caller]
    pub fn take(&self) -> Gaps {
        self.assert_running();
        let mut state = self.shared.state();
        let open = state.last.map_or(Duration::ZERO, |last| last.elapsed());
        state.record(open);
        Gaps(std::mem::replace(&mut state.gaps, histogram()))
    }

    /// Ends the test when the stream is over.
    #[track_caller]
    pub fn assert_running(&self) {
        let over = self.shared.state().over.clone();
        assert!(over.is_none(), "{} is over: {}", self.name, over.unwrap_or_default());
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Waits until media has arrived so many times more at each; ends the test at once when a stream is over.
#[track_caller]
pub fn wait_arrivals(watchers: &[Watcher], count: u64) {
    let wanted: Vec<_> = watchers.iter().map(|watcher| watcher.arrivals() + count).collect();
    for (watcher, wanted) in watchers.iter().zip(wanted) {
        wait_until(&format!("{}: media arrives", watcher.name), PATIENCE, || watcher.arrivals() >= wanted);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn arrived(&mut self, now: Instant) {
        let gap = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.record(gap);
        self.arrivals += 1;
    }

    fn record(&mut self, gap: Duration) {
        self.gaps.saturating_record(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX));
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("a histogram")
}

impl Gaps {
    /// The longest.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| self.0.value_at_quantile(quantile) / 1000;
        write!(f, "{} arrivals, gaps p50 {} ms, p90 {} ms, ", self.0.len(), at(0.5), at(0.9))?;
        write!(f, "p99 {} ms, longest {} ms", at(0.99), self.0.max() / 1000)
    }
}
