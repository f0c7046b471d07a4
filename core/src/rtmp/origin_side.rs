//! The RTMP session while its origin is found and spoken to: from the stream's key to the origin's `onStatus`.
//!
//! Nothing of the client's is sent before the origin has answered what came before it, because not every server
//! takes commands in advance. An origin that can't be reached is reported and another one asked for, as long as
//! there is time; one that answers and says no has the last word.

use super::client_side::{Asked, refuse};
use super::command::{Command, Verb};
use super::handshake;
use super::message::{Assembled, Assembler, Message, kind};
use super::relay::{Relay, StreamIds, receivers_id, rename_payload};
use super::relaying::{Relaying, run};
use crate::machine::{Action, Actions, Close, Cx, Fault, Input, Leg, Note, Parsed, Transport};
use crate::origin::Protocol;
use crate::query::{Need, Picked, Report};
use crate::reach::{Failure, Names, Reach, Step};
use crate::time::{Duration, Time};
use crate::usage::Usage;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

/// For an origin's handshake. One that accepts but says nothing hangs.
const GREETING_TIMEOUT: Duration = Duration::from_millis(2000);

/// For an origin's answers to `connect` and `createStream`: it may ask a hook of its own first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// For the origin's answer to `publish`, after which the encoder sends: hooks again.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// For the origin's answer to `play`: some servers send none before the stream is there, and players wait for it.
const PLAY_TIMEOUT: Duration = Duration::from_secs(600);

/// The session on its way to the origin.
#[derive(Debug)]
pub(super) struct OriginSide {
    asked: Asked,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// The origin is looked for, up to S0, S1 and S2.
    Reaching(Reach, Names),
    /// It is there.
    Talking(Box<Talk>),
}

/// What an input leads to.
pub(super) enum Next {
    /// The origin has not answered.
    Stay,
    /// It has.
    Relay(Box<Relaying>),
    /// The session is over.
    Over,
}

impl OriginSide {
    /// Asks the load balancer for the stream's origin; the client waits.
    pub(super) fn ask(cx: &mut Cx<'_>, asked: Asked) -> Self {
        cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        let need = match asked.verb {
            Verb::Publish => Need::to_publish(Protocol::Rtmp),
            Verb::Play => Need::to_play(Protocol::Rtmp),
        };
        let (mut names, now) = (Names::default(), cx.now);
        let reach = Reach::begin(cx, &mut names, asked.key.clone(), need, Transport::Tcp, now);
        Self { asked, way: Way::Reaching(reach, names) }
    }

    pub(super) const fn deadline(&self) -> Time {
        match &self.way {
            Way::Reaching(reach, _) => reach.deadline(),
            Way::Talking(talk) => talk.deadline,
        }
    }

    pub(super) fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(usize, Next), Fault> {
        if let Input::Eof { leg: Leg::CLIENT, .. } = input {
            self.close_origin(cx, Close::Flush);
            cx.actions.close(Leg::CLIENT, Close::Abort);
            return Ok((0, Next::Over));
        }
        match &mut self.way {
            Way::Talking(talk) => talk.handle(cx, &mut self.asked, &input),
            Way::Reaching(reach, names) => {
                let step = match input {
                    Input::Stream { leg, bytes } if reach.is_proving(leg) => return self.greeted(cx, bytes),
                    Input::Eof { leg, .. } if reach.is_proving(leg) => {
                        reach.lost(cx, names, Fault::Origin("closed in its handshake"))
                    }
                    input => reach.handle(cx, names, &input),
                };
                Ok((0, self.reached(cx, step)))
            }
        }
    }

    fn reached(&mut self, cx: &mut Cx<'_>, step: Step) -> Next {
        match (step, &mut self.way) {
            (Step::Opened(leg, ..), Way::Reaching(reach, _)) => {
                reach.prove(cx.now, GREETING_TIMEOUT);
                cx.actions.write(leg, handshake::hello(cx.rng));
                Next::Stay
            }
            (Step::Failed(failure), _) => {
                let description = match failure {
                    Failure::NoOrigin => "no origin is available",
                    Failure::Unavailable => "routing is not available at the moment",
                    Failure::Exhausted => "the proxy is busy",
                    Failure::Unreachable(_) => "no origin can be reached",
                };
                self.refuse(cx, failure.fault(), description)
            }
            _ => Next::Stay,
        }
    }

    /// S0, S1 and S2 come in: with them the origin has proved itself, and is told the first of what the client said.
    fn greeted(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> Result<(usize, Next), Fault> {
        let Some(reply) = bytes.first_chunk::<{ handshake::REPLY }>() else { return Ok((0, Next::Stay)) };
        let Ok(c2) = handshake::acknowledge(reply) else {
            let next = self.refuse(cx, Fault::Origin("not RTMP"), "the origin does not speak RTMP");
            return Ok((0, next));
        };
        let Way::Reaching(reach, _) = &mut self.way else { return Ok((0, Next::Stay)) };
        let Some((leg, origin)) = reach.take() else { return Ok((0, Next::Stay)) };
        cx.actions.write(leg, c2);
        let mut talk = Box::new(Talk::begin(cx, &self.asked, leg, origin));
        let outcome = talk.bytes(cx, &mut self.asked, bytes, handshake::REPLY);
        self.way = Way::Talking(talk);
        outcome
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, fault: Fault, description: &str) -> Next {
        tell_refusal(cx, &mut self.asked, fault, description);
        self.close_origin(cx, Close::Abort);
        Next::Over
    }

    fn close_origin(&mut self, cx: &mut Cx<'_>, how: Close) {
        match &mut self.way {
            Way::Reaching(reach, _) => reach.close(cx, how),
            Way::Talking(talk) => cx.actions.close(talk.leg, how),
        }
    }
}

/// Tells the client that it can't have its stream, and why.
fn tell_refusal(cx: &mut Cx<'_>, asked: &mut Asked, fault: Fault, description: &str) {
    let Asked { to_client, verb, stream_id, key, .. } = asked;
    refuse(cx.actions, to_client, *verb, *stream_id, Some(key.clone()), fault, description);
}

/// What the origin has been told of the client's, and has not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// `connect`
    Connecting,
    /// All `createStream`s.
    Creating,
    /// `publish` or `play`. The client's bytes go through already.
    Starting,
}

/// The conversation with an origin.
#[derive(Debug)]
struct Talk {
    stage: Stage,
    /// When to stop waiting for the answer.
    deadline: Time,
    leg: Leg,
    origin: Picked,
    from_origin: Assembler,
    /// The ids the origin gave to the streams the client created.
    theirs: Vec<Option<u32>>,
    /// Client to origin, if it can't be spliced.
    up: Option<Box<Relay>>,
    /// The answer to `publish` or `play`, if it came while another message was half read: the relay begins
    /// between messages.
    accepted: Option<bool>,
}

impl Talk {
    /// The handshake is done: sends `connect`.
    fn begin(cx: &mut Cx<'_>, asked: &Asked, leg: Leg, origin: Picked) -> Self {
        let talk = Self {
            stage: Stage::Connecting,
            deadline: cx.now + ANSWER_TIMEOUT,
            leg,
            origin,
            from_origin: Assembler::default(),
            theirs: Vec::new(),
            up: None,
            accepted: None,
        };
        talk.replay(cx, asked, 0, asked.replay.connect_end);
        talk
    }

    fn handle(
        &mut self,
        cx: &mut Cx<'_>,
        asked: &mut Asked,
        input: &Input<'_>,
    ) -> Result<(usize, Next), Fault> {
        match *input {
            Input::Stream { leg, bytes } if leg == self.leg => return self.bytes(cx, asked, bytes, 0),
            Input::Stream { bytes, .. } => {
                // Only while ids are renamed; otherwise the client is paused or spliced.
                let used =
                    run(&mut self.up, cx.actions, Leg::CLIENT, self.leg, bytes, 0).map_err(Fault::Client)?;
                return Ok((used, Next::Stay));
            }
            Input::Eof { leg, .. } if leg == self.leg => {
                if self.accepted.is_none() {
                    let fault = Fault::Origin("closed without an answer");
                    return Ok((0, self.refuse(cx, asked, fault, "the origin closed the connection")));
                }
                // It has had its answer.
                cx.actions.close(leg, Close::Abort);
                cx.actions.close(Leg::CLIENT, Close::Flush);
                return Ok((0, Next::Over));
            }
            Input::Tick if cx.now >= self.deadline => {
                if self.accepted.is_none() {
                    let fault = Fault::Origin("no answer in time");
                    return Ok((0, self.refuse(cx, asked, fault, "the origin does not answer")));
                }
                self.wait(cx.now, Stage::Starting, PLAY_TIMEOUT);
            }
            _ => {}
        }
        Ok((0, Next::Stay))
    }

    fn wait(&mut self, now: Time, stage: Stage, timeout: Duration) {
        self.stage = stage;
        self.deadline = now + timeout;
    }

    fn refuse(&self, cx: &mut Cx<'_>, asked: &mut Asked, fault: Fault, description: &str) -> Next {
        tell_refusal(cx, asked, fault, description);
        cx.actions.close(self.leg, Close::Abort);
        Next::Over
    }

    /// Takes the origin's bytes from `bytes[at..]`.
    fn bytes(
        &mut self,
        cx: &mut Cx<'_>,
        asked: &mut Asked,
        bytes: &[u8],
        mut at: usize,
    ) -> Result<(usize, Next), Fault> {
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
                    return Ok((at, self.refuse(cx, asked, Fault::Origin(what), "the origin sent bad RTMP")));
                }
            };
            match found {
                Assembled::Progress => {}
                Assembled::Media => return self.relay(cx, asked, bytes, at, true),
                Assembled::Message(message) => match self.message(cx, asked, &message) {
                    Heard::More => {}
                    Heard::Over => return Ok((at, Next::Over)),
                    Heard::Started(accepted) => self.accepted = Some(accepted),
                },
            }
            if let Some(accepted) = self.accepted.filter(|_| self.from_origin.reader().idle()) {
                return self.relay(cx, asked, bytes, at, accepted);
            }
        }
    }

    fn message(&mut self, cx: &mut Cx<'_>, asked: &mut Asked, message: &Message) -> Heard {
        let command = message.command().map(Command::parse);
        let Some(Ok(Some(command))) = command else {
            // Protocol and user control are for the client, at any time.
            if matches!(
                message.header.type_id,
                kind::SET_CHUNK_SIZE | kind::USER_CONTROL..=kind::SET_PEER_BANDWIDTH
            ) || self.stage == Stage::Starting
            {
                self.pass(cx, asked, message);
            }
            return Heard::More;
        };
        let status = command.status_is_error();
        if self.stage == Stage::Starting {
            let answered = &mut asked.replay.answered;
            if matches!(command.name, "_result" | "_error")
                && let Some(index) = answered.iter().position(|known| *known == command.transaction)
            {
                answered.swap_remove(index);
                return Heard::More;
            }
            self.pass(cx, asked, message);
            return status.map_or(Heard::More, |is_error| Heard::Started(!is_error));
        }
        let refused =
            status == Some(true) || (command.name == "_error" && self.awaited(asked, command.transaction));
        if refused {
            self.pass(cx, asked, message);
            self.refuse(cx, asked, Fault::Origin("refused"), "the origin refused");
            return Heard::Over;
        }
        // All other calls up to here the proxy has answered itself.
        if command.name == "_result" && self.awaited(asked, command.transaction) {
            match self.stage {
                Stage::Connecting => self.create(cx, asked),
                _ => self.created(cx, asked, &command),
            }
        }
        Heard::More
    }

    /// Whether this transaction's answer is what is waited for.
    fn awaited(&self, asked: &Asked, transaction: f64) -> bool {
        let replay = &asked.replay;
        match self.stage {
            Stage::Connecting => transaction == replay.connect,
            _ => replay.streams.iter().any(|(create, _)| *create == transaction),
        }
    }

    /// Sends a message of the origin's to the client, as it is but for the client's names of the streams.
    fn pass(&self, cx: &mut Cx<'_>, asked: &mut Asked, message: &Message) {
        let Message { csid, header, payload } = message;
        let ids = self.to_client_ids(asked);
        let (stream_id, payload) =
            (receivers_id(&ids, header.stream_id), rename_payload(&ids, header.type_id, payload));
        let mut out = Vec::new();
        asked.to_client.put(&mut out, *csid, header.timestamp, header.type_id, stream_id, &payload);
        cx.actions.write(Leg::CLIENT, out);
    }

    /// Each created stream's id as the client and as the origin knows it.
    fn ids<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = (u32, u32)> + 'a {
        let pairs = asked.replay.streams.iter().zip(&self.theirs);
        pairs.filter_map(|((_, ours), theirs)| Some((*ours, (*theirs)?)))
    }

    /// The message stream ids that differ between the client and its origin, client's first.
    fn to_origin_ids(&self, asked: &Asked) -> StreamIds {
        self.ids(asked).filter(|(ours, theirs)| ours != theirs).collect()
    }

    /// The same, origin's first. Some origins give one id to all streams: then the one in use is meant.
    fn to_client_ids(&self, asked: &Asked) -> StreamIds {
        let in_use = self.ids(asked).find(|(ours, _)| *ours == asked.stream_id);
        let others = self.ids(asked).filter(|(_, theirs)| in_use.is_none_or(|(_, used)| *theirs != used));
        let all = in_use.into_iter().chain(others);
        all.filter(|(ours, theirs)| ours != theirs).map(|(ours, theirs)| (theirs, ours)).collect()
    }

    fn replay(&self, cx: &mut Cx<'_>, asked: &Asked, start: usize, end: usize) {
        let part = asked.replay.wire.get(start..end).unwrap_or_default();
        cx.actions.write(self.leg, part.to_vec());
    }

    /// `connect` is accepted: sends all up to `createStream`.
    fn create(&mut self, cx: &mut Cx<'_>, asked: &mut Asked) {
        self.replay(cx, asked, asked.replay.connect_end, asked.replay.create_end);
        self.theirs = asked.replay.streams.iter().map(|_| None).collect();
        self.wait(cx.now, Stage::Creating, ANSWER_TIMEOUT);
        if self.theirs.is_empty() {
            self.start(cx, asked);
        }
    }

    /// A stream is created; if all are, the rest can go.
    fn created(&mut self, cx: &mut Cx<'_>, asked: &mut Asked, command: &Command<'_>) {
        let mut streams = asked.replay.streams.iter().zip(&self.theirs);
        // Clients may use one transaction id for all: answers come in the order of the questions.
        let index =
            streams.position(|((create, _), theirs)| *create == command.transaction && theirs.is_none());
        // A whole number from the wire; the conversion saturates.
        let id = command.argument(1).and_then(|value| value.as_number()).map(|id| id as u32);
        if let Some(entry) = index.and_then(|index| self.theirs.get_mut(index)) {
            *entry = id.or(Some(1));
        }
        if self.theirs.iter().all(Option::is_some) {
            self.start(cx, asked);
        }
    }

    /// Sends `publish` or `play`, and lets the client's bytes through.
    fn start(&mut self, cx: &mut Cx<'_>, asked: &mut Asked) {
        let timeout = match asked.verb {
            Verb::Publish => PUBLISH_TIMEOUT,
            Verb::Play => PLAY_TIMEOUT,
        };
        self.wait(cx.now, Stage::Starting, timeout);
        let ids = self.to_origin_ids(asked);
        let (leg, Asked { verb, key, replay, .. }) = (self.leg, asked);
        // None of it is needed again, and a player may wait long for its stream.
        let wire = Bytes::from(core::mem::take(&mut replay.wire));
        let rest = wire.slice(replay.create_end.min(wire.len())..);
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
        let (verb, key, Picked { origin, to }) = (verb.as_str(), key.clone(), self.origin.clone());
        cx.actions.note(Note::Routed { verb, key, origin, to });
    }

    /// The origin has answered: both sides talk with each other from here on. The load balancer hears of it,
    /// unless the answer was no.
    fn relay(
        &mut self,
        cx: &mut Cx<'_>,
        asked: &Asked,
        bytes: &[u8],
        at: usize,
        accepted: bool,
    ) -> Result<(usize, Next), Fault> {
        let reader = core::mem::take(&mut self.from_origin).into_reader();
        let to_client = &asked.to_client;
        debug_assert_eq!(reader.chunk_size(), to_client.chunk_size(), "each Set Chunk Size was passed on");
        let down = Relay::new(Leg::CLIENT, reader, to_client, self.to_client_ids(asked));
        let (key, origin) = (asked.key.clone(), self.origin.origin.clone());
        let report = match asked.verb {
            Verb::Publish => Report::Publishing(key, origin),
            Verb::Play => Report::Playing(key),
        };
        let usage = accepted.then(|| Usage::begin(cx, report));
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
