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
use super::{Mappings, records};
use crate::fleet::Member;
use crate::view::{CLAIM_LIFE, PUBLISHER_FRESH, STREAM_IDLE};
use crate::{Asker, Outcome, Policy};
use smallvec::smallvec;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{OriginId, Protocol};
use srs_proxy_core::query::{Answer, Need, Picked, Refusal};
use srs_proxy_core::time::{Duration, Time};

/// Claims one question may take. Each but the first means that an origin was found dead.
const MAX_CLAIMS: u8 = 5;

/// How long an origin that was met lives, until a census says for how long it really does.
const MET: Duration = Duration::from_secs(3);

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
    instead_of: Option<String>,
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
        Self { key, origin, instead_of: None, not_at: None, heard, left, moves }
    }
}

impl Desk {
    pub(super) fn pick(&mut self, asker: &Asker, key: &StreamKey, need: Need) -> Outcome<Picked> {
        let now = asker.now;
        if self.is_away() {
            return self.pick_alone(now, key, need).into();
        }
        if self.checked.get(now, key).copied().is_some_and(|at| self.is_fresh(now, at))
            && let Some(home) = self.view.home(now, key)
            && let Some(taken) = self.view.fleet.take(now, home, need)
        {
            // The stream is there and nowhere else: if its origin does not serve the protocol, none does.
            return taken.ok_or(Refusal::NoOrigin).into();
        }
        self.ask(asker, About::Stream(key.clone()), Alone::Pick(need), |desk| desk.first(now, key, need))
    }

    /// Without the store, what is known holds. A stream that is not gets an origin only if every proxy would choose
    /// the same.
    pub(super) fn pick_alone(&mut self, now: Time, key: &StreamKey, need: Need) -> Result<Picked, Refusal> {
        if let Some(home) = self.view.home(now, key)
            && let Some(taken) = self.view.fleet.take(now, home, need)
        {
            return taken.ok_or(Refusal::NoOrigin);
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
        let home = self.view.home(now, &sought.key);
        let usable = home.filter(|member| self.view.fleet.is_usable(now, *member));
        let member = usable.or_else(|| self.view.fleet.nominate(now, &sought.key, sought.need, home))?;
        let origin = self.view.fleet.id(member)?.clone();
        let instead_of = home.filter(|home| *home != member).and_then(|home| self.view.fleet.id(home));
        let instead_of = instead_of.map(|id| self.keys.server(id.as_str()));
        Some(Claim { sought: Sought { claims: sought.claims + 1, ..sought.clone() }, origin, instead_of })
    }

    pub(super) fn claim_command(&self, claim: &Claim) -> Command {
        self.map(&claim.sought.key, &claim.origin, claim.instead_of.clone(), CLAIM_LIFE)
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
    pub(super) fn found(&mut self, now: Time, sought: Sought, held: Option<String>) {
        if let Some(held) = held {
            return self.is_held(now, sought, held);
        }
        match self.claim(now, &sought) {
            Some(claim) => self.then(Job::Claim(claim)),
            None => self.answer_all(&About::Stream(sought.key), &Answer::Refused(Refusal::NoOrigin)),
        }
    }

    /// A claim was made, and `held` has the stream.
    pub(super) fn claimed(&mut self, now: Time, claim: Claim, held: String) {
        let is_ours = self.keys.id_of(&held) == Some(claim.origin.as_str());
        if let Some(dead) = claim.instead_of.as_deref().and_then(|before| self.keys.id_of(before))
            && is_ours
        {
            // Whoever published it did so where it is no more.
            let (key, value) = (self.keys.publisher(&claim.sought.key), dead.to_owned());
            self.then(Job::Tell(smallvec![Command::Delete { key, value }]));
        }
        self.is_held(now, claim.sought, held);
    }

    /// `held` has the stream: that is so, if it is usable.
    fn is_held(&mut self, now: Time, sought: Sought, held: String) {
        let Some(id) = self.keys.id_of(&held).map(OriginId::from_text) else {
            return self.replace(now, sought, held, None);
        };
        match self.view.fleet.find(&id) {
            None => self.then(Job::Meet(sought, held)),
            Some(member) if self.view.fleet.is_usable(now, member) => self.settle(now, &sought.key, member),
            Some(member) => self.replace(now, sought, held, Some(member)),
        }
    }

    /// The registration of the origin that has the stream. Unless it has lost its place on the list, the census before has
    /// told of it.
    pub(super) fn met(&mut self, now: Time, sought: Sought, held: String, registration: Option<&str>) {
        let origin = registration.and_then(records::origin);
        let Some(origin) = origin.filter(|origin| self.keys.id_of(&held) == Some(origin.id().as_str()))
        else {
            return self.replace(now, sought, held, None);
        };
        let id = origin.id();
        self.view.learn(now, origin.clone(), MET);
        match self.view.fleet.find(&id) {
            Some(_) => self.is_held(now, sought, held),
            // Its server has another life, and who registered that took nothing back.
            None if self.view.fleet.has(&origin.server) => self.replace(now, sought, held, None),
            // There is no room for it here.
            None => self.answer_all(&About::Stream(sought.key), &Answer::Refused(Refusal::Full)),
        }
    }

    /// The stream's origin is not usable; the best there is takes its place, which may be itself.
    fn replace(&mut self, now: Time, sought: Sought, held: String, present: Option<Member>) {
        let Sought { key, claims, .. } = sought;
        let Some(need) = self.need(&About::Stream(key.clone())) else {
            // Whoever asks next shall decide.
            return drop(self.take(&About::Stream(key)));
        };
        let Some(nominee) = self.view.fleet.nominate(now, &key, need, present).or(present) else {
            return self.answer_all(&About::Stream(key), &Answer::Refused(Refusal::NoOrigin));
        };
        match self.view.fleet.id(nominee).cloned() {
            _ if present == Some(nominee) => self.settle(now, &key, nominee),
            Some(origin) if claims < MAX_CLAIMS => {
                let sought = Sought { key, need, claims: claims + 1 };
                self.then(Job::Claim(Claim { sought, origin, instead_of: Some(held) }));
            }
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
            return self.view.publishing(now, now, key, origin);
        }
        let Some(member) = self.view.fleet.usable(now, origin) else { return };
        let is_home = self.view.home(now, key).is_some_and(|home| home == member);
        let job = |moves| Job::Publish(Publication::new(now, now, key.clone(), origin.clone(), moves));
        if !is_home {
            // Whoever asks from now on shall hear of the new place.
            self.checked.forget(key);
            self.hold(now, key, job(true));
        } else if self.is_due(now, Renewal::Published(key.clone())) {
            self.view.publishing(now, now, key, origin);
            self.meanwhile(job(false));
        }
    }

    pub(super) fn ended(&mut self, _now: Time, key: &StreamKey, origin: &OriginId) {
        self.view.ended(key, origin);
    }

    /// Of two publishers at two origins, the one that was first stays, unless its origin is not usable any more.
    pub(super) fn publish_commands(&self, publication: &Publication) -> [Command; 2] {
        let Publication { key, origin, instead_of, not_at, left, .. } = publication;
        let publisher = Command::Claim {
            key: self.keys.publisher(key),
            value: origin.as_str().to_owned(),
            instead_of: not_at.clone(),
            life: Some(*left),
        };
        [publisher, self.map(key, origin, instead_of.clone(), STREAM_IDLE)]
    }

    /// The stream is held by `held`, and `publisher` is where it is published.
    pub(super) fn published(&mut self, now: Time, publication: Publication, publisher: &str, held: String) {
        let Publication { key, origin, instead_of, not_at, heard, moves, .. } = &publication;
        let is_usable = |id: &str| self.view.fleet.usable(now, &OriginId::from_text(id)).is_some();
        let at = self.keys.id_of(&held);
        let (is_there, is_published_there) = (at == Some(origin.as_str()), publisher == origin.as_str());
        let yields = *moves || !at.is_some_and(is_usable);
        let is_ours = is_published_there && is_usable(origin.as_str());
        let is_left = !is_published_there && not_at.as_deref() != Some(publisher) && !is_usable(publisher);
        if is_usable(origin.as_str()) && is_left {
            let not_at = Some(publisher.to_owned());
            return self.hold(now, &key.clone(), Job::Publish(Publication { not_at, ..publication }));
        }
        if is_ours && yields && !is_there && instead_of.as_ref() != Some(&held) {
            let instead_of = Some(held);
            return self.hold(now, &key.clone(), Job::Publish(Publication { instead_of, ..publication }));
        }
        self.is_held(now, Sought { key: key.clone(), need: Need::to_play(Protocol::Rtmp), claims: 0 }, held);
        if is_ours && is_there {
            self.view.publishing(now, *heard, key, origin);
        }
    }
}
