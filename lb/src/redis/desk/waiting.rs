//! The questions that wait for the store, and who asks them. Asks nothing and answers nobody.

use crate::{Asker, Mailbox, ReplyTo};
use smallvec::SmallVec;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::query::{Answer, HlsSession, Need};
use srs_proxy_core::time::{Duration, Time};
use std::collections::HashMap;
use std::sync::Arc;

/// How long a question may wait for the store; then the view answers as if the store were away.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// Questions that wait at once, and jobs for them; more are refused.
pub(super) const MAX_WAITING: usize = 1 << 14;

/// What questions are about. Those about the same wait together for one answer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::redis) enum About {
    Stream(StreamKey),
    Hls(StreamKey),
    Spbhid(Arc<str>),
    Ufrag(Arc<str>),
    /// A change that is nobody else's, by its number.
    Change(u64),
}

/// Who waits for an answer.
pub(in crate::redis) struct Waiter {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) reply_to: ReplyTo,
    pub(in crate::redis) alone: Alone,
}

/// What is done about a question without the store.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::redis) enum Alone {
    /// An origin is picked that serves this.
    Pick(Need),
    /// The HLS session is kept here.
    Keep(HlsSession),
    /// This is answered.
    Say(Answer),
}

/// Questions about the same.
struct Group {
    /// When the first of them was asked, or when that was to be waited for.
    since: Time,
    /// None, if something must be done before anybody asks.
    waiters: SmallVec<[Waiter; 1]>,
}

/// All questions that wait.
#[derive(Default)]
pub(in crate::redis) struct Waiting {
    groups: HashMap<About, Group>,
    /// Who waits, over all groups.
    waiters: usize,
}

impl Waiting {
    pub(super) const fn is_full(&self) -> bool {
        self.waiters >= MAX_WAITING
    }

    /// Whether an answer about this is waited for, or shall be if somebody asks.
    pub(super) fn has(&self, about: &About) -> bool {
        self.groups.contains_key(about)
    }

    /// One more waits.
    pub(super) fn add(&mut self, asker: &Asker, about: About, alone: Alone) {
        let group = self.group(asker.now, about);
        if group.waiters.is_empty() {
            group.since = asker.now;
        }
        let waiter = Waiter { mailbox: Arc::clone(&asker.mailbox), reply_to: asker.reply_to, alone };
        group.waiters.push(waiter);
        self.waiters += 1;
    }

    /// Whoever asks about this from now on waits.
    pub(super) fn hold(&mut self, now: Time, about: About) {
        self.group(now, about);
    }

    fn group(&mut self, now: Time, about: About) -> &mut Group {
        self.groups.entry(about).or_insert_with(|| Group { since: now, waiters: SmallVec::new() })
    }

    /// What an origin must serve for the first who waits for one; who publishes comes before who plays.
    pub(in crate::redis) fn need(&self, about: &About) -> Option<Need> {
        let waiters = self.groups.get(about)?.waiters.iter();
        let mut needs =
            waiters.filter_map(|waiter| if let Alone::Pick(need) = waiter.alone { Some(need) } else { None });
        let first = needs.next()?;
        Some(std::iter::once(first).chain(needs).find(|need| need.publishes).unwrap_or(first))
    }

    /// Those who wait for this, who do so no longer.
    pub(in crate::redis) fn take(&mut self, about: &About) -> SmallVec<[Waiter; 1]> {
        let waiters = self.groups.remove(about).map(|group| group.waiters).unwrap_or_default();
        self.waiters -= waiters.len();
        waiters
    }

    /// Those of them for whom an origin is picked that is good enough; the others wait on.
    pub(in crate::redis) fn take_picks(
        &mut self,
        about: &About,
        is_good: impl Fn(Need) -> bool,
    ) -> SmallVec<[Waiter; 1]> {
        let Some(group) = self.groups.get_mut(about) else { return SmallVec::new() };
        let is_taken =
            |waiter: &Waiter| if let Alone::Pick(need) = waiter.alone { is_good(need) } else { true };
        let (taken, left): (SmallVec<_>, SmallVec<_>) =
            std::mem::take(&mut group.waiters).into_iter().partition(is_taken);
        if left.is_empty() {
            self.groups.remove(about);
        } else {
            group.waiters = left;
        }
        self.waiters -= taken.len();
        taken
    }

    /// What is waited for.
    pub(super) fn all(&self) -> Vec<About> {
        self.which(|_| true)
    }

    /// What has been waited for for too long.
    pub(super) fn overdue(&self, now: Time) -> Vec<About> {
        self.which(|group| now.since(group.since) >= PATIENCE)
    }

    /// In order: what follows from it must not depend on how it is hashed.
    fn which(&self, is_meant: impl Fn(&Group) -> bool) -> Vec<About> {
        let groups = self.groups.iter().filter(|(_, group)| is_meant(group));
        let mut which: Vec<About> = groups.map(|(about, _)| about.clone()).collect();
        which.sort_unstable();
        which
    }

    /// How many wait, counted anew.
    #[cfg(any(test, feature = "conformance"))]
    pub(super) fn audit(&self) -> Result<usize, String> {
        let waiters = self.groups.values().map(|group| group.waiters.len()).sum();
        if waiters != self.waiters || waiters > MAX_WAITING {
            return Err(format!("{waiters} waiters, counted as {}", self.waiters));
        }
        Ok(waiters)
    }
}
