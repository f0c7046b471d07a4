//! Load balancers of a simulated world: scripted ones that are late, silent or say no, and the real ones. Routes nothing itself.

use super::dice::Dice;
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::query::{Answer, Query, Refusal, Report};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_lb::{Asker, Mailbox, Notify, OriginLoadBalancer, ReplyTo};
use std::sync::Arc;

/// What becomes of a question.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answered at once.
    Now(Answer),
    /// Answered later.
    After(Duration, Answer),
    /// Some time, through [`Balancer::late`].
    Later,
    /// Never.
    Never,
}

/// Who answers the machine's questions.
pub trait Balancer {
    /// A question.
    fn ask(&mut self, now: Time, dice: &mut Dice, ticket: Ticket, query: Query) -> Reply;

    /// A report.
    fn tell(&mut self, _now: Time, _report: &Report) {}

    /// Answers that came by themselves.
    fn late(&mut self) -> Vec<(Ticket, Answer)> {
        Vec::new()
    }
}

/// How a [`Scripted`] balancer answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// At once.
    Prompt,
    /// Within this time.
    Late(Duration),
    /// Never.
    Silent,
    /// No, for this reason, at once.
    Refuses(Refusal),
    /// Each question in one of these manners, silence and refusal seldom.
    Moody,
}

type Answering = dyn FnMut(Query, &mut Dice) -> Answer;

/// A balancer whose answers come from a function, in a certain manner.
pub struct Scripted {
    manner: Manner,
    answer: Box<Answering>,
    told: Box<dyn FnMut(&Report)>,
}

impl Scripted {
    /// A balancer that answers as `answer` says.
    pub fn new(manner: Manner, answer: impl FnMut(Query, &mut Dice) -> Answer + 'static) -> Self {
        Self { manner, answer: Box::new(answer), told: Box::new(|_| ()) }
    }

    /// Hands reports to `told`.
    pub fn on_report(mut self, told: impl FnMut(&Report) + 'static) -> Self {
        self.told = Box::new(told);
        self
    }
}

impl Balancer for Scripted {
    fn ask(&mut self, _now: Time, dice: &mut Dice, _ticket: Ticket, query: Query) -> Reply {
        let manner = match self.manner {
            Manner::Moody => match dice.range(0..=9) {
                0..=4 => Manner::Prompt,
                5..=7 => Manner::Late(Duration::from_millis(dice.range(1..=2000))),
                8 => Manner::Refuses(*dice.pick(&[Refusal::NoOrigin, Refusal::Unavailable, Refusal::Full])),
                _ => Manner::Silent,
            },
            other => other,
        };
        match manner {
            Manner::Silent => Reply::Never,
            Manner::Refuses(why) => Reply::Now(Answer::Refused(why)),
            Manner::Late(most) => {
                let after = Duration::from_micros(dice.range(0..=most.as_micros() as u64));
                Reply::After(after, (self.answer)(query, dice))
            }
            Manner::Prompt | Manner::Moody => Reply::Now((self.answer)(query, dice)),
        }
    }

    fn tell(&mut self, _now: Time, report: &Report) {
        (self.told)(report);
    }
}

/// A real load balancer, in virtual time.
pub struct Real {
    lb: Arc<dyn OriginLoadBalancer>,
    mailbox: Arc<Mailbox>,
}

struct Quiet;

impl Notify for Quiet {
    // The world looks into the mailbox after every step; nobody sleeps.
    fn notify(&self) {}
}

impl Real {
    /// Asks `lb`.
    pub fn new(lb: Arc<dyn OriginLoadBalancer>) -> Self {
        Self { lb, mailbox: Arc::new(Mailbox::new(Box::new(Quiet))) }
    }
}

impl Balancer for Real {
    fn ask(&mut self, now: Time, _dice: &mut Dice, ticket: Ticket, query: Query) -> Reply {
        let asker =
            Asker { now, mailbox: Arc::clone(&self.mailbox), reply_to: ReplyTo { session: 0, ticket } };
        srs_proxy_lb::ask(&*self.lb, &asker, query).map_or(Reply::Later, Reply::Now)
    }

    fn tell(&mut self, now: Time, report: &Report) {
        srs_proxy_lb::tell(&*self.lb, now, report);
    }

    fn late(&mut self) -> Vec<(Ticket, Answer)> {
        self.mailbox.take().into_iter().map(|(reply_to, answer)| (reply_to.ticket, answer)).collect()
    }
}
