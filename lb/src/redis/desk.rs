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
//! What is about streams is in `streams`, about sessions in `sessions`, about origins in `origins`. Who waits for what
//! `waiting` knows, and what is in use here `renewals`; what is sent and said is in `jobs`.

#[cfg(any(test, feature = "conformance"))]
mod audit;
mod jobs;
mod renewals;
mod waiting;

#[cfg(any(test, feature = "conformance"))]
pub use audit::Load;
pub(super) use jobs::{Batch, Heard, Job};
pub(super) use renewals::{RENEW, Renewal};
pub use waiting::PATIENCE;
pub(super) use waiting::{About, Alone};

use super::client::{Command, Lost};
use super::keys::Keys;
use super::{FRESH, Mappings};
use crate::expiring::Expiring;
use crate::fleet::RETURN;
use crate::rtc::Holder;
use crate::view::{CLAIM_LIFE, View};
use crate::{Asker, Mailbox, Outcome, ReplyTo, Setup};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use renewals::Renewals;
use smallvec::{SmallVec, smallvec};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::query::{Answer, Refusal};
use srs_proxy_core::time::{Duration, Time};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use waiting::{MAX_WAITING, Waiter, Waiting};

/// How often the fleet is looked over.
pub(super) const CENSUS: Duration = Duration::from_secs(1);

/// Censuses in between, within that time, for streams for which nobody is known. More are answered by what is known:
/// whoever asks for what no origin serves shall not make the store count all the time.
const RECOUNTS: u32 = 10;

/// The first pause before the store is tried again, and the longest.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);
// By then all proxies have come back, and given back the origins whose heartbeats they have heard.
const _: () = assert!(RETURN.as_secs() >= 2 * MAX_RETRY.as_secs());

/// Commands of one round trip: a few milliseconds of the store's time.
const MAX_BATCH: usize = 1024;

/// Of them, those that are for renewals, if any wait: in a flood of questions, too, what runs lives on.
const RENEWALS: usize = MAX_BATCH / 8;

/// Renewals that wait at once; more are left out, as they come again.
const MAX_IDLE: usize = 1 << 16;

/// How long what a start writes lives, if it is not removed.
const PROBED: Duration = Duration::from_secs(10);

/// Between complaints about commands that fail.
const COMPLAINT: Duration = Duration::from_secs(10);

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

#[derive(Clone, Copy, Debug)]
enum Link {
    Up { since: Time },
    Away { since: Time, retry: Time, pause: Duration },
}

pub(super) struct Desk {
    pub(super) view: View,
    pub(super) keys: Keys,
    pub(super) mappings: Mappings,
    /// Whether it was said that others write them in another way.
    pub(super) told_of_mixed_fleet: bool,
    /// This proxy's name among all.
    pub(super) proxy: Arc<str>,
    /// What the clocks on the wall said at [`Time::ZERO`], if that is known.
    pub(super) epoch: SystemTime,
    pub(super) waiting: Waiting,
    urgent: VecDeque<Job>,
    /// What goes with the next batch, whenever it is.
    idle: VecDeque<Job>,
    /// When the store last said where a stream is, which lived on by that.
    pub(super) checked: Expiring<StreamKey, Time>,
    /// When the store last said that there is no such session.
    pub(super) absent: Expiring<About, Time>,
    pub(super) renewals: Renewals,
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
            told_of_mixed_fleet: false,
            proxy: format!("{:016x}", setup.seed).into(),
            epoch: UNIX_EPOCH,
            waiting: Waiting::default(),
            urgent: VecDeque::new(),
            idle: VecDeque::new(),
            checked: Expiring::new(RENEW, setup.limits.streams),
            absent: Expiring::new(FRESH, MAX_WAITING),
            renewals: Renewals::new(setup.limits.streams + setup.limits.sessions),
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

    /// Since when the store is there and, as far as is known, has lost nothing. `None` while it is away.
    pub(super) const fn up_since(&self) -> Option<Time> {
        match self.link {
            Link::Up { since } => Some(since),
            Link::Away { .. } => None,
        }
    }

    /// Puts a question to the store, with `job` if it is not on its way already.
    pub(super) fn ask<T>(
        &mut self,
        asker: &Asker,
        about: About,
        alone: Alone,
        job: impl FnOnce(&mut Self) -> Job,
    ) -> Outcome<T> {
        if self.waiting.is_full() || self.urgent.len() >= MAX_WAITING {
            return Outcome::Refused(Refusal::Unavailable);
        }
        if !self.waiting.has(&about) {
            let job = job(self);
            self.urgent.push_back(job);
        }
        self.waiting.add(asker, about, alone);
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
        self.waiting.hold(now, About::Stream(key.clone()));
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

    /// Whether the store said this lately, and has not been away since, or lost everything.
    pub(super) fn is_fresh(&self, now: Time, at: Time) -> bool {
        self.up_since().is_some_and(|since| since <= at) && now.since(at) < FRESH
    }

    /// Whether the store is back just now, so that everything is given back to it anyway.
    pub(super) fn is_just_back(&self, now: Time) -> bool {
        self.up_since() == Some(now)
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

    pub(super) fn answer(&mut self, waiter: Waiter, answer: Answer) {
        self.late.push(Late { mailbox: waiter.mailbox, reply_to: waiter.reply_to, answer });
    }

    /// Tells one who waits for a session's end.
    pub(super) fn tell_end(&mut self, Holder { mailbox, reply_to }: Holder) {
        self.late.push(Late { mailbox, reply_to, answer: Holder::END });
    }

    /// Answers all who wait for this.
    pub(super) fn answer_all(&mut self, about: &About, answer: &Answer) {
        for waiter in self.waiting.take(about) {
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
            let is_moot = job.is_question() && job.about().is_some_and(|it| !self.waiting.has(&it));
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
            Job::Renew(key, origin) => out.push(self.renew_command(key, origin.as_ref())),
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
            (Job::Claim(claim), Some(Heard::Mapped { held, is_new, stays }), None) => {
                self.warn_of_mixed_fleet(&claim, stays);
                self.claimed(now, claim, held, is_new);
            }
            (Job::Find(sought), Some(Heard::Value(held)), None) => self.found(now, sought, held),
            (Job::Meet(sought, held), Some(Heard::Met(met)), None) => self.met(now, sought, held, met),
            (Job::Publish(publication), Some(Heard::Published { publisher, held }), None) => {
                self.published(now, publication, &publisher, held);
            }
            (Job::Renew(key, origin), Some(Heard::Mapped { held, .. }), None) => {
                self.renewed(now, &key, origin.as_ref(), &held);
            }
            (Job::Renew(key, None), Some(Heard::Value(held)), None) => {
                if let Some(held) = held {
                    self.renewed(now, &key, None, &held);
                }
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
        for about in self.waiting.all() {
            self.give_up(now, &about, Refusal::Unavailable);
        }
    }

    /// Answers what has waited for too long, and frees what has expired.
    pub(super) fn tick(&mut self, now: Time) {
        for about in self.waiting.overdue(now) {
            self.give_up(now, &about, Refusal::Unavailable);
        }
        self.view.expire(now);
        self.checked.expire(now, MAX_BATCH);
        self.absent.expire(now, MAX_BATCH);
        self.renewals.expire(now, MAX_BATCH);
    }

    /// The store does not answer this: what is known here must do, or it is refused.
    fn give_up(&mut self, now: Time, about: &About, refusal: Refusal) {
        for waiter in self.waiting.take(about) {
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
