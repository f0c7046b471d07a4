//! The table. Knows figures, not how they came to be.

use super::measure::{Metric, Outcome};
use super::peer::{Peer, Protocol};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Ratios are to these peers.
const FLOORS: [Peer; 2] = [Peer::Copy, Peer::HaProxyHttp];

/// All rounds of one case.
pub struct Results {
    title: &'static str,
    protocol: Protocol,
    figures: BTreeMap<Metric, BTreeMap<Peer, Vec<f64>>>,
    invalid: BTreeMap<Peer, String>,
}

impl Results {
    /// No round yet.
    pub fn new(title: &'static str, protocol: Protocol) -> Self {
        Self { title, protocol, figures: BTreeMap::new(), invalid: BTreeMap::new() }
    }

    /// What the case is of.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Adds one round: each peer's outcome. Latencies are compared with the direct ones of the same round.
    pub fn add(&mut self, round: &BTreeMap<Peer, Outcome>) {
        let direct = round.get(&Peer::Direct).map_or(&[][..], |outcome| &outcome.figures);
        for (&peer, outcome) in round {
            if let Some(why) = &outcome.invalid {
                self.invalid.insert(peer, why.clone());
            }
            for &(metric, value) in &outcome.figures {
                self.push(metric, peer, value);
                let added = match metric {
                    Metric::LatencyP50 => Metric::AddedP50,
                    Metric::LatencyP99 => Metric::AddedP99,
                    _ => continue,
                };
                if let Some((_, without)) = direct.iter().find(|(of, _)| *of == metric)
                    && peer != Peer::Direct
                {
                    self.push(added, peer, value - without);
                }
            }
        }
    }

    fn push(&mut self, metric: Metric, peer: Peer, value: f64) {
        self.figures.entry(metric).or_default().entry(peer).or_default().push(value);
    }

    /// Why a peer's figures do not count, for each that has no valid row.
    pub fn invalid(&self) -> impl Iterator<Item = String> + '_ {
        self.invalid.iter().map(|(peer, why)| format!("{}: {}: {why}", self.title, peer.title()))
    }

    fn cell(&self, metric: Metric, peer: Peer) -> String {
        if self.invalid.contains_key(&peer) {
            return "INVALID".into();
        }
        let Some(values) = self.figures.get(&metric).and_then(|peers| peers.get(&peer)) else {
            return "–".into();
        };
        let (low, high) =
            values.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        let median = number(median(values));
        if values.len() == 1 || number(low) == number(high) {
            return median;
        }
        format!("{median} ({} – {})", number(low), number(high))
    }

    fn ratio(&self, metric: Metric, peer: Peer, to: Peer) -> String {
        let of = |peer| {
            let values = self.figures.get(&metric)?.get(&peer)?;
            (!self.invalid.contains_key(&peer)).then(|| median(values))
        };
        match (of(peer), of(to)) {
            (Some(ours), Some(floor)) if floor > 0.0 && peer != Peer::Direct => {
                format!("{:.2}", ours / floor)
            }
            _ => "–".into(),
        }
    }
}

/// A Markdown table of all cases: medians over the rounds, with lowest and highest.
pub fn table(results: &[&Results], peers: &[Peer]) -> String {
    let mut text = String::from("| case | figure |");
    peers.iter().for_each(|peer| text.extend([" ", &peer.title(), " |"]));
    text.push_str("\n|---|---|");
    peers.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    for case in results {
        let mut title = case.title;
        for &metric in case.figures.keys() {
            let mut row = |name: &str, cell: &dyn Fn(Peer) -> String| {
                let cells: Vec<_> = peers.iter().map(|&peer| cell(peer)).collect();
                // Writing to a string does not fail.
                let _ = writeln!(text, "| {} | {name} | {} |", std::mem::take(&mut title), cells.join(" | "));
            };
            row(metric.title(), &|peer| case.cell(metric, peer));
            for &to in FLOORS.iter().filter(|to| metric.has_ratio() && peers.contains(to)) {
                row(&format!("– ÷ {}", to.title()), &|peer| case.ratio(metric, peer, to));
            }
        }
    }
    text
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(latency: f64) -> Outcome {
        Outcome {
            figures: vec![(Metric::LatencyP50, latency), (Metric::CpuPerGigabyte, latency * 10.0)],
            invalid: None,
        }
    }

    #[test]
    fn medians_spread_added_latency_and_ratios_are_shown() {
        let mut results = Results::new("a case", Protocol::Rtmp);
        for step in [0.0, 0.5, 0.25] {
            let mut lost = outcome(9.0);
            lost.invalid = Some("lost".into());
            results.add(&BTreeMap::from([
                (Peer::Direct, outcome(1.0 + step)),
                (Peer::Copy, outcome(2.0 + step)),
                (Peer::HaProxy, outcome(3.0 + step)),
                (Peer::Splice, lost),
            ]));
        }
        let text = table(&[&results], &[Peer::Direct, Peer::Copy, Peer::HaProxy, Peer::Splice]);
        assert!(
            text.contains(
                "| a case | CPU s/GB | 12.5 (10 – 15) | 22.5 (20 – 25) | 32.5 (30 – 35) | INVALID |"
            )
        );
        assert!(text.contains("|  | – ÷ copy relay | – | 1.00 | 1.44 | – |"));
        assert!(text.contains("|  | added p50, ms | – | 1 | 2 | INVALID |"));
        assert!(text.contains("|  | – ÷ copy relay | – | 1.00 | 2.00 | – |"));
    }
}
