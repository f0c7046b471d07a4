//! One request that is passed on: finds the stream's origin, sends it the request, and brings back the answer. The
//! diagram is in docs/http.md.
//!
//! Bodies are never held, but for the few that are changed (change.rs): of a length, in chunks or until the end, they
//! are moved untouched, by the driver where nothing needs to be seen. Whatever the client does, its leaving ends all of it,
//! except for a body that it has sent whole: that is still the origin's.

use super::body::{Body, Part};
use super::change::{Change, Changed};
use super::connection::Client;
use super::fields::{Framing, HeadWriter, Version};
use super::forward;
use super::head::{Expectation, Head, HeadReader};
use super::reply::ReplyHead;
use super::response::{CONTINUE, Status};
use super::routes::{Kind, Wanted, is_session_id};
use super::signalling::publishes;
use crate::key::StreamKey;
use crate::machine::{
    Action, Close, Cx, Fault, Input, Leg, Note, OpenError, Opened, Parsed, Ticket, Transport,
};
use crate::origin::Protocol;
use crate::query::{Answer, Need, Picked, Query, Refusal, Report};
use crate::rtc::sdp::Candidates;
use crate::time::{Duration, Time};
use crate::usage::Usage;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::num::NonZeroU64;

/// To find and reach an origin, over all attempts.
const REACH_TIMEOUT: Duration = Duration::from_millis(4500);

/// For one TCP connection to an origin: two attempts fit into [`REACH_TIMEOUT`].
const OPEN_TIMEOUT: Duration = Duration::from_millis(1500);

/// For an offer to come in.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);

/// For the load balancer to store a session, or to find it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(5);

/// For the answer to a request that waits for a part of a playlist yet to come (LL-HLS): three of the longest usual
/// target durations, and as other proxies allow.
const BLOCKING_TIMEOUT: Duration = Duration::from_secs(60);

/// For the next bytes of a request's body: a live stream may be pushed by one, and encoders pause.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Origins tried for one request.
const MAX_ATTEMPTS: u32 = 3;

/// What becomes of a request that was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It goes on.
    Stay,
    /// It is answered.
    Done,
}

/// Where it stands.
#[derive(Debug)]
enum Stage {
    /// An offer comes in, which says who makes it and perhaps for which stream.
    Offered { framing: Framing, content: Vec<u8> },
    /// The load balancer is asked for the session's stream.
    Loading,
    /// The load balancer is asked for the stream's origin.
    Picking,
    /// The connection to the origin is being made.
    Opening,
    /// The request is on its way; the answer's head is awaited.
    Waiting,
    /// A body that is to be changed comes in.
    Collecting { head: HeadWriter, body: Body, content: Vec<u8> },
    /// It is there, and the load balancer finds or stores its session.
    Naming { head: HeadWriter, content: Vec<u8> },
    /// The body comes in chunks, which the client gets, too, or only what is in them.
    Chunks { body: Body, decode: bool },
    /// The driver moves a body of known length.
    Counted,
    /// The driver moves all there is until the end.
    Endless,
}

/// A request and its answer on their way.
#[derive(Debug)]
pub(super) struct Exchange {
    stage: Stage,
    /// When to stop waiting for what the stage waits for.
    deadline: Option<Time>,
    /// What the load balancer is told while a live stream is on its way.
    usage: Option<Usage>,
    need: Need,
    kind: Kind,
    key: Option<StreamKey>,
    /// What is done to the answer's body, if anything is.
    change: Option<Box<Change>>,
    /// The request's head, for the origin.
    request: Bytes,
    /// The request's body, as far as it is held.
    offer: Bytes,
    /// The request's body on its way to the origin, or there.
    upload: Option<Body>,
    /// It may be sent twice.
    is_safe: bool,
    /// How long the answer may take.
    patience: Duration,
    /// When to stop looking for an origin.
    give_up: Time,
    attempts: u32,
    /// The connection that is being made has less time than it should have.
    hurried: bool,
    ticket: Ticket,
    origin: Option<Picked>,
    /// The origin's connection, while there is one.
    leg: Option<Leg>,
    /// It served before.
    reused: bool,
    reader: HeadReader,
    /// The origin has begun to answer.
    heard: bool,
    /// Its connection can be used again after the answer.
    keep: bool,
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
        let mut exchange = Self {
            stage: Stage::Loading,
            deadline: None,
            usage: None,
            need: Need {
                protocol: need,
                media: kind.is_offer().then_some(Protocol::Rtc),
                publishes: kind == Kind::Live && upload.is_some() || kind.is_offer() && publishes(target),
            },
            kind,
            key: key.as_ref().ok().cloned(),
            change,
            offer: Bytes::new(),
            request: forward::request(head, target, kind, client.peer),
            is_safe: upload.is_none() && matches!(head.method, "GET" | "HEAD" | "OPTIONS"),
            upload,
            patience: if is_blocking { BLOCKING_TIMEOUT } else { client.config.origin_timeout },
            give_up: cx.now + REACH_TIMEOUT,
            attempts: 0,
            hurried: false,
            ticket: Ticket(0),
            origin: None,
            leg: None,
            reused: false,
            reader: HeadReader::default(),
            heard: false,
            keep: false,
        };
        if kind.is_offer() && exchange.upload.is_some() {
            if head.expectation() == Expectation::Continue {
                cx.actions.write(Leg::CLIENT, CONTINUE);
            }
            exchange.deadline = Some(cx.now + OFFER_TIMEOUT);
            exchange.stage = Stage::Offered { framing: head.framing, content: Vec::new() };
            return (exchange, Next::Stay);
        }
        if exchange.upload.is_some() {
            // The body stays where it is until there is someone to take it.
            cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        }
        let next = match (session, wanted.session) {
            (Some(id), _) => {
                exchange.ask(cx, client, Stage::Loading, Query::LoadHls(id));
                Next::Stay
            }
            (None, Some(_)) => exchange.session_unknown(cx, client),
            (None, None) => exchange.find(cx, client),
        };
        (exchange, next)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let usage = self.usage.as_ref().map(Usage::next);
        self.deadline.into_iter().chain(usage).min()
    }

    /// Takes an input that is not the client's bytes.
    pub(super) fn handle(
        &mut self,
        cx: &mut Cx<'_>,
        client: &mut Client,
        input: Input<'_>,
    ) -> Result<(usize, Next), Fault> {
        match input {
            Input::Stream { leg, bytes } if self.leg == Some(leg) => {
                return self.origin_bytes(cx, client, bytes);
            }
            Input::Answer { ticket, answer } if ticket == self.ticket => {
                return Ok((0, self.answered(cx, client, answer)));
            }
            Input::Opened { leg, what } if self.leg == Some(leg) => self.opened(cx, leg, &what),
            Input::OpenFailed { leg, why } if self.leg == Some(leg) => {
                self.leg = None;
                return Ok((0, self.open_failed(cx, client, why)));
            }
            Input::Spliced { leg } if self.leg == Some(leg) => return Ok((0, self.finish(cx, true))),
            Input::Eof { leg, broken } if self.leg == Some(leg) => {
                return self.origin_ended(cx, client, broken).map(|next| (0, next));
            }
            Input::Tick => {
                self.usage.iter_mut().for_each(|usage| usage.tell(cx));
                if self.deadline.is_some_and(|at| cx.now >= at) {
                    return Ok((0, self.timed_out(cx, client)));
                }
            }
            _ => {}
        }
        Ok((0, Next::Stay))
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
        if self.is_uploaded()
            && let Some(leg) = self.leg.take()
        {
            cx.actions.close(leg, Close::Flush);
        }
        self.abandon(cx);
    }

    /// Nothing of it may stay.
    pub(super) fn abandon(&mut self, cx: &mut Cx<'_>) {
        if let Some(leg) = self.leg.take() {
            cx.actions.close(leg, Close::Abort);
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
        let (Some(body), Some(leg)) = (&mut self.upload, self.leg) else { return Ok((at, Next::Stay)) };
        if matches!(self.stage, Stage::Opening) || body.is_done() {
            return Ok((at, Next::Stay));
        }
        let Ok(used) = body.skip(bytes.get(at..).unwrap_or_default()) else {
            if let Stage::Waiting = self.stage {
                let fault = Fault::Client("broken chunks");
                return Ok((bytes.len(), self.fail(cx, client, Status::BAD_REQUEST, fault)));
            }
            return Err(Fault::Client("broken chunks"));
        };
        cx.actions.forward(leg, at..at + used);
        if self.is_last() {
            return Ok((bytes.len(), Next::Stay));
        }
        if let Stage::Waiting = self.stage {
            self.wait(cx.now);
        }
        Ok((at + used, Next::Stay))
    }

    /// Takes an offer's bytes from `bytes[at..]`.
    fn take_offer(&mut self, cx: &mut Cx<'_>, client: &mut Client, bytes: &[u8], at: usize) -> (usize, Next) {
        let (Some(body), Some(change)) = (&mut self.upload, &mut self.change) else {
            return (at, Next::Stay);
        };
        let Stage::Offered { framing, content } = &mut self.stage else { return (at, Next::Stay) };
        let mut end = at;
        let refusal = loop {
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
                        let content = core::mem::take(content);
                        self.offer = match framing {
                            Framing::Chunked => one_chunk(&content),
                            _ => content.into(),
                        };
                        self.upload = None;
                        self.give_up = cx.now + REACH_TIMEOUT;
                        return (end, self.find(cx, client));
                    }
                    Err(fault) => break (Status::BAD_REQUEST, fault),
                },
                Err(_) => break (Status::BAD_REQUEST, Fault::Client("broken chunks")),
            }
        };
        (bytes.len(), self.fail(cx, client, refusal.0, refusal.1))
    }

    /// Waits for the origin's answer, or for the client's body first.
    fn wait(&mut self, now: Time) {
        self.deadline = Some(now + if self.is_uploading() { UPLOAD_TIMEOUT } else { self.patience });
    }

    /// The client was told that nothing will follow: what it sends is read only to see it leave.
    fn is_last(&self) -> bool {
        matches!(self.stage, Stage::Endless) && !self.is_uploading()
    }

    // The load balancer's part.

    fn ask(&mut self, cx: &mut Cx<'_>, client: &mut Client, stage: Stage, query: Query) {
        self.ticket = client.new_ticket();
        self.deadline =
            Some(if let Stage::Naming { .. } = stage { cx.now + SESSION_TIMEOUT } else { self.give_up });
        self.stage = stage;
        cx.actions.push(Action::Ask { ticket: self.ticket, query });
    }

    /// Looks for the stream's origin.
    fn find(&mut self, cx: &mut Cx<'_>, client: &mut Client) -> Next {
        let Some(key) = self.key.clone() else {
            return self.fail(cx, client, Status::BAD_REQUEST, Fault::Client("bad stream name"));
        };
        self.attempts += 1;
        self.ask(cx, client, Stage::Picking, Query::Pick { key, need: self.need });
        Next::Stay
    }

    fn session_unknown(&mut self, cx: &mut Cx<'_>, client: &mut Client) -> Next {
        match &mut self.change {
            // A playlist names its stream itself: the session is begun anew.
            Some(change) => {
                change.forget_session();
                self.find(cx, client)
            }
            None => self.fail(cx, client, Status::NOT_FOUND, Fault::Client("unknown or expired session")),
        }
    }

    fn answered(&mut self, cx: &mut Cx<'_>, client: &mut Client, answer: Answer) -> Next {
        match (core::mem::replace(&mut self.stage, Stage::Picking), answer) {
            (Stage::Loading, Answer::Hls(Some(session))) => {
                self.key = Some(session.key);
                self.find(cx, client)
            }
            (Stage::Loading, Answer::Hls(None)) => self.session_unknown(cx, client),
            // Nobody can say now whose session it is; a playlist does without.
            (Stage::Loading, Answer::Refused(_)) if self.change.is_some() => self.session_unknown(cx, client),
            (Stage::Picking, Answer::Picked(picked)) => {
                self.picked(cx, client, picked);
                Next::Stay
            }
            (Stage::Picking, Answer::Refused(Refusal::NoOrigin)) => {
                self.fail(cx, client, Status::UNAVAILABLE, Fault::Balancer("no origin is available"))
            }
            (Stage::Naming { head, content }, Answer::Hls(Some(session))) => {
                let body = match &self.change {
                    Some(change) => change.named(content, &session.spbhid),
                    None => content,
                };
                respond(cx, head, &body)
            }
            (Stage::Naming { head, content }, Answer::Rtc(Some(_))) => respond(cx, head, &content),
            (Stage::Loading | Stage::Picking | Stage::Naming { .. }, _) => self.fail(
                cx,
                client,
                Status::UNAVAILABLE,
                Fault::Balancer("routing is not available at the moment"),
            ),
            // An answer that came after its deadline.
            (stage, _) => {
                self.stage = stage;
                Next::Stay
            }
        }
    }

    fn picked(&mut self, cx: &mut Cx<'_>, client: &mut Client, picked: Picked) {
        // Segments are too many to be told one by one.
        if let (Some(key), false) =
            (&self.key, self.kind == Kind::Plain && self.need.protocol == Protocol::Http)
        {
            let verb = if self.need.protocol == Protocol::Api { "api" } else { "play" };
            let (key, origin, to) = (key.clone(), picked.origin.clone(), picked.to);
            cx.actions.note(Note::Routed { verb, key, origin, to });
        }
        self.origin = Some(picked);
        // A kept connection may end just now, and then the request is sent again.
        self.open(cx, client, if self.is_safe { Transport::Kept } else { Transport::Tcp });
    }

    // The origin's side.

    fn open(&mut self, cx: &mut Cx<'_>, client: &mut Client, transport: Transport) {
        let Some(Picked { to, .. }) = self.origin else { return };
        let leg = client.new_leg();
        self.leg = Some(leg);
        self.stage = Stage::Opening;
        let deadline = cx.now + OPEN_TIMEOUT;
        self.hurried = deadline > self.give_up;
        self.deadline = Some(deadline.min(self.give_up));
        cx.actions.push(Action::Open { leg, to, transport });
    }

    fn opened(&mut self, cx: &mut Cx<'_>, leg: Leg, what: &Opened) {
        self.reused = *what == Opened::Reused;
        self.stage = Stage::Waiting;
        self.wait(cx.now);
        cx.actions.write(leg, self.request.clone());
        cx.actions.write(leg, self.offer.clone());
        if self.upload.is_some() {
            if self.kind == Kind::Live {
                self.is_in_use(cx);
            }
            cx.actions.push(Action::Resume { leg: Leg::CLIENT });
        }
    }

    fn open_failed(&mut self, cx: &mut Cx<'_>, client: &mut Client, why: OpenError) -> Next {
        match why {
            OpenError::Unreachable => self.unreachable(cx, client, Fault::Origin("connection refused")),
            OpenError::Exhausted => {
                self.fail(cx, client, Status::UNAVAILABLE, Fault::Proxy("out of descriptors"))
            }
        }
    }

    /// The origin is not there: says so, and tries another one if there is time.
    fn unreachable(&mut self, cx: &mut Cx<'_>, client: &mut Client, fault: Fault) -> Next {
        self.abandon(cx);
        if let Some(Picked { origin, .. }) = self.origin.take() {
            cx.actions.push(Action::Tell(Report::Unreachable(origin.clone(), self.need.protocol)));
            cx.actions.note(Note::OriginFailed { key: self.key.clone(), origin, fault });
        }
        if self.attempts >= MAX_ATTEMPTS || cx.now >= self.give_up {
            return self.fail(cx, client, Status::BAD_GATEWAY, fault);
        }
        self.find(cx, client)
    }

    fn origin_bytes(
        &mut self,
        cx: &mut Cx<'_>,
        client: &mut Client,
        bytes: &[u8],
    ) -> Result<(usize, Next), Fault> {
        self.heard = true;
        let mut at = 0;
        while let Stage::Waiting = self.stage {
            let rest = bytes.get(at..).unwrap_or_default();
            let (head, used) = match self.reader.read_reply(rest) {
                Ok(Parsed::Complete(head, used)) if head.status != 101 => (head, used),
                Ok(Parsed::Partial) => return Ok((at, Next::Stay)),
                _ => {
                    let fault = Fault::Origin("bad response head");
                    return Ok((bytes.len(), self.fail(cx, client, Status::BAD_GATEWAY, fault)));
                }
            };
            at += used;
            if head.is_interim() {
                if client.hearer.version == Version::Http11 {
                    cx.actions.write(Leg::CLIENT, forward::interim(&head));
                }
            } else {
                return self.answer(cx, client, &head, bytes, at);
            }
        }
        match self.stage {
            Stage::Chunks { .. } => self.chunks(cx, bytes, at),
            Stage::Collecting { .. } => Ok(self.collect(cx, client, bytes, at)),
            // All others are left to the driver, or are over.
            _ => Ok((at, Next::Stay)),
        }
    }

    /// The answer's head is there, and what follows it is `bytes[at..]`: decides how the body goes on.
    fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        client: &mut Client,
        head: &ReplyHead<'_>,
        bytes: &[u8],
        at: usize,
    ) -> Result<(usize, Next), Fault> {
        let body = head.body(client.hearer.to_head);
        let decode = body == Some(Framing::Chunked) && client.hearer.version == Version::Http10;
        let is_live = self.kind == Kind::Live && body == Some(Framing::Chunked) && !decode;
        let is_endless = is_live || body == Some(Framing::Close);
        if let (Some(change), Some(key)) = (&mut self.change, &self.key) {
            change.hear(cx, head, key);
        }
        let changed = match self.change.as_ref().map_or(Ok(false), |change| change.applies_to(head)) {
            Ok(changed) => changed,
            Err(fault) => return Ok((bytes.len(), self.fail(cx, client, Status::BAD_GATEWAY, fault))),
        };
        self.keep = head.fields.keep_alive(head.version) && !is_endless && self.kind != Kind::Live;
        client.hearer.keep_alive &= (changed || !is_endless && !decode) && !self.is_uploading();
        self.deadline = None;
        let location = |location: &str| match (&self.change, &self.key) {
            (Some(change), Some(key)) => change.location(head.status, location, key),
            _ => None,
        };
        let mut out = forward::response(head, changed, self.kind, location, client.hearer);
        let rest = bytes.len() - at;
        match body {
            None => {
                // 204 has no word about a body (RFC 9110 §8.6), and of one that would be changed nobody knows the length.
                let is_told = head.status != 204 && !(changed && client.hearer.to_head);
                if let Some(length) = head.fields.text("content-length").filter(|_| is_told) {
                    out.field("Content-Length", length);
                }
                cx.actions.write(Leg::CLIENT, out.end());
                Ok((at, self.finish(cx, rest == 0)))
            }
            Some(framing) if changed => {
                self.deadline = Some(cx.now + self.patience);
                self.stage = Stage::Collecting { head: out, body: Body::new(framing), content: Vec::new() };
                Ok(self.collect(cx, client, bytes, at))
            }
            Some(Framing::Length(length)) => {
                out.framing(Framing::Length(length));
                cx.actions.write(Leg::CLIENT, out.end());
                let here = usize::try_from(length).unwrap_or(usize::MAX).min(rest);
                cx.actions.forward(Leg::CLIENT, at..at + here);
                match NonZeroU64::new(length - here as u64) {
                    Some(left) => {
                        self.stage = Stage::Counted;
                        self.splice(cx, Some(left));
                        Ok((at + here, Next::Stay))
                    }
                    None => Ok((at + here, self.finish(cx, here == rest))),
                }
            }
            Some(framing) if is_endless => {
                out.framing(framing);
                cx.actions.write(Leg::CLIENT, out.end());
                cx.actions.forward(Leg::CLIENT, at..bytes.len());
                self.stage = Stage::Endless;
                if core::mem::take(&mut client.waiting) {
                    cx.actions.push(Action::Resume { leg: Leg::CLIENT });
                }
                self.splice(cx, None);
                self.is_in_use(cx);
                Ok((bytes.len(), Next::Stay))
            }
            Some(framing) => {
                if !decode {
                    out.framing(framing);
                }
                cx.actions.write(Leg::CLIENT, out.end());
                self.stage = Stage::Chunks { body: Body::new(framing), decode };
                if self.kind == Kind::Live {
                    self.is_in_use(cx);
                }
                self.chunks(cx, bytes, at)
            }
        }
    }

    fn splice(&self, cx: &mut Cx<'_>, limit: Option<NonZeroU64>) {
        if let Some(from) = self.leg {
            cx.actions.push(Action::Splice { from, to: Leg::CLIENT, limit });
        }
    }

    /// Passes chunks on, or what is in them, from `bytes[at..]`.
    fn chunks(&mut self, cx: &mut Cx<'_>, bytes: &[u8], at: usize) -> Result<(usize, Next), Fault> {
        let Stage::Chunks { body, decode } = &mut self.stage else { return Ok((at, Next::Stay)) };
        let mut end = at;
        loop {
            let rest = bytes.get(end..).unwrap_or_default();
            let part = body.next(rest).map_err(|_| cut(cx, *decode, "broken chunks"))?;
            match part {
                Part::Content(length) => {
                    if *decode {
                        cx.actions.forward(Leg::CLIENT, end..end + length);
                    }
                    end += length;
                }
                Part::Frame(length) => end += length,
                Part::More | Part::End => break,
            }
        }
        if !*decode {
            cx.actions.forward(Leg::CLIENT, at..end);
        }
        let next = if body.is_done() { self.finish(cx, end == bytes.len()) } else { Next::Stay };
        Ok((end, next))
    }

    /// Takes the bytes of a body that is to be changed from `bytes[at..]`.
    fn collect(&mut self, cx: &mut Cx<'_>, client: &mut Client, bytes: &[u8], at: usize) -> (usize, Next) {
        let Stage::Collecting { body, content, .. } = &mut self.stage else { return (at, Next::Stay) };
        let limit = self.change.as_ref().map_or(0, |change| change.limit());
        let mut end = at;
        let fault = loop {
            let rest = bytes.get(end..).unwrap_or_default();
            match body.next(rest) {
                Ok(Part::Content(length)) if content.len() + length <= limit => {
                    content.extend_from_slice(rest.get(..length).unwrap_or_default());
                    end += length;
                }
                Ok(Part::Content(_)) => break Fault::Origin("answer too large"),
                Ok(Part::Frame(length)) => end += length,
                Ok(Part::More) => return (end, Next::Stay),
                Ok(Part::End) => return (end, self.collected(cx, client, end == bytes.len())),
                Err(_) => break Fault::Origin("broken chunks"),
            }
        };
        (bytes.len(), self.fail(cx, client, Status::BAD_GATEWAY, fault))
    }

    /// It is there, and with it the origin's part is done.
    fn collected(&mut self, cx: &mut Cx<'_>, client: &mut Client, clean: bool) -> Next {
        self.finish(cx, clean);
        let stage = core::mem::replace(&mut self.stage, Stage::Endless);
        let (Stage::Collecting { head, content, .. }, Some(change), Some(key)) =
            (stage, &self.change, &self.key)
        else {
            return Next::Done;
        };
        let config = &client.config;
        let candidates = Candidates { port: config.rtc_port, addresses: &config.candidates };
        match change.change(cx, key, content, &candidates) {
            Ok(Changed::Now(body)) => respond(cx, head, &body),
            Ok(Changed::Ask(query, content)) => {
                self.ask(cx, client, Stage::Naming { head, content }, query);
                Next::Stay
            }
            Err(fault) => self.fail(cx, client, Status::BAD_GATEWAY, fault),
        }
    }

    fn origin_ended(&mut self, cx: &mut Cx<'_>, client: &mut Client, broken: bool) -> Result<Next, Fault> {
        self.keep = false;
        match &self.stage {
            // It closed a connection that had rested; the request was never looked at.
            Stage::Waiting if self.reused && !self.heard => {
                self.abandon(cx);
                self.give_up = cx.now + OPEN_TIMEOUT;
                self.open(cx, client, Transport::Tcp);
                Ok(Next::Stay)
            }
            Stage::Collecting { body, .. } if body.is_endless() && !broken => {
                Ok(self.collected(cx, client, true))
            }
            Stage::Waiting | Stage::Collecting { .. } => {
                Ok(self.fail(cx, client, Status::BAD_GATEWAY, Fault::Origin("closed without an answer")))
            }
            Stage::Endless if broken => Err(cut(cx, true, "broke off in the middle of an answer")),
            Stage::Endless => Ok(self.finish(cx, true)),
            stage => {
                let decode = matches!(stage, Stage::Chunks { decode: true, .. });
                Err(cut(cx, decode, "closed in the middle of an answer"))
            }
        }
    }

    /// The answer has been passed on. The origin's connection is of further use if nothing is left on it.
    fn finish(&mut self, cx: &mut Cx<'_>, clean: bool) -> Next {
        if let Some(leg) = self.leg.take() {
            let keep = self.keep && clean && !self.is_uploading();
            cx.actions.close(leg, if keep { Close::Keep } else { Close::Abort });
        }
        Next::Done
    }

    // When it takes too long, or can't be.

    fn timed_out(&mut self, cx: &mut Cx<'_>, client: &mut Client) -> Next {
        let (status, fault) = match self.stage {
            // That the body goes on is for the driver to watch.
            Stage::Endless | Stage::Chunks { .. } | Stage::Counted => return Next::Stay,
            Stage::Opening => {
                let fault = Fault::Origin("did not take the connection in time");
                if !self.hurried {
                    return self.unreachable(cx, client, fault);
                }
                // Whoever used up the time before, it was not this origin.
                (Status::BAD_GATEWAY, fault)
            }
            Stage::Offered { .. } => (Status::REQUEST_TIMEOUT, Fault::Client("request body is late")),
            Stage::Waiting if self.is_uploading() => {
                (Status::REQUEST_TIMEOUT, Fault::Client("request body is late"))
            }
            Stage::Waiting | Stage::Collecting { .. } => {
                (Status::GATEWAY_TIMEOUT, Fault::Origin("no answer in time"))
            }
            Stage::Loading | Stage::Picking | Stage::Naming { .. } => {
                (Status::UNAVAILABLE, Fault::Balancer("routing is not available at the moment"))
            }
        };
        self.fail(cx, client, status, fault)
    }

    /// A live stream flows, to the client or from it. The load balancer hears of it until the exchange is over.
    fn is_in_use(&mut self, cx: &mut Cx<'_>) {
        if self.usage.is_none()
            && let Some(key) = &self.key
        {
            self.usage = Some(Usage::begin(cx, Report::Playing(key.clone())));
        }
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

/// Ends an answer's head and sends it with its body.
fn respond(cx: &mut Cx<'_>, mut head: HeadWriter, body: &[u8]) -> Next {
    head.framing(Framing::Length(body.len() as u64));
    cx.actions.write(Leg::CLIENT, head.end_with(body));
    Next::Done
}

/// An answer is cut off. What is missing must not look like an end to a client that hears the connection's end as
/// the body's.
fn cut(cx: &mut Cx<'_>, decode: bool, why: &'static str) -> Fault {
    if decode {
        cx.actions.close(Leg::CLIENT, Close::Abort);
    }
    Fault::Origin(why)
}
