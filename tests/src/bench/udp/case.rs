//! The cases, how one peer is measured in one of them, and the table.

use super::peer::{Peer, Process, Programs};
use super::relay::Method;
use super::signal;
use super::swarm::{Load, Swarm, Tally};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::Duration;

/// All flows have been answered by then, or never will be.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// One case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    /// For the command line.
    pub name: &'static str,
    /// For the table.
    pub title: &'static str,
    /// What is sent.
    pub load: Load,
}

const SINGLE: Load =
    Load { flows: 50, rate: 100, size: 1200, burst: 1, gso: false, fan_out: false, srt: false };

/// All cases.
pub const CASES: [Case; 6] = [
    Case {
        name: "webrtc-500",
        title: "WebRTC, 500 × 40 pps, 1200 B, both ways",
        load: Load { flows: 500, rate: 40, ..SINGLE },
    },
    Case {
        name: "webrtc-burst",
        title: "WebRTC, 50 × 400 pps in bursts of 8",
        load: Load { rate: 400, burst: 8, ..SINGLE },
    },
    Case {
        name: "webrtc-gso",
        title: "– the same, sent as GSO bursts",
        load: Load { rate: 400, burst: 8, gso: true, ..SINGLE },
    },
    Case { name: "webrtc-single", title: "WebRTC, 50 × 100 pps single", load: SINGLE },
    Case {
        name: "webrtc-viewers",
        title: "WebRTC, 1 publisher, 300 viewers, 100 pps",
        load: Load { flows: 301, fan_out: true, ..SINGLE },
    },
    Case {
        name: "srt-single",
        title: "SRT, 50 × 100 pps single, 1332 B",
        load: Load { size: 1332, srt: true, ..SINGLE },
    },
];

/// What one measurement gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// CPU of the peer's process for each datagram that arrived, in µs.
    pub cpu: f64,
    /// From the sender's call to the receiver's, in µs.
    pub p50: f64,
    /// The same, of the slowest hundredth.
    pub p99: f64,
    /// Resident memory for each flow, in KB.
    pub memory: f64,
    /// Why it does not count.
    pub invalid: Option<String>,
}

/// Measures `peer` once. Whatever goes wrong with it makes the outcome invalid.
///
/// # Errors
/// The system's: there is no origin to measure with.
pub fn measure(
    case: &Case,
    peer: Peer,
    window: Duration,
    programs: &Programs,
    dir: &Path,
) -> io::Result<Outcome> {
    let mut swarm = Swarm::new(case.load)?;
    let origin = swarm.origin()?;
    let signalling = signal::origin();
    let process = Process::start(peer, programs, origin, signalling.addr(), case.load.srt, dir)?;
    let mut outcome = Outcome::default();
    if let Err(error) = run(&mut swarm, process.as_ref(), window, &mut outcome) {
        outcome.invalid = Some(error.to_string());
    }
    Ok(outcome)
}

fn run(
    swarm: &mut Swarm,
    process: Option<&Process>,
    window: Duration,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let target = process.map_or(swarm.origin()?, |process| process.address);
    if let Some(api) = process.and_then(|process| process.api).filter(|_| !swarm.is_srt()) {
        signal::offer(api, swarm.flows(), CONNECT_LIMIT)?;
    }
    swarm.connect(target, CONNECT_LIMIT)?;
    swarm.run_for(window / 5)?;
    swarm.settle()?;
    let before = process.map(Process::cpu).transpose()?;
    let received = swarm.tally.received;
    swarm.latency.reset();
    swarm.run_for(window)?;
    swarm.settle()?;
    let after = process.map(Process::cpu).transpose()?;
    let Tally { sent, received: all, reordered, damaged } = swarm.tally;
    if let (Some(before), Some(after), Some(process)) = (before, after, process) {
        outcome.cpu = after.since(&before) * 1e6 / (all - received) as f64;
        outcome.memory = process.memory()? as f64 / 1024.0 / swarm.flows() as f64;
    }
    outcome.p50 = swarm.latency.value_at_quantile(0.5) as f64 / 1e3;
    outcome.p99 = swarm.latency.value_at_quantile(0.99) as f64 / 1e3;
    if (all, reordered, damaged) != (sent, 0, 0) {
        let lost = sent - all - damaged;
        outcome.invalid =
            Some(format!("of {sent} datagrams {lost} lost, {damaged} damaged, {reordered} reordered"));
    }
    Ok(())
}

/// All rounds of one case.
pub type Rounds = BTreeMap<Peer, Vec<Outcome>>;

/// A Markdown table: medians over the rounds, with lowest and highest.
pub fn table(results: &[(Case, Rounds)], peers: &[Peer]) -> String {
    let mut text = String::from("| case | figure |");
    peers.iter().for_each(|peer| text.extend([" ", peer.title(), " |"]));
    text.push_str("\n|---|---|");
    peers.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    for (case, rounds) in results {
        let valid = |peer: Peer, of: &dyn Fn(&Outcome) -> f64| -> Option<(f64, f64, f64)> {
            let outcomes = rounds.get(&peer)?;
            let mut values: Vec<f64> =
                outcomes.iter().filter(|outcome| outcome.invalid.is_none()).map(of).collect();
            values.sort_by(f64::total_cmp);
            Some((*values.get(values.len() / 2)?, *values.first()?, *values.last()?))
        };
        let spread = |values: Option<(f64, f64, f64)>| {
            values
                .map_or("INVALID".into(), |(median, low, high)| format!("{median:.2} ({low:.2} – {high:.2})"))
        };
        let cpu = |outcome: &Outcome| outcome.cpu;
        let floors = [Method::Simple, Method::Mmsg, Method::Gso].map(Peer::Floor);
        let best = floors.iter().filter_map(|floor| Some(valid(*floor, &cpu)?.0)).fold(f64::MAX, f64::min);
        let direct =
            |of: &dyn Fn(&Outcome) -> f64| valid(Peer::Direct, of).map_or(0.0, |(median, _, _)| median);
        let mut row = |title: &str, name: &str, cell: &dyn Fn(Peer) -> String| {
            let cells: Vec<_> = peers.iter().map(|peer| cell(*peer)).collect();
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {title} | {name} | {} |", cells.join(" | "));
        };
        let only_proxied = |peer: Peer, cell: String| if peer == Peer::Direct { "–".into() } else { cell };
        row(case.title, "CPU µs/datagram", &|peer| only_proxied(peer, spread(valid(peer, &cpu))));
        row("", "– ÷ best floor", &|peer| {
            only_proxied(
                peer,
                valid(peer, &cpu).map_or("–".into(), |(median, ..)| format!("{:.2}", median / best)),
            )
        });
        for (name, of) in [
            ("latency p50, µs", &(|outcome: &Outcome| outcome.p50) as &dyn Fn(&Outcome) -> f64),
            ("latency p99, µs", &|outcome| outcome.p99),
        ] {
            let without = direct(of);
            row("", name, &|peer| spread(valid(peer, of)));
            row("", "– added", &|peer| {
                only_proxied(
                    peer,
                    valid(peer, of).map_or("–".into(), |(median, ..)| format!("{:.1}", median - without)),
                )
            });
        }
        row("", "memory per flow, KB", &|peer| {
            only_proxied(peer, spread(valid(peer, &|outcome| outcome.memory)))
        });
    }
    text
}
