//! The registered origins: who is alive, who is left alone for a moment, who takes the next stream. Knows no
//! stream.
//!
//! ```text
//!              connect failed              5 s, then twice as long each time
//!   Alive ───────────────────▶ Quarantined ─────────────────────────────────▶ HalfOpen
//!     ▲                             ▲                                            │ one pick tries it
//!     │  nothing bad heard for 5 s  │  connect failed                            ▼
//!     └─────────────────────────────┴───────────────────────────────────────  Probed
//! ```
//!
//! A heartbeat says that an origin's process runs, not that it can be reached from here: it ends no
//! quarantine. Another life of the server does.

use rand_core::Rng;
use rand_pcg::Pcg32;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{Health, Picked, Refusal};
use srs_proxy_core::time::{Duration, Time};
use std::collections::HashMap;
use std::sync::Arc;

/// How long an origin is left alone after a failed connect: long enough that clients that try again go
/// elsewhere, short enough that a hiccup costs nothing.
pub const QUARANTINE: Duration = Duration::from_secs(5);
/// The longest quarantine, after many failures in a row.
pub const MAX_QUARANTINE: Duration = Duration::from_secs(60);
/// How long after a probe a failure would have been heard of: a connect's own limit.
pub const PROBE: Duration = Duration::from_secs(5);

/// How often to draw an origin blindly before looking at all: enough that in a fleet of which a third is
/// usable the search is the exception.
const DRAWS: u32 = 8;

/// One life of one origin in the fleet; dangling when it is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Member {
    slot: usize,
    serial: u64,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    ttl: Duration,
    limit: usize,
    /// Never with a gap: who is forgotten makes room for another.
    entries: Vec<Entry>,
    /// The slot of each server's present life.
    servers: HashMap<Arc<str>, usize>,
    serial: u64,
    rng: Pcg32,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    id: OriginId,
    origin: Origin,
    heartbeat: Time,
    trouble: Option<Trouble>,
}

/// Connects failed, and none is known to have succeeded since.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    /// Failures in a row.
    failures: u32,
    /// The quarantine's end.
    until: Time,
    /// When a pick tried the origin after the quarantine.
    probed: Option<Time>,
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
    /// No heartbeat for long, but nobody failed to connect.
    Silent,
    /// In quarantine.
    Failing,
    /// Neither heartbeat nor connects.
    Lost,
}

impl Entry {
    fn serves(&self, need: Protocol) -> bool {
        self.origin.serves(need).next().is_some()
    }

    fn is_silent(&self, now: Time, ttl: Duration) -> bool {
        now.since(self.heartbeat) >= ttl
    }

    /// The trouble that is still one: a probe that nothing bad was heard of ended it.
    fn trouble(&self, now: Time) -> Option<Trouble> {
        self.trouble.filter(|trouble| trouble.probed.is_none_or(|probed| now.since(probed) < PROBE))
    }

    fn rank(&self, now: Time, ttl: Duration) -> Rank {
        let failing =
            self.trouble(now).is_some_and(|trouble| now < trouble.until || trouble.probed.is_some());
        match (self.is_silent(now, ttl), failing) {
            (false, false) => Rank::Usable,
            (true, false) => Rank::Silent,
            (false, true) => Rank::Failing,
            (true, true) => Rank::Lost,
        }
    }

    fn health(&self, now: Time, ttl: Duration) -> Health {
        match self.trouble(now) {
            _ if self.is_silent(now, ttl) => Health::Dead,
            Some(_) => Health::Quarantined,
            None => Health::Alive,
        }
    }
}

impl Fleet {
    /// No origins yet, and at most `limit`, each alive for `ttl` after a heartbeat.
    pub(crate) fn new(ttl: Duration, limit: usize, rng: Pcg32) -> Self {
        Self { ttl, limit, entries: Vec::new(), servers: HashMap::new(), serial: 0, rng }
    }

    /// Takes a registration or heartbeat.
    pub(crate) fn update(&mut self, now: Time, origin: Origin) -> Result<Updated, Refusal> {
        let id = origin.id();
        let known = self.servers.get(&origin.server).copied().and_then(|slot| self.entries.get_mut(slot));
        self.serial += 1;
        let new = Entry { serial: self.serial, id, origin, heartbeat: now, trouble: None };
        match known {
            Some(entry) if entry.id == new.id => {
                (entry.origin, entry.heartbeat) = (new.origin, now);
                Ok(Updated::Heartbeat)
            }
            Some(entry) => Ok(Updated::Replaced(std::mem::replace(entry, new).id)),
            None => {
                let server = Arc::clone(&new.origin.server);
                let slot = if self.entries.len() < self.limit {
                    self.entries.push(new);
                    self.entries.len() - 1
                } else {
                    self.replace_longest_silent(now, new)?
                };
                self.servers.insert(server, slot);
                Ok(Updated::New)
            }
        }
    }

    /// Gives a new origin the place of one that has not been heard of for longest; those that beat stay.
    fn replace_longest_silent(&mut self, now: Time, new: Entry) -> Result<usize, Refusal> {
        let silent = self.entries.iter_mut().enumerate().filter(|(_, entry)| entry.is_silent(now, self.ttl));
        let (slot, entry) = silent.min_by_key(|(_, entry)| entry.heartbeat).ok_or(Refusal::Full)?;
        let forgotten = std::mem::replace(entry, new);
        self.servers.remove(&forgotten.origin.server);
        Ok(slot)
    }

    /// Where `member` serves `need`, if it is usable; the outer `None` says that another must be chosen. A
    /// member that may be probed is probed by this.
    pub(crate) fn take(&mut self, now: Time, member: Member, need: Protocol) -> Option<Option<Picked>> {
        let ttl = self.ttl;
        let entry = self.entries.get_mut(member.slot).filter(|entry| entry.serial == member.serial)?;
        if entry.rank(now, ttl) != Rank::Usable {
            return None;
        }
        Some(self.send(now, member.slot, need))
    }

    /// Chooses an origin that serves `need`: by chance among the best. With none better, `present` stays.
    pub(crate) fn choose(
        &mut self,
        now: Time,
        need: Protocol,
        present: Option<Member>,
    ) -> Option<(Member, Picked)> {
        let slot = self.draw(now, need).or_else(|| self.search(now, need, present))?;
        let serial = self.entries.get(slot)?.serial;
        Some((Member { slot, serial }, self.send(now, slot, need)?))
    }

    /// A usable origin, found without looking at all of them, as most of a healthy fleet is usable.
    fn draw(&mut self, now: Time, need: Protocol) -> Option<usize> {
        (0..DRAWS).map(|_| below(&mut self.rng, self.entries.len())).find(|slot| {
            let entry = self.entries.get(*slot);
            entry.is_some_and(|entry| entry.serves(need) && entry.rank(now, self.ttl) == Rank::Usable)
        })
    }

    /// One of the best origins, found by looking at all of them.
    fn search(&mut self, now: Time, need: Protocol, present: Option<Member>) -> Option<usize> {
        let serving = || self.entries.iter().enumerate().filter(|(_, entry)| entry.serves(need));
        let best = serving().map(|(_, entry)| entry.rank(now, self.ttl)).min()?;
        let candidates = || serving().filter(|(_, entry)| entry.rank(now, self.ttl) == best);
        let stays =
            candidates().find(|(slot, entry)| present == Some(Member { slot: *slot, serial: entry.serial }));
        let chance = below(&mut self.rng, candidates().count());
        stays.or_else(|| candidates().nth(chance)).map(|(slot, _)| slot)
    }

    /// Sends a client to the origin in `slot`.
    fn send(&mut self, now: Time, slot: usize, need: Protocol) -> Option<Picked> {
        let entry = self.entries.get_mut(slot)?;
        entry.trouble = entry.trouble(now);
        if let Some(trouble) = &mut entry.trouble
            && now >= trouble.until
        {
            trouble.probed.get_or_insert(now);
        }
        let count = entry.origin.serves(need).count();
        let chance = if count > 1 { below(&mut self.rng, count) } else { 0 };
        let to = entry.origin.serves(need).nth(chance)?;
        Some(Picked { origin: entry.id.clone(), to })
    }

    /// The member of this id, if it is usable.
    pub(crate) fn usable(&self, now: Time, id: &OriginId) -> Option<Member> {
        let (slot, entry) = self.entries.iter().enumerate().find(|(_, entry)| entry.id == *id)?;
        (entry.rank(now, self.ttl) == Rank::Usable).then_some(Member { slot, serial: entry.serial })
    }

    /// A connect failed. Returns for how long the origin is left alone, if that is news.
    pub(crate) fn unreachable(&mut self, now: Time, id: &OriginId) -> Option<Duration> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == *id)?;
        let failures = match entry.trouble(now) {
            None => 1,
            // One of several that were under way at once: it is known already.
            Some(trouble) if now < trouble.until => return None,
            Some(trouble) => trouble.failures.saturating_add(1),
        };
        let doublings = failures.saturating_sub(1).min(16);
        let pause = QUARANTINE.saturating_mul(1 << doublings).min(MAX_QUARANTINE);
        entry.trouble = Some(Trouble { failures, until: now + pause, probed: None });
        Some(pause)
    }

    /// All origins with their health and the age of their heartbeat.
    pub(crate) fn iter(&self, now: Time) -> impl Iterator<Item = (Member, &Origin, Health, Duration)> {
        self.entries.iter().enumerate().map(move |(slot, entry)| {
            let member = Member { slot, serial: entry.serial };
            (member, &entry.origin, entry.health(now, self.ttl), now.since(entry.heartbeat))
        })
    }
}

/// A number below `count`, each as likely as the other to within 2⁻³² × `count`.
fn below(rng: &mut Pcg32, count: usize) -> usize {
    let scaled = u128::from(rng.next_u32()) * count as u128;
    usize::try_from(scaled >> 32).unwrap_or(0)
}
