//! A world: proxies, their store, origins, and what happens next. Judges nothing.

use super::clients::Stream;
use super::rules::Rules;
use super::weather::Weather;
use crate::redis::{Command, FRESH, FakeRedis, Keys, Mappings, RedisClient, Rig};
use crate::{Limits, Policy, Setup, Weights};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{Answer, Query, Report};
use srs_proxy_core::time::{Duration, Time};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How often what waits for too long is given up, as a proxy does it.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How long an origin lives without a heartbeat, and how often it sends one.
pub(super) const TTL: Duration = Duration::from_secs(30);
pub(super) const BEAT: Duration = Duration::from_secs(5);
/// How often a session reports that it goes on.
pub(super) const REPORT: Duration = Duration::from_secs(20);
/// The longest that faults go on.
const TROUBLE: u64 = 60_000;
/// After all faults: the longest quarantine, the probe that ends it, a publisher's next report, from which its proxy may
/// learn that it is elsewhere, the one after it, and a census. Meanwhile
/// the word of a publisher that has gone has ended, too.
const QUIET: Duration = Duration::from_secs(60 + 5 + 20 + 20 + 5);
/// From the last questions until nothing is on its way any more.
const END: Duration = Duration::from_secs(4);

/// Randomness of a world.
pub(super) struct Dice(Pcg32);

impl Dice {
    /// A number below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0.next_u32() as usize % count.max(1)
    }

    /// True so many times out of a hundred.
    pub(super) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// Some milliseconds of the range.
    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + u64::from(self.0.next_u32()) % (to - from + 1))
    }
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A proxy may have something to send.
    Turn(usize),
    /// A proxy's batch comes to the store; what the store said comes back.
    Run(usize, u32),
    Hear(usize, u32),
    /// A batch that its proxy has given up comes to the store all the same.
    Late(Vec<Command>),
    Tick(usize),
    Beat(usize, u32),
    /// A client does something; an operator, or fate, does.
    Client,
    Mishap,
    /// The store breaks; it is whole again.
    Break,
    Mend(u32),
    /// What the store holds is copied.
    Copy,
    /// A connect has failed.
    Mourn(usize, u32, OriginId, Protocol),
    /// A proxy notices that a publisher is gone.
    Ended(usize, u32, Report),
    /// Sessions at an origin that is hidden from these proxies end, if it still is.
    CutOff(usize, u32, BTreeSet<usize>),
    Report(u32),
    Heal,
    /// All proxies are asked for the last time; then nobody does anything.
    Poll,
    Hush,
    End,
}

pub(super) struct Proxy {
    /// `None` while it is down.
    pub(super) rig: Option<Rig>,
    pub(super) life: u32,
    client: Box<dyn RedisClient>,
    /// Its way to the store is cut.
    pub(super) is_cut: bool,
    /// Its connection to the store has ended, which it has not noticed.
    pub(super) is_broken: bool,
    turn: Option<Time>,
    batches: u32,
    /// What its open questions are.
    pub(super) asked: BTreeMap<u32, Query>,
}

/// A machine on which one origin after the other runs.
pub(super) struct Server {
    name: String,
    pub(super) life: u32,
    pub(super) is_up: bool,
    pub(super) beats: bool,
    /// The proxies from which it cannot be reached.
    pub(super) hidden: BTreeSet<usize>,
    /// The port that is dead.
    pub(super) closed: Option<Protocol>,
    protocols: Vec<Protocol>,
}

impl Server {
    pub(super) fn origin(&self) -> Origin {
        let endpoints = self.protocols.iter().map(|protocol| (*protocol, ([10, 0, 0, 1], 1935).into()));
        Origin {
            device_id: "".into(),
            server: self.name.as_str().into(),
            service: "s".into(),
            pid: self.life.to_string().into(),
            endpoints: endpoints.collect(),
        }
    }
}

pub(super) struct World {
    seed: u64,
    policy: Policy,
    pub(super) dice: Dice,
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    serial: u64,
    pub(super) keys: Keys,
    pub(super) store: FakeRedis,
    pub(super) weather: Weather,
    pub(super) proxies: Vec<Proxy>,
    pub(super) servers: Vec<Server>,
    pub(super) streams: Vec<Stream>,
    pub(super) sessions: super::clients::Sessions,
    pub(super) rules: Rules,
    /// Whether faults are over.
    pub(super) is_healed: bool,
    /// Whether clients ask for nothing.
    pub(super) is_still: bool,
    trace: bool,
    /// A hash of all that was told.
    told: Cell<u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice(Pcg32::seed_from_u64(seed));
        let keys = Keys::new(if dice.percent(50) { "eu" } else { "" });
        let store = FakeRedis::new(keys.clone());
        let policy = [Policy::Random, Policy::LeastStreams, Policy::Rendezvous][dice.below(3)];
        let servers = (0..2 + dice.below(5)).map(|n| Server {
            name: format!("o{n}"),
            life: 1,
            is_up: true,
            beats: true,
            hidden: BTreeSet::new(),
            closed: None,
            protocols: match dice.below(4) {
                0 => vec![Protocol::Rtmp],
                _ => vec![Protocol::Rtmp, Protocol::Http, Protocol::Rtc],
            },
        });
        let servers = servers.collect::<Vec<_>>();
        let proxies = (0..2 + dice.below(3)).map(|_| Proxy {
            rig: None,
            life: 0,
            client: store.client(),
            is_cut: false,
            is_broken: false,
            turn: None,
            batches: 0,
            asked: BTreeMap::new(),
        });
        let proxies = proxies.collect();
        let streams = (0..1 + dice.below(6)).map(|n| Stream::new(stream_key(n))).collect();
        let mut world = Self {
            seed,
            policy,
            dice,
            now: Time::ZERO,
            queue: BTreeMap::new(),
            serial: 0,
            keys,
            store,
            weather: Weather::default(),
            proxies,
            servers,
            streams,
            sessions: super::clients::Sessions::default(),
            rules: Rules::default(),
            is_healed: false,
            is_still: false,
            trace: std::env::var_os("SIM_TRACE").is_some(),
            told: Cell::default(),
        };
        for proxy in 0..world.proxies.len() {
            world.start(proxy);
            let phase = world.dice.millis(0, 199);
            world.after(phase, Event::Tick(proxy));
        }
        for server in 0..world.servers.len() {
            let phase = world.dice.millis(0, 3000);
            world.after(phase, Event::Beat(server, 1));
        }
        for event in [Event::Client, Event::Mishap, Event::Break, Event::Copy] {
            let phase = world.dice.millis(500, 5000);
            world.after(phase, event);
        }
        let trouble = world.dice.millis(TROUBLE / 4, TROUBLE);
        world.after(trouble, Event::Heal);
        world
    }

    /// To the end; a hash of all that happened.
    pub(super) fn run(mut self) -> u64 {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.store.advance(at.since(self.now));
            self.now = at;
            if matches!(event, Event::End) {
                let told = self.told.get();
                self.conclude();
                return told;
            }
            self.happen(event);
        }
        unreachable!("a world has an end");
    }

    /// Tells what happens, if somebody wants to see it.
    pub(super) fn say(&self, what: &dyn Fn() -> String) {
        let line = format!("{:9.3} {}", self.now.since(Time::ZERO).as_secs_f64(), what());
        let mut hasher = DefaultHasher::new();
        (self.told.get(), &line).hash(&mut hasher);
        self.told.set(hasher.finish());
        if self.trace {
            eprintln!("{line}");
        }
    }

    pub(super) fn after(&mut self, pause: Duration, event: Event) {
        self.serial += 1;
        self.queue.insert((self.now + pause, self.serial), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(proxy) => {
                if self.proxies[proxy].turn == Some(self.now) {
                    self.proxies[proxy].turn = None;
                    self.turn(proxy);
                }
            }
            Event::Run(proxy, batch) => self.run_batch(proxy, batch),
            Event::Hear(proxy, batch) => {
                self.doubt(proxy);
                let now = self.now;
                let this = &mut self.proxies[proxy];
                if this.batches == batch
                    && let Some(rig) = &mut this.rig
                {
                    match std::mem::take(&mut this.is_broken) {
                        true => rig.lose(now),
                        false => rig.hear(now),
                    }
                    self.settle(proxy);
                }
            }
            Event::Late(commands) => {
                if !self.weather.is_away {
                    // Who sent it does not hear of it.
                    let _nobody = self.store.client().run(&commands);
                    self.note();
                }
            }
            Event::Tick(proxy) => {
                if let Some(rig) = &self.proxies[proxy].rig {
                    rig.tick(self.now);
                }
                self.settle(proxy);
                self.after(TICK, Event::Tick(proxy));
            }
            Event::Beat(server, life) => self.beat(server, life),
            Event::Client => self.client(),
            Event::Mishap => self.mishap(),
            Event::Break => self.break_store(),
            Event::Mend(which) => self.mend(which),
            Event::Copy => {
                self.check_lives();
                self.weather.copy(self.store.snapshot());
                let pause = self.dice.millis(300, 1500);
                self.after(pause, Event::Copy);
            }
            Event::Mourn(proxy, life, origin, protocol) => {
                if self.proxies[proxy].life == life {
                    self.tell(proxy, &Report::Unreachable(origin, protocol));
                }
            }
            Event::Ended(proxy, life, report) => {
                if self.proxies[proxy].life == life {
                    self.tell(proxy, &report);
                }
            }
            Event::CutOff(server, life, hidden) => {
                let this = &self.servers[server];
                if this.life == life && this.hidden == hidden {
                    let origin = this.origin().id();
                    self.cut_off(&|_, session| session.origin == origin && hidden.contains(&session.proxy));
                }
            }
            Event::Report(session) => self.report(session),
            Event::Heal => {
                self.heal();
                self.after(QUIET, Event::Poll);
                self.after(QUIET + END, Event::End);
            }
            Event::Poll => self.poll(),
            Event::Hush => self.hush(),
            Event::End => {}
        }
    }

    /// A proxy starts, if the store lets it.
    pub(super) fn start(&mut self, proxy: usize) {
        let setup = Setup {
            ttl: TTL,
            limits: Limits::default(),
            policy: self.policy,
            weights: Weights::default(),
            seed: self.seed << 8 | (proxy as u64) << 4 | u64::from(self.proxies[proxy].life),
        };
        let this = &mut self.proxies[proxy];
        if this.rig.is_none() && !this.is_cut {
            this.is_broken = false;
            this.rig = Rig::start(self.now, &setup, Mappings::End, self.keys.clone(), &mut *this.client).ok();
            self.settle(proxy);
        }
    }

    /// A proxy is killed.
    pub(super) fn stop(&mut self, proxy: usize) {
        let this = &mut self.proxies[proxy];
        (this.rig, this.turn) = (None, None);
        this.life += 1;
        this.batches += 1;
        this.asked.clear();
    }

    /// A proxy may send.
    fn turn(&mut self, proxy: usize) {
        let now = self.now;
        let this = &mut self.proxies[proxy];
        let Some(rig) = &mut this.rig else { return };
        if !rig.send(now) {
            return self.settle(proxy);
        }
        this.batches += 1;
        let batch = this.batches;
        if this.is_broken || this.is_cut || self.weather.is_away {
            // Refused at once, or not heard of until it is too late.
            let pause =
                if self.dice.percent(50) { self.dice.millis(0, 2) } else { Duration::from_millis(500) };
            self.proxies[proxy].is_broken = true;
            return self.after(pause, Event::Hear(proxy, batch));
        }
        let there = self.weather.way(&mut self.dice);
        self.after(there, Event::Run(proxy, batch));
    }

    fn run_batch(&mut self, proxy: usize, batch: u32) {
        let this = &mut self.proxies[proxy];
        let Some(rig) = this.rig.as_mut().filter(|_| this.batches == batch) else { return };
        let mut is_lost = this.is_broken || this.is_cut || self.weather.is_away;
        let mut back = self.weather.way(&mut self.dice);
        if !is_lost && self.weather.loses(&mut self.dice) {
            if self.dice.percent(50) {
                // It is stuck on its way, and given up.
                let stuck = Event::Late(rig.commands().to_vec());
                let pause = self.dice.millis(1, 3000);
                self.after(pause, stuck);
            } else {
                rig.run(&mut *this.client);
            }
            (is_lost, back) = (true, Duration::from_millis(500));
        } else if !is_lost {
            rig.run(&mut *this.client);
        }
        self.proxies[proxy].is_broken |= is_lost;
        self.note();
        self.after(back, Event::Hear(proxy, batch));
    }

    /// What came of it at this proxy: answers, rules, its next turn.
    pub(super) fn settle(&mut self, proxy: usize) {
        let now = self.now;
        let Some(rig) = &mut self.proxies[proxy].rig else { return };
        for (question, answer) in rig.answers() {
            let query = self.proxies[proxy].asked.remove(&question).expect("a question");
            self.answered(proxy, query, answer);
        }
        let this = &mut self.proxies[proxy];
        let Some(rig) = &this.rig else { return };
        rig.audit(now);
        self.doubt(proxy);
        let this = &mut self.proxies[proxy];
        let Some(rig) = &this.rig else { return };
        if let Some(next) = rig.next(now).map(|next| next.max(now))
            && this.turn.is_none_or(|turn| turn > next)
        {
            this.turn = Some(next);
            self.after(next.since(now), Event::Turn(proxy));
        }
        self.overdue(proxy);
    }

    /// Asks a proxy, if it is there.
    pub(super) fn ask(&mut self, proxy: usize, query: Query) {
        self.doubt(proxy);
        let now = self.now;
        let this = &mut self.proxies[proxy];
        let Some(rig) = &mut this.rig else { return };
        match rig.ask(now, query.clone()) {
            (_, Some(answer)) => self.answered(proxy, query, answer),
            (question, None) => drop(this.asked.insert(question, query)),
        }
        self.settle(proxy);
    }

    pub(super) fn tell(&mut self, proxy: usize, report: &Report) {
        if let Some(rig) = &self.proxies[proxy].rig {
            rig.tell(self.now, report);
            self.say(&|| format!("proxy {proxy} is told {report:?}"));
        }
        self.settle(proxy);
    }

    fn answered(&mut self, proxy: usize, query: Query, answer: Answer) {
        self.say(&|| format!("proxy {proxy}: {query:?} → {answer:?}"));
        self.judge(proxy, &query, &answer);
        self.react(proxy, &query, &answer);
    }

    fn beat(&mut self, server: usize, life: u32) {
        let this = &self.servers[server];
        if this.life != life || self.rules.is_over() {
            return;
        }
        if this.is_up && this.beats {
            let (origin, proxy) = (this.origin(), self.dice.below(self.proxies.len()));
            self.ask(proxy, Query::Register(origin));
        }
        self.after(BEAT, Event::Beat(server, life));
    }

    /// The server that runs this origin, if any does.
    pub(super) fn server_of(&self, origin: &OriginId) -> Option<&Server> {
        self.servers.iter().find(|server| server.is_up && server.origin().id() == *origin)
    }

    /// Whether a connect from a proxy to an origin succeeds.
    pub(super) fn reaches(&self, proxy: usize, origin: &OriginId, protocol: Protocol) -> bool {
        let server = self.server_of(origin);
        server.is_some_and(|server| !server.hidden.contains(&proxy) && server.closed != Some(protocol))
    }
}

pub(super) fn stream_key(n: usize) -> StreamKey {
    StreamKey::new("", "live", &n.to_string()).expect("a key")
}

/// How old what a proxy says of a stream may be: it held for a moment, and had a way.
pub(super) fn is_recent(now: Time, at: Time) -> bool {
    now.since(at) <= FRESH + super::weather::SLOW * 2
}
