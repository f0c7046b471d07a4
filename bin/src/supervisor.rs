//! The life of the process: start, the housekeeping in between, draining and the end.

use crate::observer::Log;
use crate::servers;
use crate::settings::{LoadBalancer, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator;
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::origin::Origin;
use srs_proxy_core::time::Time;
use srs_proxy_lb::redis::{RealRedis, Redis};
use srs_proxy_lb::{Asker, Limits, Mailbox, Memory, Notify, OriginLoadBalancer, Outcome, ReplyTo, Setup};
use srs_proxy_runtime_mio::{Clock, Config, Files, MAX_KEPT, Observer, Runtime};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often the load balancer frees what has expired, and gives up what has waited for too long.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// How often a drain looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// How often the default origin is kept alive at least, as if it sent heartbeats; for a short life, three times in it.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A relayed session in which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// A peer that takes nothing of what waits for it for so long is cut off.
const STALL: Duration = Duration::from_secs(30);

/// Descriptors one session takes: the client's, and the origin's or a file's.
const DESCRIPTORS_PER_SESSION: u64 = 2;

/// Descriptors kept for everything else (listeners, pipes, control connections, connections being closed, and
/// besides those that each worker keeps for later sessions, `MAX_KEPT`), but never more than a quarter of all.
const RESERVED_DESCRIPTORS: u64 = 1024;

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// One line that says why it could not start.
pub(crate) fn run(settings: &Settings) -> Result<(), String> {
    // Before anything is opened that counts.
    let max_sessions = max_sessions(settings.workers);
    let signals = signals().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let clock = Clock::start();
    let seed = RandomState::new().hash_one(std::process::id());
    let setup = Setup {
        ttl: settings.origin_ttl,
        limits: Limits::default(),
        policy: settings.policy,
        weights: settings.weights.clone(),
        seed,
    };
    let lb = load_balancer(&settings.load_balancer, &setup, clock)?;
    let default_origin = settings.default_origin.as_ref();
    let interval = HEARTBEAT.min(settings.origin_ttl / 3);
    let mut housekeeping = Housekeeping { lb: &*lb, clock, default_origin, interval, heartbeat: Time::ZERO };
    housekeeping.run();
    let listeners = servers::bind(settings)?;
    let observer: Arc<dyn Observer> = Arc::new(Log::new());
    let files = files(settings)?;
    let config = Config {
        idle: IDLE,
        stall: STALL,
        max_sessions,
        // One network leaves as many to all others.
        max_sessions_per_network: settings.sessions_per_network.unwrap_or(max_sessions.div_ceil(2)),
        files,
    };
    let mut secret = [0; 32];
    getrandom(&mut secret, GetRandomFlags::empty()).map_err(|error| format!("no random numbers: {error}"))?;
    let runtime = Runtime::start(settings.workers, config, listeners, &lb, &observer, clock, secret)
        .map_err(|error| format!("cannot start the workers: {error}"))?;
    log::info!("srs-proxy {} serves with {} workers", env!("CARGO_PKG_VERSION"), settings.workers);

    while let Err(RecvTimeoutError::Timeout) = signals.recv_timeout(HOUSEKEEPING) {
        housekeeping.run();
    }
    quit(settings, &runtime, &signals, &mut housekeeping);
    Ok(())
}

/// The load balancer, which for Redis means that it is there.
fn load_balancer(
    settings: &LoadBalancer,
    setup: &Setup,
    clock: Clock,
) -> Result<Arc<dyn OriginLoadBalancer>, String> {
    match settings {
        LoadBalancer::Memory => Ok(Arc::new(Memory::new(setup))),
        LoadBalancer::Redis { config, prefix, mappings } => {
            let keys = config.keys(prefix);
            let client = Box::new(RealRedis::new(config.clone(), prefix));
            let clock = Box::new(move || clock.now());
            let redis = Redis::start(setup, *mappings, keys, client, clock)
                .map_err(|why| format!("PROXY_LOAD_BALANCER_TYPE=\"redis\": {why}"))?;
            Ok(Arc::new(redis))
        }
    }
}

/// What must be done now and then, from the start to the end.
struct Housekeeping<'a> {
    lb: &'a dyn OriginLoadBalancer,
    clock: Clock,
    default_origin: Option<&'a Origin>,
    /// How often the default origin beats, and when it does next.
    interval: Duration,
    heartbeat: Time,
}

impl Housekeeping<'_> {
    fn run(&mut self) {
        let now = self.clock.now();
        self.lb.tick(now);
        self.keep_default_origin_alive(now);
    }

    /// Registers the origin of `PROXY_DEFAULT_BACKEND_*`, if there is one and it is time to.
    fn keep_default_origin_alive(&mut self, now: Time) {
        /// Nobody waits for a late answer: the next heartbeat comes anyway.
        struct Nobody;
        impl Notify for Nobody {
            fn notify(&self) {}
        }
        let Some(origin) = self.default_origin.filter(|_| now >= self.heartbeat) else { return };
        self.heartbeat = now + self.interval;
        let reply_to = ReplyTo { session: 0, ticket: Ticket(0) };
        let asker = Asker { now, mailbox: Arc::new(Mailbox::new(Box::new(Nobody))), reply_to };
        if let Outcome::Refused(why) = self.lb.update(&asker, origin.clone()) {
            log::warn!("the default origin was not registered: {why:?}");
        }
    }
}

/// The directory of static files, if there is one.
fn files(settings: &Settings) -> Result<Option<Files>, String> {
    let Some(directory) = &settings.static_files else { return Ok(None) };
    let files = Files::below(directory);
    let files =
        files.map_err(|error| format!("PROXY_STATIC_FILES: cannot open {}: {error}", directory.display()))?;
    Ok(Some(files))
}

/// Lets sessions end by themselves for the grace time, then closes them; never takes longer than the force time.
fn quit(settings: &Settings, runtime: &Runtime, signals: &Receiver<()>, housekeeping: &mut Housekeeping<'_>) {
    let begin = Instant::now();
    log::info!("draining for at most {:?}; another signal ends it", settings.grace);
    runtime.drain();
    while !runtime.is_finished() && begin.elapsed() < settings.grace.min(settings.force) {
        if signals.recv_timeout(DRAIN_CHECK).is_ok() {
            break;
        }
        housekeeping.run();
    }
    runtime.stop();
    while !runtime.is_finished() && begin.elapsed() < settings.force {
        std::thread::sleep(DRAIN_CHECK);
    }
    log::info!("ends after {:.1?}; {} sessions were cut", begin.elapsed(), runtime.cut());
}

/// SIGTERM and SIGINT, as messages.
fn signals() -> io::Result<Receiver<()>> {
    let mut arriving = iterator::Signals::new([SIGTERM, SIGINT])?;
    let (send, receive) = channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in arriving.forever() {
            // Nobody listens only when the process ends anyway.
            let _ended = send.send(());
        }
    })?;
    Ok(receive)
}

/// Raises the limit of descriptors to what is allowed; the sessions the process may hold with that.
fn max_sessions(workers: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        log::warn!("cannot raise the limit of open files: {error}");
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let reserved = RESERVED_DESCRIPTORS + (workers * MAX_KEPT) as u64;
    let sessions = (allowed - reserved.min(allowed / 4)) / DESCRIPTORS_PER_SESSION;
    usize::try_from(sessions).unwrap_or(usize::MAX).max(1)
}
