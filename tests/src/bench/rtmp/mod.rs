//! RTMP's part of the benchmark: media through publish and play sessions, idle sessions, setups.

pub mod chunks;
pub mod driver;

use super::load::{Drive, Flow, histogram};
use super::measure::{Bench, LIMIT, Measure, Metric, Window};
use super::peer::Protocol;
use crate::rtmp::{OriginScript, Role};
use chunks::Media;
use driver::World;
use hdrhistogram::Histogram;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Different streams that setups name in turn. The peer may remember each of them.
const SETUP_STREAMS: usize = 1000;
/// Chunk size where the case is not about it: the one message fits.
pub const ONE_CHUNK: u32 = 4096;

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
    /// Sessions that end as soon as they have started.
    Setup {
        /// Publishers or players.
        role: Role,
        /// So many at a time.
        concurrent: usize,
        /// So many in all.
        total: usize,
        /// Each of a stream that was never heard of; otherwise of some in turn.
        new: bool,
    },
}

impl Measure for Load {
    type World = World;
    const PROTOCOL: Protocol = Protocol::Rtmp;

    fn world(&self) -> io::Result<World> {
        let chunk_size = match *self {
            Self::Media { role: Role::Play, chunk, .. } => chunk,
            _ => OriginScript::default().chunk_size,
        };
        let script = OriginScript { chunk_size, ..OriginScript::default() };
        let media = match *self {
            Self::Media { size, chunk, .. } => Media::new(size, chunk, script.stream_id),
            Self::Idle(_) | Self::Setup { .. } => Media::new(100, ONE_CHUNK, script.stream_id),
        };
        World::new(script, media)
    }

    fn run(&self, bench: &mut Bench<'_, World>) -> io::Result<()> {
        let divisor = bench.scale.divisor;
        match *self {
            Self::Media { role, connections, size, chunk, megabits } => {
                bench.media(role, connections, size, chunk, megabits)
            }
            Self::Idle(sessions) => bench.idle(sessions.div_ceil(divisor)),
            Self::Setup { role, concurrent, total, new } => {
                bench.setups(role, concurrent, total.div_ceil(divisor), new)
            }
        }
    }
}

impl Bench<'_, World> {
    fn open(&mut self, role: Role, stream: &str, chunk: u32) -> io::Result<usize> {
        let target = self.target()?;
        self.world.open(role, stream, chunk, target)
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
        let Window { cpu, elapsed } = self.window()?;
        let messages = (self.world.received - received) as f64;
        let gigabytes = messages * size as f64 / 1e9;
        let latency = self.world.latency.clone();
        self.world.set_flow(Flow::Silent)?;
        self.world.run_until(LIMIT, World::all_received)?;

        let proxied = self.process.is_some();
        if megabits.is_none() {
            self.figure(Metric::Throughput, gigabytes * 1e3 / elapsed);
        } else {
            self.quantiles(Metric::LatencyP50, Metric::LatencyP99, &latency);
        }
        if proxied && size >= 4096 {
            self.figure(Metric::CpuPerGigabyte, cpu / gigabytes);
        } else if proxied {
            self.figure(Metric::CpuPerMessage, cpu * 1e6 / messages);
        }
        Ok(())
    }

    fn idle(&mut self, sessions: usize) -> io::Result<()> {
        // One session comes and goes first, so that what a peer allots once is not counted.
        self.setups_of(Role::Publish, 1, 0..1)?;
        let rest = self.rest(None)?;
        self.publish_all(sessions)?;
        let second = Duration::from_secs(1);
        self.world.set_flow(Flow::Paced(second / sessions as u32))?;
        self.world.run_for(second)?;
        let received = self.world.received;
        let Window { cpu, .. } = self.window()?;
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
        self.world.forget_sessions();
        self.publish_all(sessions)?;
        self.world.close_all();
        self.grown(&left)
    }

    /// Opens so many publish sessions, all of which start.
    fn publish_all(&mut self, sessions: usize) -> io::Result<()> {
        for number in 0..sessions {
            self.open(Role::Publish, &format!("s{number}"), ONE_CHUNK)?;
            self.world.turn()?;
        }
        self.world.run_until(LIMIT, World::all_started)
    }

    fn setups(&mut self, role: Role, concurrent: usize, total: usize, new: bool) -> io::Result<()> {
        // Every stream once first: that a peer remembers them all is not what grows with setups.
        let first = if new { SETUP_STREAMS } else { 0 };
        self.setups_of(role, concurrent, first..first + total.min(SETUP_STREAMS))?;
        let rest = self.rest(None)?;
        let mut took = None;
        let Window { cpu, .. } = self.during(|bench| {
            let first = if new { 2 * SETUP_STREAMS } else { 0 };
            took = Some(bench.setups_of(role, concurrent, first..first + total)?);
            Ok(())
        })?;
        if let Some(took) = took {
            self.quantiles(Metric::SetupP50, Metric::SetupP99, &took);
        }
        if let Some(process) = self.process {
            self.figure(Metric::CpuPerSetup, cpu * 1e3 / total as f64);
            self.figure(Metric::Startup, process.startup.as_secs_f64() * 1e3);
        }
        self.left(&rest)?;
        Ok(())
    }

    /// Sets up sessions, `concurrent` at a time; each is closed when it has started. The lowest numbers share
    /// streams, above each has its own. How long each took, in nanoseconds.
    fn setups_of(
        &mut self,
        role: Role,
        concurrent: usize,
        numbers: Range<usize>,
    ) -> io::Result<Histogram<u64>> {
        let mut took = histogram()?;
        let total = numbers.len();
        let (mut opened, mut done) = (0, 0);
        let mut last = Instant::now();
        while done < total {
            while opened < total && opened - done < concurrent {
                let number = numbers.start + opened;
                let stream = if numbers.start == 0 { number % SETUP_STREAMS } else { number };
                self.open(role, &format!("s{stream}"), ONE_CHUNK)?;
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
}
