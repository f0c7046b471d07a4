//! The desk of the load balancer that shares its state: questions and reports in, commands out; replies in, answers
//! out. Pure: it opens nothing, waits for nothing and reads no clock, so that a store that is slow, away or empty can
//! be shown to it in a test.
//!
//! ```text
//!              not known, or not lately             batch             heard
//!   question ──────────────────────────▶ waiting ────────────▶ sent ────────▶ answer, or another command
//!      │ known                              │ overdue            │ lost
//!      ▼                                    ▼                    ▼
//!    answer                            what the view knows, or a refusal
//! ```
//!
//! What is about streams is in `streams`, about sessions in `sessions`, about origins in `origins`.

#[cfg(any(test, feature = "conformance"))]
mod audit;

#[cfg(any(test, feature = "conformance"))]
pub use audit::Load;

use super::client::{Command, Lost, Reply};
use super::keys::Keys;
use super::origins::Registered;
use super::streams::{Claim, Publication, Sought};
use super::{FRESH, Mappings};
use crate::expiring::Expiring;
use crate::fleet::RETURN;
use crate::rtc::Holder;
use crate::view::{CLAIM_LIFE, View};
use crate::{Asker, Mailbox, Outcome, ReplyTo, Setup};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use smallvec::{SmallVec, smallvec};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, HlsSession, Need, Refusal, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a question may wait for the store; then the view answers as if the store were away.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// How often the fleet is looked over.
pub(super) const CENSUS: Duration = Duration::from_secs(1);

/// Censuses in between, within that time, for streams for which nobody is known. More are answered by what is known:
/// whoever asks for what no origin serves shall not make the store count all the time.
const RECOUNTS: u32 = 10;

/// How often what is in use is renewed: often enough that one lost renewal ends nothing that lives for a minute.
pub(super) const RENEW: Duration = Duration::from_secs(15);

/// The first pause before the store is tried again, and the longest.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);
// By then all proxies have come back, and given back the origins whose heartbeats they have heard.
const _: () = assert!(RETURN.as_secs() >= 2 * MAX_RETRY.as_secs());

/// Commands of one round trip: a few milliseconds of the store's time.
const MAX_BATCH: usize = 1024;

/// Of them, those that are for renewals, if any wait: in a flood of questions, too, what runs lives on.
const RENEWALS: usize = MAX_BATCH / 8;

/// Questions that wait at once, and jobs for them; more are refused.
const MAX_WAITING: usize = 1 << 14;

/// Renewals that wait at once; more are left out, as they come again.
const MAX_IDLE: usize = 1 << 16;

/// How long what a start writes lives, if it is not removed.
const PROBED: Duration = Duration::from_secs(10);

/// Between complaints about commands that fail.
const COMPLAINT: Duration = Duration::from_secs(10);

/// What questions are about. Those about the same wait together for one answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum About {
    Stream(StreamKey),
    Hls(StreamKey),
    Spbhid(Arc<str>),
    Ufrag(Arc<str>),
    /// A change that is nobody else's, by its number.
    Change(u64),
}

/// What is renewed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Renewal {
    Played(StreamKey),
    Published(StreamKey),
    Spbhid(Arc<str>),
    Ufrag(Arc<str>),
}

/// Something to do at the store, in one round trip.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Census,
    Claim(Claim),
    /// Who has a stream, after a census if one may be had: none is known that could be given it.
    Find(Sought),
    /// Who it is that has a stream.
    Meet(Sought, String),
    Publish(Publication),
    /// A stream is in use at this origin.
    Renew(StreamKey, OriginId),
    StoreHls(HlsSession),
    FindHls(Arc<str>),
    StoreRtc(About, RtcSession),
    FindRtc(Arc<str>),
    /// A change that nobody else makes, and what is answered when it is made.
    Change {
        about: About,
        commands: SmallVec<[Command; 2]>,
        made: Answer,
    },
    /// Nobody waits for it.
    Tell(SmallVec<[Command; 2]>),
}

/// Jobs, and their commands, on the way to the store.
#[derive(Debug, Default)]
pub(super) struct Batch {
    jobs: Vec<(Job, usize)>,
    pub(super) commands: Vec<Command>,
}

impl Batch {
    /// The batch in pieces of so many jobs, each with its replies: so that nobody has to wait until all are heard.
    pub(super) fn pieces(self, jobs: usize, heard: Vec<Heard>) -> Vec<(Self, Vec<Heard>)> {
        let (mut left, mut heard) = (self.jobs.into_iter(), heard.into_iter());
        let mut pieces = Vec::new();
        while left.len() > 0 {
            let jobs: Vec<_> = left.by_ref().take(jobs).collect();
            let count = jobs.iter().map(|(_, count)| count).sum();
            pieces.push((Self { jobs, commands: Vec::new() }, heard.by_ref().take(count).collect()));
        }
        pieces
    }
}

/// What the store said to a command. A census is read before it comes to the desk, since that takes a while.
pub(super) type Heard = Reply<Registered>;

/// An answer to a question that waited.
pub(super) struct Late {
    mailbox: Arc<Mailbox>,
    reply_to: ReplyTo,
    answer: Answer,
}

impl Late {
    pub(super) fn deliver(self) {
        self.mailbox.put(self.reply_to, self.answer);
    }
}

#[derive(Default)]
struct Waiting {
    since: Time,
    askers: SmallVec<[Waiter; 1]>,
}

pub(super) struct Waiter {
    mailbox: Arc<Mailbox>,
    reply_to: ReplyTo,
    pub(super) alone: Alone,
}

/// What is done about a question without the store.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Alone {
    /// An origin is picked that serves this.
    Pick(Need),
    /// The HLS session is kept here.
    Keep(HlsSession),
    /// This is answered.
    Say(Answer),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Link {
    Up { since: Time },
    Away { since: Time, retry: Time, pause: Duration },
}

pub(super) struct Desk {
    pub(super) view: View,
    pub(super) keys: Keys,
    pub(super) mappings: Mappings,
    /// This proxy's name among all.
    pub(super) proxy: Arc<str>,
    /// What the clocks on the wall said at [`Time::ZERO`], if that is known.
    pub(super) epoch: SystemTime,
    waiting: HashMap<About, Waiting>,
    /// Questions that wait, over all of `waiting`.
    waiters: usize,
    urgent: VecDeque<Job>,
    /// What goes with the next batch, whenever it is.
    idle: VecDeque<Job>,
    /// When the store last said where a stream is, which lived on by that.
    pub(super) checked: Expiring<StreamKey, Time>,
    /// When the store last said that there is no such session.
    pub(super) absent: Expiring<About, Time>,
    renewed: Expiring<Renewal, Time>,
    link: Link,
    next_census: Time,
    /// How many of [`RECOUNTS`] are left.
    recounts: u32,
    next_complaint: Time,
    is_closed: bool,
    changes: u64,
    late: Vec<Late>,
    rng: Pcg32,
}

impl Desk {
    /// Nothing is known and nobody waits. The store is there, as far as is known.
    pub(super) fn new(now: Time, setup: &Setup, keys: Keys, mappings: Mappings) -> Self {
        Self {
            view: View::new(setup),
            keys,
            mappings,
            proxy: format!("{:016x}", setup.seed).into(),
            epoch: UNIX_EPOCH,
            waiting: HashMap::new(),
            waiters: 0,
            urgent: VecDeque::new(),
            idle: VecDeque::new(),
            checked: Expiring::new(RENEW, setup.limits.streams),
            absent: Expiring::new(FRESH, MAX_WAITING),
            renewed: Expiring::new(crate::SESSION_LIFE, setup.limits.streams + setup.limits.sessions),
            link: Link::Up { since: now },
            next_census: now,
            recounts: RECOUNTS,
            next_complaint: now,
            is_closed: false,
            changes: 0,
            late: Vec::new(),
            rng: Pcg32::seed_from_u64(setup.seed ^ 1),
        }
    }

    pub(super) const fn close(&mut self) {
        self.is_closed = true;
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) const fn is_away(&self) -> bool {
        matches!(self.link, Link::Away { .. })
    }

    /// Puts a question to the store, with `job` if it is not on its way already.
    pub(super) fn ask<T>(
        &mut self,
        asker: &Asker,
        about: About,
        alone: Alone,
        job: impl FnOnce(&mut Self) -> Job,
    ) -> Outcome<T> {
        if self.waiters >= MAX_WAITING || self.urgent.len() >= MAX_WAITING {
            return Outcome::Refused(Refusal::Unavailable);
        }
        if !self.waiting.contains_key(&about) {
            let job = job(self);
            self.urgent.push_back(job);
        }
        let waiter = Waiter { mailbox: Arc::clone(&asker.mailbox), reply_to: asker.reply_to, alone };
        let waiting = self.waiting.entry(about).or_default();
        if waiting.askers.is_empty() {
            waiting.since = asker.now;
        }
        waiting.askers.push(waiter);
        self.waiters += 1;
        Outcome::Later
    }

    /// A change that is answered with `made` when it is made, and with `alone` without the store.
    pub(super) fn change<T>(
        &mut self,
        asker: &Asker,
        commands: impl IntoIterator<Item = Command>,
        made: Answer,
        alone: Answer,
    ) -> Outcome<T> {
        let about = self.next_change();
        let commands = commands.into_iter().collect();
        self.ask(asker, about.clone(), Alone::Say(alone), |_| Job::Change { about, commands, made })
    }

    pub(super) const fn next_change(&mut self) -> About {
        self.changes += 1;
        About::Change(self.changes)
    }

    /// Does `job` before anything that is asked from now on about the stream, for which it must wait.
    pub(super) fn hold(&mut self, now: Time, key: &StreamKey, job: Job) {
        self.waiting
            .entry(About::Stream(key.clone()))
            .or_insert_with(|| Waiting { since: now, askers: SmallVec::new() });
        self.urgent.push_back(job);
    }

    pub(super) fn then(&mut self, job: Job) {
        self.urgent.push_back(job);
    }

    /// Does `job` soon, and after all that waits.
    pub(super) fn at_last(&mut self, job: Job) {
        if self.idle.is_empty() { self.then(job) } else { self.meanwhile(job) }
    }

    /// Does `job` with the next batch.
    pub(super) fn meanwhile(&mut self, job: Job) {
        if self.idle.len() < MAX_IDLE {
            self.idle.push_back(job);
        }
    }

    /// Whether it is time to renew this; it is then taken as renewed.
    pub(super) fn is_due(&mut self, now: Time, what: Renewal) -> bool {
        let Link::Up { since } = self.link else { return false };
        let at = self.renewed.get(now, &what).copied();
        let is_due = at.is_none_or(|at| at < since || now.since(at) >= RENEW);
        if is_due {
            self.is_renewed(now, now, what);
        }
        is_due
    }

    /// The store has been told, or asked, so that this lives on.
    pub(super) fn is_renewed(&mut self, now: Time, at: Time, what: Renewal) {
        // What finds no room is renewed as often as it is spoken of.
        let _full = self.renewed.insert(now, what, at);
    }

    /// Whether the store said this lately, and has not been away since, or lost everything.
    pub(super) fn is_fresh(&self, now: Time, at: Time) -> bool {
        matches!(self.link, Link::Up { since } if since <= at) && now.since(at) < FRESH
    }

    /// Whether the store is back just now, so that everything is given back to it anyway.
    pub(super) fn is_just_back(&self, now: Time) -> bool {
        self.link == Link::Up { since: now }
    }

    /// Everything is to be renewed.
    pub(super) const fn renew_all(&mut self, now: Time) {
        self.link = Link::Up { since: now };
    }

    /// What is given back is sent next, before others are asked for what it is.
    pub(super) fn hurry(&mut self, now: Time) {
        if !self.idle.is_empty() {
            self.next_census = now;
        }
    }

    /// It is in use no more.
    pub(super) fn is_over(&mut self, what: &Renewal) {
        self.renewed.forget(what);
    }

    /// Whether this is renewed from time to time, as it is in use here.
    pub(super) fn is_in_use(&mut self, now: Time, what: &Renewal) -> bool {
        self.renewed.get(now, what).is_some()
    }

    /// The streams that are played here.
    pub(super) fn played(&self, now: Time) -> Vec<StreamKey> {
        let renewals = self.renewed.iter(now);
        renewals
            .filter_map(|(what, _)| if let Renewal::Played(key) = what { Some(key.clone()) } else { None })
            .collect()
    }

    /// What an origin must serve for the first who waits for one; who publishes comes before who plays.
    pub(super) fn need(&self, about: &About) -> Option<Need> {
        let askers = self.waiting.get(about)?.askers.iter();
        let mut needs =
            askers.filter_map(|waiter| if let Alone::Pick(need) = waiter.alone { Some(need) } else { None });
        let first = needs.next()?;
        Some(std::iter::once(first).chain(needs).find(|need| need.publishes).unwrap_or(first))
    }

    /// Those who wait for this, who do so no longer.
    pub(super) fn take(&mut self, about: &About) -> SmallVec<[Waiter; 1]> {
        let askers = self.waiting.remove(about).map(|waiting| waiting.askers).unwrap_or_default();
        self.waiters -= askers.len();
        askers
    }

    /// Those of them for whom an origin is picked that is good enough; the others wait on.
    pub(super) fn take_picks(
        &mut self,
        about: &About,
        is_good: impl Fn(&View, Need) -> bool,
    ) -> SmallVec<[Waiter; 1]> {
        let Some(waiting) = self.waiting.get_mut(about) else { return SmallVec::new() };
        let (all, view) = (std::mem::take(&mut waiting.askers), &self.view);
        let is_taken =
            |waiter: &Waiter| if let Alone::Pick(need) = waiter.alone { is_good(view, need) } else { true };
        let (taken, left): (SmallVec<_>, SmallVec<_>) = all.into_iter().partition(is_taken);
        if left.is_empty() {
            self.waiting.remove(about);
        } else {
            waiting.askers = left;
        }
        self.waiters -= taken.len();
        taken
    }

    pub(super) fn answer(&mut self, waiter: Waiter, answer: Answer) {
        self.late.push(Late { mailbox: waiter.mailbox, reply_to: waiter.reply_to, answer });
    }

    /// Tells one who waits for a session's end.
    pub(super) fn tell_end(&mut self, Holder { mailbox, reply_to }: Holder) {
        self.late.push(Late { mailbox, reply_to, answer: Holder::END });
    }

    /// Answers all who wait for this.
    pub(super) fn answer_all(&mut self, about: &About, answer: &Answer) {
        for waiter in self.take(about) {
            self.answer(waiter, answer.clone());
        }
    }

    /// The answers that are due.
    pub(super) fn late(&mut self) -> Vec<Late> {
        std::mem::take(&mut self.late)
    }

    /// When there is something to send, if nothing else happens before.
    pub(super) fn next(&self, now: Time) -> Time {
        match self.link {
            Link::Up { .. } if !self.urgent.is_empty() || self.idle.len() >= MAX_BATCH => now,
            Link::Up { .. } => self.next_census,
            Link::Away { retry, .. } => retry,
        }
    }

    /// What is to be sent now. Nothing, if it is not yet time.
    pub(super) fn batch(&mut self, now: Time) -> Batch {
        let mut batch = Batch::default();
        if self.next(now) > now {
            return batch;
        }
        let mut has_census = self.next_census <= now || self.is_away();
        if has_census {
            (self.next_census, self.recounts) = (now + CENSUS, RECOUNTS);
            self.send(Job::Census, &mut batch);
        }
        if !self.is_away() {
            while batch.commands.len() < MAX_BATCH
                && let Some(job) = self.next_job(batch.commands.len())
            {
                if matches!(job, Job::Find(..) | Job::Meet(..)) && !has_census && self.recounts > 0 {
                    has_census = true;
                    self.recounts -= 1;
                    self.send(Job::Census, &mut batch);
                }
                self.send(job, &mut batch);
            }
        }
        batch
    }

    /// What comes next in a batch that has so many commands.
    fn next_job(&mut self, commands: usize) -> Option<Job> {
        if commands >= MAX_BATCH - RENEWALS
            && let Some(job) = self.idle.pop_front()
        {
            return Some(job);
        }
        while let Some(job) = self.urgent.pop_front() {
            let is_moot = job.is_question() && job.about().is_some_and(|it| !self.waiting.contains_key(&it));
            if !is_moot {
                return Some(job);
            }
        }
        self.idle.pop_front()
    }

    /// What is sent before anybody asks anything: who is there; and a mapping of nobody's, since who may look may not be
    /// allowed to write.
    pub(super) fn opening(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.send(Job::Census, &mut batch);
        let (key, value) = (self.keys.probe(&*self.proxy), self.proxy.to_string());
        let claim = Command::Claim { key: key.clone(), value: value.clone(), life: Some(PROBED) };
        let again = Command::Claim { key: key.clone(), value: value.clone(), life: Some(PROBED * 2) };
        self.send(Job::Tell(smallvec![claim, again, Command::Delete { key, value }]), &mut batch);
        batch
    }

    fn send(&mut self, job: Job, batch: &mut Batch) {
        let before = batch.commands.len();
        self.commands(&job, &mut batch.commands);
        batch.jobs.push((job, batch.commands.len() - before));
    }

    fn commands(&self, job: &Job, out: &mut Vec<Command>) {
        match job {
            Job::Census => out.push(self.census()),
            Job::Claim(claim) => out.push(self.claim_command(claim)),
            Job::Find(sought) => {
                let (key, of_stream) = (self.keys.url(&sought.key), None);
                out.push(Command::Find { key, of_stream, life: CLAIM_LIFE });
            }
            Job::Meet(_, held) => {
                out.push(Command::Meet { id: self.keys.id_of(held).unwrap_or_default().to_owned() });
            }
            Job::Publish(publication) => out.push(self.publish_command(publication)),
            Job::Renew(key, origin) => out.push(self.renew_command(key, origin)),
            Job::StoreHls(session) => out.push(self.hls_command(session)),
            Job::FindHls(spbhid) => out.push(self.find_hls_command(spbhid)),
            Job::StoreRtc(_, session) => out.push(self.rtc_command(session)),
            Job::FindRtc(ufrag) => out.push(self.find_rtc_command(ufrag)),
            Job::Change { commands, .. } | Job::Tell(commands) => out.extend(commands.iter().cloned()),
        }
    }

    /// The store has replied to a batch, or is lost.
    pub(super) fn hear(&mut self, now: Time, batch: Batch, said: Result<Vec<Heard>, Lost>) {
        let heard = match said {
            Ok(heard) => heard,
            Err(why) => return self.lost(now, &why),
        };
        if let Link::Away { since, .. } = self.link {
            log::info!("Redis is back after {:.1?}", now.since(since));
            self.link = Link::Up { since: now };
            self.restore(now);
        }
        let mut heard = heard.into_iter();
        for (job, count) in batch.jobs {
            let replies: SmallVec<[Heard; 2]> = heard.by_ref().take(count).collect();
            self.done(now, job, replies);
        }
    }

    fn done(&mut self, now: Time, job: Job, replies: SmallVec<[Heard; 2]>) {
        if let Some(why) = replies.iter().find_map(Heard::failure) {
            return self.failed(now, &job, why);
        }
        let mut replies = replies.into_iter();
        if let Job::Change { about, made, .. } = &job {
            for reply in replies {
                if let Heard::Census(census) = reply {
                    self.counted(now, census);
                }
            }
            return self.answer_all(about, made);
        }
        match (job, replies.next(), replies.next()) {
            (Job::Census, Some(Heard::Census(census)), None) => self.counted(now, census),
            (Job::Claim(claim), Some(Heard::Mapped { held, is_new }), None) => {
                self.claimed(now, claim, held, is_new);
            }
            (Job::Find(sought), Some(Heard::Value(held)), None) => self.found(now, sought, held),
            (Job::Meet(sought, held), Some(Heard::Met(met)), None) => self.met(now, sought, held, met),
            (Job::Publish(publication), Some(Heard::Published { publisher, held }), None) => {
                self.published(now, publication, &publisher, held);
            }
            (Job::Renew(key, origin), Some(Heard::Mapped { held, .. }), None) => {
                self.renewed(now, &key, &origin, &held);
            }
            (Job::StoreRtc(about, session), Some(Heard::Value(Some(_))), None) => {
                self.stored_rtc(now, &about, session);
            }
            (Job::StoreHls(new), Some(Heard::Value(Some(held))), None) => {
                self.stored_hls(now, new, &held);
            }
            (Job::FindHls(spbhid), Some(Heard::Value(record)), None) => {
                self.found_hls(now, spbhid, record.as_deref());
            }
            (Job::FindRtc(ufrag), Some(Heard::Value(record)), None) => {
                self.found_rtc(now, ufrag, record.as_deref());
            }
            (Job::Tell(_), ..) => {}
            (job, ..) => self.failed(now, &job, "a reply that makes no sense"),
        }
    }

    /// The store does not do this; others it does.
    fn failed(&mut self, now: Time, job: &Job, why: &str) {
        if self.next_complaint <= now {
            self.next_complaint = now + COMPLAINT;
            log::warn!("Redis refuses a command: {why}");
        }
        if matches!(job, Job::Census) {
            self.view.fleet.hear(now, false);
        }
        if let Some(about) = job.about() {
            self.give_up(
                now,
                &about,
                if why.starts_with("OOM") { Refusal::Full } else { Refusal::Unavailable },
            );
        }
    }

    /// The connection to the store is lost, and what was sent may be done or not.
    fn lost(&mut self, now: Time, why: &Lost) {
        self.view.fleet.hear(now, false);
        let (since, pause) = match self.link {
            Link::Up { .. } => {
                log::warn!("Redis is away: {why}");
                (now, RETRY)
            }
            Link::Away { since, pause, .. } => (since, (pause * 2).min(MAX_RETRY)),
        };
        // Between half and all of the pause, so that not all proxies come back at once.
        let part = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        let retry = now + pause.mul_f64(0.5 + part / 2.0);
        self.link = Link::Away { since, retry, pause };
        self.urgent.clear();
        self.idle.clear();
        let all: Vec<About> = self.waiting.keys().cloned().collect();
        for about in all {
            self.give_up(now, &about, Refusal::Unavailable);
        }
    }

    /// Answers what has waited for too long, and frees what has expired.
    pub(super) fn tick(&mut self, now: Time) {
        let overdue = self.waiting.iter().filter(|(_, waiting)| now.since(waiting.since) >= PATIENCE);
        let overdue: Vec<About> = overdue.map(|(about, _)| about.clone()).collect();
        for about in overdue {
            self.give_up(now, &about, Refusal::Unavailable);
        }
        self.view.expire(now);
        self.checked.expire(now, MAX_BATCH);
        self.absent.expire(now, MAX_BATCH);
        self.renewed.expire(now, MAX_BATCH);
    }

    /// The store does not answer this: what is known here must do, or it is refused.
    fn give_up(&mut self, now: Time, about: &About, refusal: Refusal) {
        for waiter in self.take(about) {
            let answer = match (about, &waiter.alone) {
                (About::Stream(key), Alone::Pick(need)) => {
                    self.pick_alone(now, key, *need).map(Answer::Picked)
                }
                (_, Alone::Keep(new)) => Ok(Answer::Hls(Some(self.keep_hls(now, new.clone())))),
                (_, Alone::Say(answer)) => Ok(answer.clone()),
                (_, Alone::Pick(_)) => Err(Refusal::Unavailable),
            };
            let answer = answer.unwrap_or_else(|why| {
                Answer::Refused(if why == Refusal::Unavailable { refusal } else { why })
            });
            self.answer(waiter, answer);
        }
    }
}

impl Job {
    /// Whether it changes nothing that was promised: without anybody who waits, it need not be done.
    const fn is_question(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Meet(..) | Self::Find(..) | Self::FindHls(_) | Self::FindRtc(_))
    }

    /// Who waits for it.
    fn about(&self) -> Option<About> {
        match self {
            Self::Claim(Claim { sought, .. }) | Self::Find(sought) | Self::Meet(sought, _) => {
                Some(About::Stream(sought.key.clone()))
            }
            Self::Publish(publication) => Some(About::Stream(publication.key.clone())),
            Self::StoreHls(session) => Some(About::Hls(session.key.clone())),
            Self::StoreRtc(about, _) => Some(about.clone()),
            Self::FindHls(spbhid) => Some(About::Spbhid(Arc::clone(spbhid))),
            Self::FindRtc(ufrag) => Some(About::Ufrag(Arc::clone(ufrag))),
            Self::Change { about, .. } => Some(about.clone()),
            Self::Census | Self::Renew(..) | Self::Tell(_) => None,
        }
    }
}
