//! Which seeds a scenario runs with, and how a failing one is told. Knows no scenario.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Seeds that failed once, for ever in the test run: `scenario seed`, and after `#` what was wrong.
const ONCE_FAILED: &str = include_str!("seeds.txt");

/// Runs a scenario with the seeds that once failed and with `0..count`.
///
/// `SIM_SEED=n` runs only that one; `SIM_SEEDS=n` that many instead of `count`.
///
/// # Panics
/// As the scenario does, after naming the seed.
pub fn run(scenario: &str, count: u64, mut body: impl FnMut(u64)) {
    let only = number("SIM_SEED");
    let count = number("SIM_SEEDS").unwrap_or(count);
    let seeds: Vec<u64> = match only {
        Some(seed) => vec![seed],
        None => once_failed(scenario).chain(0..count).collect(),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(seed))) {
            eprintln!("\nscenario {scenario} failed with seed {seed}; again with: SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn once_failed(scenario: &str) -> impl Iterator<Item = u64> {
    ONCE_FAILED.lines().filter_map(move |line| {
        let line = line.split('#').next()?.trim();
        if line.is_empty() {
            return None;
        }
        let (name, seed) = line.split_once(' ').unwrap_or_else(|| panic!("no seed in {line:?}"));
        let seed = seed.trim().parse().unwrap_or_else(|_| panic!("no seed in {line:?}"));
        (name == scenario).then_some(seed)
    })
}
