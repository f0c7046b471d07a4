//! SRT: an origin on the reference library that fans streams out, and URLs and players of them.

use super::process::{Pipe, Process, command};
use super::temp::TempDir;
use super::{PATIENCE, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

const ORIGIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/srt_origin.py");

/// The state of a key that both sides have agreed on, as the reference library names it by number.
pub const SECURED: u64 = 2;

/// The stream id of a publisher.
pub fn publishing(stream: &str) -> String {
    format!("#!::r={stream},m=publish")
}

/// The stream id of a player.
pub fn playing(stream: &str) -> String {
    format!("#!::r={stream},m=request")
}

/// The URL of a caller for ffmpeg and srt-live-transmit; `more` is `&name=value…` in the program's own units.
pub fn url(at: SocketAddr, stream_id: &str, more: &str) -> String {
    format!("srt://{at}?streamid={stream_id}{more}")
}

/// Bytes as the programs of these tests take them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A running origin.
#[derive(Debug)]
pub struct SrtOrigin {
    process: Process,
    addr: SocketAddr,
}

impl SrtOrigin {
    /// Starts one at any port of loopback.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with options of its program: `--host`, `--port`, `--latency` and `--idle` in ms, `--passphrase`,
    /// `--key-bytes`, `--congestion`.
    #[track_caller]
    pub fn with(options: &[&str]) -> Self {
        let mut process = Process::start("srt origin", command("python3").arg(ORIGIN).args(options));
        let ready: Value =
            serde_json::from_str(&process.wait_line("\"ready\"", PATIENCE)).expect("a line of JSON");
        let addr = ready["addr"].as_str().and_then(|addr| addr.parse().ok()).expect("its address");
        Self { process, addr }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it told of one kind, in order: `hook` (`stream_id` in hex, `version`, `peer`), `accepted` (`id`, `resource`,
    /// `publishes`, `peer`, latencies and key states), `flows`, `closed` (`bytes`, `sha256`, losses).
    pub fn events(&self, kind: &str) -> Vec<Value> {
        events(&self.process, kind)
    }

    /// The first of what it told of one kind about one stream and role; waits for it.
    #[track_caller]
    pub fn wait(&self, kind: &str, resource: &str, publishes: bool) -> Value {
        wait_for(&format!("the origin tells {kind} of {resource}"), PATIENCE, || {
            let fits = |event: &Value| event["resource"] == resource && event["publishes"] == publishes;
            self.events(kind).into_iter().find(fits)
        })
    }

    /// Waits until so many stream ids have arrived, which its callers may know before it has told; gives them all.
    #[track_caller]
    pub fn wait_stream_ids(&self, count: usize) -> Vec<String> {
        wait_for("stream ids arrive", PATIENCE, || {
            let ids = self.stream_ids();
            (ids.len() >= count).then_some(ids)
        })
    }

    /// The stream ids that arrived, in order, as bytes in hex.
    pub fn stream_ids(&self) -> Vec<String> {
        let hooks = self.events("hook");
        hooks.iter().filter_map(|hook| hook["stream_id"].as_str().map(str::to_owned)).collect()
    }

    /// Connections it has now.
    pub fn open(&self) -> usize {
        let closed = self.events("closed").len();
        self.events("accepted").len() - closed
    }

    /// Stops or continues it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// What a program told of one kind, a line of JSON each.
pub(super) fn events(process: &Process, kind: &str) -> Vec<Value> {
    let text = process.text(Pipe::Out);
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["event"] == kind).collect()
}

/// An srt-live-transmit that writes what it plays to a file.
#[derive(Debug)]
pub struct Player {
    process: Process,
    file: PathBuf,
    _dir: TempDir,
}

impl Player {
    /// Starts playing `url`; what becomes of it is not waited for.
    #[track_caller]
    pub fn start(url: &str) -> Self {
        let dir = TempDir::new("srt-player");
        let file = dir.path().join("played.ts");
        // It plays to its standard output, to no file by itself.
        let mut play = command("sh");
        play.args(["-c", "exec srt-live-transmit -a:no \"$0\" file://con > \"$1\"", url]).arg(&file);
        Self { process: Process::start(format!("play {url}"), &mut play), file, _dir: dir }
    }

    /// Waits until `count` bytes are played.
    #[track_caller]
    pub fn wait_bytes(&mut self, count: u64) {
        let file = self.file.clone();
        self.process
            .wait_ready(PATIENCE, || fs::metadata(&file).is_ok_and(|metadata| metadata.len() >= count));
    }

    /// Waits for the line in which it says why it was rejected, which it names by words.
    #[track_caller]
    pub fn wait_rejection(mut self) -> String {
        self.process.wait_line("REJECT reported", PATIENCE)
    }

    /// Waits until `count` bytes are played, ends it, and gives all that it wrote.
    #[track_caller]
    pub fn play(mut self, count: u64) -> Vec<u8> {
        self.wait_bytes(count);
        self.process.signal(Signal::INT);
        self.process.wait_end(PATIENCE);
        fs::read(&self.file).expect("what it played")
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_end(mut self) {
        self.process.wait_end(PATIENCE);
    }
}

/// Where in `whole` the bytes of `part` are, every one of them in order.
pub fn position(whole: &[u8], part: &[u8]) -> Option<usize> {
    /// Enough to find the place; MPEG-TS repeats shorter pieces.
    const START: usize = 188 * 7;
    let start = part.get(..START)?;
    let places = whole.windows(START).enumerate().filter(|(_, window)| *window == start);
    places.map(|(at, _)| at).find(|at| whole[*at..].starts_with(part))
}
