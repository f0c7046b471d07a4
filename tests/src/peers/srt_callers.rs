//! Many SRT callers in one process, on the reference library: publishers and players of numbered messages.

use super::process::{Process, command};
use super::srt::{events, hex};
use super::{PATIENCE, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const CALLERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/srt_callers.py");

/// One caller to be.
#[derive(Clone, Debug)]
pub struct Caller(Value);

impl Caller {
    /// A player; `name` is what it is called in answers.
    pub fn player(name: &str, at: SocketAddr, stream_id: impl AsRef<[u8]>) -> Self {
        let stream_id = hex(stream_id.as_ref());
        Self(json!({ "name": name, "host": at.ip().to_string(), "port": at.port(), "stream_id": stream_id }))
    }

    /// A publisher of numbered messages.
    pub fn publisher(name: &str, at: SocketAddr, stream_id: impl AsRef<[u8]>) -> Self {
        Self::player(name, at, stream_id).with("publishes", true)
    }

    /// With an option of the program: `passphrase`, `key_bytes`, `latency` and `timeout` in ms, `bind`, `rate`,
    /// `rekey`, `congestion`, `filter`.
    pub fn with(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.0[option] = value.into();
        self
    }
}

/// Running callers.
#[derive(Debug)]
pub struct Callers {
    process: Process,
    count: usize,
}

/// Why and when a caller was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The reason's number (1403, …); below 1000 it is the library's own.
    pub code: u64,
    /// From its start.
    pub after: Duration,
}

impl Callers {
    /// Starts all of them at once.
    #[track_caller]
    pub fn start(callers: &[Caller]) -> Self {
        let list: Value = callers.iter().map(|caller| caller.0.clone()).collect();
        let mut start = command("python3");
        start.arg(CALLERS).arg(list.to_string());
        Self { process: Process::start("srt callers", &mut start), count: callers.len() }
    }

    /// What they told of one kind, in order: `connected` (`name`, `ms`, `local`, latencies and key states), `refused`,
    /// `flows`, `closed` (`messages`, `gaps`, losses).
    pub fn events(&self, kind: &str) -> Vec<Value> {
        events(&self.process, kind)
    }

    /// Waits until `count` of them have told something of one kind, and gives it all.
    #[track_caller]
    pub fn wait(&mut self, kind: &str, count: usize) -> Vec<Value> {
        // Those that never begin to flow are found by what all have told when the time is over.
        wait_until(&format!("{count} callers tell {kind}\n{}", self.process.tail()), PATIENCE, || {
            self.events(kind).len() >= count
        });
        self.events(kind)
    }

    /// Waits until each of `players` has received so many pieces of its stream from now on.
    #[track_caller]
    pub fn wait_flow(&mut self, players: &[&str], pieces: usize) {
        let before = self.events("flows").len();
        wait_until(&format!("all of {players:?} receive"), PATIENCE, || {
            let flows = self.events("flows").split_off(before);
            players.iter().all(|name| flows.iter().filter(|flow| flow["name"] == *name).count() >= pieces)
        });
    }

    /// Waits until all are connected.
    #[track_caller]
    pub fn wait_connected(&mut self) -> Vec<Value> {
        self.wait("connected", self.count)
    }

    /// Says goodbye for all, and gives what each saw at its end.
    #[track_caller]
    pub fn leave(mut self) -> Vec<Value> {
        self.process.signal(Signal::TERM);
        self.process.wait_end(PATIENCE).success();
        self.events("closed")
    }

    /// Ends all without a word.
    pub fn kill(mut self) {
        self.process.kill();
    }
}

/// Calls once and gives why it was refused; ends the test if it was not.
#[track_caller]
pub fn refusal(caller: Caller) -> Refused {
    refusals(&[caller]).remove(0)
}

/// All call at once; gives why they were refused, ends the test if one was not.
#[track_caller]
pub fn refusals(callers: &[Caller]) -> Vec<Refused> {
    let refused = Callers::start(callers).wait("refused", callers.len());
    let number = |event: &Value, name: &str| event[name].as_u64().expect("a number");
    let read =
        |event| Refused { code: number(event, "code"), after: Duration::from_millis(number(event, "ms")) };
    refused.iter().map(read).collect()
}

/// Calls once, waits until it is connected, and gives what was negotiated.
#[track_caller]
pub fn connected(caller: Caller) -> (Callers, Value) {
    let mut callers = Callers::start(&[caller]);
    let negotiated = callers.wait_connected().remove(0);
    (callers, negotiated)
}
