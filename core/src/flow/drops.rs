//! What a hub dropped, counted by reason, and how often that is worth a log line. Decides nothing.

use crate::machine::{Actions, Fault, Note};
use crate::time::{Duration, Time};
use core::marker::PhantomData;

/// A log line of one reason at most this often, whatever the flood.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Reasons that one protocol may have.
const MAX_REASONS: usize = 16;

/// Why a protocol's hub drops a datagram.
pub trait Reason: Copy + 'static {
    /// The reason's place among all of them; below 16.
    fn index(self) -> usize;

    /// The reason in words, with who is to blame.
    fn fault(self) -> Fault;
}

/// How many datagrams were dropped for each reason.
#[derive(Clone, Debug)]
pub struct Drops<R> {
    counts: [u64; MAX_REASONS],
    noted: [Option<Noted>; MAX_REASONS],
    reason: PhantomData<R>,
}

/// When a reason was noted last, and how many there had been by then.
#[derive(Clone, Copy, Debug)]
struct Noted {
    at: Time,
    count: u64,
}

impl<R> Default for Drops<R> {
    fn default() -> Self {
        Self { counts: [0; MAX_REASONS], noted: [None; MAX_REASONS], reason: PhantomData }
    }
}

impl<R: Reason> Drops<R> {
    /// How many, for this reason.
    pub fn count(&self, reason: R) -> u64 {
        self.counts.get(reason.index()).copied().unwrap_or_default()
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// One more; noted if none was for this reason within the last second.
    pub(crate) fn add(&mut self, now: Time, reason: R, actions: &mut Actions) {
        let at = reason.index();
        let (Some(count), Some(noted)) = (self.counts.get_mut(at), self.noted.get_mut(at)) else { return };
        *count += 1;
        if noted.is_none_or(|noted| now.since(noted.at) >= NOTE_INTERVAL) {
            let before = noted.map_or(0, |noted| noted.count);
            *noted = Some(Noted { at: now, count: *count });
            actions.note(Note::Dropped { fault: reason.fault(), count: *count - before });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Action, Leg};
    use crate::{rtc, srt};
    use alloc::vec::Vec;
    use core::fmt::Debug;

    fn each_is_counted<R: Reason + Debug>(reasons: &[R]) {
        let (mut drops, mut actions) = (Drops::default(), Actions::new());
        for (index, reason) in reasons.iter().enumerate() {
            assert_eq!(reason.index(), index);
            for millis in 0..1500 {
                drops.add(Time::from_micros(millis * 1000), *reason, &mut actions);
            }
            assert_eq!(drops.count(*reason), 1500);
            let fault = reason.fault();
            let noted = |count| Action::Note { leg: Leg::CLIENT, note: Note::Dropped { fault, count } };
            assert_eq!(Vec::from_iter(actions.drain()), [noted(1), noted(1000)], "{reason:?}");
        }
        assert_eq!(drops.total(), 1500 * reasons.len() as u64);
    }

    #[test]
    fn each_reason_is_counted_by_itself_and_noted_once_a_second_with_its_number() {
        each_is_counted(&rtc::DropReason::ALL);
        each_is_counted(&srt::DropReason::ALL);
    }
}
