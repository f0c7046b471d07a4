//! Hubs in the simulated world: what is the same whichever protocol they speak.

use super::desk::Desk;
use super::{Bounds, Dice, Run, Weather, World};
use srs_proxy_core::flow::Limits;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Action, Actions, Cx, Input, Leg, Machine};
use srs_proxy_core::query::Report;
use srs_proxy_core::rtc::RtcHub;
use srs_proxy_core::srt::SrtHub;
use srs_proxy_core::time::{Duration, Time};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

/// Long enough for everything to end.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A machine that is a hub.
pub trait Hub: Machine {
    /// A hub without sessions.
    fn new(limits: Limits, key: [u8; 16]) -> Self;

    /// What must hold after every input, in O(n).
    ///
    /// # Errors
    /// What does not hold.
    fn invariants(&self) -> Result<(), &'static str>;
}

impl Hub for RtcHub {
    fn new(limits: Limits, key: [u8; 16]) -> Self {
        Self::new(limits, key)
    }

    fn invariants(&self) -> Result<(), &'static str> {
        self.invariants()
    }
}

impl Hub for SrtHub {
    fn new(limits: Limits, key: [u8; 16]) -> Self {
        Self::new(limits, key)
    }

    fn invariants(&self) -> Result<(), &'static str> {
        self.invariants()
    }
}

/// What the load balancer was told.
#[derive(Default, Debug)]
pub struct Told {
    /// That a session is in use.
    pub flowing: u64,
    /// That a stream is played.
    pub playing: u64,
    /// That a stream is published.
    pub publishing: u64,
    /// That it is no more.
    pub ended: u64,
    /// That an origin is not there.
    pub unreachable: u64,
    /// Streams that are published at the moment.
    publishers: BTreeSet<StreamKey>,
}

impl Told {
    fn hear(&mut self, report: &Report) {
        match report {
            Report::Flowing(_) => self.flowing += 1,
            Report::Playing(key) => {
                assert!(!self.publishers.contains(key), "who publishes does not play");
                self.playing += 1;
            }
            Report::Publishing(key, _) => {
                self.publishing += 1;
                self.publishers.insert(key.clone());
            }
            Report::Ended(key, _) => {
                assert!(self.publishers.remove(key), "nobody published {key}");
                self.ended += 1;
            }
            Report::Unreachable(..) => self.unreachable += 1,
            Report::Left(..) => panic!("{report:?} is nothing for a hub"),
        }
    }

    /// The same of another run.
    pub fn add(&mut self, other: &Self) {
        self.flowing += other.flowing;
        self.playing += other.playing;
        self.publishing += other.publishing;
        self.ended += other.ended;
        self.unreachable += other.unreachable;
    }
}

/// A hub in its world, and what it says.
pub struct Scene<H> {
    /// The world.
    pub world: World<H>,
    /// What the load balancer was told.
    pub told: Rc<RefCell<Told>>,
}

impl<H: Hub> Scene<H> {
    /// A hub at this address. With few sessions its invariants are asserted after every step.
    pub fn new(seed: u64, weather: Weather, limits: Limits, at: SocketAddr, is_small: bool) -> Self {
        let mut world = World::hub(seed, weather, H::new(limits, Dice::new(seed).key()), at);
        // Answers that come too late are still on their way when others are asked for.
        world.bounds(Bounds { legs: limits.max_sessions, tickets: 1 << 14, ..Bounds::default() });
        if is_small {
            world.check(|hub| hub.invariants().unwrap_or_else(|broken| panic!("{broken}")));
        }
        Self { world, told: Rc::default() }
    }

    /// What to do with what the load balancer is told.
    pub fn hears(&self) -> impl FnMut(&Report) + 'static {
        let told = Rc::clone(&self.told);
        move |report| told.borrow_mut().hear(report)
    }

    /// Lets everything happen until nothing does any more: a hub outlives its sessions, and is free of them.
    #[track_caller]
    pub fn run_out(&mut self) -> Run {
        let run = self.world.run(FOR_EVER);
        assert!(!run.over, "a hub outlives its sessions");
        let hub = self.world.machine();
        assert_eq!(self.world.open_legs(), 1, "a leg leaked");
        assert_eq!(hub.sessions(), 0, "a session leaked");
        hub.invariants().unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(self.told.borrow().publishers, BTreeSet::new(), "it was not said that they ended");
        assert_eq!(hub.deadline(), None, "the hub still waits for something");
        run
    }
}

/// A hub with nothing around it, to see what an input costs.
pub struct Bare<H> {
    hub: H,
    now: Time,
    actions: Actions,
    dice: Dice,
}

impl<H: Hub> Bare<H> {
    /// The hub of a desk, with the sessions that it has.
    pub fn new(desk: Desk<H>) -> Self {
        Self { now: desk.now(), hub: desk.into_hub(), actions: Actions::new(), dice: Dice::new(1) }
    }

    /// Hands it a datagram; to how many it is passed on as it is.
    pub fn feed(&mut self, leg: Leg, from: SocketAddr, bytes: &[u8]) -> usize {
        let mut cx = Cx { now: self.now, rng: self.dice.rng(), actions: &mut self.actions };
        assert_eq!(self.hub.handle(&mut cx, Input::Datagram { leg, from, bytes }), Ok(0));
        let whole =
            |action: &Action| matches!(action, Action::Forward { range, .. } if *range == (0..bytes.len()));
        self.actions.drain().filter(whole).count()
    }
}
