//! The benchmark's command line; see `srs_proxy_tests::bench`.

use srs_proxy_tests::bench::case::{CASES, Case};
use srs_proxy_tests::bench::measure::Scale;
use srs_proxy_tests::bench::peer::{PEERS, Peer, Protocol};
use srs_proxy_tests::bench::relay::{self, Method};
use srs_proxy_tests::bench::report::{Results, table};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
bench [--quick] [--rounds N] [--case NAME]... [--peer NAME]... [--proxy PATH]
    --quick       everything once and briefly, to see that it works
    --rounds N    interleaved rounds, 3 by default
    --case NAME   only this case; may be repeated, may be the beginning of several names
    --peer NAME   only this one of the columns; may be repeated, may be the beginning of several titles
    --proxy PATH  the srs-proxy to measure; $BENCH_PROXY, or the one beside this program, by default
bench relay copy|splice LISTEN TARGET
    a floor: a relay that understands nothing";

struct Options {
    quick: bool,
    rounds: usize,
    cases: Vec<Case>,
    /// The beginnings of the titles wanted; all if there are none.
    peers: Vec<String>,
    proxy: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = match arguments[..] {
        ["relay", method, listen, target] => relay(method, listen, target).map(|()| true),
        _ => options(&arguments).and_then(|options| options.map_or(Ok(true), |options| bench(&options))),
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

fn relay(method: &str, listen: &str, target: &str) -> Result<(), Box<dyn Error>> {
    let method = match method {
        "copy" => Method::Copy,
        "splice" => Method::Splice,
        _ => return Err(USAGE.into()),
    };
    let (listen, target): (SocketAddr, SocketAddr) = (listen.parse()?, target.parse()?);
    Ok(relay::run(method, &TcpListener::bind(listen)?, target)?)
}

/// `None`: help was asked for and given.
fn options(arguments: &[&str]) -> Result<Option<Options>, Box<dyn Error>> {
    let beside = std::env::current_exe()?.with_file_name("srs-proxy");
    let proxy = std::env::var_os("BENCH_PROXY").map_or(beside, PathBuf::from);
    let mut options = Options { quick: false, rounds: 0, cases: Vec::new(), peers: Vec::new(), proxy };
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument {
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = value()?.parse()?,
            "--proxy" => options.proxy = std::path::absolute(value()?)?,
            "--peer" => options.peers.push(value()?.to_string()),
            "--case" => {
                let name = value()?;
                let exact: Vec<_> = CASES.into_iter().filter(|case| case.name == *name).collect();
                let before = options.cases.len();
                if exact.is_empty() {
                    options.cases.extend(CASES.into_iter().filter(|case| case.name.starts_with(name)));
                }
                options.cases.extend(exact);
                if options.cases.len() == before {
                    return Err(format!(
                        "no case {name}; there are {}",
                        CASES.map(|case| case.name).join(", ")
                    )
                    .into());
                }
            }
            "--help" | "-h" => {
                println!("{USAGE}\ncases: {}", CASES.map(|case| case.name).join(", "));
                return Ok(None);
            }
            _ => return Err(USAGE.into()),
        }
    }
    if options.cases.is_empty() {
        options.cases = CASES.into();
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { 1 } else { 3 };
    }
    Ok(Some(options))
}

/// Measures and prints; whether all figures count.
fn bench(options: &Options) -> Result<bool, Box<dyn Error>> {
    srs_proxy_tests::bench::raise_descriptor_limit()?;
    let peers = peers(options);
    let before = load_average();
    let dir = std::env::temp_dir().join(format!("srs-proxy-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let results = rounds(options, &peers, &dir);
    std::fs::remove_dir_all(&dir)?;
    let results = results?;
    for protocol in [Protocol::Rtmp, Protocol::Http] {
        let of: Vec<_> = results.iter().filter(|results| results.protocol() == protocol).collect();
        let peers: Vec<_> = peers.iter().copied().filter(|peer| peer.passes(protocol)).collect();
        if !of.is_empty() {
            println!("{}", table(&of, &peers));
        }
    }
    println!(
        "Medians of {} interleaved rounds (lowest – highest). CPU: user and system time of",
        options.rounds
    );
    println!(
        "the peer's process, all threads. Added latency: less the direct connection's in the same round."
    );
    let cpus = std::thread::available_parallelism()?;
    println!("{cpus} CPUs; load average {before} before, {} after.", load_average());
    let congestion = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    println!("TCP congestion control: {}.", congestion.trim());
    let invalid: Vec<_> = results.iter().flat_map(Results::invalid).collect();
    invalid.iter().for_each(|line| println!("INVALID {line}"));
    Ok(invalid.is_empty())
}

/// Measures every case as often as asked for, the peers in turn.
fn rounds(options: &Options, peers: &[Peer], dir: &Path) -> std::io::Result<Vec<Results>> {
    let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
    let mut results = Vec::new();
    for case in &options.cases {
        let mut rounds = Results::new(case.title, case.protocol());
        for round in 0..options.rounds {
            let mut outcomes = BTreeMap::new();
            // Each round begins with another peer, so that none is always measured after the same other.
            let mut order: Vec<_> = peers.iter().copied().filter(|&peer| case.wants(peer)).collect();
            let turn = round % order.len();
            order.rotate_left(turn);
            for peer in order {
                eprintln!("{}, round {} of {}: {}", case.name, round + 1, options.rounds, peer.title());
                outcomes.insert(peer, case.measure(peer, &scale, &options.proxy, dir)?);
            }
            rounds.add(&outcomes);
        }
        results.push(rounds);
    }
    Ok(results)
}

/// Of the last minute: what else the machine had to do.
fn load_average() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or_default().to_owned()
}

/// The peers that are wanted and there.
fn peers(options: &Options) -> Vec<Peer> {
    let wanted = |peer: &Peer| {
        let title = peer.title();
        options.peers.is_empty() || options.peers.iter().any(|wanted| title.starts_with(wanted))
    };
    let there = |peer: &Peer| {
        let there = peer.is_there(&options.proxy);
        if !there {
            eprintln!("{} is not installed: left out", peer.title());
        }
        there
    };
    PEERS.into_iter().filter(wanted).filter(there).collect()
}
