//! The desk's work with streams: which origin has one, and that it keeps it.
//!
//! ```text
//!                        held by the nominated origin
//!   Claim ──────────────────────────────────────────────▶ settled: all who wait are answered
//!     ▲  │ held by another      │ of which nothing is known
//!     │  ▼                      ▼
//!     │ usable? ── yes ──▶ settled     Meet: who is it?
//!     └── no: the next claim replaces just that one ◀──┘
//! ```

use super::client::Command;
use super::desk::{About, Alone, Desk, Job, Renewal};
use super::{FRESH, Mappings, records};
use crate::fleet::Member;
use crate::view::{CLAIM_LIFE, PUBLISHER_FRESH, STREAM_IDLE};
use crate::{Asker, Outcome, Policy};
use smallvec::smallvec;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{OriginId, Protocol};
use srs_proxy_core::query::{Answer, Picked, Refusal};
use srs_proxy_core::time::{Duration, Time};

/// Claims one question may take. Each but the first means that an origin was found dead.
const MAX_CLAIMS: u8 = 5;

/// How long an origin that was met lives, until a census says for how long it really does.
const MET: Duration = Duration::from_secs(3);

/// A stream is asked for an origin, if it has none or just this other one.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) key: StreamKey,
    need: Protocol,
    origin: OriginId,
    instead_of: Option<String>,
    /// Claims made for the question, with this one.
    count: u8,
}

impl Desk {
    pub(super) fn pick(&mut self, asker: &Asker, key: &StreamKey, need: Protocol) -> Outcome<Picked> {
        let now = asker.now;
        if self.is_away() {
            return self.pick_alone(now, key, need).into();
        }
        if self.checked.get(now, key).is_some_and(|at| now.since(*at) < FRESH)
            && let Some(home) = self.view.home(now, key)
            && let Some(taken) = self.view.fleet.take(now, home, need)
        {
            // The stream is there and nowhere else: if its origin does not serve the protocol, none does.
            return taken.ok_or(Refusal::NoOrigin).into();
        }
        self.ask(asker, About::Stream(key.clone()), Alone::Pick(need), |desk| {
            desk.claim(now, key, need).unwrap_or_else(|| Job::Find(key.clone(), need))
        })
    }

    /// Without the store, what is known holds. A stream that is not gets an origin only if every proxy would choose
    /// the same.
    pub(super) fn pick_alone(
        &mut self,
        now: Time,
        key: &StreamKey,
        need: Protocol,
    ) -> Result<Picked, Refusal> {
        if let Some(home) = self.view.home(now, key)
            && let Some(taken) = self.view.fleet.take(now, home, need)
        {
            return taken.ok_or(Refusal::NoOrigin);
        }
        match self.policy {
            Policy::Rendezvous => self.view.pick(now, key, need),
            Policy::Random | Policy::LeastStreams => Err(Refusal::Unavailable),
        }
    }

    /// What to ask about a stream first. `None` if nobody can be nominated for it.
    fn claim(&mut self, now: Time, key: &StreamKey, need: Protocol) -> Option<Job> {
        let home = self.view.home(now, key);
        let usable = home.filter(|member| self.view.fleet.is_usable(now, *member));
        let member = usable.or_else(|| self.view.fleet.nominate(now, key, need, home))?;
        let origin = self.view.fleet.id(member)?.clone();
        let instead_of = home.filter(|home| *home != member).and_then(|home| self.view.fleet.id(home));
        let instead_of = instead_of.map(|id| self.keys.server(id.as_str()));
        Some(Job::Claim(Claim { key: key.clone(), need, origin, instead_of, count: 1 }))
    }

    pub(super) fn claim_command(&self, claim: &Claim) -> Command {
        self.map(&claim.key, &claim.origin, claim.instead_of.clone(), CLAIM_LIFE)
    }

    fn map(&self, key: &StreamKey, origin: &OriginId, instead_of: Option<String>, life: Duration) -> Command {
        Command::Claim {
            key: self.keys.url(key),
            value: self.keys.server(origin.as_str()),
            instead_of,
            life: (self.mappings == Mappings::End).then_some(life),
        }
    }

    /// The key under which the registration of the origin stands that has a stream.
    pub(super) fn server_key(&self, held: &str) -> String {
        self.keys.id_of(held).map_or_else(|| held.to_owned(), |id| self.keys.server(id))
    }

    /// There was nobody to nominate; now there may be.
    pub(super) fn found(&mut self, now: Time, key: StreamKey, need: Protocol, held: Option<String>) {
        match (held, self.claim(now, &key, need)) {
            (Some(held), job) => {
                let origin = match job {
                    Some(Job::Claim(claim)) => claim.origin,
                    // Nobody: it stays with whom it has.
                    _ => OriginId::new("", "", ""),
                };
                self.claimed(now, Claim { key, need, origin, instead_of: None, count: 1 }, held);
            }
            (None, Some(job)) => self.then(job),
            (None, None) => self.answer_all(&About::Stream(key), &Answer::Refused(Refusal::NoOrigin)),
        }
    }

    /// `held` has the stream.
    pub(super) fn claimed(&mut self, now: Time, claim: Claim, held: String) {
        let id = self.keys.id_of(&held).map(OriginId::from_text);
        let Some(member) = id.as_ref().and_then(|id| self.view.fleet.find(id)) else {
            return match id {
                Some(_) => self.then(Job::Meet(claim, held)),
                None => self.replace(now, claim, held, None),
            };
        };
        if id.as_ref() == Some(&claim.origin) {
            if let Some(dead) = claim.instead_of.as_deref().and_then(|held| self.keys.id_of(held)) {
                // Whoever published it did so where it is no more.
                let (key, value) = (self.keys.publisher(&claim.key), dead.to_owned());
                self.then(Job::Tell(smallvec![Command::Delete { key, value }]));
            }
            self.settle(now, &claim.key, member);
        } else if self.view.fleet.is_usable(now, member) {
            self.settle(now, &claim.key, member);
        } else {
            self.replace(now, claim, held, Some(member));
        }
    }

    /// The registration of the origin that has the stream, and that no census has told of before.
    pub(super) fn met(&mut self, now: Time, claim: Claim, held: String, registration: Option<&str>) {
        let id = OriginId::from_text(self.keys.id_of(&held).unwrap_or_default());
        if self.view.fleet.find(&id).is_some() {
            return self.claimed(now, claim, held);
        }
        // One that has lost its place on the list. Or an old life, if a younger one of the server is known.
        let origin = registration.and_then(records::origin);
        let origin = origin.filter(|origin| origin.id() == id && !self.view.fleet.has_server(&origin.server));
        let Some(origin) = origin else { return self.replace(now, claim, held, None) };
        self.view.learn(now, origin, MET);
        match self.view.fleet.find(&id) {
            Some(_) => self.claimed(now, claim, held),
            // There is no room for it here.
            None => self.answer_all(&About::Stream(claim.key), &Answer::Refused(Refusal::Full)),
        }
    }

    /// The stream's origin is not usable; the best there is takes its place, which may be itself.
    fn replace(&mut self, now: Time, claim: Claim, held: String, present: Option<Member>) {
        let Claim { key, need, count, .. } = claim;
        let nominee = self.view.fleet.nominate(now, &key, need, present);
        let origin = nominee.and_then(|member| self.view.fleet.id(member)).cloned();
        match (nominee.or(present), origin) {
            (Some(member), _) if Some(member) == present => self.settle(now, &key, member),
            (Some(_), Some(origin)) if count < MAX_CLAIMS => {
                self.then(Job::Claim(Claim { key, need, origin, instead_of: Some(held), count: count + 1 }));
            }
            (None, _) => self.answer_all(&About::Stream(key), &Answer::Refused(Refusal::NoOrigin)),
            _ => self.answer_all(&About::Stream(key), &Answer::Refused(Refusal::Unavailable)),
        }
    }

    /// The store says that the stream is there.
    fn settle(&mut self, now: Time, key: &StreamKey, member: Member) {
        // What finds no room here is asked for each time.
        if self.view.settle(now, key, member).is_ok() {
            let _full = self.checked.insert(now, key.clone(), now);
        }
        for waiter in self.take(&About::Stream(key.clone())) {
            let picked = match waiter.alone {
                Alone::Pick(need) => self.view.fleet.send(now, member, need),
                Alone::Keep(_) | Alone::Say(_) => None,
            };
            self.answer(waiter, picked.map_or(Answer::Refused(Refusal::NoOrigin), Answer::Picked));
        }
    }

    pub(super) fn playing(&mut self, now: Time, key: &StreamKey) {
        let Some(home) = self.view.home(now, key) else { return };
        if let Some(origin) = self.view.fleet.id(home).cloned()
            && self.is_due(now, Renewal::Played(key.clone()))
        {
            self.meanwhile(Job::Renew(key.clone(), origin));
        }
    }

    pub(super) fn renew_command(&self, key: &StreamKey, origin: &OriginId) -> Command {
        self.map(key, origin, None, CLAIM_LIFE)
    }

    /// A stream in use was renewed, unless it is elsewhere by now.
    pub(super) fn renewed(&mut self, now: Time, key: &StreamKey, origin: &OriginId, held: &str) {
        let held = self.keys.id_of(held).filter(|held| *held != origin.as_str()).map(OriginId::from_text);
        if let Some(member) = held.and_then(|id| self.view.fleet.find(&id)) {
            // It is not the player that is answered: it stays where it is.
            let _full = self.view.settle(now, key, member);
        }
    }

    pub(super) fn publishing(&mut self, now: Time, key: &StreamKey, origin: &OriginId) {
        if self.is_away() {
            return self.view.publishing(now, key, origin);
        }
        let Some(member) = self.view.fleet.usable(now, origin) else { return };
        let is_home = self.view.home(now, key).is_some_and(|home| home == member);
        let job = || Job::Publish { key: key.clone(), origin: origin.clone(), instead_of: None };
        if !is_home {
            // Whoever asks from now on shall hear of the new place.
            self.checked.forget(key);
            self.hold(now, key, job());
        } else if self.is_due(now, Renewal::Published(key.clone())) {
            self.view.publishing(now, key, origin);
            self.meanwhile(job());
        }
    }

    /// Of two publishers at two origins, the one that was first stays.
    pub(super) fn publish_commands(
        &self,
        key: &StreamKey,
        origin: &OriginId,
        instead_of: Option<String>,
    ) -> [Command; 2] {
        let publisher = Command::Claim {
            key: self.keys.publisher(key),
            value: origin.as_str().to_owned(),
            instead_of: None,
            life: Some(PUBLISHER_FRESH),
        };
        [publisher, self.map(key, origin, instead_of, STREAM_IDLE)]
    }

    /// The stream is held by `held`, and `publisher` is where it is published.
    pub(super) fn published(
        &mut self,
        now: Time,
        key: StreamKey,
        origin: OriginId,
        instead_of: Option<String>,
        publisher: &str,
        held: String,
    ) {
        let is_ours = publisher == origin.as_str();
        if is_ours && self.keys.id_of(&held) != Some(origin.as_str()) && instead_of.as_ref() != Some(&held) {
            return self.hold(now, &key.clone(), Job::Publish { key, origin, instead_of: Some(held) });
        }
        let claim = Claim {
            key: key.clone(),
            need: Protocol::Rtmp,
            origin: origin.clone(),
            instead_of: None,
            count: 1,
        };
        self.claimed(now, claim, held);
        if is_ours {
            self.view.publishing(now, &key, &origin);
        }
    }
}
