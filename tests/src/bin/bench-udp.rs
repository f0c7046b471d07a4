//! The datagram benchmark's command line; see `srs_proxy_tests::bench::udp`.

use srs_proxy_tests::bench::udp::case::{CASES, Case, Rounds, measure, table};
use srs_proxy_tests::bench::udp::peer::{PEERS, Peer, Programs};
use srs_proxy_tests::bench::udp::relay::{self, Method};
use std::error::Error;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
bench udp [--quick] [--rounds N] [--case NAME]... [--peer NAME]... [--hub PATH] [--proxy PATH]
    --quick       everything once and briefly, to see that it works
    --rounds N    interleaved rounds, 5 by default
    --case NAME   only this case; may be repeated, may be the beginning of several names
    --peer NAME   only this column; may be repeated
    --hub PATH    our runtime's example; the one beside this program by default
    --proxy PATH  the srs-proxy to measure; $BENCH_PROXY, or the one beside this program, by default
bench-udp relay simple|mmsg|gso LISTEN TARGET
    a floor: a relay that understands nothing";

struct Options {
    window: Duration,
    rounds: usize,
    cases: Vec<Case>,
    peers: Vec<Peer>,
    programs: Programs,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = match arguments[..] {
        ["relay", method, listen, target] => floor(method, listen, target).map(|()| true),
        ["--help" | "-h"] => {
            println!("{USAGE}\ncases: {}", CASES.map(|case| case.name).join(", "));
            Ok(true)
        }
        _ => options(&arguments).and_then(|options| bench(&options)),
    };
    match run {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn floor(method: &str, listen: &str, target: &str) -> Result<(), Box<dyn Error>> {
    let method = Method::named(method).ok_or(USAGE)?;
    Ok(relay::run(method, UdpSocket::bind(listen)?, target.parse()?)?)
}

fn options(arguments: &[&str]) -> Result<Options, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let hub = own.with_file_name("examples").join("udp_hub");
    let proxy = std::env::var_os("BENCH_PROXY").map_or(own.with_file_name("srs-proxy"), PathBuf::from);
    let programs = Programs { hub, proxy };
    let mut options =
        Options { window: Duration::from_secs(2), rounds: 5, cases: Vec::new(), peers: Vec::new(), programs };
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument {
            "--quick" => (options.window, options.rounds) = (Duration::from_millis(200), 1),
            "--rounds" => options.rounds = value()?.parse()?,
            "--hub" => options.programs.hub = std::path::absolute(value()?)?,
            "--proxy" => options.programs.proxy = std::path::absolute(value()?)?,
            "--case" => {
                let name = value()?;
                let before = options.cases.len();
                options.cases.extend(CASES.into_iter().filter(|case| case.name.starts_with(name)));
                if options.cases.len() == before {
                    return Err(format!("no case {name}").into());
                }
            }
            "--peer" => {
                let name = value()?;
                options.peers.extend(PEERS.into_iter().filter(|peer| peer.title() == *name));
            }
            _ => return Err(USAGE.into()),
        }
    }
    if options.cases.is_empty() {
        options.cases = CASES.into();
    }
    if options.peers.is_empty() {
        options.peers = PEERS.into();
    }
    Ok(options)
}

/// Measures and prints; whether all figures count.
fn bench(options: &Options) -> Result<bool, Box<dyn Error>> {
    srs_proxy_tests::bench::raise_descriptor_limit()?;
    let (peers, absent): (Vec<_>, Vec<_>) =
        options.peers.iter().copied().partition(|peer| peer.is_there(&options.programs));
    absent.iter().for_each(|peer| eprintln!("{} is not there: left out", peer.title()));
    let dir = std::env::temp_dir().join(format!("srs-proxy-bench-udp-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut results: Vec<(Case, Rounds)> = Vec::new();
    let mut invalid = Vec::new();
    for case in &options.cases {
        let mut rounds = Rounds::new();
        for round in 0..options.rounds {
            // Each round begins with another peer, so that none is always measured after the same other.
            let mut order = peers.clone();
            order.rotate_left(round % peers.len());
            for peer in order {
                eprintln!("{}, round {} of {}: {}", case.name, round + 1, options.rounds, peer.title());
                let outcome = measure(case, peer, options.window, &options.programs, &dir)?;
                if let Some(why) = &outcome.invalid {
                    invalid.push(format!("{}, {}: {why}", case.name, peer.title()));
                }
                rounds.entry(peer).or_default().push(outcome);
            }
        }
        results.push((*case, rounds));
    }
    std::fs::remove_dir_all(&dir)?;
    println!("{}", table(&results, &peers));
    println!(
        "Medians of {} interleaved rounds (lowest – highest), of those that lost nothing.",
        options.rounds
    );
    invalid.iter().for_each(|line| println!("INVALID {line}"));
    Ok(invalid.is_empty())
}
