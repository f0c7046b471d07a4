//! What must hold at a desk after every step, in O(n). Changes nothing.

use super::waiting::MAX_WAITING;
use super::{About, Batch, Desk, MAX_IDLE};
use std::collections::HashSet;

/// What is at a desk.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// Questions without an answer.
    pub waiters: usize,
    /// What they are about, and what must be done before anybody asks.
    pub subjects: usize,
    /// Jobs that are not sent yet.
    pub jobs: usize,
}

impl Desk {
    /// What is here, while `sent` is on its way.
    pub(in crate::redis) fn audit(&self, sent: Option<&Batch>) -> Result<Load, String> {
        let (waiters, subjects) = (self.waiting.audit()?, self.waiting.all());
        if self.urgent.len() > 2 * MAX_WAITING || self.idle.len() > MAX_IDLE {
            return Err(format!("{} urgent and {} idle jobs", self.urgent.len(), self.idle.len()));
        }
        if !self.late.is_empty() {
            return Err("an answer is not delivered".to_owned());
        }
        if self.is_away() && !subjects.is_empty() {
            return Err("somebody waits for a store that is away".to_owned());
        }
        let sent = sent.iter().flat_map(|batch| batch.jobs.iter().map(|(job, _)| job));
        let under_way: HashSet<About> =
            self.urgent.iter().chain(sent).filter_map(|job| job.about()).collect();
        match subjects.iter().find(|about| !under_way.contains(about)) {
            Some(about) => Err(format!("{about:?} waits for nothing")),
            None => Ok(Load { waiters, subjects: subjects.len(), jobs: self.urgent.len() + self.idle.len() }),
        }
    }
}
