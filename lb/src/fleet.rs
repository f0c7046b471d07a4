//! The registered origins: who is alive, who is left alone for a moment, who takes the next stream. Knows no
//! stream, but how many each has.
//!
//! ```text
//!              connect failed              5 s, then twice as long each time
//!   Alive ───────────────────▶ Quarantined ─────────────────────────────────▶ HalfOpen
//!     ▲                             ▲                                            │ one pick tries it
//!     │  nothing bad heard for 5 s  │  connect failed                            ▼
//!     └─────────────────────────────┴───────────────────────────────────────  Probed
//! ```
//!
//! So it is for each protocol by itself: a dead port says nothing of the others. Streams leave an origin in quarantine,
//! unless they are published there; new ones avoid it also while it is probed, and while another proxy fails to reach it.
//!
//! A heartbeat says that an origin's process runs, not that it can be reached from here: it ends no
//! quarantine. Another life of the server does. An origin that drains keeps its streams and gets no new ones,
//! whatever else is said of it.

mod choice;
#[cfg(test)]
mod tests;

use crate::Setup;
use crate::policy::{Policy, Weights};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{Health, Need, Refusal};
use srs_proxy_core::time::{Duration, Time};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// How long an origin is left alone after a failed connect: long enough that clients that try again go
/// elsewhere, short enough that a hiccup costs nothing.
pub const QUARANTINE: Duration = Duration::from_secs(5);
/// The longest quarantine, after many failures in a row.
pub const MAX_QUARANTINE: Duration = Duration::from_secs(60);
/// How long after a probe a failure would have been heard of: a connect's own limit.
pub const PROBE: Duration = Duration::from_secs(5);

/// For how long silence says nothing after heartbeats were not heard of: until all other proxies are there again, too, and
/// have told of whom they have heard meanwhile.
pub(crate) const RETURN: Duration = Duration::from_secs(10);
/// How long an origin that is silent is remembered: so long that whoever looks sees what died.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// One life of one origin in the fleet; dangling when it is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Member {
    slot: usize,
    serial: u64,
}

/// A stream's seat at an origin: it counts there for as long as this is held.
#[derive(Debug)]
pub(crate) struct Seat {
    member: Member,
    taken: Arc<AtomicUsize>,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) ttl: Duration,
    limit: usize,
    pub(crate) policy: Policy,
    weights: Weights,
    /// The largest of the weights.
    largest: u16,
    /// Who leaves leaves a gap, so that the others keep their slots.
    entries: Vec<Option<Entry>>,
    /// The slot of each server's present life.
    servers: HashMap<Arc<str>, usize>,
    /// The slot of each origin.
    ids: HashMap<OriginId, usize>,
    hearing: Hearing,
    serial: u64,
    rng: Pcg32,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    id: OriginId,
    origin: Origin,
    weight: u16,
    /// The TTL's end, if it sends no more heartbeats.
    until: Time,
    /// In the order of [`Protocol::ALL`].
    troubles: [Option<Trouble>; Protocol::ALL.len()],
    draining: bool,
    /// How many streams have a seat here.
    streams: Arc<AtomicUsize>,
    /// How many streams other proxies have here.
    elsewhere: u32,
}

/// Connects of one protocol failed, here or at another proxy, and none is known to have succeeded since.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    /// Failures in a row.
    failures: u32,
    /// The quarantine's end.
    until: Time,
    /// The end of what of it is due to failures here. What others say keeps new streams away and moves none: a stream
    /// may be published there all the time, by a proxy that reaches it.
    failed_until: Time,
    /// When a pick tried the origin after the quarantine.
    probed: Option<Time>,
}

/// Whether heartbeats are heard of that come to other proxies. If not, an origin's silence says nothing.
#[derive(Clone, Copy, Debug)]
enum Hearing {
    All,
    Nothing {
        /// Until when all were.
        until: Time,
    },
    /// They are, but not those that others have not told of yet.
    Again {
        until: Time,
        settled: Time,
    },
}

/// What a registration was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Updated {
    Heartbeat,
    New,
    /// It ended this earlier life of the same server.
    Replaced(OriginId),
}

/// How good an origin is for a stream; the best rank that there is gets it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    /// Alive, or free to be probed.
    Usable,
    /// A client tries it, and nothing bad was heard yet; or another proxy does not reach it.
    Probed,
    /// No heartbeat for long, but nobody failed to connect.
    Silent,
    /// In quarantine.
    Failing,
    /// Neither heartbeat nor connects.
    Lost,
}

impl Seat {
    /// Where it is.
    pub(crate) const fn member(&self) -> Member {
        self.member
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Relaxed);
    }
}

impl Trouble {
    /// How good an origin can be that has it.
    fn rank(&self, now: Time) -> Rank {
        if now < self.failed_until {
            Rank::Failing
        } else if now < self.until || self.probed.is_some() {
            Rank::Probed
        } else {
            Rank::Usable
        }
    }
}

impl Entry {
    /// Whether no heartbeat came in time, as far as they were `heard` of.
    fn is_silent(&self, heard: Time) -> bool {
        heard >= self.until
    }

    /// The trouble that is still one: a probe that nothing bad was heard of ended it.
    fn trouble(&self, now: Time, protocol: Protocol) -> Option<Trouble> {
        let trouble = self.troubles.get(protocol as usize).copied().flatten();
        trouble.filter(|trouble| trouble.probed.is_none_or(|probed| now.since(probed) < PROBE))
    }

    /// How well it can be reached by these protocols: as well as by the worst of them.
    fn reach(&self, now: Time, protocols: impl Iterator<Item = Protocol>) -> Rank {
        let troubles = protocols.filter_map(|protocol| self.trouble(now, protocol));
        troubles.map(|trouble| trouble.rank(now)).max().unwrap_or(Rank::Usable)
    }

    fn rank(&self, now: Time, heard: Time, need: Need) -> Rank {
        match (self.is_silent(heard), self.reach(now, need.protocols())) {
            (false, reach) => reach,
            (true, Rank::Usable) => Rank::Silent,
            (true, _) => Rank::Lost,
        }
    }

    /// The worst that can be said of it.
    fn health(&self, now: Time, heard: Time) -> Health {
        let is_troubled = Protocol::ALL.iter().any(|protocol| self.trouble(now, *protocol).is_some());
        match is_troubled {
            _ if self.is_silent(heard) => Health::Dead,
            true => Health::Quarantined,
            false if self.draining => Health::Draining,
            false => Health::Alive,
        }
    }
}

impl Fleet {
    /// No origins yet.
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            ttl: setup.ttl,
            limit: setup.limits.origins,
            policy: setup.policy,
            weights: setup.weights.clone(),
            largest: setup.weights.largest(),
            entries: Vec::new(),
            servers: HashMap::new(),
            ids: HashMap::new(),
            hearing: Hearing::All,
            serial: 0,
            rng: Pcg32::seed_from_u64(setup.seed),
        }
    }

    /// Takes a registration or heartbeat.
    pub(crate) fn update(&mut self, now: Time, origin: Origin) -> Result<Updated, Refusal> {
        self.enter(now, origin, now + self.ttl)
    }

    /// Takes a registration out of a shared store, where it has `left` to live. `None` if it says nothing new: the
    /// younger heartbeat counts, of one life as of two. Nor is there always room.
    pub(crate) fn learn(&mut self, now: Time, origin: Origin, left: Duration) -> Option<Updated> {
        let until = now + left;
        let known = self.servers.get(&origin.server).and_then(|slot| self.at(*slot));
        if known.is_some_and(|entry| entry.until >= until) {
            return None;
        }
        self.enter(now, origin, until).ok()
    }

    /// Whether all heartbeats that came to other proxies until now have been heard of.
    pub(crate) fn hear(&mut self, now: Time, all: bool) {
        self.hearing = match self.hearing {
            Hearing::All if all => Hearing::All,
            Hearing::All => Hearing::Nothing { until: now },
            Hearing::Nothing { until } if all => Hearing::Again { until, settled: now + RETURN },
            Hearing::Again { settled, .. } if all && now >= settled => Hearing::All,
            Hearing::Again { until, .. } if !all => Hearing::Nothing { until },
            same => same,
        };
    }

    /// Until when all heartbeats were heard of.
    fn heard(&self, now: Time) -> Time {
        match self.hearing {
            Hearing::All => now,
            Hearing::Nothing { until } | Hearing::Again { until, .. } => until,
        }
    }

    /// Takes an origin that lives until then.
    fn enter(&mut self, now: Time, origin: Origin, until: Time) -> Result<Updated, Refusal> {
        let (id, weight) = (origin.id(), self.weights.of(&origin));
        let slot = self.servers.get(&origin.server).copied();
        if let Some(entry) = slot.and_then(|slot| self.at_mut(slot)).filter(|entry| entry.id == id) {
            (entry.origin, entry.weight, entry.until) = (origin, weight, until);
            if let Some(slot) = slot {
                self.ids.entry(id).or_insert(slot);
            }
            return Ok(Updated::Heartbeat);
        }
        let slot = slot.map_or_else(|| self.room(now, until), Ok)?;
        // Another life of its server leaves.
        let old = self.vacate(slot);
        self.servers.insert(Arc::clone(&origin.server), slot);
        self.ids.insert(id.clone(), slot);
        self.serial += 1;
        let new = Entry {
            serial: self.serial,
            id,
            origin,
            weight,
            until,
            troubles: [None; Protocol::ALL.len()],
            draining: false,
            streams: Arc::default(),
            elsewhere: 0,
        };
        if let Some(place) = self.entries.get_mut(slot) {
            *place = Some(new);
        }
        Ok(old.map_or(Updated::New, |old| Updated::Replaced(old.id)))
    }

    /// A free slot for an origin that lives until then; if need be, that of one that has not been heard of for
    /// longest. Those that beat stay.
    fn room(&mut self, now: Time, until: Time) -> Result<usize, Refusal> {
        if let Some(gap) = self.entries.iter().position(Option::is_none) {
            return Ok(gap);
        }
        if self.entries.len() < self.limit {
            self.entries.push(None);
            return Ok(self.entries.len() - 1);
        }
        let heard = self.heard(now);
        let silent = self.members().filter(|(_, entry)| entry.is_silent(heard) && entry.until < until);
        let (member, _) = silent.min_by_key(|(_, entry)| entry.until).ok_or(Refusal::Full)?;
        self.vacate(member.slot);
        Ok(member.slot)
    }

    /// Leaves a gap where an origin was.
    fn vacate(&mut self, slot: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(slot)?.take()?;
        self.servers.remove(&entry.origin.server);
        // Parts of an id may be cut in two ways, so that two servers have the same.
        if self.ids.get(&entry.id) == Some(&slot) {
            self.ids.remove(&entry.id);
        }
        Some(entry)
    }

    /// An origin has left, and its streams are without one. Returns whether it was known.
    pub(crate) fn forget(&mut self, id: &OriginId) -> bool {
        let Some(member) = self.find(id) else { return false };
        self.vacate(member.slot);
        while self.entries.pop_if(|last| last.is_none()).is_some() {}
        true
    }

    /// Forgets who has been silent for very long.
    pub(crate) fn expire(&mut self, now: Time) {
        let heard = self.heard(now);
        let is_over = |entry: &Entry| heard.since(entry.until) >= REMEMBERED;
        let over: Vec<_> =
            self.members().filter(|(_, entry)| is_over(entry)).map(|(it, _)| it.slot).collect();
        over.into_iter().for_each(|slot| drop(self.vacate(slot)));
        while self.entries.pop_if(|last| last.is_none()).is_some() {}
    }

    /// Begins or ends that an origin gets no new streams; the end of its life ends it, too. Returns whether it
    /// is known.
    pub(crate) fn set_draining(&mut self, id: &OriginId, draining: bool) -> bool {
        let entry = self.find_mut(id);
        entry.map(|entry| entry.draining = draining).is_some()
    }

    /// The origins that drain.
    pub(crate) fn draining(&self) -> impl Iterator<Item = &OriginId> {
        self.members().filter(|(_, entry)| entry.draining).map(|(_, entry)| &entry.id)
    }

    /// These are the origins that drain, and no others.
    pub(crate) fn set_all_draining(&mut self, ids: &HashSet<OriginId>) {
        for entry in self.entries.iter_mut().flatten() {
            entry.draining = ids.contains(&entry.id);
        }
    }

    /// The member of this id, if a publisher's word may bring a stream there: heartbeats are heard of it, and nobody here
    /// failed to reach it. Its process answers by the protocol that published, which is not known here, so that it must
    /// be reached by all: a connection to a machine that has gone lingers, and so does its publisher's word.
    pub(crate) fn usable(&self, now: Time, id: &OriginId) -> Option<Member> {
        let heard = self.heard(now);
        self.find(id).filter(|member| {
            self.entry(*member).is_some_and(|entry| {
                !entry.is_silent(heard) && entry.reach(now, Protocol::ALL.into_iter()) < Rank::Failing
            })
        })
    }

    /// A connect failed. Returns how many have failed in a row, and for how long the origin is left alone by this
    /// protocol, if that is news.
    pub(crate) fn unreachable(
        &mut self,
        now: Time,
        id: &OriginId,
        protocol: Protocol,
    ) -> Option<(u32, Duration)> {
        let entry = self.find_mut(id)?;
        let trouble = entry.trouble(now, protocol);
        let failures = match trouble {
            None => 1,
            // One of several that were under way at once: it is known already.
            Some(trouble) if now < trouble.failed_until => return None,
            // Of what others have found out.
            Some(trouble) if now < trouble.until => trouble.failures,
            Some(trouble) => trouble.failures.saturating_add(1),
        };
        let doublings = failures.saturating_sub(1).min(16);
        let pause = QUARANTINE.saturating_mul(1 << doublings).min(MAX_QUARANTINE);
        let until = trouble.map_or(now, |trouble| trouble.until).max(now + pause);
        let trouble = Trouble { failures, until, failed_until: until, probed: None };
        *entry.troubles.get_mut(protocol as usize)? = Some(trouble);
        Some((failures, until.since(now)))
    }

    /// Another proxy's connects failed so many times, and it leaves the origin alone for what is `left` of its
    /// quarantine. New streams are kept away for as long here, unless they are for longer already.
    pub(crate) fn learn_trouble(
        &mut self,
        now: Time,
        id: &OriginId,
        protocol: Protocol,
        failures: u32,
        left: Duration,
    ) {
        let until = now + left.min(MAX_QUARANTINE);
        let Some(entry) = self.find_mut(id) else { return };
        let known = entry.trouble(now, protocol);
        if until > known.map_or(now, |known| known.until.max(now))
            && let Some(trouble) = entry.troubles.get_mut(protocol as usize)
        {
            let failures = known.map_or(failures, |known| known.failures.max(failures));
            let failed_until = known.map_or(now, |known| known.failed_until);
            *trouble = Some(Trouble { failures, until, failed_until, probed: None });
        }
    }

    /// A seat for one more stream.
    pub(crate) fn seat(&self, member: Member) -> Option<Seat> {
        let taken = Arc::clone(&self.entry(member)?.streams);
        taken.fetch_add(1, Relaxed);
        Some(Seat { member, taken })
    }

    /// How many streams have a seat at which origin, without those that have none.
    pub(crate) fn loads(&self) -> Vec<(String, u32)> {
        let loads = self.members().map(|(_, entry)| {
            (entry.id.as_str().to_owned(), u32::try_from(entry.streams.load(Relaxed)).unwrap_or(u32::MAX))
        });
        loads.filter(|(_, streams)| *streams > 0).collect()
    }

    /// How many streams other proxies have at which origin; those that are not in the list have none there. If
    /// there are several entries of one origin, they add up.
    pub(crate) fn set_loads(&mut self, loads: &[(String, u32)]) {
        let mut sums = HashMap::<&str, u32>::new();
        for (id, streams) in loads {
            let sum = sums.entry(id).or_default();
            *sum = sum.saturating_add(*streams);
        }
        for entry in self.entries.iter_mut().flatten() {
            entry.elsewhere = sums.get(entry.id.as_str()).copied().unwrap_or_default();
        }
    }

    /// All origins with their health and the age of their heartbeat.
    pub(crate) fn iter(&self, now: Time) -> impl Iterator<Item = (Member, &Origin, Health, Duration)> {
        let heard = self.heard(now);
        self.members().map(move |(member, entry)| {
            (member, &entry.origin, entry.health(now, heard), (now + self.ttl).since(entry.until))
        })
    }

    fn members(&self) -> impl Iterator<Item = (Member, &Entry)> {
        let slots = self.entries.iter().enumerate();
        slots.filter_map(|(slot, entry)| {
            entry.as_ref().map(|entry| (Member { slot, serial: entry.serial }, entry))
        })
    }

    fn at(&self, slot: usize) -> Option<&Entry> {
        self.entries.get(slot)?.as_ref()
    }

    fn at_mut(&mut self, slot: usize) -> Option<&mut Entry> {
        self.entries.get_mut(slot)?.as_mut()
    }

    fn entry(&self, member: Member) -> Option<&Entry> {
        self.at(member.slot).filter(|entry| entry.serial == member.serial)
    }

    /// The id of a member that is there.
    pub(crate) fn id(&self, member: Member) -> Option<&OriginId> {
        self.entry(member).map(|entry| &entry.id)
    }

    /// The member of this id.
    pub(crate) fn find(&self, id: &OriginId) -> Option<Member> {
        let slot = *self.ids.get(id)?;
        self.at(slot).map(|entry| Member { slot, serial: entry.serial })
    }

    /// Whether some life of this server is there.
    pub(crate) fn has(&self, server: &str) -> bool {
        self.servers.contains_key(server)
    }

    fn find_mut(&mut self, id: &OriginId) -> Option<&mut Entry> {
        let slot = *self.ids.get(id)?;
        self.at_mut(slot)
    }
}
