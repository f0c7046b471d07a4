//! Pion: a WebRTC origin as SRS is one (ICE-lite, one UDP port for all), and a publisher and viewers that measure loss and
//! latency. Its program is this project's, the protocols in it are Pion's.

use super::process::{Process, command};
use super::{PATIENCE, cache_dir, http};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// How long its publisher and viewers may take beyond their time: to be connected and to say goodbye.
const AROUND: Duration = Duration::from_secs(60);

/// Longer than any test: the time of those that leave when they are told to.
pub const LONGEST: Duration = Duration::from_secs(300);

/// A running origin.
#[derive(Debug)]
pub struct Pion {
    process: Process,
    api: SocketAddr,
    media: SocketAddr,
}

/// Which URL a session has that is made at the origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// SRS's: that of the request, with the session as a further parameter.
    Query,
    /// A path that names the session only.
    Bare,
}

fn program() -> Command {
    let program = cache_dir().join("pion-webrtc");
    assert!(program.exists(), "{} is missing: run scripts/setup", program.display());
    command(program)
}

impl Pion {
    /// Starts one at any ports.
    #[track_caller]
    pub fn start(location: Location) -> Self {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::at(anywhere, anywhere.port(), location)
    }

    /// Starts one at this address of its HTTP API and this port for media, as a restarted origin would.
    #[track_caller]
    pub fn at(api: SocketAddr, media: u16, location: Location) -> Self {
        let mut start = program();
        start.args(["serve", "-http", &api.to_string(), "-udp", &media.to_string()]);
        if location == Location::Bare {
            start.arg("-bare");
        }
        let mut process = Process::start("pion", &mut start);
        let ready = process.wait_line("READY", PATIENCE);
        let mut addresses = ready.split(' ').skip(1).map(|at| at.parse().expect("an address"));
        let (api, media) = (addresses.next().expect("its API"), addresses.next().expect("its media port"));
        Self { process, api, media }
    }

    /// Its HTTP API: `/rtc/v1/whip/`, `/rtc/v1/whep/`, `/rtc/v1/publish/`, `/rtc/v1/play/`.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where it takes media.
    pub fn media(&self) -> SocketAddr {
        self.media
    }

    /// Stops it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops or continues it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How many tracks of `app/stream` have arrived.
    #[track_caller]
    pub fn tracks(&self, stream: &str) -> u64 {
        self.stats()["streams"][stream]["tracks"].as_u64().unwrap_or_default()
    }

    /// How many packets of `app/stream` have arrived.
    #[track_caller]
    pub fn packets(&self, stream: &str) -> u64 {
        self.stats()["streams"][stream]["packets"].as_u64().unwrap_or_default()
    }

    /// The states of its sessions that have not been deleted (`connected`, `disconnected`, …), publishers or viewers.
    #[track_caller]
    pub fn sessions(&self, publishes: bool) -> Vec<String> {
        let stats = self.stats();
        let role = if publishes { "whip" } else { "whep" };
        let sessions = stats["sessions"].as_object().into_iter().flatten().map(|(_, session)| session);
        let of_role = sessions.filter(|session| session["role"] == role);
        of_role.filter_map(|session| session["state"].as_str().map(str::to_owned)).collect()
    }

    /// The requests it was sent, in order: `method`, `uri`, `host`, `authorization`, `forwarded_for`.
    #[track_caller]
    pub fn requests(&self) -> Vec<Value> {
        self.stats()["requests"].as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn stats(&self) -> Value {
        http::get(self.api, "/stats").expect("the origin tells its state").json()
    }
}

/// A publisher whose packets carry their time. No decoder understands them. Dropped, it vanishes without a word.
#[derive(Debug)]
pub struct Publisher {
    process: Process,
}

impl Publisher {
    /// Publishes `packets` per second to `url`, by WHIP or in SRS's JSON as it says.
    #[track_caller]
    pub fn start(url: &str, packets: u32) -> Self {
        let mut start = program();
        start.args(["publish", "-pps", &packets.to_string()]);
        start.args(["-seconds", &LONGEST.as_secs().to_string(), url]);
        let mut process = Process::start("pion publish", &mut start);
        process.wait_line("CONNECTED", PATIENCE);
        Self { process }
    }

    /// Lets it say goodbye; gives how many packets it has sent.
    #[track_caller]
    pub fn leave(mut self) -> u64 {
        self.process.signal(Signal::TERM);
        let sent = report(&mut self.process, AROUND);
        sent["packets"].as_u64().expect("a number of packets")
    }
}

/// Many viewers of one stream, in one process.
#[derive(Debug)]
pub struct Viewers {
    process: Process,
    deadline: Duration,
}

/// What viewers saw, all together.
#[derive(Clone, PartialEq, Debug)]
pub struct Viewed {
    /// How many were connected.
    pub connected: u64,
    /// Packets that arrived.
    pub packets: u64,
    /// Packets that did not, and after which others did.
    pub lost: u64,
    /// Packets that came after later ones.
    pub late: u64,
    /// From the publisher to the viewer: in the middle, and what one of a hundred exceeds.
    pub latency: (Duration, Duration),
    /// The longest time between two packets of one viewer.
    pub gap: Duration,
    /// Where their media came from.
    pub remotes: BTreeSet<SocketAddr>,
    /// How many were answered 200 when they said goodbye.
    pub deleted: u64,
    /// Why others were not connected.
    pub failures: Vec<String>,
}

impl Viewers {
    /// `count` viewers play `url`, by WHEP or in SRS's JSON as it says, for so long; then they say goodbye, or vanish
    /// without a word. Waits until all are connected or have failed.
    #[track_caller]
    pub fn start(url: &str, count: u32, period: Duration, says_goodbye: bool) -> Self {
        let mut start = program();
        start.args(["play", "-viewers", &count.to_string(), "-seconds", &period.as_secs().to_string()]);
        if !says_goodbye {
            start.arg("-vanish");
        }
        let mut process = Process::start(format!("pion play x{count}"), start.arg(url));
        process.wait_line("CONNECTED", AROUND);
        Self { process, deadline: period + AROUND }
    }

    /// Ends their time, and waits until they have left.
    #[track_caller]
    pub fn leave(self) -> Viewed {
        self.process.signal(Signal::TERM);
        self.finish()
    }

    /// Waits until they have left.
    #[track_caller]
    pub fn finish(mut self) -> Viewed {
        let seen = report(&mut self.process, self.deadline);
        let number = |name: &str| seen[name].as_u64().unwrap_or_default();
        let texts = |name: &str| {
            let list = seen[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let time = |name: &str| Duration::from_micros(number(name));
        Viewed {
            connected: number("connected"),
            packets: number("packets"),
            lost: number("lost"),
            late: number("later"),
            latency: (time("p50_us"), time("p99_us")),
            gap: time("gap_us"),
            remotes: texts("candidates").iter().map(|at| at.parse().expect("an address")).collect(),
            deleted: seen["delete"]["200"].as_u64().unwrap_or_default(),
            failures: texts("failures"),
        }
    }
}

#[track_caller]
fn report(process: &mut Process, deadline: Duration) -> Value {
    let ended = process.wait_end(deadline).success();
    let report = ended.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    report.unwrap_or_else(|| panic!("no report: {ended:?}"))
}
