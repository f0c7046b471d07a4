//! The cases, and how one peer is measured in one of them.

use super::driver::{Flow, World, histogram};
use super::media::Media;
use super::peer::{Peer, Process};
use crate::rtmp::{OriginScript, Role};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Anything that should be over at once is an error after this long.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a peer may take to close descriptors whose connections have ended, before they count as left.
const SETTLE: Duration = Duration::from_secs(5);
/// Different streams that setups name in turn. The peer may remember each of them.
const SETUP_STREAMS: usize = 1000;
/// Chunk size where the case is not about it: the one message fits.
const ONE_CHUNK: u32 = 4096;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// Media of `size` bytes a message in chunks of `chunk`, flat out or `megabits` a second per connection.
    Media {
        /// Who sends: the clients or the origin.
        role: Role,
        /// How many sessions.
        connections: usize,
        /// Payload bytes of a message.
        size: usize,
        /// The sender's chunk size.
        chunk: u32,
        /// Payload rate of each connection.
        megabits: Option<u32>,
    },
    /// So many publish sessions, each with one small message a second; then all leave.
    Idle(usize),
    /// Publish sessions that end as soon as they have started: so many at a time, so many in all.
    Setup(usize, usize),
}

/// One case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    /// For the command line.
    pub name: &'static str,
    /// For the table.
    pub title: &'static str,
    /// What is measured.
    pub load: Load,
}

/// All cases.
pub const CASES: [Case; 13] = [
    flat("publish-flat-128", "publish, 4 flat out, 16 KB messages, chunk 128", Role::Publish, 128),
    flat("publish-flat-4096", "publish, 4 flat out, 16 KB messages, chunk 4096", Role::Publish, 4096),
    flat("publish-flat-60000", "publish, 4 flat out, 16 KB messages, chunk 60000", Role::Publish, 60_000),
    flat("play-flat-4096", "play, 4 flat out, 16 KB messages, chunk 4096", Role::Play, 4096),
    flat("play-flat-60000", "play, 4 flat out, 16 KB messages, chunk 60000", Role::Play, 60_000),
    paced("publish-paced-128", "publish, 100 × 4 Mbit/s, 16 KB messages, chunk 128", Role::Publish, 128),
    paced("publish-paced-4096", "publish, 100 × 4 Mbit/s, 16 KB messages, chunk 4096", Role::Publish, 4096),
    paced("play-paced-60000", "play, 100 × 4 Mbit/s, 16 KB messages, chunk 60000", Role::Play, 60_000),
    Case {
        name: "publish-small",
        title: "publish, 100 × 1 Mbit/s, 1 KB messages",
        load: Load::Media {
            role: Role::Publish,
            connections: 100,
            size: 1024,
            chunk: ONE_CHUNK,
            megabits: Some(1),
        },
    },
    Case { name: "idle", title: "1,000 publish sessions, 1 message a second each", load: Load::Idle(1000) },
    Case {
        name: "idle-3000",
        title: "3,000 publish sessions, 1 message a second each",
        load: Load::Idle(3000),
    },
    Case { name: "setup-1", title: "session setup, one at a time", load: Load::Setup(1, 2000) },
    Case {
        name: "setup-16",
        title: "session setup, 16 at a time, 10,000 in all",
        load: Load::Setup(16, 10_000),
    },
];

const fn flat(name: &'static str, title: &'static str, role: Role, chunk: u32) -> Case {
    Case { name, title, load: Load::Media { role, connections: 4, size: 16_384, chunk, megabits: None } }
}

const fn paced(name: &'static str, title: &'static str, role: Role, chunk: u32) -> Case {
    Case { name, title, load: Load::Media { role, connections: 100, size: 16_384, chunk, megabits: Some(4) } }
}

impl Case {
    /// The peers that the case says something about. Without a proxy only latencies are of interest.
    pub fn wants(&self, peer: Peer) -> bool {
        peer != Peer::Direct || matches!(self.load, Load::Media { megabits: Some(_), .. } | Load::Setup(..))
    }
}

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Media is measured for this long.
    pub window: Duration,
    /// After it has run for this long.
    pub warm_up: Duration,
    /// Counts of sessions are divided by this.
    pub divisor: usize,
}

impl Scale {
    /// For figures.
    pub const FULL: Self =
        Self { window: Duration::from_secs(3), warm_up: Duration::from_millis(700), divisor: 1 };
    /// To see that everything works; the figures say little.
    pub const QUICK: Self =
        Self { window: Duration::from_millis(200), warm_up: Duration::from_millis(50), divisor: 50 };
}

/// What a figure is called; figures with a ratio are compared with the copy relay's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the titles below say it")]
pub enum Metric {
    CpuPerGigabyte,
    CpuPerMessage,
    CpuPerSetup,
    SetupP50,
    SetupP99,
    LatencyP50,
    LatencyP99,
    AddedP50,
    AddedP99,
    Throughput,
    SessionMemory,
    DescriptorsLeft,
    ThreadsLeft,
    MemoryLeft,
    MemoryGrown,
    Startup,
    GeneratorBusy,
}

impl Metric {
    /// Name and unit, for the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuPerGigabyte => "CPU s/GB",
            Self::CpuPerMessage => "CPU µs/message",
            Self::CpuPerSetup => "CPU ms/setup",
            Self::SetupP50 => "setup p50, ms",
            Self::SetupP99 => "setup p99, ms",
            Self::LatencyP50 => "latency p50, ms",
            Self::LatencyP99 => "latency p99, ms",
            Self::AddedP50 => "added p50, ms",
            Self::AddedP99 => "added p99, ms",
            Self::Throughput => "MB/s",
            Self::SessionMemory => "memory per session, KB",
            Self::DescriptorsLeft => "descriptors left",
            Self::ThreadsLeft => "threads left",
            Self::MemoryLeft => "memory left, KB",
            Self::MemoryGrown => "– growth when as many come again, KB",
            Self::Startup => "start to listening, ms",
            Self::GeneratorBusy => "load generator's CPU, %",
        }
    }

    /// Whether its ratio to the copy relay's is a result.
    pub fn has_ratio(self) -> bool {
        matches!(
            self,
            Self::CpuPerGigabyte
                | Self::CpuPerMessage
                | Self::CpuPerSetup
                | Self::SetupP50
                | Self::SetupP99
                | Self::AddedP50
                | Self::AddedP99
        )
    }
}

/// One measurement.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The figures.
    pub figures: Vec<(Metric, f64)>,
    /// Why they do not count.
    pub invalid: Option<String>,
}

/// Measures `peer` once. Whatever goes wrong with it makes the outcome invalid.
///
/// # Errors
/// The system's: there is no origin to measure with.
pub fn measure(case: &Case, peer: Peer, scale: &Scale, proxy: &Path, dir: &Path) -> io::Result<Outcome> {
    let chunk_size = match case.load {
        Load::Media { role: Role::Play, chunk, .. } => chunk,
        _ => OriginScript::default().chunk_size,
    };
    let script = OriginScript { chunk_size, ..OriginScript::default() };
    let media = match case.load {
        Load::Media { size, chunk, .. } => Media::new(size, chunk, script.stream_id),
        Load::Idle(_) | Load::Setup(..) => Media::new(100, ONE_CHUNK, script.stream_id),
    };
    let mut world = World::new(script, media)?;
    let process = match Process::start(peer, proxy, world.origin()?, dir) {
        Ok(process) => process,
        Err(error) => return Ok(Outcome { figures: Vec::new(), invalid: Some(error.to_string()) }),
    };
    let mut bench = Bench { world: &mut world, process: process.as_ref(), scale, figures: Vec::new() };
    let run = match case.load {
        Load::Media { role, connections, size, chunk, megabits } => {
            bench.media(role, connections, size, chunk, megabits)
        }
        Load::Idle(sessions) => bench.idle(sessions.div_ceil(scale.divisor)),
        Load::Setup(concurrent, total) => bench.setups(concurrent, total.div_ceil(scale.divisor)),
    };
    let figures = bench.figures;
    let wrong = world.faults().first().cloned().or_else(|| run.err().map(|error| error.to_string()));
    let invalid = wrong.map(|wrong| match process.and_then(|process| process.last_words()) {
        Some(log) => format!("{wrong} (its log ends: {log})"),
        None => wrong,
    });
    Ok(Outcome { figures, invalid })
}

/// What a peer holds at rest.
struct Rest {
    descriptors: usize,
    threads: usize,
    memory: u64,
}

struct Bench<'a> {
    world: &'a mut World,
    process: Option<&'a Process>,
    scale: &'a Scale,
    figures: Vec<(Metric, f64)>,
}

impl Bench<'_> {
    fn figure(&mut self, metric: Metric, value: f64) {
        self.figures.push((metric, value));
    }

    fn open(&mut self, role: Role, stream: &str, chunk: u32) -> io::Result<usize> {
        let target = match self.process {
            Some(process) => process.address(),
            None => self.world.origin()?,
        };
        self.world.open(role, stream, chunk, target)
    }

    /// Runs for the window; CPU seconds of the peer (0 without one).
    fn window(&mut self, run: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<f64> {
        let before = self.process.map(Process::cpu).transpose()?;
        run(self)?;
        let after = self.process.map(Process::cpu).transpose()?;
        Ok(before.zip(after).map_or(0.0, |(before, after)| after.since(&before)))
    }

    fn media(
        &mut self,
        role: Role,
        connections: usize,
        size: usize,
        chunk: u32,
        megabits: Option<u32>,
    ) -> io::Result<()> {
        for number in 0..connections {
            self.open(role, &format!("s{number}"), chunk)?;
        }
        self.world.run_until(LIMIT, World::all_started)?;
        self.world.set_flow(match megabits {
            None => Flow::FlatOut,
            Some(megabits) => {
                let bytes_per_second = f64::from(megabits) * 1e6 / 8.0 * connections as f64;
                Flow::Paced(Duration::from_secs_f64(size as f64 / bytes_per_second))
            }
        })?;
        self.world.run_for(self.scale.warm_up)?;
        let received = self.world.received;
        self.world.latency.reset();
        let (began, own) = (Instant::now(), own_cpu());
        let window = self.scale.window;
        let cpu = self.window(|bench| bench.world.run_for(window))?;
        let (elapsed, own) = (began.elapsed().as_secs_f64(), own_cpu() - own);
        let messages = (self.world.received - received) as f64;
        let gigabytes = messages * size as f64 / 1e9;
        let latency = self.world.latency.clone();
        self.world.set_flow(Flow::Silent)?;
        self.world.run_until(LIMIT, World::all_received)?;

        let proxied = self.process.is_some();
        if megabits.is_none() {
            self.figure(Metric::Throughput, gigabytes * 1e3 / elapsed);
        } else {
            self.figure(Metric::LatencyP50, quantile(&latency, 0.5));
            self.figure(Metric::LatencyP99, quantile(&latency, 0.99));
        }
        if proxied && size >= 4096 {
            self.figure(Metric::CpuPerGigabyte, cpu / gigabytes);
        } else if proxied {
            self.figure(Metric::CpuPerMessage, cpu * 1e6 / messages);
        }
        self.figure(Metric::GeneratorBusy, own / elapsed * 100.0);
        Ok(())
    }

    fn idle(&mut self, sessions: usize) -> io::Result<()> {
        // One session comes and goes first, so that what a peer allots once is not counted.
        self.setups_of(1, 1)?;
        let rest = self.rest(None)?;
        self.publish_all(sessions)?;
        let second = Duration::from_secs(1);
        self.world.set_flow(Flow::Paced(second / sessions as u32))?;
        self.world.run_for(second)?;
        let received = self.world.received;
        let window = self.scale.window;
        let cpu = self.window(|bench| bench.world.run_for(window))?;
        let messages = (self.world.received - received) as f64;
        if let Some(process) = self.process {
            let grown = process.memory()?.saturating_sub(rest.memory);
            self.figure(Metric::SessionMemory, grown as f64 / 1024.0 / sessions as f64);
            self.figure(Metric::CpuPerMessage, cpu * 1e6 / messages);
        }
        self.world.set_flow(Flow::Silent)?;
        self.world.run_until(LIMIT, World::all_received)?;
        self.world.close_all();
        let left = self.left(&rest)?;
        // What a peer keeps for later it uses when as many come again; what it has lost track of grows.
        self.world.forget_sessions();
        self.publish_all(sessions)?;
        self.world.close_all();
        self.world.run_until(LIMIT, |world| world.open_connections() == 0)?;
        let again = self.rest(Some(rest.descriptors))?;
        if self.process.is_some() {
            self.figure(Metric::MemoryGrown, (again.memory as f64 - left.memory as f64) / 1024.0);
        }
        Ok(())
    }

    /// Opens so many publish sessions, all of which start.
    fn publish_all(&mut self, sessions: usize) -> io::Result<()> {
        for number in 0..sessions {
            self.open(Role::Publish, &format!("s{number}"), ONE_CHUNK)?;
            self.world.turn()?;
        }
        self.world.run_until(LIMIT, World::all_started)
    }

    fn setups(&mut self, concurrent: usize, total: usize) -> io::Result<()> {
        // Every stream once first: that a peer remembers them all is not what grows with setups.
        self.setups_of(concurrent, total.min(SETUP_STREAMS))?;
        let rest = self.rest(None)?;
        let mut took = None;
        let cpu = self.window(|bench| {
            took = Some(bench.setups_of(concurrent, total)?);
            Ok(())
        })?;
        if let Some(took) = took {
            self.figure(Metric::SetupP50, quantile(&took, 0.5));
            self.figure(Metric::SetupP99, quantile(&took, 0.99));
        }
        if let Some(process) = self.process {
            self.figure(Metric::CpuPerSetup, cpu * 1e3 / total as f64);
            self.figure(Metric::Startup, process.startup.as_secs_f64() * 1e3);
        }
        self.left(&rest)?;
        Ok(())
    }

    /// Sets up `total` publish sessions, `concurrent` at a time; each is closed when it has started. How long
    /// each took, in nanoseconds.
    fn setups_of(&mut self, concurrent: usize, total: usize) -> io::Result<Histogram<u64>> {
        let mut took = histogram()?;
        let (mut opened, mut done) = (0, 0);
        let mut last = Instant::now();
        while done < total {
            while opened < total && opened - done < concurrent {
                self.open(Role::Publish, &format!("s{}", opened % SETUP_STREAMS), ONE_CHUNK)?;
                opened += 1;
            }
            self.world.turn()?;
            for (session, setup) in self.world.take_started() {
                took.saturating_record(setup.as_nanos() as u64);
                self.world.close(session);
                done += 1;
                last = Instant::now();
            }
            if last.elapsed() > LIMIT {
                return Err(io::Error::other(format!("{done} of {total} sessions started, then none")));
            }
        }
        self.world.run_until(LIMIT, |world| world.open_connections() == 0)?;
        self.world.forget_sessions();
        Ok(took)
    }

    /// What the peer holds once it has closed what it has to: as many descriptors as `expected`, or no fewer in
    /// two looks that follow each other.
    fn rest(&mut self, expected: Option<usize>) -> io::Result<Rest> {
        let Some(process) = self.process else { return Ok(Rest { descriptors: 0, threads: 0, memory: 0 }) };
        let began = Instant::now();
        let mut last = usize::MAX;
        loop {
            let now = process.descriptors()?;
            if expected.map_or(now == last, |expected| now <= expected) || began.elapsed() > SETTLE {
                return Ok(Rest { descriptors: now, threads: process.threads()?, memory: process.memory()? });
            }
            last = now;
            self.world.run_for(Duration::from_millis(50))?;
        }
    }

    /// What the peer holds more than at rest, now that all sessions have ended.
    fn left(&mut self, rest: &Rest) -> io::Result<Rest> {
        self.world.run_until(LIMIT, |world| world.open_connections() == 0)?;
        let now = self.rest(Some(rest.descriptors))?;
        if self.process.is_some() {
            self.figure(Metric::DescriptorsLeft, now.descriptors as f64 - rest.descriptors as f64);
            self.figure(Metric::ThreadsLeft, now.threads as f64 - rest.threads as f64);
            self.figure(Metric::MemoryLeft, (now.memory as f64 - rest.memory as f64) / 1024.0);
        }
        Ok(now)
    }
}

fn quantile(nanos: &Histogram<u64>, quantile: f64) -> f64 {
    nanos.value_at_quantile(quantile) as f64 / 1e6
}

/// CPU seconds of this thread.
fn own_cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
