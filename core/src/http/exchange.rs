//! One request that is passed on: finds the stream's origin, sends it the request, and brings back the answer
//! (answer.rs). The diagram is in docs/http.md.
//!
//! Bodies are never held, but for the few that are changed (change.rs): of a length, in chunks or until the end, they
//! are moved untouched, by the driver where nothing needs to be seen. Whatever the client does, its leaving ends all of it,
//! except for a body that it has sent whole: that is still the origin's.

mod answer;

use super::body::{Body, Part};
use super::change::Change;
use super::connection::Client;
use super::fields::{Framing, HeadWriter};
use super::forward;
use super::head::{Expectation, Head, HeadReader};
use super::response::{CONTINUE, Status};
use super::routes::{Kind, Wanted, is_session_id};
use super::signalling::publishes;
use crate::key::StreamKey;
use crate::machine::{Action, Close, Cx, Fault, Input, Leg, Note, Opened, Ticket, Transport};
use crate::origin::Protocol;
use crate::query::{Answer, Need, Picked, Query, Report};
use crate::reach::{Failure, REACH_TIMEOUT, Reach, Step};
use crate::time::{Duration, Time};
use crate::usage::{USE_INTERVAL, Usage};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// For an offer to come in.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);

/// For the load balancer to store a session, or to find it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(5);

/// For the answer to a request that waits for a part of a playlist yet to come (LL-HLS): three of the longest usual
/// target durations, and as other proxies allow.
const BLOCKING_TIMEOUT: Duration = Duration::from_secs(60);

/// For the next bytes of a request's body: a live stream may be pushed by one, and encoders pause.
pub(super) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What becomes of a request that was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It goes on.
    Stay,
    /// It is answered.
    Done,
}

/// The request as its origin gets it, for as long as it may have to be sent.
#[derive(Debug)]
struct Asked {
    since: Time,
    need: Need,
    /// It may be sent twice.
    is_safe: bool,
    head: Bytes,
    /// The body, where it was read before.
    offer: Bytes,
    /// The last origin that was reached.
    origin: Option<Picked>,
}

/// Where it stands.
#[derive(Debug)]
enum Stage {
    /// An offer comes in, which says who makes it and perhaps for which stream.
    Offered { asked: Box<Asked>, framing: Framing, content: Vec<u8> },
    /// The load balancer is asked for the session's stream.
    Loading { asked: Box<Asked>, ticket: Ticket },
    /// The stream's origin is looked for.
    Reaching { asked: Box<Asked>, reach: Reach },
    /// The request is on its way; the answer's head is awaited. The connection has served before and may be dead, if the
    /// request could be sent again.
    Waiting { leg: Leg, reader: HeadReader, again: Option<Box<Asked>> },
    /// A body that is to be changed comes in. Here and below: the connection can be used again if it is to be kept.
    Collecting { leg: Leg, keep: bool, head: HeadWriter, body: Body, content: Vec<u8> },
    /// It is there, and the load balancer finds or stores its session.
    Naming { ticket: Ticket, head: HeadWriter, content: Vec<u8> },
    /// The body comes in chunks, which the client gets, too, or only what is in them.
    Chunks { leg: Leg, keep: bool, body: Body, decode: bool },
    /// The driver moves a body of known length.
    Counted { leg: Leg, keep: bool },
    /// The driver moves all there is until the end.
    Endless { leg: Leg },
    /// It is answered, or given up.
    Over,
}

/// A request and its answer on their way.
#[derive(Debug)]
pub(super) struct Exchange {
    stage: Stage,
    /// When to stop waiting for what the stage waits for.
    deadline: Option<Time>,
    /// What the load balancer is told while a live stream is on its way.
    usage: Option<Usage>,
    kind: Kind,
    key: Option<StreamKey>,
    /// What is done to the answer's body, if anything is.
    change: Option<Box<Change>>,
    /// The request's body on its way to the origin, or there.
    upload: Option<Body>,
    /// How long the answer may take.
    patience: Duration,
}

impl Exchange {
    /// Begins to serve the request of `head`; the client has heard nothing yet.
    pub(super) fn begin(
        cx: &mut Cx<'_>,
        client: &mut Client,
        head: &Head<'_>,
        wanted: Wanted<'_>,
    ) -> (Self, Next) {
        let Wanted { need, kind, session, target, key } = wanted;
        let upload = Some(Body::new(head.framing)).filter(|body| !body.is_done());
        let session: Option<Arc<str>> = session.filter(|id| is_session_id(id)).map(Arc::from);
        let change = Change::of(kind, head, target, session.as_ref()).map(Box::new);
        let is_blocking = target.contains("_HLS_msn=");
        let asked = Box::new(Asked {
            since: cx.now,
            need: Need {
                protocol: need,
                media: kind.is_offer().then_some(Protocol::Rtc),
                publishes: kind == Kind::Live && upload.is_some() || kind.is_offer() && publishes(target),
            },
            is_safe: upload.is_none() && matches!(head.method, "GET" | "HEAD" | "OPTIONS"),
            head: forward::request(head, target, kind, client.peer),
            offer: Bytes::new(),
            origin: None,
        });
        let mut exchange = Self {
            stage: Stage::Over,
            deadline: None,
            usage: None,
            kind,
            key: key.as_ref().ok().cloned(),
            change,
            upload,
            patience: if is_blocking { BLOCKING_TIMEOUT } else { client.config.origin_timeout },
        };
        if kind.is_offer() && exchange.upload.is_some() {
            if head.expectation() == Expectation::Continue {
                cx.actions.write(Leg::CLIENT, CONTINUE);
            }
            exchange.deadline = Some(cx.now + OFFER_TIMEOUT);
            exchange.stage = Stage::Offered { asked, framing: head.framing, content: Vec::new() };
            return (exchange, Next::Stay);
        }
        if exchange.upload.is_some() {
            // The body stays where it is until there is someone to take it.
            cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        }
        let next = match (session, wanted.session) {
            (Some(id), _) => {
                let ticket = client.names.new_ticket();
                cx.actions.push(Action::Ask { ticket, query: Query::LoadHls(id) });
                exchange.deadline = Some(asked.since + REACH_TIMEOUT);
                exchange.stage = Stage::Loading { asked, ticket };
                Next::Stay
            }
            (None, Some(_)) => exchange.session_unknown(cx, client, asked),
            (None, None) => exchange.find(cx, client, asked),
        };
        (exchange, next)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let deadline = match &self.stage {
            Stage::Reaching { reach, .. } => Some(reach.deadline()),
            _ => self.deadline,
        };
        let usage = self.usage.as_ref().map(Usage::next);
        deadline.into_iter().chain(usage).min()
    }

    /// Takes an input that is not the client's bytes.
    pub(super) fn handle(
        &mut self,
        cx: &mut Cx<'_>,
        client: &mut Client,
        input: Input<'_>,
    ) -> Result<(usize, Next), Fault> {
        if let Input::Tick = input {
            self.usage.iter_mut().for_each(|usage| usage.tell(cx));
        }
        let origin = self.leg();
        let next = match (&mut self.stage, input) {
            (Stage::Reaching { reach, .. }, input) => {
                let step = reach.handle(cx, &mut client.names, &input);
                self.reached(cx, client, step)
            }
            (Stage::Loading { ticket, .. }, Input::Answer { ticket: answered, answer })
                if *ticket == answered =>
            {
                self.loaded(cx, client, answer)
            }
            (Stage::Naming { ticket, .. }, Input::Answer { ticket: answered, answer })
                if *ticket == answered =>
            {
                self.named(cx, client, &answer)
            }
            (_, Input::Stream { leg, bytes }) if origin == Some(leg) => {
                return self.origin_bytes(cx, client, bytes);
            }
            (_, Input::Spliced { leg }) if origin == Some(leg) => self.finish(cx, true),
            (_, Input::Eof { leg, broken }) if origin == Some(leg) => {
                self.origin_ended(cx, client, broken)?
            }
            (_, Input::Tick) if self.deadline.is_some_and(|at| cx.now >= at) => self.timed_out(cx, client),
            _ => Next::Stay,
        };
        Ok((0, next))
    }

    /// Whether a part of the request's body is still to come.
    pub(super) fn is_uploading(&self) -> bool {
        self.upload.as_ref().is_some_and(|body| !body.is_done())
    }

    /// Whether there was a body, and the origin has been sent all of it.
    pub(super) fn is_uploaded(&self) -> bool {
        self.upload.as_ref().is_some_and(Body::is_done)
    }

    /// The client has left. Encoders do when they have sent the last byte of a body: that is delivered, though nobody
    /// hears what becomes of it.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        self.close_origin(cx, if self.is_uploaded() { Close::Flush } else { Close::Abort });
    }

    /// Nothing of it may stay.
    pub(super) fn abandon(&mut self, cx: &mut Cx<'_>) {
        self.close_origin(cx, Close::Abort);
    }

    fn close_origin(&mut self, cx: &mut Cx<'_>, how: Close) {
        if let Stage::Reaching { reach, .. } = &mut self.stage {
            reach.close(cx, Close::Abort);
        }
        if let Some(leg) = self.leg() {
            cx.actions.close(leg, how);
        }
        self.stage = Stage::Over;
        self.end_use(cx);
    }

    /// The stream is no more in use by this.
    pub(super) fn end_use(&mut self, cx: &mut Cx<'_>) {
        if let Some(usage) = self.usage.take() {
            usage.end(cx);
        }
    }

    /// The origin's connection, once it has been sent the request.
    const fn leg(&self) -> Option<Leg> {
        match self.stage {
            Stage::Waiting { leg, .. }
            | Stage::Collecting { leg, .. }
            | Stage::Chunks { leg, .. }
            | Stage::Counted { leg, .. }
            | Stage::Endless { leg } => Some(leg),
            Stage::Offered { .. }
            | Stage::Loading { .. }
            | Stage::Reaching { .. }
            | Stage::Naming { .. }
            | Stage::Over => None,
        }
    }

    // The client's side.

    /// Takes the client's bytes from `bytes[at..]`: the body, as far as the origin can have it. What comes after it
    /// is another request.
    pub(super) fn client_bytes(
        &mut self,
        cx: &mut Cx<'_>,
        client: &mut Client,
        bytes: &[u8],
        at: usize,
    ) -> Result<(usize, Next), Fault> {
        if self.is_last() {
            return Ok((bytes.len(), Next::Stay));
        }
        if let Stage::Offered { .. } = self.stage {
            return Ok(self.take_offer(cx, client, bytes, at));
        }
        let leg = self.leg();
        let (Some(body), Some(leg)) = (&mut self.upload, leg) else { return Ok((at, Next::Stay)) };
        if body.is_done() {
            return Ok((at, Next::Stay));
        }
        let Ok(used) = body.skip(bytes.get(at..).unwrap_or_default()) else {
            let fault = Fault::Client("broken chunks");
            return match self.stage {
                Stage::Waiting { .. } => Ok((bytes.len(), self.fail(cx, client, Status::BAD_REQUEST, fault))),
                _ => Err(fault),
            };
        };
        cx.actions.forward(leg, at..at + used);
        if self.is_last() {
            return Ok((bytes.len(), Next::Stay));
        }
        if let Stage::Waiting { .. } = self.stage {
            self.wait(cx.now);
        }
        Ok((at + used, Next::Stay))
    }

    /// Takes an offer's bytes from `bytes[at..]`.
    fn take_offer(&mut self, cx: &mut Cx<'_>, client: &mut Client, bytes: &[u8], at: usize) -> (usize, Next) {
        let (Some(body), Some(change)) = (&mut self.upload, &mut self.change) else {
            return (at, Next::Stay);
        };
        let Stage::Offered { content, .. } = &mut self.stage else { return (at, Next::Stay) };
        let mut end = at;
        let (status, fault) = loop {
            let rest = bytes.get(end..).unwrap_or_default();
            match body.next(rest) {
                Ok(Part::Content(length)) if content.len() + length <= change.limit() => {
                    content.extend_from_slice(rest.get(..length).unwrap_or_default());
                    end += length;
                }
                Ok(Part::Content(_)) => {
                    break (Status::CONTENT_TOO_LARGE, Fault::Client("offer too large"));
                }
                Ok(Part::Frame(length)) => end += length,
                Ok(Part::More) => return (end, Next::Stay),
                Ok(Part::End) => match change.take_offer(content) {
                    Ok(key) => {
                        self.key = key.or(self.key.take());
                        return (end, self.offered(cx, client));
                    }
                    Err(fault) => break (Status::BAD_REQUEST, fault),
                },
                Err(_) => break (Status::BAD_REQUEST, Fault::Client("broken chunks")),
            }
        };
        (bytes.len(), self.fail(cx, client, status, fault))
    }

    /// The offer is there, and understood.
    fn offered(&mut self, cx: &mut Cx<'_>, client: &mut Client) -> Next {
        let stage = core::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Offered { mut asked, framing, content } = stage else { return Next::Stay };
        self.upload = None;
        asked.offer = match framing {
            Framing::Chunked => one_chunk(&content),
            _ => content.into(),
        };
        asked.since = cx.now;
        self.find(cx, client, asked)
    }

    /// Waits for the origin's answer, or for the client's body first.
    fn wait(&mut self, now: Time) {
        self.deadline = Some(now + if self.is_uploading() { UPLOAD_TIMEOUT } else { self.patience });
    }

    /// The client was told that nothing will follow: what it sends is read only to see it leave.
    fn is_last(&self) -> bool {
        matches!(self.stage, Stage::Endless { .. }) && !self.is_uploading()
    }

    // The way to the origin.

    /// Looks for the stream's origin.
    fn find(&mut self, cx: &mut Cx<'_>, client: &mut Client, asked: Box<Asked>) -> Next {
        let Some(key) = self.key.clone() else {
            return self.fail(cx, client, Status::BAD_REQUEST, Fault::Client("bad stream name"));
        };
        // A kept connection may end just now, and then the request is sent again.
        let transport = if asked.is_safe { Transport::Kept } else { Transport::Tcp };
        let reach = Reach::begin(cx, &mut client.names, key, asked.need, transport, asked.since);
        self.stage = Stage::Reaching { asked, reach };
        Next::Stay
    }

    fn session_unknown(&mut self, cx: &mut Cx<'_>, client: &mut Client, asked: Box<Asked>) -> Next {
        match &mut self.change {
            // A playlist names its stream itself: the session is begun anew.
            Some(change) => {
                change.forget_session();
                self.find(cx, client, asked)
            }
            None => self.fail(cx, client, Status::NOT_FOUND, Fault::Client("unknown or expired session")),
        }
    }

    /// The load balancer knows the session, or does not.
    fn loaded(&mut self, cx: &mut Cx<'_>, client: &mut Client, answer: Answer) -> Next {
        let stage = core::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Loading { asked, .. } = stage else { return Next::Stay };
        match answer {
            Answer::Hls(Some(session)) => {
                self.key = Some(session.key);
                self.find(cx, client, asked)
            }
            Answer::Hls(None) => self.session_unknown(cx, client, asked),
            // Nobody can say now whose session it is; a playlist does without.
            Answer::Refused(_) if self.change.is_some() => self.session_unknown(cx, client, asked),
            _ => self.unavailable(cx, client),
        }
    }

    fn reached(&mut self, cx: &mut Cx<'_>, client: &mut Client, step: Step) -> Next {
        match step {
            Step::NotYet => {}
            Step::Opened(leg, origin, what) => self.opened(cx, leg, origin, &what),
            Step::Failed(failure) => {
                let status = match failure {
                    Failure::Unreachable(_) => Status::BAD_GATEWAY,
                    Failure::NoOrigin | Failure::Unavailable | Failure::Exhausted => Status::UNAVAILABLE,
                };
                return self.fail(cx, client, status, failure.fault());
            }
        }
        Next::Stay
    }

    fn opened(&mut self, cx: &mut Cx<'_>, leg: Leg, origin: Picked, what: &Opened) {
        let stage = core::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Reaching { mut asked, .. } = stage else { return };
        cx.actions.write(leg, asked.head.clone());
        cx.actions.write(leg, asked.offer.clone());
        // Segments are too many to be told one by one.
        let is_told = self.kind != Kind::Plain || asked.need.protocol != Protocol::Http;
        if is_told
            && asked.origin.as_ref() != Some(&origin)
            && let Some(key) = self.key.clone()
        {
            let verb = if asked.need.protocol == Protocol::Api { "api" } else { "play" };
            cx.actions.note(Note::Routed { verb, key, origin: origin.origin.clone(), to: origin.to });
        }
        if self.kind == Kind::Live
            && self.upload.is_some()
            && let Some(key) = self.key.clone()
        {
            // One that lasts. Segments are sent like streams.
            let report = Report::Publishing(key, origin.origin.clone());
            self.usage = Some(Usage::from(cx.now + USE_INTERVAL, report));
        }
        asked.origin = Some(origin);
        let again = (*what == Opened::Reused).then_some(asked);
        self.stage = Stage::Waiting { leg, reader: HeadReader::default(), again };
        self.wait(cx.now);
        if self.upload.is_some() {
            cx.actions.push(Action::Resume { leg: Leg::CLIENT });
        }
    }

    /// The origin has closed a connection that had rested; the request was never looked at.
    fn send_again(&mut self, cx: &mut Cx<'_>, client: &mut Client, asked: Box<Asked>) -> Next {
        self.close_origin(cx, Close::Abort);
        let (Some(key), Some(origin)) = (self.key.clone(), asked.origin.clone()) else { return Next::Stay };
        let reach = Reach::again(cx, &mut client.names, key, asked.need, origin);
        self.stage = Stage::Reaching { asked, reach };
        Next::Stay
    }

    // When it takes too long, or can't be.

    fn timed_out(&mut self, cx: &mut Cx<'_>, client: &mut Client) -> Next {
        let (status, fault) = match self.stage {
            // That the body goes on is for the driver to watch. The way to an origin has a deadline of its own.
            Stage::Endless { .. }
            | Stage::Chunks { .. }
            | Stage::Counted { .. }
            | Stage::Reaching { .. }
            | Stage::Over => return Next::Stay,
            Stage::Offered { .. } => (Status::REQUEST_TIMEOUT, Fault::Client("request body is late")),
            Stage::Waiting { .. } if self.is_uploading() => {
                (Status::REQUEST_TIMEOUT, Fault::Client("request body is late"))
            }
            Stage::Waiting { .. } | Stage::Collecting { .. } => {
                (Status::GATEWAY_TIMEOUT, Fault::Origin("no answer in time"))
            }
            Stage::Loading { .. } | Stage::Naming { .. } => return self.unavailable(cx, client),
        };
        self.fail(cx, client, status, fault)
    }

    /// A live stream flows to the client. The load balancer hears of it until the exchange is over.
    fn is_in_use(&mut self, cx: &mut Cx<'_>) {
        if self.usage.is_none()
            && let Some(key) = &self.key
        {
            self.usage = Some(Usage::begin(cx, Report::Playing(key.clone())));
        }
    }

    fn unavailable(&mut self, cx: &mut Cx<'_>, client: &mut Client) -> Next {
        self.fail(cx, client, Status::UNAVAILABLE, Failure::Unavailable.fault())
    }

    /// Tells the client that it can't have it, and why. Nothing of an answer has been sent yet.
    fn fail(&mut self, cx: &mut Cx<'_>, client: &mut Client, status: Status, fault: Fault) -> Next {
        self.abandon(cx);
        cx.actions.note(Note::Refused { key: self.key.clone(), fault });
        client.hearer.keep_alive &= !self.is_uploading();
        let response = client.problem(status, fault.what());
        cx.actions.write(Leg::CLIENT, response);
        Next::Done
    }
}

/// A body that came in chunks, in one of them (RFC 9112 §7.1): where it was cut has no meaning.
fn one_chunk(content: &[u8]) -> Bytes {
    let (head, tail) = (format!("{:x}\r\n", content.len()), b"\r\n0\r\n\r\n");
    if content.is_empty() {
        Bytes::from_static(b"0\r\n\r\n")
    } else {
        [head.as_bytes(), content, tail].concat().into()
    }
}
