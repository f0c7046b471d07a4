//! Which origin takes the next stream. Changes nothing of the fleet but its dice and the probe it begins.

use super::{Entry, Fleet, Member, Rank};
use crate::policy::Policy;
use rand_core::Rng;
use rand_pcg::Pcg32;
use siphasher::sip::SipHasher13;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::query::{Need, Picked};
use srs_proxy_core::time::Time;
use std::hash::Hasher;
use std::sync::atomic::Ordering::Relaxed;

/// How often to draw an origin blindly before looking at all: enough that in a fleet of which a third is
/// usable the search is the exception.
const DRAWS: u32 = 8;

/// For whom an origin is wanted.
#[derive(Clone, Copy)]
struct Wanted {
    now: Time,
    /// Until when all heartbeats were heard of.
    heard: Time,
    need: Need,
    /// Where the stream is now. It stays there if none is better.
    present: Option<Member>,
}

impl Entry {
    fn serves(&self, need: Need) -> bool {
        need.protocols().all(|protocol| self.origin.serves(protocol).next().is_some())
    }

    /// Whether it gets streams that it does not have.
    const fn takes_new(&self) -> bool {
        !self.draining && self.weight > 0
    }

    /// Whether it would have fewer streams for its weight than `other`, if each got one more.
    fn is_less_loaded(&self, other: &Self) -> bool {
        let next = |entry: &Self| entry.streams.load(Relaxed) as u128 + u128::from(entry.elsewhere) + 1;
        next(self) * u128::from(other.weight) < next(other) * u128::from(self.weight)
    }
}

impl Fleet {
    /// Whether `member` keeps a stream that it has, when a client comes with this `need`: it is there, alive, and
    /// nobody here failed to reach it. A probe under way keeps new streams away, but moves none, nor does what another
    /// proxy says. While the stream is published there, silence says nothing.
    pub(crate) fn keeps(&self, now: Time, member: Member, need: Need, is_published: bool) -> bool {
        let reach = self.entry(member).map(|entry| {
            (entry.reach(now, need.protocols()), is_published || !entry.is_silent(self.heard(now)))
        });
        reach.is_some_and(|(reach, is_alive)| is_alive && reach < Rank::Failing)
    }

    /// Chooses an origin that serves `need`, by the policy among the best. With none better, `present` stays.
    pub(crate) fn nominate(
        &mut self,
        now: Time,
        key: &StreamKey,
        need: Need,
        present: Option<Member>,
    ) -> Option<Member> {
        let wanted = Wanted { now, heard: self.heard(now), need, present };
        let slot = match self.policy {
            Policy::Random => self.by_chance(wanted, None),
            Policy::LeastStreams => self.less_loaded_of_two(wanted),
            Policy::Rendezvous => self.by_hash(wanted, key),
        }?;
        Some(Member { slot, serial: self.at(slot)?.serial })
    }

    /// One by chance, each as likely as its weight says, but not the one at `except`.
    fn by_chance(&mut self, wanted: Wanted, except: Option<usize>) -> Option<usize> {
        self.draw(wanted, except).or_else(|| self.search(wanted, except))
    }

    /// A usable origin, found without looking at all of them, as most of a healthy fleet is usable. Lightweights
    /// among heavyweights are passed over often, and then need the search.
    fn draw(&mut self, wanted: Wanted, except: Option<usize>) -> Option<usize> {
        let Self { entries, rng, largest, .. } = self;
        let slots = (0..DRAWS).map(|_| {
            let slot = below(rng, entries.len());
            let entry = entries.get(slot)?.as_ref()?;
            let chosen = entry.weight == *largest || below(rng, (*largest).into()) < entry.weight.into();
            let fits = entry.takes_new() && entry.serves(wanted.need);
            (chosen
                && fits
                && except != Some(slot)
                && entry.rank(wanted.now, wanted.heard, wanted.need) == Rank::Usable)
                .then_some(slot)
        });
        slots.flatten().next()
    }

    /// One of the best, found by looking at all of them.
    fn search(&mut self, wanted: Wanted, except: Option<usize>) -> Option<usize> {
        let mut best = self.best(wanted);
        best.retain(|(slot, _)| except != Some(*slot));
        let mut chance = below(&mut self.rng, best.iter().map(|(_, weight)| usize::from(*weight)).sum());
        let chosen = best.iter().find(|(_, weight)| match chance.checked_sub(usize::from(*weight)) {
            Some(rest) => {
                chance = rest;
                false
            }
            None => true,
        });
        chosen.map(|(slot, _)| *slot)
    }

    /// Of two by chance, the less loaded.
    fn less_loaded_of_two(&mut self, wanted: Wanted) -> Option<usize> {
        let first = self.by_chance(wanted, None)?;
        let Some(second) = self.by_chance(wanted, Some(first)) else { return Some(first) };
        let better = self.at(second)?.is_less_loaded(self.at(first)?);
        Some(if better { second } else { first })
    }

    /// Rendezvous hashing with weights: each origin draws lots of exponential distribution whose rate is its
    /// weight, by a hash instead of dice, and the first wins. What wins among all wins among any that are left.
    fn by_hash(&self, wanted: Wanted, key: &StreamKey) -> Option<usize> {
        // Of all processes and releases the same, so the key must never change.
        let mut stream = SipHasher13::new_with_keys(0, 0);
        stream.write(key.as_str().as_bytes());
        // No key and no server has it.
        stream.write_u8(0);
        let lots = self.best(wanted).into_iter().filter_map(|(slot, weight)| {
            let server = &self.at(slot)?.origin.server;
            let mut both = stream;
            both.write(server.as_bytes());
            // 53 bits are what a float holds of a number in 0 … 1, both of them excluded.
            let uniform = ((both.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            Some((slot, -uniform.ln() / f64::from(weight), server))
        });
        let first = lots
            .min_by(|(_, a, server_a), (_, b, server_b)| a.total_cmp(b).then_with(|| server_a.cmp(server_b)));
        first.map(|(slot, ..)| slot)
    }

    /// The best and their weights; the present one alone, if it is one of them.
    fn best(&self, wanted: Wanted) -> Vec<(usize, u16)> {
        let Wanted { now, heard, need, present } = wanted;
        let stays = |member| present == Some(member);
        let serving = || {
            let entries = self.members().filter(|(_, entry)| entry.serves(need));
            entries.filter(|(member, entry)| entry.takes_new() || stays(*member))
        };
        let Some(rank) = serving().map(|(_, entry)| entry.rank(now, heard, need)).min() else {
            return Vec::new();
        };
        let best = || serving().filter(|(_, entry)| entry.rank(now, heard, need) == rank);
        match present.filter(|present| best().any(|(member, _)| member == *present)) {
            Some(present) => vec![(present.slot, 1)],
            None => best().map(|(member, entry)| (member.slot, entry.weight)).collect(),
        }
    }

    /// Sends a client to an origin, in whatever state that is. One that may be probed is probed by this.
    pub(crate) fn send(&mut self, now: Time, member: Member, need: Need) -> Option<Picked> {
        let Self { entries, rng, .. } = self;
        let entry = entries.get_mut(member.slot)?.as_mut().filter(|entry| entry.serial == member.serial)?;
        for protocol in need.protocols() {
            let trouble = entry.trouble(now, protocol);
            if let Some(place) = entry.troubles.get_mut(protocol as usize) {
                *place = trouble;
            }
            if let Some(Some(trouble)) = entry.troubles.get_mut(protocol as usize)
                && now >= trouble.until
            {
                trouble.probed.get_or_insert(now);
            }
        }
        let count = entry.origin.serves(need.protocol).count();
        let chance = if count > 1 { below(rng, count) } else { 0 };
        let to = entry.origin.serves(need.protocol).nth(chance)?;
        Some(Picked { origin: entry.id.clone(), to })
    }
}

/// A number below `count`, each as likely as the other to within 2⁻³² × `count`.
fn below(rng: &mut Pcg32, count: usize) -> usize {
    let scaled = u128::from(rng.next_u32()) * count as u128;
    usize::try_from(scaled >> 32).unwrap_or(0)
}
