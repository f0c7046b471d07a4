//! The RTMP session while its origin is found and spoken to: from the stream's key to the origin's `onStatus`.
//!
//! Nothing of the client's is sent before the origin has answered what came before it, because not every server
//! takes commands in advance. An origin that can't be reached is reported and another one asked for, as long as
//! there is time; one that answers and says no has the last word.

use super::command::{Command, Verb};
use super::handshake;
use super::message::{Assembled, Assembler, Message, kind};
use super::relay::{Relay, StreamIds, receivers_id, rename_payload};
use super::session::{Asked, Next, Relaying, refuse, run};
use crate::machine::{
    Action, Actions, Close, Cx, Fault, Input, Leg, Note, OpenError, Parsed, Ticket, Transport,
};
use crate::origin::Protocol;
use crate::query::{Answer, Need, Picked, Query, Refusal, Report};
use crate::time::{Duration, Time};
use crate::usage::Usage;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

/// To find and reach an origin, over all attempts: clients are told within five seconds.
const REACH_TIMEOUT: Duration = Duration::from_millis(4500);

/// For one TCP connection to an origin: two attempts fit into [`REACH_TIMEOUT`].
const OPEN_TIMEOUT: Duration = Duration::from_millis(1500);

/// For an origin's handshake. One that accepts but says nothing hangs.
const GREETING_TIMEOUT: Duration = Duration::from_millis(2000);

/// For an origin's answers to `connect` and `createStream`: it may ask a hook of its own first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// For the origin's answer to `publish`, after which the encoder sends: hooks again.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// For the origin's answer to `play`: some servers send none before the stream is there, and players wait for it.
const PLAY_TIMEOUT: Duration = Duration::from_secs(600);

/// Origins tried for one session.
const MAX_ATTEMPTS: u32 = 3;

/// Where the conversation stands: what is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The load balancer's pick.
    Picking,
    /// The TCP connection.
    Opening,
    /// S0, S1 and S2.
    Greeting,
    /// The answer to `connect`.
    Connecting,
    /// The answers to `createStream`.
    Creating,
    /// The answer to `publish` or `play`. The client's bytes go through already.
    Starting,
}

/// The session on its way to the origin.
#[derive(Debug)]
pub(super) struct OriginSide {
    stage: Stage,
    asked: Asked,
    /// When to stop waiting for what the stage waits for.
    deadline: Time,
    /// When to stop looking for an origin.
    give_up: Time,
    attempts: u32,
    origin: Option<Picked>,
    leg: Leg,
    /// Whether the leg exists.
    open: bool,
    from_origin: Assembler,
    /// The ids the origin gave to the streams the client created.
    theirs: Vec<Option<u32>>,
    /// Client to origin, if it can't be spliced.
    up: Option<Box<Relay>>,
    /// The answer to `publish` or `play`, if it came while another message was half read: the relay begins
    /// between messages.
    accepted: Option<bool>,
}

impl OriginSide {
    /// Asks the load balancer for the stream's origin; the client waits.
    pub(super) fn ask(cx: &mut Cx<'_>, asked: Asked) -> Self {
        let mut side = Self {
            stage: Stage::Picking,
            deadline: cx.now,
            give_up: cx.now + REACH_TIMEOUT,
            attempts: 0,
            origin: None,
            leg: Leg::new(1, 0),
            open: false,
            from_origin: Assembler::default(),
            theirs: Vec::new(),
            up: None,
            accepted: None,
            asked,
        };
        cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        side.pick(cx);
        side
    }

    pub(super) const fn deadline(&self) -> Time {
        self.deadline
    }

    pub(super) fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(usize, Next), Fault> {
        match input {
            Input::Stream { leg, bytes } if leg == self.leg => return self.origin_bytes(cx, bytes),
            Input::Stream { bytes, .. } => {
                // Only while ids are renamed; otherwise the client is paused or spliced.
                let used =
                    run(&mut self.up, cx.actions, Leg::CLIENT, self.leg, bytes, 0).map_err(Fault::Client)?;
                return Ok((used, Next::Stay));
            }
            Input::Answer { ticket, answer } if ticket == self.ticket() && self.stage == Stage::Picking => {
                return Ok((0, self.picked(cx, answer)));
            }
            Input::Opened { leg, .. } if leg == self.leg => {
                self.wait(cx.now, Stage::Greeting, GREETING_TIMEOUT);
                cx.actions.write(leg, handshake::hello(cx.rng));
            }
            Input::OpenFailed { leg, why } if leg == self.leg => {
                self.open = false;
                return Ok((
                    0,
                    match why {
                        OpenError::Unreachable => self.unreachable(cx, Fault::Origin("connection refused")),
                        OpenError::Exhausted => {
                            self.refuse(cx, Fault::Proxy("out of descriptors"), "the proxy is busy")
                        }
                    },
                ));
            }
            Input::Eof { leg, .. } if leg == Leg::CLIENT => {
                self.close_origin(cx, Close::Flush);
                cx.actions.close(leg, Close::Abort);
                return Ok((0, Next::Over));
            }
            Input::Eof { leg, .. } if leg == self.leg => {
                self.close_origin(cx, Close::Abort);
                return Ok((
                    0,
                    match self.stage {
                        Stage::Opening | Stage::Greeting => {
                            self.unreachable(cx, Fault::Origin("closed in its handshake"))
                        }
                        // It has had its answer.
                        _ if self.accepted.is_some() => {
                            cx.actions.close(Leg::CLIENT, Close::Flush);
                            Next::Over
                        }
                        _ => self.refuse(
                            cx,
                            Fault::Origin("closed without an answer"),
                            "the origin closed the connection",
                        ),
                    },
                ));
            }
            Input::Tick if cx.now >= self.deadline => return Ok((0, self.timed_out(cx))),
            _ => {}
        }
        Ok((0, Next::Stay))
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.attempts)
    }

    /// Waits for the next thing; until an origin has said something, never longer than is left to reach one.
    fn wait(&mut self, now: Time, stage: Stage, timeout: Duration) {
        self.stage = stage;
        let reached = matches!(stage, Stage::Connecting | Stage::Creating | Stage::Starting);
        self.deadline = if reached { now + timeout } else { (now + timeout).min(self.give_up) };
    }

    fn pick(&mut self, cx: &mut Cx<'_>) {
        self.attempts += 1;
        self.wait(cx.now, Stage::Picking, REACH_TIMEOUT);
        let need = match self.asked.verb {
            Verb::Publish => Need::to_publish(Protocol::Rtmp),
            Verb::Play => Need::to_play(Protocol::Rtmp),
        };
        let query = Query::Pick { key: self.asked.key.clone(), need };
        cx.actions.push(Action::Ask { ticket: self.ticket(), query });
    }

    fn picked(&mut self, cx: &mut Cx<'_>, answer: Answer) -> Next {
        match answer {
            Answer::Picked(picked) => {
                self.leg = Leg::new(1, self.attempts);
                self.open = true;
                self.from_origin = Assembler::default();
                cx.actions.push(Action::Open { leg: self.leg, to: picked.to, transport: Transport::Tcp });
                self.origin = Some(picked);
                self.wait(cx.now, Stage::Opening, OPEN_TIMEOUT);
                Next::Stay
            }
            Answer::Refused(Refusal::NoOrigin) => {
                self.refuse(cx, Fault::Balancer("no origin"), "no origin is available")
            }
            _ => self.refuse(cx, Fault::Balancer("refused"), "routing is not available at the moment"),
        }
    }

    fn timed_out(&mut self, cx: &mut Cx<'_>) -> Next {
        match self.stage {
            Stage::Picking => self.refuse(
                cx,
                Fault::Balancer("no answer in time"),
                "routing is not available at the moment",
            ),
            Stage::Opening | Stage::Greeting => {
                self.unreachable(cx, Fault::Origin("did not take the connection in time"))
            }
            Stage::Starting if self.accepted.is_some() => {
                self.wait(cx.now, Stage::Starting, PLAY_TIMEOUT);
                Next::Stay
            }
            Stage::Connecting | Stage::Creating | Stage::Starting => {
                self.refuse(cx, Fault::Origin("no answer in time"), "the origin does not answer")
            }
        }
    }

    /// The origin is not there: says so, and tries another one if there is time.
    fn unreachable(&mut self, cx: &mut Cx<'_>, fault: Fault) -> Next {
        self.close_origin(cx, Close::Abort);
        if let Some(Picked { origin, .. }) = self.origin.take() {
            cx.actions.push(Action::Tell(Report::Unreachable(origin.clone(), Protocol::Rtmp)));
            let key = Some(self.asked.key.clone());
            cx.actions.note(Note::OriginFailed { key, origin, fault });
        }
        if self.attempts >= MAX_ATTEMPTS || cx.now >= self.give_up {
            return self.refuse(cx, fault, "no origin can be reached");
        }
        self.pick(cx);
        Next::Stay
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, fault: Fault, description: &str) -> Next {
        let Asked { to_client, verb, stream_id, key, .. } = &mut self.asked;
        refuse(cx.actions, to_client, *verb, *stream_id, Some(key.clone()), fault, description);
        self.close_origin(cx, Close::Abort);
        Next::Over
    }

    fn close_origin(&mut self, cx: &mut Cx<'_>, how: Close) {
        if core::mem::take(&mut self.open) {
            cx.actions.close(self.leg, how);
        }
    }

    fn origin_bytes(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> Result<(usize, Next), Fault> {
        let mut at = 0;
        if self.stage == Stage::Greeting {
            let Some(reply) = bytes.first_chunk::<{ handshake::REPLY }>() else { return Ok((0, Next::Stay)) };
            let Ok(c2) = handshake::acknowledge(reply) else {
                return Ok((0, self.refuse(cx, Fault::Origin("not RTMP"), "the origin does not speak RTMP")));
            };
            at = handshake::REPLY;
            cx.actions.write(self.leg, c2);
            self.replay(cx, 0, self.asked.replay.connect_end);
            self.wait(cx.now, Stage::Connecting, ANSWER_TIMEOUT);
        }
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            // Media are the answer, too, of a server that sends no status.
            let found = if self.stage == Stage::Starting {
                self.from_origin.next(rest)
            } else {
                self.from_origin.step(rest)
            };
            let found = match found {
                Ok(Parsed::Complete(found, used)) => {
                    at += used;
                    found
                }
                Ok(Parsed::Partial) => return Ok((at, Next::Stay)),
                Err(what) => {
                    return Ok((at, self.refuse(cx, Fault::Origin(what), "the origin sent bad RTMP")));
                }
            };
            match found {
                Assembled::Progress => {}
                Assembled::Media => return self.relay(cx, bytes, at, true),
                Assembled::Message(message) => match self.message(cx, &message) {
                    Heard::More => {}
                    Heard::Over => return Ok((at, Next::Over)),
                    Heard::Started(accepted) => self.accepted = Some(accepted),
                },
            }
            if let Some(accepted) = self.accepted.filter(|_| self.from_origin.reader().idle()) {
                return self.relay(cx, bytes, at, accepted);
            }
        }
    }

    fn message(&mut self, cx: &mut Cx<'_>, message: &Message) -> Heard {
        let command = message.command().map(Command::parse);
        let Some(Ok(Some(command))) = command else {
            // Protocol and user control are for the client, at any time.
            if matches!(
                message.header.type_id,
                kind::SET_CHUNK_SIZE | kind::USER_CONTROL..=kind::SET_PEER_BANDWIDTH
            ) || self.stage == Stage::Starting
            {
                self.pass(cx, message);
            }
            return Heard::More;
        };
        let status = command.status_is_error();
        if self.stage == Stage::Starting {
            self.pass(cx, message);
            return status.map_or(Heard::More, |is_error| Heard::Started(!is_error));
        }
        let refused = status == Some(true) || (command.name == "_error" && self.awaited(command.transaction));
        if refused {
            self.pass(cx, message);
            self.refuse(cx, Fault::Origin("refused"), "the origin refused");
            return Heard::Over;
        }
        // All other answers the client has had from the proxy.
        if command.name == "_result" && self.awaited(command.transaction) {
            match self.stage {
                Stage::Connecting => self.create(cx),
                _ => self.created(cx, &command),
            }
        }
        Heard::More
    }

    /// Whether this transaction's answer is what the stage waits for.
    fn awaited(&self, transaction: f64) -> bool {
        let replay = &self.asked.replay;
        match self.stage {
            Stage::Connecting => transaction == replay.connect,
            _ => replay.streams.iter().any(|(create, _)| *create == transaction),
        }
    }

    /// Sends a message of the origin's to the client, as it is but for the client's names of the streams.
    fn pass(&mut self, cx: &mut Cx<'_>, message: &Message) {
        let Message { csid, header, payload } = message;
        let ids = self.to_client_ids();
        let (stream_id, payload) =
            (receivers_id(&ids, header.stream_id), rename_payload(&ids, header.type_id, payload));
        let mut out = Vec::new();
        self.asked.to_client.put(&mut out, *csid, header.timestamp, header.type_id, stream_id, &payload);
        cx.actions.write(Leg::CLIENT, out);
    }

    /// Each created stream's id as the client and as the origin knows it.
    fn ids(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let pairs = self.asked.replay.streams.iter().zip(&self.theirs);
        pairs.filter_map(|((_, ours), theirs)| Some((*ours, (*theirs)?)))
    }

    /// The message stream ids that differ between the client and its origin, client's first.
    fn to_origin_ids(&self) -> StreamIds {
        self.ids().filter(|(ours, theirs)| ours != theirs).collect()
    }

    /// The same, origin's first. Some origins give one id to all streams: then the one in use is meant.
    fn to_client_ids(&self) -> StreamIds {
        let in_use = self.ids().find(|(ours, _)| *ours == self.asked.stream_id);
        let others = self.ids().filter(|(_, theirs)| in_use.is_none_or(|(_, used)| *theirs != used));
        let all = in_use.into_iter().chain(others);
        all.filter(|(ours, theirs)| ours != theirs).map(|(ours, theirs)| (theirs, ours)).collect()
    }

    fn replay(&self, cx: &mut Cx<'_>, start: usize, end: usize) {
        let part = self.asked.replay.wire.get(start..end).unwrap_or_default();
        cx.actions.write(self.leg, part.to_vec());
    }

    /// `connect` is accepted: sends all up to `createStream`.
    fn create(&mut self, cx: &mut Cx<'_>) {
        let (start, end) = (self.asked.replay.connect_end, self.asked.replay.create_end);
        self.replay(cx, start, end);
        self.theirs = self.asked.replay.streams.iter().map(|_| None).collect();
        self.wait(cx.now, Stage::Creating, ANSWER_TIMEOUT);
        if self.theirs.is_empty() {
            self.start(cx);
        }
    }

    /// A stream is created; if all are, the rest can go.
    fn created(&mut self, cx: &mut Cx<'_>, command: &Command<'_>) {
        let mut streams = self.asked.replay.streams.iter().zip(&self.theirs);
        // Clients may use one transaction id for all: answers come in the order of the questions.
        let index =
            streams.position(|((create, _), theirs)| *create == command.transaction && theirs.is_none());
        // A whole number from the wire; the conversion saturates.
        let id = command.argument(1).and_then(|value| value.as_number()).map(|id| id as u32);
        if let Some(entry) = index.and_then(|index| self.theirs.get_mut(index)) {
            *entry = id.or(Some(1));
        }
        if self.theirs.iter().all(Option::is_some) {
            self.start(cx);
        }
    }

    /// Sends `publish` or `play`, and lets the client's bytes through.
    fn start(&mut self, cx: &mut Cx<'_>) {
        let timeout = match self.asked.verb {
            Verb::Publish => PUBLISH_TIMEOUT,
            Verb::Play => PLAY_TIMEOUT,
        };
        self.wait(cx.now, Stage::Starting, timeout);
        let ids = self.to_origin_ids();
        let (leg, Asked { verb, key, replay, .. }) = (self.leg, &mut self.asked);
        let rest = Bytes::from(replay.wire.split_off(replay.create_end.min(replay.wire.len())));
        if ids.is_empty() {
            cx.actions.write(leg, rest);
            cx.actions.push(Action::Splice { from: Leg::CLIENT, to: leg, limit: None });
        } else {
            // What is kept was written with the client's ids, too: it takes the same way as what follows.
            let mut up = Relay::verbatim(leg, core::mem::take(&mut replay.reader), ids);
            let mut relayed = Actions::new();
            // These bytes have been read once without an error.
            let _used = up.run(&rest, 0, &mut relayed);
            for action in relayed.drain() {
                cx.actions.push(match action {
                    Action::Forward { to, peer, range } => {
                        Action::Write { to, peer, bytes: rest.slice(range) }
                    }
                    other => other,
                });
            }
            self.up = Some(Box::new(up));
        }
        cx.actions.push(Action::Resume { leg: Leg::CLIENT });
        if let Some(Picked { origin, to }) = &self.origin {
            let (verb, key, origin, to) = (verb.as_str(), key.clone(), origin.clone(), *to);
            cx.actions.note(Note::Routed { verb, key, origin, to });
        }
    }

    /// The origin has answered: both sides talk with each other from here on. The load balancer hears of it,
    /// unless the answer was no.
    fn relay(
        &mut self,
        cx: &mut Cx<'_>,
        bytes: &[u8],
        at: usize,
        accepted: bool,
    ) -> Result<(usize, Next), Fault> {
        let reader = core::mem::take(&mut self.from_origin).into_reader();
        let to_client = &self.asked.to_client;
        debug_assert_eq!(reader.chunk_size(), to_client.chunk_size(), "each Set Chunk Size was passed on");
        let down = Relay::new(Leg::CLIENT, reader, to_client, self.to_client_ids());
        let (key, origin) = (self.asked.key.clone(), self.origin.take().filter(|_| accepted));
        let usage = origin.map(|picked| match self.asked.verb {
            Verb::Publish => Usage::begin(cx, Report::Publishing(key, picked.origin)),
            Verb::Play => Usage::begin(cx, Report::Playing(key)),
        });
        let (up, down) = (self.up.take(), Some(Box::new(down)));
        let mut relaying = Box::new(Relaying { usage, origin: self.leg, up, down });
        let used = relaying.bytes(cx, self.leg, bytes, at)?;
        Ok((used, Next::Relay(relaying)))
    }
}

/// What a message of the origin's means.
enum Heard {
    /// Go on.
    More,
    /// The stream has its answer: yes or no.
    Started(bool),
    /// The client was refused.
    Over,
}
