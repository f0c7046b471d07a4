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
use super::desk::{About, Alone, Desk, Job, RENEW, Renewal};
use super::{Mappings, records};
use crate::fleet::Member;
use crate::view::{CLAIM_LIFE, PUBLISHER_FRESH, Place, STREAM_IDLE};
use crate::{Asker, Outcome, Policy};
use smallvec::smallvec;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{OriginId, Protocol};
use srs_proxy_core::query::{Answer, Need, Picked, Refusal};
use srs_proxy_core::time::{Duration, Time};

/// Claims one question may take. Each but the first means that an origin was found dead.
const MAX_CLAIMS: u8 = 5;

/// Where is this stream?
#[derive(Clone, Debug)]
pub(super) struct Sought {
    pub(super) key: StreamKey,
    /// What its origin must serve if it has none yet.
    need: Need,
    /// Claims made to find out.
    claims: u8,
}

/// A stream is claimed for an origin, if it has none or just this other one.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) sought: Sought,
    origin: OriginId,
    instead_of: Option<String>,
}

/// A stream is published at an origin.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) key: StreamKey,
    origin: OriginId,
    /// Where it was published, and is no more: that origin is not usable.
    not_at: Option<String>,
    /// When that was heard, and for how long it counts.
    heard: Time,
    left: Duration,
    /// Whether a mapping to elsewhere yields to it, even if that is usable. Not to a renewal: its publisher may be gone
    /// since it was queued.
    moves: bool,
}

impl Publication {
    /// One that is not yet told. What was `heard` a while ago counts for so much less long: who has gone meanwhile shall
    /// not stand in another's way for longer because the store was away.
    pub(super) fn new(now: Time, heard: Time, key: StreamKey, origin: OriginId, moves: bool) -> Self {
        let left = PUBLISHER_FRESH.saturating_sub(now.since(heard));
        Self { key, origin, not_at: None, heard, left, moves }
    }
}

impl Desk {
    pub(super) fn pick(&mut self, asker: &Asker, key: &StreamKey, need: Need) -> Outcome<Picked> {
        let now = asker.now;
        if self.is_away() {
            return self.pick_alone(now, key, need).into();
        }
        // Who publishes decides where all others go, and shall not be a moment behind.
        if !need.publishes
            && self.checked.get(now, key).copied().is_some_and(|at| self.is_fresh(now, at))
            && let Some(taken) = self.view.take(now, key, need)
        {
            return taken.into();
        }
        self.ask(asker, About::Stream(key.clone()), Alone::Pick(need), |desk| desk.first(now, key, need))
    }

    /// Without the store, what is known holds. A stream that is not gets an origin only if every proxy would choose
    /// the same.
    pub(super) fn pick_alone(&mut self, now: Time, key: &StreamKey, need: Need) -> Result<Picked, Refusal> {
        if let Some(taken) = self.view.take(now, key, need) {
            return taken;
        }
        match self.view.fleet.policy {
            Policy::Rendezvous => self.view.pick(now, key, need),
            Policy::Random | Policy::LeastStreams => Err(Refusal::Unavailable),
        }
    }

    /// What to ask about a stream first.
    fn first(&mut self, now: Time, key: &StreamKey, need: Need) -> Job {
        let sought = Sought { key: key.clone(), need, claims: 0 };
        self.claim(now, &sought).map_or_else(|| Job::Find(sought), Job::Claim)
    }

    /// A claim for a stream that may have an origin as far as is known here. `None` if nobody can be nominated.
    fn claim(&mut self, now: Time, sought: &Sought) -> Option<Claim> {
        let place = self.view.place(now, &sought.key);
        let home = place.map(|place| place.member);
        let stays =
            place.filter(|place| self.view.fleet.keeps(now, place.member, sought.need, place.is_published));
        let member = stays.map(|place| place.member);
        let member = member.or_else(|| self.view.fleet.nominate(now, &sought.key, sought.need, home))?;
        let origin = self.view.fleet.id(member)?.clone();
        // Where it is published it stays, even if the store has not heard of that yet.
        let replaced = place.filter(|place| place.member != member && !self.is_bound(*place, sought.need));
        let instead_of = replaced.and_then(|place| self.view.fleet.id(place.member));
        let instead_of = instead_of.map(|id| self.keys.server(id.as_str()));
        Some(Claim { sought: Sought { claims: sought.claims + 1, ..sought.clone() }, origin, instead_of })
    }

    pub(super) fn claim_command(&self, claim: &Claim) -> Command {
        let Claim { sought: Sought { key, need, .. }, origin, instead_of } = claim;
        Command::Map {
            stream: key.to_string(),
            origin: origin.to_string(),
            instead_of: instead_of.clone(),
            publishes: need.publishes,
            life: self.mapped_for(CLAIM_LIFE),
        }
    }

    /// Only proxies that renew no mapping write such as stay; what ours let end, those would look for elsewhere.
    pub(super) fn warn_of_mixed_fleet(&mut self, claim: &Claim, stays: bool) {
        if stays && self.mappings == Mappings::End && !std::mem::replace(&mut self.told_of_mixed_fleet, true)
        {
            let key = &claim.sought.key;
            log::warn!(
                "the mapping of {key} has no end: PROXY_REDIS_MIXED_FLEET must be on while a Go proxy is in the fleet"
            );
        }
    }

    fn mapped_for(&self, life: Duration) -> Option<Duration> {
        (self.mappings == Mappings::End).then_some(life)
    }

    /// There was nobody to nominate; now there may be.
    pub(super) fn found(&mut self, now: Time, sought: Sought, held: Option<String>) {
        if let Some(held) = held {
            return self.is_held(now, sought, held);
        }
        match self.claim(now, &sought) {
            Some(claim) => self.then(Job::Claim(claim)),
            None => self.answer_all(&About::Stream(sought.key), &Answer::Refused(Refusal::NoOrigin)),
        }
    }

    /// A claim was made, and `held` has the stream; `is_new` by this.
    pub(super) fn claimed(&mut self, now: Time, claim: Claim, held: String, is_new: bool) {
        if is_new {
            self.view.claimed(now, &claim.sought.key, &claim.origin);
        }
        let id = self.keys.id_of(&held);
        if claim.instead_of.as_ref() != Some(&held) || id == Some(claim.origin.as_str()) {
            return self.is_held(now, claim.sought, held);
        }
        // Who plays finds it there or nowhere; who publishes may take it elsewhere.
        let member = id.and_then(|id| self.view.fleet.find(&OriginId::from_text(id)));
        self.bound(now, &claim.sought.key, member);
        if self.waiting.need(&About::Stream(claim.sought.key.clone())).is_some() {
            self.replace(now, claim.sought, held, member);
        }
    }

    /// Whether a client finds the stream here or nowhere.
    fn is_bound(&self, place: Place, need: Need) -> bool {
        place.is_published && !need.publishes && self.view.fleet.id(place.member).is_some()
    }

    /// The stream is published there, by a proxy that reaches it.
    fn bound(&mut self, now: Time, key: &StreamKey, member: Option<Member>) {
        let about = About::Stream(key.clone());
        for waiter in self.waiting.take_picks(&about, |need| !need.publishes) {
            let answer = match (member, &waiter.alone) {
                (Some(member), Alone::Pick(need)) if self.view.fleet.keeps(now, member, *need, true) => {
                    self.view.fleet.send(now, member, *need)
                }
                _ => None,
            };
            self.answer(waiter, answer.map_or(Answer::Refused(Refusal::NoOrigin), Answer::Picked));
        }
    }

    /// `held` has the stream: there go those for whom it is usable.
    fn is_held(&mut self, now: Time, sought: Sought, held: String) {
        let Some(id) = self.keys.id_of(&held).map(OriginId::from_text) else {
            return self.replace(now, sought, held, None);
        };
        match self.view.fleet.find(&id) {
            None => self.then(Job::Meet(sought, held)),
            Some(member) => {
                self.settle(now, &sought.key, member, false);
                self.replace(now, sought, held, Some(member));
            }
        }
    }

    /// The registration of the origin that has the stream. Unless it has lost its place on the list, the census before has
    /// told of it.
    pub(super) fn met(&mut self, now: Time, sought: Sought, held: String, met: Option<(String, Duration)>) {
        let about = About::Stream(sought.key.clone());
        let Some((registration, left)) = met else { return self.replace(now, sought, held, None) };
        let Some(id) = records::owner(&registration).filter(|id| self.keys.id_of(&held) == Some(id.as_str()))
        else {
            return self.replace(now, sought, held, None);
        };
        let Some(origin) = records::origin(&registration) else {
            // It lives, and others know how to read what it says.
            return self.answer_all(&about, &Answer::Refused(Refusal::NoOrigin));
        };
        self.view.learn(now, origin.clone(), left);
        match self.view.fleet.find(&id) {
            Some(_) => self.is_held(now, sought, held),
            // Its server has another life, and who registered that took nothing back.
            None if self.view.fleet.has(&origin.server) => self.replace(now, sought, held, None),
            // There is no room for it here.
            None => self.answer_all(&about, &Answer::Refused(Refusal::Full)),
        }
    }

    /// The stream's origin is not usable; the best there is takes its place, which may be itself.
    fn replace(&mut self, now: Time, sought: Sought, held: String, present: Option<Member>) {
        let Sought { key, claims, .. } = sought;
        let Some(need) = self.waiting.need(&About::Stream(key.clone())) else {
            // Whoever asks next shall decide.
            return drop(self.waiting.take(&About::Stream(key)));
        };
        let Some(nominee) = self.view.fleet.nominate(now, &key, need, present).or(present) else {
            return self.answer_all(&About::Stream(key), &Answer::Refused(Refusal::NoOrigin));
        };
        let place = self.view.place(now, &key).filter(|place| present == Some(place.member));
        match self.view.fleet.id(nominee).cloned() {
            _ if present == Some(nominee) => self.settle(now, &key, nominee, true),
            _ if place.is_some_and(|place| self.is_bound(place, need)) => self.bound(now, &key, present),
            Some(origin) if claims < MAX_CLAIMS => {
                let sought = Sought { key, need, claims: claims + 1 };
                self.then(Job::Claim(Claim { sought, origin, instead_of: Some(held) }));
            }
            _ => self.answer_all(&About::Stream(key), &Answer::Refused(Refusal::Unavailable)),
        }
    }

    /// The store says that the stream is there. Those who wait are sent there: all of them, or those for whom it is usable.
    fn settle(&mut self, now: Time, key: &StreamKey, member: Member, all: bool) {
        // What finds no room here is asked for each time.
        if self.view.settle(now, key, member).is_ok() {
            let _full = self.checked.insert(now, key.clone(), now);
        }
        let place = self.view.place(now, key).filter(|place| place.member == member);
        let is_published = place.is_some_and(|place| place.is_published);
        let about = About::Stream(key.clone());
        let is_good = |need| all || self.view.fleet.keeps(now, member, need, is_published);
        for waiter in self.waiting.take_picks(&about, is_good) {
            let picked = match waiter.alone {
                Alone::Pick(need) => self.view.fleet.send(now, member, need),
                Alone::Keep(_) | Alone::Say(_) => None,
            };
            self.answer(waiter, picked.map_or(Answer::Refused(Refusal::NoOrigin), Answer::Picked));
        }
    }

    pub(super) fn playing(&mut self, now: Time, key: &StreamKey) {
        let home = self.view.home(now, key).and_then(|home| self.view.fleet.id(home)).cloned();
        let played = Renewal::Played(key.clone());
        // The pick that it began with was as good as a renewal.
        let asked = self.checked.get(now, key).copied();
        if let Some(at) = asked.filter(|at| now.since(*at) < RENEW)
            && !self.renewals.is_in_use(now, &played)
        {
            self.renewals.renewed(now, at, played.clone());
        }
        if self.renewals.is_due(now, self.up_since(), played) {
            self.meanwhile(Job::Renew(key.clone(), home));
        }
    }

    /// A stream that is not mapped any more is mapped to `origin`. Where that is not known, as it has gone, the stream is
    /// still in use where the store has it.
    pub(super) fn renew_command(&self, key: &StreamKey, origin: Option<&OriginId>) -> Command {
        let Some(origin) = origin else {
            return Command::Find { key: self.keys.url(key), of_stream: None, life: CLAIM_LIFE };
        };
        Command::Map {
            stream: key.to_string(),
            origin: origin.to_string(),
            instead_of: None,
            publishes: false,
            life: self.mapped_for(CLAIM_LIFE),
        }
    }

    /// A stream in use was renewed, unless it is elsewhere by now.
    pub(super) fn renewed(&mut self, now: Time, key: &StreamKey, origin: Option<&OriginId>, held: &str) {
        let held = self.keys.id_of(held).map(OriginId::from_text).filter(|held| Some(held) != origin);
        if let Some(member) = held.and_then(|id| self.view.fleet.find(&id)) {
            // It is not the player that is answered: it stays where it is.
            let _full = self.view.settle(now, key, member);
        }
    }

    pub(super) fn publishing(&mut self, now: Time, key: &StreamKey, origin: &OriginId) {
        if self.is_away() {
            return self.view.publishing(now, now, key, origin);
        }
        let Some(member) = self.view.fleet.find(origin) else { return };
        let is_home = self.view.home(now, key).is_some_and(|home| home == member);
        let job = |moves| Job::Publish(Publication::new(now, now, key.clone(), origin.clone(), moves));
        let published = Renewal::Published(key.clone());
        let is_new = !self.renewals.is_in_use(now, &published);
        let is_due = self.renewals.is_due(now, self.up_since(), published);
        if is_home && is_due {
            self.view.publishing(now, now, key, origin);
            // Others shall know at once.
            if is_new { self.then(job(false)) } else { self.meanwhile(job(false)) }
        } else if !is_home && self.view.fleet.usable(now, origin).is_some() {
            // Whoever asks from now on shall hear of the new place.
            self.checked.forget(key);
            self.hold(now, key, job(true));
        }
    }

    pub(super) fn ended(&mut self, key: &StreamKey, origin: &OriginId) {
        self.view.ended(key, origin);
        self.renewals.ended(&Renewal::Published(key.clone()));
        if !self.is_away() {
            // After what was said while it went on.
            let (key, value) = (self.keys.publisher(key), origin.to_string());
            self.at_last(Job::Tell(smallvec![Command::Delete { key, value }]));
        }
    }

    /// Of two publishers at two origins, the one that was first stays, unless its origin is not usable any more.
    pub(super) fn publish_command(&self, publication: &Publication) -> Command {
        let Publication { key, origin, not_at, left, moves, .. } = publication;
        Command::Publish {
            stream: key.to_string(),
            origin: origin.to_string(),
            not_at: not_at.clone(),
            moves: *moves,
            fresh: *left,
            life: self.mapped_for(STREAM_IDLE),
        }
    }

    /// The stream is held by `held`, and `publisher` is where it is published.
    pub(super) fn published(&mut self, now: Time, publication: Publication, publisher: &str, held: String) {
        let Publication { key, origin, not_at, heard, moves, .. } = &publication;
        let is_said = self.renewals.is_in_use(now, &Renewal::Published(key.clone()));
        let is_usable = |id: &str| self.view.fleet.usable(now, &OriginId::from_text(id)).is_some();
        let at = self.keys.id_of(&held);
        let (is_there, is_published_there) = (at == Some(origin.as_str()), publisher == origin.as_str());
        let is_good = is_said && is_usable(origin.as_str());
        if is_good && !is_published_there && not_at.as_deref() != Some(publisher) && !is_usable(publisher) {
            let not_at = Some(publisher.to_owned());
            return self.hold(now, &key.clone(), Job::Publish(Publication { not_at, ..publication }));
        }
        if is_good && is_published_there && !is_there && !moves && !at.is_some_and(is_usable) {
            return self.hold(now, &key.clone(), Job::Publish(Publication { moves: true, ..publication }));
        }
        let need = Need::to_play(Protocol::Rtmp);
        self.is_held(now, Sought { key: key.clone(), need, claims: 0 }, held);
        if is_said && is_there && is_published_there {
            self.view.publishing(now, *heard, key, origin);
        }
    }
}
