//! What happened in a simulated world, as one hash to compare runs by and a few last lines to read. No judgement.

use srs_proxy_core::machine::{Action, Input};
use srs_proxy_core::time::Time;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// How many lines a failure shows: enough to see a session's last exchange.
const LAST_LINES: usize = 60;

/// The bytes of an input or action that a line shows.
const SHOWN_BYTES: usize = 16;

/// A running hash of all inputs and actions, and the last of them in words.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    steps: u64,
    last: VecDeque<Line>,
    whole: bool,
}

#[derive(Debug)]
enum Line {
    Input(Time, &'static str, String, usize),
    Action(String),
}

impl Default for Trace {
    fn default() -> Self {
        /// The offset basis of FNV-1a, 64 bit.
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        let whole = std::env::var_os("SIM_TRACE").is_some();
        Self { hash: OFFSET, steps: 0, last: VecDeque::new(), whole }
    }
}

impl Trace {
    /// The hash so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many inputs there were.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Notes an input.
    pub(crate) fn input(&mut self, now: Time, input: &Input<'_>) {
        self.steps += 1;
        self.number(now.as_micros());
        let (kind, what, bytes): (_, _, &[u8]) = match input {
            Input::Stream { leg, bytes } => ("Stream", format!("{}.{}", leg.slot, leg.generation), bytes),
            Input::Datagram { leg, from, bytes } => {
                ("Datagram", format!("{}.{} from {from}", leg.slot, leg.generation), bytes)
            }
            Input::Opened { leg, what } => {
                ("Opened", format!("{}.{} {what:?}", leg.slot, leg.generation), &[])
            }
            Input::OpenFailed { leg, why } => {
                ("OpenFailed", format!("{}.{} {why:?}", leg.slot, leg.generation), &[])
            }
            Input::Eof { leg, broken } => {
                let how = if *broken { " broken" } else { "" };
                ("Eof", format!("{}.{}{how}", leg.slot, leg.generation), &[])
            }
            Input::Answer { ticket, answer } => ("Answer", format!("{} {answer:?}", ticket.0), &[]),
            Input::Spliced { leg } => ("Spliced", format!("{}.{}", leg.slot, leg.generation), &[]),
            Input::HungUp { leg } => ("HungUp", format!("{}.{}", leg.slot, leg.generation), &[]),
            Input::Tick => ("Tick", String::new(), &[]),
            Input::Drain => ("Drain", String::new(), &[]),
            Input::Stop => ("Stop", String::new(), &[]),
        };
        self.bytes(kind.as_bytes());
        self.bytes(what.as_bytes());
        self.bytes(bytes);
        let what = if bytes.is_empty() { what } else { format!("{what} {}", shown(bytes)) };
        self.line(Line::Input(now, kind, what, bytes.len()));
    }

    /// Notes an action; `given` is the input's bytes.
    pub(crate) fn action(&mut self, action: &Action, given: &[u8]) {
        let line = match action {
            Action::Forward { to, peer, range } => {
                self.bytes(&given[range.clone()]);
                format!("Forward {range:?} to {}.{} {peer:?}", to.slot, to.generation)
            }
            Action::Write { to, peer, bytes } => {
                self.bytes(bytes);
                let bytes = (bytes.len(), shown(bytes));
                format!("Write {} bytes to {}.{} {peer:?} {}", bytes.0, to.slot, to.generation, bytes.1)
            }
            other => format!("{other:?}"),
        };
        self.bytes(line.as_bytes());
        self.line(Line::Action(line));
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> String {
        let mut text = String::new();
        for line in &self.last {
            let _ = match line {
                Line::Input(at, kind, what, 0) => writeln!(text, "{:>10} {kind} {what}", at.as_micros()),
                Line::Input(at, kind, what, len) => {
                    writeln!(text, "{:>10} {kind} {len} bytes {what}", at.as_micros())
                }
                Line::Action(action) => writeln!(text, "             -> {action}"),
            };
        }
        text
    }

    fn line(&mut self, line: Line) {
        if self.last.len() == LAST_LINES && !self.whole {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        /// The prime of FNV-1a, 64 bit.
        const PRIME: u64 = 0x0100_0000_01b3;
        // Eight bytes at a time: this runs over every byte of every world, in debug builds too.
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            self.hash = (self.hash ^ word).wrapping_mul(PRIME).rotate_left(23);
        }
        for &byte in words.remainder() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        self.hash = (self.hash ^ bytes.len() as u64).wrapping_mul(PRIME);
    }
}

fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(SHOWN_BYTES) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > SHOWN_BYTES {
        text.push('…');
    }
    text
}
