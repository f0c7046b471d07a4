//! A load balancer without its thread, for tests: what waits is sent, run and heard when the driver says so, and the
//! desk's own rules are kept after every step. Waits for nothing and reads no clock.

use super::client::{Command, Lost, RedisClient};
use super::desk::{Batch, Desk, Heard, Load};
use super::keys::Keys;
use super::link::{self, SharedDesk};
use super::{Mappings, Redis};
use crate::{Asker, Mailbox, Notify, OriginLoadBalancer, ReplyTo, Setup, ask, tell};
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::query::{Answer, Query, Report};
use srs_proxy_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A load balancer driven by hand.
pub struct Rig {
    redis: Redis,
    mailbox: Arc<Mailbox>,
    sent: Option<Sent>,
    asked: u32,
    /// When the questions without an answer were asked.
    open: BTreeMap<u32, Time>,
    /// Those for the end of something, which may have none.
    holding: BTreeSet<u32>,
}

/// A batch on its way, and what was said to it, if it was run.
struct Sent {
    batch: Batch,
    said: Option<Result<Vec<Heard>, Lost>>,
}

struct Quiet;

impl Notify for Quiet {
    fn notify(&self) {}
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Rig {
    /// A load balancer that has seen who is there.
    ///
    /// # Errors
    /// The store is not there.
    pub fn start(
        now: Time,
        setup: &Setup,
        mappings: Mappings,
        keys: Keys,
        client: &mut dyn RedisClient,
    ) -> Result<Self, Lost> {
        let mut desk = Desk::new(now, setup, keys, mappings);
        link::exchange(&mut desk, client, &(Box::new(move || now) as link::Clock))?;
        let redis = Redis { desk: Arc::new(SharedDesk::new(desk)) };
        let mailbox = Arc::new(Mailbox::new(Box::new(Quiet)));
        Ok(Self { redis, mailbox, sent: None, asked: 0, open: BTreeMap::new(), holding: BTreeSet::new() })
    }

    /// Asks; the question's number, and the answer if it is known at once.
    pub fn ask(&mut self, now: Time, query: Query) -> (u32, Option<Answer>) {
        self.asked += 1;
        let reply_to = ReplyTo { session: 0, ticket: Ticket(self.asked) };
        let asker = Asker { now, mailbox: Arc::clone(&self.mailbox), reply_to };
        let is_holding = matches!(query, Query::EndOfRtc(_));
        let answer = ask(&self.redis, &asker, query);
        if answer.is_none() && is_holding {
            self.holding.insert(self.asked);
        } else if answer.is_none() {
            self.open.insert(self.asked, now);
        }
        (self.asked, answer)
    }

    /// Passes on a report.
    pub fn tell(&self, now: Time, report: &Report) {
        tell(&self.redis, now, report);
    }

    /// What is done now and then.
    pub fn tick(&self, now: Time) {
        self.redis.tick(now);
    }

    /// The answers that came, by the numbers of their questions.
    ///
    /// # Panics
    /// If nobody waits for one.
    pub fn answers(&mut self) -> Vec<(u32, Answer)> {
        let answers = self.mailbox.take().into_iter().map(|(to, answer)| (to.ticket.0, answer));
        let answers: Vec<_> = answers.collect();
        for (question, answer) in &answers {
            let is_open = self.open.remove(question).is_some() || self.holding.remove(question);
            assert!(is_open, "{question} is answered again: {answer:?}");
        }
        answers
    }

    /// When the oldest of the open questions was asked.
    pub fn oldest(&self) -> Option<Time> {
        self.open.values().min().copied()
    }

    /// When there is something to send, if nothing else happens before. `None` while a batch is on its way.
    pub fn next(&self, now: Time) -> Option<Time> {
        self.sent.is_none().then(|| self.redis.desk.at(now, |desk| desk.next(now)))
    }

    /// Sends what is to be sent, if it is time and nothing is on its way. Whether anything is then.
    pub fn send(&mut self, now: Time) -> bool {
        if self.sent.is_none() {
            let batch = self.redis.desk.at(now, |desk| desk.batch(now));
            self.sent = (!batch.commands.is_empty()).then_some(Sent { batch, said: None });
        }
        self.sent.is_some()
    }

    /// What is on its way.
    pub fn commands(&self) -> &[Command] {
        self.sent.as_ref().map_or(&[], |sent| &sent.batch.commands)
    }

    /// What is on its way has come to the store, which does it.
    pub fn run(&mut self, client: &mut dyn RedisClient) {
        if let Some(sent) = &mut self.sent {
            sent.said = Some(link::send(client, &sent.batch));
        }
    }

    /// What the store said has come back. A batch that was never run is lost.
    pub fn hear(&mut self, now: Time) {
        if let Some(Sent { batch, said }) = self.sent.take() {
            let said = said.unwrap_or_else(|| Err(Lost("no reply".to_owned())));
            self.redis.desk.at(now, |desk| desk.hear(now, batch, said));
        }
    }

    /// The connection is lost, whether the batch was run or not.
    pub fn lose(&mut self, now: Time) {
        if let Some(sent) = &mut self.sent {
            sent.said = None;
        }
        self.hear(now);
    }

    /// What is at the desk.
    ///
    /// # Panics
    /// If something there is not as it must be.
    pub fn audit(&self, now: Time) -> Load {
        let sent = self.sent.as_ref().map(|sent| &sent.batch);
        let load =
            self.redis.desk.at(now, |desk| desk.audit(sent)).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(load.waiters, self.open.len(), "questions without an answer");
        load
    }

    /// Looks at what this proxy knows.
    #[cfg(test)]
    pub(super) fn look<T>(&self, now: Time, look: impl FnOnce(&mut crate::view::View) -> T) -> T {
        self.redis.desk.at(now, |desk| look(&mut desk.view))
    }
}
