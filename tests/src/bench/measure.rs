//! How one peer is measured in one case, whatever the protocol; and what figures are called.

use super::load::Drive;
use super::peer::{Peer, Process, Protocol};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Anything that should be over at once is an error after this long.
pub const LIMIT: Duration = Duration::from_secs(20);
/// How long a peer may take to close descriptors whose connections have ended, before they count as left.
const SETTLE: Duration = Duration::from_secs(5);

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
    CpuPerRequest,
    CpuPerSetup,
    CpuPerViewer,
    SetupP50,
    SetupP99,
    LatencyP50,
    LatencyP99,
    AddedP50,
    AddedP99,
    Throughput,
    Requests,
    RequestP50,
    RequestP99,
    OriginConnections,
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
            Self::CpuPerRequest => "CPU µs/request",
            Self::CpuPerSetup => "CPU ms/setup",
            Self::CpuPerViewer => "CPU ms/s per viewer",
            Self::SetupP50 => "setup p50, ms",
            Self::SetupP99 => "setup p99, ms",
            Self::LatencyP50 => "latency p50, ms",
            Self::LatencyP99 => "latency p99, ms",
            Self::AddedP50 => "added p50, ms",
            Self::AddedP99 => "added p99, ms",
            Self::Throughput => "MB/s",
            Self::Requests => "requests/s",
            Self::RequestP50 => "request p50, ms",
            Self::RequestP99 => "request p99, ms",
            Self::OriginConnections => "connections at the origin",
            Self::SessionMemory => "memory per session, KB",
            Self::DescriptorsLeft => "descriptors left",
            Self::ThreadsLeft => "threads left",
            Self::MemoryLeft => "memory left, KB",
            Self::MemoryGrown => "– growth when as many come again, KB",
            Self::Startup => "start to listening, ms",
            Self::GeneratorBusy => "load generator's CPU, %",
        }
    }

    /// Whether its ratio to a floor's is a result.
    pub fn has_ratio(self) -> bool {
        matches!(
            self,
            Self::CpuPerGigabyte
                | Self::CpuPerMessage
                | Self::CpuPerRequest
                | Self::CpuPerSetup
                | Self::CpuPerViewer
                | Self::SetupP50
                | Self::SetupP99
                | Self::Requests
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

/// What is measured, in one protocol's words.
pub trait Measure {
    /// The protocol's load.
    type World: Drive;
    /// What the peers pass on.
    const PROTOCOL: Protocol;

    /// An origin that listens, and no client.
    ///
    /// # Errors
    /// The system's.
    fn world(&self) -> io::Result<Self::World>;

    /// Takes the figures.
    ///
    /// # Errors
    /// The system's, or what makes the figures not count.
    fn run(&self, bench: &mut Bench<'_, Self::World>) -> io::Result<()>;
}

/// Measures `peer` once. Whatever goes wrong with it makes the outcome invalid.
///
/// # Errors
/// The system's: there is no origin to measure with.
pub fn measure<M: Measure>(
    load: &M,
    peer: Peer,
    scale: &Scale,
    proxy: &Path,
    dir: &Path,
) -> io::Result<Outcome> {
    let mut world = load.world()?;
    let process = match Process::start(peer, M::PROTOCOL, proxy, world.origin()?, dir) {
        Ok(process) => process,
        Err(error) => return Ok(Outcome { figures: Vec::new(), invalid: Some(error.to_string()) }),
    };
    let mut bench = Bench { world: &mut world, process: process.as_ref(), scale, figures: Vec::new() };
    let run = load.run(&mut bench);
    let figures = bench.figures;
    let wrong = world.faults().first().cloned().or_else(|| run.err().map(|error| error.to_string()));
    let invalid = wrong.map(|wrong| match process.and_then(|process| process.last_words()) {
        Some(log) => format!("{wrong} (its log ends: {log})"),
        None => wrong,
    });
    Ok(Outcome { figures, invalid })
}

/// What a window cost.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// CPU seconds of the peer; 0 without one.
    pub cpu: f64,
    /// Seconds that passed.
    pub elapsed: f64,
}

/// What a peer holds at rest.
pub struct Rest {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in bytes.
    pub memory: u64,
}

/// One measurement that runs.
pub struct Bench<'a, World> {
    /// The load.
    pub world: &'a mut World,
    /// The peer; none if clients connect to the origin.
    pub process: Option<&'a Process>,
    /// How long and how much.
    pub scale: &'a Scale,
    figures: Vec<(Metric, f64)>,
}

impl<World: Drive> Bench<'_, World> {
    /// Notes a figure.
    pub fn figure(&mut self, metric: Metric, value: f64) {
        self.figures.push((metric, value));
    }

    /// Where clients connect to.
    ///
    /// # Errors
    /// The system's.
    pub fn target(&self) -> io::Result<SocketAddr> {
        self.process.map_or_else(|| self.world.origin(), |process| Ok(process.address()))
    }

    /// Lets the load run for the window.
    ///
    /// # Errors
    /// The system's.
    pub fn window(&mut self) -> io::Result<Window> {
        let window = self.scale.window;
        self.during(|bench| bench.world.run_for(window))
    }

    /// What `run` costs.
    ///
    /// # Errors
    /// The system's, and those of `run`.
    pub fn during(&mut self, run: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<Window> {
        let before = self.process.map(Process::cpu).transpose()?;
        let (began, own) = (Instant::now(), own_cpu());
        run(self)?;
        let (elapsed, own) = (began.elapsed().as_secs_f64(), own_cpu() - own);
        let after = self.process.map(Process::cpu).transpose()?;
        let cpu = before.zip(after).map_or(0.0, |(before, after)| after.since(&before));
        self.figure(Metric::GeneratorBusy, own / elapsed * 100.0);
        Ok(Window { cpu, elapsed })
    }

    /// Notes the latencies that `p50` and `p99` name.
    pub fn quantiles(&mut self, p50: Metric, p99: Metric, nanos: &Histogram<u64>) {
        for (metric, quantile) in [(p50, 0.5), (p99, 0.99)] {
            self.figure(metric, nanos.value_at_quantile(quantile) as f64 / 1e6);
        }
    }

    /// What the peer holds once it has closed what it has to: as many descriptors as `expected`, or no fewer in
    /// two looks that follow each other.
    ///
    /// # Errors
    /// The system's.
    pub fn rest(&mut self, expected: Option<usize>) -> io::Result<Rest> {
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
    ///
    /// # Errors
    /// The system's, or that they do not end.
    pub fn left(&mut self, rest: &Rest) -> io::Result<Rest> {
        self.world.run_until(LIMIT, |world| world.open_connections() == 0)?;
        let now = self.rest(Some(rest.descriptors))?;
        if self.process.is_some() {
            self.figure(Metric::DescriptorsLeft, now.descriptors as f64 - rest.descriptors as f64);
            self.figure(Metric::ThreadsLeft, now.threads as f64 - rest.threads as f64);
            self.figure(Metric::MemoryLeft, (now.memory as f64 - rest.memory as f64) / 1024.0);
        }
        Ok(now)
    }

    /// What the peer holds more than `left`, now that as many sessions as before have come again and ended.
    /// What a peer keeps for later it uses then; what it has lost track of grows.
    ///
    /// # Errors
    /// The system's, or that they do not end.
    pub fn grown(&mut self, left: &Rest) -> io::Result<()> {
        self.world.run_until(LIMIT, |world| world.open_connections() == 0)?;
        let again = self.rest(Some(left.descriptors))?;
        if self.process.is_some() {
            self.figure(Metric::MemoryGrown, (again.memory as f64 - left.memory as f64) / 1024.0);
        }
        Ok(())
    }
}

/// CPU seconds of this thread.
fn own_cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
