//! The desk's work with origins: registrations, and what proxies tell each other of them.

use super::client::{Census, Command, Mark, Returned};
use super::desk::{Desk, Job, Renewal};
use super::records;
use super::streams::Publication;
use crate::{Asker, Outcome};
use smallvec::smallvec;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{Answer, Refusal};
use srs_proxy_core::time::{Duration, Time};
use std::collections::HashSet;
use std::sync::Arc;

/// How long an origin stays drained: longer than anyone waits for its end.
const DRAINED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Registrations that are given back in one command: a millisecond of the store's time.
const GIVEN_BACK: usize = 128;

/// A census, of which the registrations are read.
#[derive(Debug, Default)]
pub(super) struct Registered {
    has_list: bool,
    knows_us: bool,
    is_full: bool,
    origins: Vec<(Origin, Duration)>,
    marks: Vec<(OriginId, Mark, Duration)>,
    loads: Vec<(String, u32)>,
}

impl Registered {
    /// What is no registration is left out.
    pub(super) fn read(census: Census) -> Self {
        let Census { has_list, knows_us, is_full, registrations, marks, loads } = census;
        let origins = registrations.iter().filter_map(|(json, left)| Some((records::origin(json)?, *left)));
        let marks = marks.iter().map(|(id, mark, left)| (OriginId::from_text(id.as_str()), *mark, *left));
        Self { has_list, knows_us, is_full, origins: origins.collect(), marks: marks.collect(), loads }
    }
}

impl Desk {
    pub(super) fn update(&mut self, asker: &Asker, origin: Origin) -> Outcome<()> {
        if let Err(why) = self.view.update(asker.now, origin.clone()) {
            return Outcome::Refused(why);
        }
        if self.is_away() {
            return Outcome::Now(());
        }
        let Returned { id, server, json, life } = self.returned(asker.now, &origin, self.view.fleet.ttl);
        let command = Command::Register { id, server, json, life };
        // It is known here in any case, and the next heartbeat comes.
        self.change(asker, [command], Answer::Registered, Answer::Registered)
    }

    fn returned(&self, now: Time, origin: &Origin, life: Duration) -> Returned {
        Returned {
            id: origin.id().to_string(),
            server: origin.server.to_string(),
            json: records::registration(origin, self.epoch + now.since(Time::ZERO)),
            life,
        }
    }

    pub(super) fn drain(&mut self, asker: &Asker, id: &OriginId, on: bool) -> Outcome<bool> {
        let life = if on { DRAINED } else { Duration::ZERO };
        self.order(asker, id, [self.mark(id, Mark::Draining, life)])
    }

    pub(super) fn deregister(&mut self, asker: &Asker, id: &OriginId) -> Outcome<bool> {
        // Others must not give it back, nor go on with it until its time is up.
        let gone = self.mark(id, Mark::Gone, self.view.fleet.ttl);
        let drains_no_more = self.mark(id, Mark::Draining, Duration::ZERO);
        self.order(asker, id, [gone, drains_no_more, Command::Deregister { id: id.as_str().to_owned() }])
    }

    /// A change of one origin, which the census that follows shows to all, also here.
    fn order<const N: usize>(
        &mut self,
        asker: &Asker,
        id: &OriginId,
        commands: [Command; N],
    ) -> Outcome<bool> {
        if self.view.fleet.find(id).is_none() {
            return Outcome::Now(false);
        }
        if self.is_away() {
            return Outcome::Refused(Refusal::Unavailable);
        }
        let made = Answer::Known(true);
        let census = self.census();
        self.change(asker, commands.into_iter().chain([census]), made, Answer::Refused(Refusal::Unavailable))
    }

    fn mark(&self, id: &OriginId, mark: Mark, life: Duration) -> Command {
        Command::Mark { id: id.as_str().to_owned(), mark, life }
    }

    pub(super) fn unreachable(&mut self, now: Time, id: &OriginId, protocol: Protocol) {
        if let Some((failures, pause)) = self.view.unreachable(now, id, protocol) {
            self.then(Job::Tell(smallvec![self.mark(id, Mark::Trouble(protocol, failures), pause)]));
        }
    }

    pub(super) fn census(&self) -> Command {
        Command::Census { proxy: Arc::clone(&self.proxy), loads: self.view.fleet.loads() }
    }

    /// Learns from a census.
    pub(super) fn counted(&mut self, now: Time, census: Registered) {
        if !census.has_list {
            self.give_back_drains();
        }
        if !census.knows_us && !self.is_just_back(now) {
            self.renew_all(now);
            self.restore(now);
        } else if !census.has_list {
            self.give_back_origins(now);
        }
        // Who is registered again is not gone, whatever was said of it: a Go proxy that registers takes nothing back.
        let is_gone = |mark: &Mark| *mark == Mark::Gone;
        if census.marks.iter().any(|(_, mark, _)| is_gone(mark)) {
            let there: HashSet<_> = census.origins.iter().map(|(origin, _)| origin.id()).collect();
            for (id, mark, _) in &census.marks {
                if is_gone(mark) && !there.contains(id) {
                    self.view.deregister(id);
                }
            }
        }
        for (origin, left) in census.origins {
            self.view.learn(now, origin, left);
        }
        // A store that takes no more takes no heartbeats.
        self.view.fleet.hear(now, !census.is_full);
        let mut draining = HashSet::new();
        for (id, mark, left) in census.marks {
            match mark {
                Mark::Trouble(protocol, failures) => {
                    self.view.fleet.learn_trouble(now, &id, protocol, failures, left);
                }
                Mark::Draining => drop(draining.insert(id)),
                Mark::Gone => {}
            }
        }
        // A store that has lost everything does not know, and is told.
        if census.has_list {
            self.view.fleet.set_all_draining(&draining);
        }
        self.view.fleet.set_loads(&census.loads);
    }

    /// The store may have lost what is in use here, or never have heard of it.
    pub(super) fn restore(&mut self, now: Time) {
        self.give_back_origins(now);
        self.give_back_sessions(now);
        for (key, origin, heard) in self.view.published(now) {
            if self.renewals.is_due(now, self.up_since(), Renewal::Published(key.clone())) {
                self.meanwhile(Job::Publish(Publication::new(now, heard, key, origin, true)));
            }
        }
        for key in self.renewals.played(now) {
            self.playing(now, &key);
        }
        self.hurry(now);
    }

    fn give_back_drains(&mut self) {
        let draining = self.view.fleet.draining();
        let marks: Vec<_> = draining.map(|id| self.mark(id, Mark::Draining, DRAINED)).collect();
        for mark in marks {
            self.meanwhile(Job::Tell(smallvec![mark]));
        }
    }

    /// Registers again who is known and alive, unless others have heard of them since.
    fn give_back_origins(&mut self, now: Time) {
        let alive = self.view.fleet.iter(now).filter(|(.., age)| *age < self.view.fleet.ttl);
        let origins = alive.map(|(_, origin, _, age)| self.returned(now, origin, self.view.fleet.ttl - age));
        let origins: Vec<_> = origins.collect();
        for origins in origins.chunks(GIVEN_BACK) {
            let origins = origins.to_vec();
            self.meanwhile(Job::Tell(smallvec![Command::GiveBack { origins }]));
        }
    }
}
