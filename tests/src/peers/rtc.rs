//! WebRTC clients: Chromium with the proxy's pages, and aiortc. Both publish and play real media on loopback.

use super::film::film;
use super::process::{Process, command};
use super::temp::TempDir;
use super::{PATIENCE, cache_dir};
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const BROWSER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/rtc.mjs");
const AIORTC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/aiortc_client.py");

/// How long a session may last that nobody ends.
const LONGEST: Duration = Duration::from_secs(300);

/// Who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// Chromium with the built-in pages, which are served from another origin than the API.
    Chromium,
    /// Chromium with the built-in pages of this HTTP server.
    ChromiumAt(SocketAddr),
    /// aiortc.
    Aiortc,
}

/// What it does, and how it signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Publishes by WHIP.
    Whip,
    /// Plays by WHEP.
    Whep,
    /// Publishes by SRS's JSON; aiortc only.
    Publish,
    /// Plays by SRS's JSON; aiortc only.
    Play,
}

/// A running session.
#[derive(Debug)]
pub struct Client {
    process: Process,
    // The browser's profile. Removed after the process has ended.
    _dir: TempDir,
}

/// What was seen.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The status of each offer's answer.
    pub signalled: Vec<u64>,
    /// The status of each goodbye's answer.
    pub deleted: Vec<u64>,
    /// From its start until it was connected, signalling included.
    pub connected: Option<Duration>,
    /// Frames that were encoded or decoded.
    pub frames: u64,
    /// The picture's width and height.
    pub size: (u64, u64),
    /// Packets that were sent or arrived.
    pub packets: u64,
    /// Packets that did not arrive; a publisher does not know.
    pub lost: u64,
    /// Where its media went to or came from.
    pub remote: Option<SocketAddr>,
    /// The client's own side of that.
    pub local: Option<SocketAddr>,
    /// Why it gave up.
    pub failure: Option<String>,
    /// Errors on the page's console: requests that CORS or the page's own policy forbids, exceptions.
    pub console: Vec<String>,
}

impl Client {
    /// Begins to publish or play `stream` (`app/stream?query`), signalling to the HTTP API at `api`. It is said to flow
    /// when `frames` are encoded or decoded.
    #[track_caller]
    pub fn start(program: Program, role: Role, stream: &str, api: SocketAddr, frames: u64) -> Self {
        let dir = TempDir::new("rtc");
        let (needed, mut start) = match program {
            Program::Aiortc => {
                let python = cache_dir().join("python/bin/python");
                let mut start = command(&python);
                start.arg(AIORTC);
                (python, start)
            }
            Program::Chromium | Program::ChromiumAt(_) => {
                let mut start = command("node");
                start.arg(BROWSER).env("TMPDIR", dir.path()).env("HOME", dir.path());
                (cache_dir().join("node_modules/playwright-core"), start)
            }
        };
        assert!(needed.exists(), "{} is missing: run scripts/setup", needed.display());
        let role = role.as_str();
        start.current_dir(cache_dir()).args([role, stream, &api.to_string(), &frames.to_string()]);
        start.arg(LONGEST.as_secs().to_string());
        match program {
            Program::ChromiumAt(server) => drop(start.arg(format!("http://{server}"))),
            Program::Aiortc => drop(start.arg(film())),
            Program::Chromium => {}
        }
        let process = Process::start(format!("{program:?} {role} {stream}"), &mut start);
        Self { process, _dir: dir }
    }

    /// Waits until the frames are there that it was started with; ends the test at once if it gives up before.
    #[track_caller]
    pub fn wait_flow(&mut self) {
        self.process.wait_line("FLOWS", PATIENCE);
    }

    /// Says goodbye, and tells what it saw.
    #[track_caller]
    pub fn leave(self) -> Report {
        self.process.signal(Signal::TERM);
        self.finish()
    }

    /// Waits until it has given up.
    #[track_caller]
    pub fn finish(mut self) -> Report {
        let ended = self.process.wait_end(PATIENCE).success();
        let seen = ended.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Report::read(&seen.unwrap_or_else(|| panic!("no report: {ended:?}")))
    }

    /// Ends it without a word.
    pub fn kill(mut self) {
        self.process.kill();
    }
}

/// Publishes or plays until `frames` are encoded or decoded, then leaves.
#[track_caller]
pub fn run(program: Program, role: Role, stream: &str, api: SocketAddr, frames: u64) -> Report {
    let mut client = Client::start(program, role, stream, api, frames);
    client.wait_flow();
    client.leave()
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
            Self::Publish => "publish",
            Self::Play => "play",
        }
    }
}

impl Report {
    /// Whether nearly all arrived: what a client in real time loses at its own socket, when the machine is too busy for it,
    /// is one packet of a hundred at most. Whether the proxy loses one is seen by Pion's viewers.
    pub fn is_nearly_whole(&self) -> bool {
        self.lost <= self.packets / 100
    }

    fn read(seen: &Value) -> Self {
        let number = |name: &str| seen[name].as_u64().unwrap_or_default();
        let list = |name: &str| seen[name].as_array().cloned().unwrap_or_default();
        let numbers = |name: &str| list(name).iter().filter_map(Value::as_u64).collect();
        let address = |name: &str| seen[name].as_str().map(|text| text.parse().expect("an address"));
        let side = |at: usize| seen["size"][at].as_u64().unwrap_or_default();
        Self {
            signalled: numbers("signalled"),
            deleted: numbers("deleted"),
            connected: seen["connected"].as_u64().map(Duration::from_millis),
            frames: number("frames"),
            size: (side(0), side(1)),
            packets: number("packets"),
            lost: number("lost"),
            remote: address("remote"),
            local: address("local"),
            failure: seen["failure"].as_str().map(str::to_owned),
            console: list("console").iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        }
    }
}
