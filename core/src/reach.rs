//! The way to a stream's origin: asks the load balancer, connects, and reports who cannot be reached. Another origin is
//! asked for then, as long as there is time. Knows no protocol above the connection.
//!
//! ```text
//!   begin ──▶ Picking ──▶ Opening ──▶ Proving ──▶ (the protocol's)
//!                ▲           │           │
//!                └───────────┴───────────┘ unreachable
//! ```

use crate::key::StreamKey;
use crate::machine::{Action, Close, Cx, Fault, Input, Leg, Note, OpenError, Opened, Ticket, Transport};
use crate::query::{Answer, Need, Picked, Query, Refusal, Report};
use crate::time::{Duration, Time};

/// To find and reach an origin, over all attempts: clients are told within five seconds.
pub(crate) const REACH_TIMEOUT: Duration = Duration::from_millis(4500);

/// For one connection to an origin: two attempts fit into [`REACH_TIMEOUT`].
const OPEN_TIMEOUT: Duration = Duration::from_millis(1500);

/// Origins tried for one client.
const MAX_ATTEMPTS: u32 = 3;

/// What a session calls its questions, and its legs but the client's.
#[derive(Debug, Default)]
pub(crate) struct Names {
    tickets: u32,
    legs: u32,
}

impl Names {
    pub(crate) fn new_ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        Ticket(self.tickets)
    }

    pub(crate) fn new_leg(&mut self) -> Leg {
        self.legs = self.legs.wrapping_add(1);
        Leg::new(1, self.legs)
    }
}

/// An origin that is being reached.
#[derive(Debug)]
pub(crate) struct Reach {
    key: StreamKey,
    need: Need,
    transport: Transport,
    attempts: u32,
    /// When to stop looking for an origin.
    give_up: Time,
    /// When to stop waiting for what the stage waits for.
    deadline: Time,
    /// That is sooner than an origin deserves.
    hurried: bool,
    /// Why the last one could not be reached.
    fault: Option<Fault>,
    stage: Stage,
}

/// What is waited for.
#[derive(Debug)]
enum Stage {
    /// The load balancer's pick.
    Picking(Ticket),
    /// The connection.
    Opening(Leg, Picked),
    /// A sign of life of the origin's, if the protocol has one to show.
    Proving(Leg, Picked),
    /// Nothing more: it has failed, or was taken.
    Over,
}

/// What an input leads to.
#[derive(Debug)]
pub(crate) enum Step {
    /// It goes on.
    NotYet,
    /// The connection stands.
    Opened(Leg, Picked, Opened),
    /// There is none.
    Failed(Failure),
}

/// Why a client cannot have an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// None is registered that would do.
    NoOrigin,
    /// The load balancer refuses, or does not answer.
    Unavailable,
    /// This host has no descriptor or port left.
    Exhausted,
    /// Those that were picked are not there.
    Unreachable(Fault),
}

impl Failure {
    /// What to write down of it.
    pub(crate) const fn fault(self) -> Fault {
        match self {
            Self::NoOrigin => Fault::Balancer("no origin is available"),
            Self::Unavailable => Fault::Balancer("routing is not available at the moment"),
            Self::Exhausted => Fault::Proxy("out of descriptors"),
            Self::Unreachable(fault) => fault,
        }
    }
}

impl Reach {
    /// Asks for the origin of a stream, which a client waits for since then.
    pub(crate) fn begin(
        cx: &mut Cx<'_>,
        names: &mut Names,
        key: StreamKey,
        need: Need,
        transport: Transport,
        since: Time,
    ) -> Self {
        let mut reach = Self::new(cx.now, key, need, transport, since + REACH_TIMEOUT);
        reach.pick(cx, names);
        reach
    }

    /// Connects anew to one that was reached, whose connection turned out to be dead.
    pub(crate) fn again(
        cx: &mut Cx<'_>,
        names: &mut Names,
        key: StreamKey,
        need: Need,
        picked: Picked,
    ) -> Self {
        let mut reach = Self::new(cx.now, key, need, Transport::Tcp, cx.now + OPEN_TIMEOUT);
        reach.attempts = 1;
        reach.open(cx, names, picked);
        reach
    }

    const fn new(now: Time, key: StreamKey, need: Need, transport: Transport, give_up: Time) -> Self {
        let (attempts, hurried, fault, stage) = (0, false, None, Stage::Over);
        Self { key, need, transport, attempts, give_up, deadline: now, hurried, fault, stage }
    }

    /// When to stop waiting.
    pub(crate) const fn deadline(&self) -> Time {
        self.deadline
    }

    /// Whether it has been opened, and proves itself.
    pub(crate) fn is_proving(&self, leg: Leg) -> bool {
        matches!(&self.stage, Stage::Proving(proving, _) if *proving == leg)
    }

    /// Takes an input.
    pub(crate) fn handle(&mut self, cx: &mut Cx<'_>, names: &mut Names, input: &Input<'_>) -> Step {
        match (&self.stage, input) {
            (Stage::Picking(asked), Input::Answer { ticket, answer }) if asked == ticket => match answer {
                Answer::Picked(picked) => self.open(cx, names, picked.clone()),
                Answer::Refused(Refusal::NoOrigin) => return self.refused(Failure::NoOrigin),
                _ => return self.refused(Failure::Unavailable),
            },
            (Stage::Opening(opening, picked), Input::Opened { leg, what }) if opening == leg => {
                let picked = picked.clone();
                self.stage = Stage::Proving(*leg, picked.clone());
                return Step::Opened(*leg, picked, what.clone());
            }
            (Stage::Opening(opening, picked), Input::OpenFailed { leg, why }) if opening == leg => {
                return match why {
                    OpenError::Unreachable => {
                        let picked = picked.clone();
                        self.unreachable(cx, names, picked, Fault::Origin("connection refused"))
                    }
                    OpenError::Exhausted => self.fail(Failure::Exhausted),
                };
            }
            (_, Input::Tick) if cx.now >= self.deadline => return self.timed_out(cx, names),
            _ => {}
        }
        Step::NotYet
    }

    /// It is opened, and has so long to prove that somebody is there; no longer than is left to reach one.
    pub(crate) fn prove(&mut self, now: Time, patience: Duration) {
        self.wait(now + patience);
    }

    /// It has proved itself, and is the protocol's.
    pub(crate) fn take(&mut self) -> Option<(Leg, Picked)> {
        match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Proving(leg, picked) => Some((leg, picked)),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// The opened connection was none.
    pub(crate) fn lost(&mut self, cx: &mut Cx<'_>, names: &mut Names, fault: Fault) -> Step {
        match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Opening(leg, picked) | Stage::Proving(leg, picked) => {
                cx.actions.close(leg, Close::Abort);
                self.unreachable(cx, names, picked, fault)
            }
            stage => {
                self.stage = stage;
                Step::NotYet
            }
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>, how: Close) {
        if let Stage::Opening(leg, _) | Stage::Proving(leg, _) = self.stage {
            cx.actions.close(leg, how);
        }
        self.stage = Stage::Over;
    }

    fn pick(&mut self, cx: &mut Cx<'_>, names: &mut Names) {
        self.attempts += 1;
        self.deadline = self.give_up;
        let ticket = names.new_ticket();
        self.stage = Stage::Picking(ticket);
        cx.actions
            .push(Action::Ask { ticket, query: Query::Pick { key: self.key.clone(), need: self.need } });
    }

    fn open(&mut self, cx: &mut Cx<'_>, names: &mut Names, picked: Picked) {
        let leg = names.new_leg();
        cx.actions.push(Action::Open { leg, to: picked.to, transport: self.transport });
        self.stage = Stage::Opening(leg, picked);
        self.wait(cx.now + OPEN_TIMEOUT);
    }

    fn wait(&mut self, deadline: Time) {
        self.hurried = deadline > self.give_up;
        self.deadline = deadline.min(self.give_up);
    }

    fn timed_out(&mut self, cx: &mut Cx<'_>, names: &mut Names) -> Step {
        let fault = Fault::Origin("did not take the connection in time");
        match self.stage {
            Stage::Picking(_) => self.refused(Failure::Unavailable),
            // Whoever used up the time before, it was not this origin.
            Stage::Opening(..) | Stage::Proving(..) if self.hurried => {
                self.close(cx, Close::Abort);
                self.fail(Failure::Unreachable(fault))
            }
            _ => self.lost(cx, names, fault),
        }
    }

    /// The origin is not there: says so, and asks for another one if there is time.
    fn unreachable(&mut self, cx: &mut Cx<'_>, names: &mut Names, picked: Picked, fault: Fault) -> Step {
        let (key, origin) = (Some(self.key.clone()), picked.origin);
        cx.actions.push(Action::Tell(Report::Unreachable(origin.clone(), self.need.protocol)));
        cx.actions.note(Note::OriginFailed { key, origin, fault });
        self.fault = Some(fault);
        if self.attempts >= MAX_ATTEMPTS || cx.now >= self.give_up {
            return self.fail(Failure::Unreachable(fault));
        }
        self.pick(cx, names);
        Step::NotYet
    }

    /// The load balancer has none. If it had one that was not there, that is the reason.
    fn refused(&mut self, failure: Failure) -> Step {
        self.fail(self.fault.map_or(failure, Failure::Unreachable))
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.stage = Stage::Over;
        Step::Failed(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Actions;
    use crate::origin::{OriginId, Protocol};
    use alloc::vec::Vec;
    use rand_pcg::Pcg32;

    /// A way to an origin, and what was done on it.
    struct Way {
        reach: Reach,
        names: Names,
        now: Time,
        actions: Actions,
    }

    fn with<T>(
        now: Time,
        names: &mut Names,
        actions: &mut Actions,
        f: impl FnOnce(&mut Cx<'_>, &mut Names) -> T,
    ) -> T {
        f(&mut Cx { now, rng: &mut Pcg32::new(1, 1), actions }, names)
    }

    impl Way {
        fn begin() -> Self {
            let (mut names, mut actions, now) = (Names::default(), Actions::new(), Time::ZERO);
            let (key, need) = (StreamKey::new("", "live", "s").unwrap(), Need::to_play(Protocol::Http));
            let reach = with(now, &mut names, &mut actions, |cx, names| {
                Reach::begin(cx, names, key, need, Transport::Tcp, now)
            });
            Self { reach, names, now, actions }
        }

        fn input(&mut self, input: &Input<'_>) -> Step {
            let Self { reach, names, now, actions } = self;
            with(*now, names, actions, |cx, names| reach.handle(cx, names, input))
        }

        fn answer(&mut self, answer: Answer) -> Step {
            let Stage::Picking(ticket) = self.reach.stage else { panic!("{:?}", self.reach) };
            self.input(&Input::Answer { ticket, answer })
        }

        fn picked(&mut self) -> Leg {
            let to = ([10, 0, 0, 1], 80).into();
            let picked = Picked { origin: OriginId::new("o", "1", "1"), to };
            assert!(matches!(self.answer(Answer::Picked(picked)), Step::NotYet));
            let Stage::Opening(leg, _) = self.reach.stage else { panic!("{:?}", self.reach) };
            leg
        }

        fn refused(&mut self, leg: Leg) -> Step {
            self.input(&Input::OpenFailed { leg, why: OpenError::Unreachable })
        }

        fn late(&mut self) -> Step {
            self.now = self.reach.deadline();
            self.input(&Input::Tick)
        }

        /// How many origins the load balancer was told of.
        fn told(&mut self) -> usize {
            let actions: Vec<_> = self.actions.drain().collect();
            actions.iter().filter(|action| matches!(action, Action::Tell(Report::Unreachable(..)))).count()
        }
    }

    const REFUSED: Failure = Failure::Unreachable(Fault::Origin("connection refused"));

    #[track_caller]
    fn assert_failed(step: Step, failure: Failure) {
        assert!(matches!(step, Step::Failed(why) if why == failure), "{step:?}");
    }

    #[test]
    fn a_few_origins_are_tried_and_each_is_reported() {
        let mut way = Way::begin();
        for _ in 1..MAX_ATTEMPTS {
            let leg = way.picked();
            assert!(matches!(way.refused(leg), Step::NotYet));
        }
        let leg = way.picked();
        assert_failed(way.refused(leg), REFUSED);
        assert_eq!(way.told(), MAX_ATTEMPTS as usize);
    }

    #[test]
    fn why_there_is_none_is_told_by_what_was_found() {
        for (answer, failure) in [
            (Answer::Refused(Refusal::NoOrigin), Failure::NoOrigin),
            (Answer::Refused(Refusal::Unavailable), Failure::Unavailable),
            (Answer::Refused(Refusal::Full), Failure::Unavailable),
            (Answer::Registered, Failure::Unavailable),
        ] {
            assert_failed(Way::begin().answer(answer.clone()), failure);
            // The stream's origin is known, and not there: that there is no other is no news.
            let mut way = Way::begin();
            let leg = way.picked();
            assert!(matches!(way.refused(leg), Step::NotYet));
            assert_failed(way.answer(answer), REFUSED);
        }
        assert_failed(Way::begin().late(), Failure::Unavailable);
    }

    #[test]
    fn an_origin_is_not_blamed_for_time_that_others_used_up() {
        let mut way = Way::begin();
        way.now = Time::ZERO + Duration::from_millis(3500);
        way.picked();
        let late = Failure::Unreachable(Fault::Origin("did not take the connection in time"));
        assert_failed(way.late(), late);
        assert_eq!((way.now, way.told()), (Time::ZERO + REACH_TIMEOUT, 0));

        let mut way = Way::begin();
        way.picked();
        assert!(matches!(way.late(), Step::NotYet));
        assert_eq!((way.now, way.told()), (Time::ZERO + OPEN_TIMEOUT, 1));
    }

    #[test]
    fn an_origin_that_says_nothing_is_none() {
        let mut way = Way::begin();
        let leg = way.picked();
        let opened = way.input(&Input::Opened { leg, what: Opened::Fresh });
        assert!(matches!(opened, Step::Opened(at, ..) if at == leg) && way.reach.is_proving(leg));
        way.reach.prove(way.now, Duration::from_secs(2));
        assert!(matches!(way.late(), Step::NotYet));
        assert_eq!((way.now, way.told()), (Time::ZERO + Duration::from_secs(2), 1));
        assert!(way.reach.take().is_none());
    }
}
