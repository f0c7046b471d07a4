//! What befalls a world: its store, its origins, its proxies. Judges nothing.

use super::world::{Dice, Event, World};
use crate::redis::Snapshot;
use srs_proxy_core::origin::Protocol;
use srs_proxy_core::query::Query;
use srs_proxy_core::time::Duration;
use std::collections::VecDeque;

/// The longest way to or from a store that is well.
pub(super) const SLOW: Duration = Duration::from_millis(150);

/// How long a session lasts whose origin's machine has gone without a word.
const LINGERS: Duration = Duration::from_secs(30);

/// How many copies of the store are kept: the last seconds.
const COPIES: usize = 8;

/// What is wrong with the store.
#[derive(Clone, Debug)]
enum Fault {
    Away(Return),
    Full,
    Slow,
    Lossy,
    /// One proxy does not reach it.
    Cut(usize),
}

/// How a store comes back.
#[derive(Clone, Copy, Debug)]
enum Return {
    Whole,
    Empty,
    /// With what it held at this copy, the youngest being the last.
    Older(usize),
}

#[derive(Default)]
pub(super) struct Weather {
    pub(super) is_away: bool,
    fault: Option<Fault>,
    faults: u32,
    copies: VecDeque<Snapshot>,
}

impl Weather {
    /// Whether something is wrong.
    pub(super) fn is_rough(&self) -> bool {
        self.fault.is_some()
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(self.fault, Some(Fault::Full))
    }

    pub(super) fn copy(&mut self, snapshot: Snapshot) {
        self.copies.push_back(snapshot);
        if self.copies.len() > COPIES {
            self.copies.pop_front();
        }
    }

    /// How long a batch, or what was said to it, is on its way.
    pub(super) fn way(&self, dice: &mut Dice) -> Duration {
        match self.fault {
            Some(Fault::Slow) => dice.millis(0, 1000),
            _ if dice.percent(10) => dice.millis(0, 150).min(SLOW),
            _ => dice.millis(0, 2),
        }
    }

    /// Whether the reply is lost.
    pub(super) fn loses(&self, dice: &mut Dice) -> bool {
        matches!(self.fault, Some(Fault::Lossy)) && dice.percent(40)
    }
}

impl World {
    pub(super) fn break_store(&mut self) {
        if self.is_healed {
            return;
        }
        let dice = &mut self.dice;
        let back = match dice.below(3) {
            0 => Return::Whole,
            1 => Return::Empty,
            _ => Return::Older(dice.below(COPIES)),
        };
        let (fault, longest) = match dice.below(6) {
            0 => (Fault::Away(back), 25_000),
            1 => (Fault::Away(back), 1000),
            2 => (Fault::Full, 10_000),
            3 => (Fault::Slow, 10_000),
            4 => (Fault::Lossy, 10_000),
            _ => (Fault::Cut(dice.below(self.proxies.len())), 25_000),
        };
        let lasts = dice.millis(50, longest);
        self.say(&|| format!("{fault:?} for {lasts:?}"));
        match fault {
            Fault::Away(_) => {
                self.weather.is_away = true;
                self.store.set_away(true);
                self.proxies.iter_mut().for_each(|proxy| proxy.is_broken = true);
            }
            Fault::Full => self.store.set_full(true),
            Fault::Cut(proxy) => {
                (self.proxies[proxy].is_cut, self.proxies[proxy].is_broken) = (true, true);
            }
            Fault::Slow | Fault::Lossy => {}
        }
        self.weather.fault = Some(fault);
        self.weather.faults += 1;
        self.after(lasts, Event::Mend(self.weather.faults));
    }

    /// The fault of this number ends, and another one comes.
    pub(super) fn mend(&mut self, which: u32) {
        if which != self.weather.faults {
            return;
        }
        self.be_rough();
        match self.weather.fault.take() {
            Some(Fault::Away(back)) => {
                self.weather.is_away = false;
                self.store.set_away(false);
                let copy = match back {
                    Return::Older(age) => self.weather.copies.iter().rev().nth(age),
                    Return::Whole | Return::Empty => None,
                };
                match (back, copy) {
                    (Return::Older(_), Some(copy)) => self.store.restore(copy),
                    (Return::Whole, _) => {}
                    _ => self.store.flush(),
                }
            }
            Some(Fault::Full) => self.store.set_full(false),
            Some(Fault::Cut(proxy)) => self.proxies[proxy].is_cut = false,
            Some(Fault::Slow | Fault::Lossy) | None => {}
        }
        // Often long enough after the last that what holds without faults can be judged.
        let pause = self.dice.millis(1000, 25_000);
        self.after(pause, Event::Break);
    }

    /// Something happens to an origin or a proxy.
    pub(super) fn mishap(&mut self) {
        if self.is_healed {
            return;
        }
        let pause = self.dice.millis(500, 8000);
        self.after(pause, Event::Mishap);
        self.start_all();
        let (which, proxy) = (self.dice.below(self.servers.len()), self.dice.below(self.proxies.len()));
        let origin = self.servers[which].origin().id();
        match self.dice.below(12) {
            0 | 1 => self.restart(which),
            2 => {
                self.servers[which].is_up = false;
                self.say(&|| format!("{origin} is killed"));
                self.cut_off(&|_, session| session.origin == origin);
            }
            3 => self.servers[which].beats ^= true,
            4 | 5 => {
                let hidden = (0..self.proxies.len()).filter(|_| self.dice.percent(60)).collect();
                self.servers[which].hidden = hidden;
                let hidden = self.servers[which].hidden.clone();
                self.say(&|| format!("{origin} is hidden from {hidden:?}"));
                // Or it takes the proxies a while to notice.
                let lingers = if self.dice.percent(70) { Duration::ZERO } else { LINGERS };
                self.after(lingers, Event::CutOff(which, self.servers[which].life, hidden));
            }
            6 => self.servers[which].hidden.clear(),
            7 => {
                let closed = [None, Some(Protocol::Rtmp), Some(Protocol::Http)][self.dice.below(3)];
                self.servers[which].closed = closed;
                self.say(&|| format!("{origin} does not take {closed:?}"));
                self.cut_off(&|_, session| session.origin == origin && closed == Some(session.protocol));
            }
            8 | 9 => {
                let on = self.dice.percent(50);
                self.ask(proxy, Query::Drain { origin, on });
            }
            10 => {
                self.rules.gone.insert(origin.clone());
                self.ask(proxy, Query::Deregister(origin));
            }
            _ => {
                self.stop(proxy);
                self.say(&|| format!("proxy {proxy} is killed"));
                self.cut_off(&|_, session| session.proxy == proxy);
            }
        }
    }

    /// Another life of an origin begins.
    fn restart(&mut self, which: usize) {
        let server = &mut self.servers[which];
        let old = server.origin().id();
        server.life += 1;
        (server.is_up, server.beats) = (true, true);
        let life = server.life;
        self.say(&|| format!("{old} is restarted"));
        self.cut_off(&|_, session| session.origin == old);
        let pause = self.dice.millis(0, 1000);
        self.after(pause, Event::Beat(which, life));
    }

    fn start_all(&mut self) {
        (0..self.proxies.len()).for_each(|proxy| self.start(proxy));
    }

    /// All faults end.
    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        // Often nobody asks for anything any more, and what runs must keep itself.
        self.is_still = self.dice.percent(50);
        self.mend(self.weather.faults);
        self.start_all();
        for which in 0..self.servers.len() {
            self.servers[which].hidden.clear();
            self.servers[which].closed = None;
            self.servers[which].beats = true;
            if !self.servers[which].is_up && (which == 0 || self.dice.percent(50)) {
                self.restart(which);
            }
        }
    }
}
