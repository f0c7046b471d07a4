//! HTTP's part of the benchmark: HTTP-FLV to viewers of many streams and of one, and HLS segments.

pub mod answer;
pub mod driver;
pub mod flv;
pub mod origin;
pub mod viewer;

use super::load::{Drive, Flow};
use super::measure::{Bench, LIMIT, Measure, Metric, Window};
use super::media::Payloads;
use super::peer::Protocol;
use driver::{Whose, World};
use origin::Framing;
use std::io;
use std::time::Duration;

/// A fan-out's messages: 25 a second of this many bytes are 1.5 Mbit/s.
const FRAME: usize = 7500;
/// Time between two of them.
const FRAME_TIME: Duration = Duration::from_millis(40);

/// How fast live media is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// As fast as it is taken.
    FlatOut,
    /// So many megabits of payload a second for each viewer.
    Megabits(u32),
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// HTTP-FLV, a stream for each viewer.
    Live {
        /// How many.
        viewers: usize,
        /// Payload bytes of a tag.
        size: usize,
        /// How fast.
        rate: Rate,
        /// How the origin's answer is framed.
        framing: Framing,
    },
    /// HTTP-FLV, one stream for so many viewers, who all get a frame at once; then all leave.
    FanOut {
        /// How many.
        viewers: usize,
    },
    /// HLS: each of so many players fetches one segment after the other on its connection.
    Segments {
        /// How many.
        players: usize,
        /// Bytes of a segment.
        size: usize,
    },
}

impl Measure for Load {
    type World = World;
    const PROTOCOL: Protocol = Protocol::Http;

    fn world(&self) -> io::Result<World> {
        let (size, framing) = match *self {
            Self::Live { size, framing, .. } => (size, framing),
            Self::FanOut { .. } => (FRAME, Framing::Chunked),
            Self::Segments { size, .. } => (size, Framing::Close),
        };
        World::new(Payloads::new(size), framing)
    }

    fn run(&self, bench: &mut Bench<'_, World>) -> io::Result<()> {
        match *self {
            Self::Live { viewers, size, rate, .. } => bench.live(viewers, size, rate),
            Self::FanOut { viewers } => bench.fan_out(viewers),
            Self::Segments { players, size } => bench.segments(players, size),
        }
    }
}

impl Bench<'_, World> {
    /// Opens so many viewers, all of which start; each watches its own stream, or all the same.
    fn open_live(&mut self, viewers: usize, whose: Whose) -> io::Result<()> {
        let target = self.target()?;
        for number in 0..viewers {
            let stream = if whose == Whose::All { 0 } else { number as u64 };
            self.world.open_live(stream, target)?;
            self.world.turn()?;
        }
        self.world.run_until(LIMIT, World::all_started)
    }

    /// Lets `flow` run: first to warm up, then for the window. What that cost, and messages received in it.
    fn flow(&mut self, flow: Flow, whose: Whose) -> io::Result<(Window, f64)> {
        self.world.set_flow(flow, whose)?;
        self.world.run_for(self.scale.warm_up)?;
        let received = self.world.received;
        self.world.latency.reset();
        let window = self.window()?;
        Ok((window, (self.world.received - received) as f64))
    }

    /// Stops what flows; all of it must have arrived.
    fn stop(&mut self) -> io::Result<()> {
        self.world.set_flow(Flow::Silent, Whose::OneAfterTheOther)?;
        self.world.run_until(LIMIT, World::all_received)
    }

    fn live(&mut self, viewers: usize, size: usize, rate: Rate) -> io::Result<()> {
        self.open_live(viewers, Whose::OneAfterTheOther)?;
        let flow = match rate {
            Rate::FlatOut => Flow::FlatOut,
            Rate::Megabits(megabits) => {
                let bytes_per_second = f64::from(megabits) * 1e6 / 8.0 * viewers as f64;
                Flow::Paced(Duration::from_secs_f64(size as f64 / bytes_per_second))
            }
        };
        let (Window { cpu, elapsed }, messages) = self.flow(flow, Whose::OneAfterTheOther)?;
        let latency = self.world.latency.clone();
        self.stop()?;
        let gigabytes = messages * size as f64 / 1e9;
        if self.process.is_some() {
            self.figure(Metric::CpuPerGigabyte, cpu / gigabytes);
        }
        if rate == Rate::FlatOut {
            self.figure(Metric::Throughput, gigabytes * 1e3 / elapsed);
        } else {
            self.quantiles(Metric::LatencyP50, Metric::LatencyP99, &latency);
        }
        self.world.close_all(FRAME_TIME, LIMIT)
    }

    fn fan_out(&mut self, viewers: usize) -> io::Result<()> {
        // One viewer comes and goes first, so that what a peer allots once is not counted.
        self.open_live(1, Whose::All)?;
        self.world.set_flow(Flow::Paced(FRAME_TIME), Whose::All)?;
        self.world.run_for(self.scale.warm_up)?;
        self.stop()?;
        self.world.close_all(FRAME_TIME, LIMIT)?;
        let rest = self.rest(None)?;
        self.open_live(viewers, Whose::All)?;
        let (Window { cpu, elapsed }, messages) = self.flow(Flow::Paced(FRAME_TIME), Whose::All)?;
        if let Some(process) = self.process {
            let grown = process.memory()?.saturating_sub(rest.memory);
            self.figure(Metric::SessionMemory, grown as f64 / 1024.0 / viewers as f64);
            self.figure(Metric::CpuPerGigabyte, cpu * 1e9 / (messages * FRAME as f64));
            self.figure(Metric::CpuPerViewer, cpu * 1e3 / elapsed / viewers as f64);
        }
        self.stop()?;
        self.world.close_all(FRAME_TIME, LIMIT)?;
        let left = self.left(&rest)?;
        self.open_live(viewers, Whose::All)?;
        self.world.close_all(FRAME_TIME, LIMIT)?;
        self.grown(&left)
    }

    fn segments(&mut self, players: usize, size: usize) -> io::Result<()> {
        let target = self.target()?;
        for number in 0..players {
            self.world.open_player(number as u64, target)?;
        }
        self.world.run_until(LIMIT, World::all_started)?;
        self.world.set_fetching(true)?;
        self.world.run_for(self.scale.warm_up)?;
        let received = self.world.received;
        self.world.latency.reset();
        let Window { cpu, elapsed } = self.window()?;
        let requests = (self.world.received - received) as f64;
        let latency = self.world.latency.clone();
        self.world.set_fetching(false)?;
        self.world.run_until(LIMIT, World::all_received)?;
        if self.process.is_some() {
            self.figure(Metric::CpuPerRequest, cpu * 1e6 / requests);
            self.figure(Metric::CpuPerGigabyte, cpu * 1e9 / (requests * size as f64));
        }
        self.figure(Metric::Requests, requests / elapsed);
        self.quantiles(Metric::RequestP50, Metric::RequestP99, &latency);
        self.figure(Metric::OriginConnections, self.world.asked_on as f64);
        Ok(())
    }
}
