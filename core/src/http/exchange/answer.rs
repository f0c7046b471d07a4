//! The origin's answer on its way to the client: its head is rewritten, its body moved, followed, or collected and
//! changed. Sends no request.

use super::super::body::{Body, Part};
use super::super::change::Changed;
use super::super::connection::Client;
use super::super::fields::{Framing, HeadWriter, Version};
use super::super::forward;
use super::super::reply::ReplyHead;
use super::super::response::Status;
use super::super::routes::Kind;
use super::{Exchange, Next, SESSION_TIMEOUT, Stage};
use crate::machine::{Action, Close, Cx, Fault, Leg, Parsed};
use crate::query::Answer;
use crate::rtc::sdp::Candidates;
use alloc::vec::Vec;
use core::num::NonZeroU64;

impl Exchange {
    pub(super) fn origin_bytes(
        &mut self,
        cx: &mut Cx<'_>,
        client: &mut Client,
        bytes: &[u8],
    ) -> Result<(usize, Next), Fault> {
        let mut at = 0;
        while let Stage::Waiting { leg, reader, again } = &mut self.stage {
            // It looks at the request, so it is alive.
            *again = None;
            let (leg, rest) = (*leg, bytes.get(at..).unwrap_or_default());
            let (head, used) = match reader.read_reply(rest) {
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
                return self.answer(cx, client, leg, &head, bytes, at);
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
        leg: Leg,
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
        let keep = head.fields.keep_alive(head.version) && !is_endless && self.kind != Kind::Live;
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
                self.stage = Stage::Counted { leg, keep };
                Ok((at, self.finish(cx, rest == 0)))
            }
            Some(framing) if changed => {
                self.deadline = Some(cx.now + self.patience);
                let (body, content) = (Body::new(framing), Vec::new());
                self.stage = Stage::Collecting { leg, keep, head: out, body, content };
                Ok(self.collect(cx, client, bytes, at))
            }
            Some(Framing::Length(length)) => {
                out.framing(Framing::Length(length));
                cx.actions.write(Leg::CLIENT, out.end());
                let here = usize::try_from(length).unwrap_or(usize::MAX).min(rest);
                cx.actions.forward(Leg::CLIENT, at..at + here);
                self.stage = Stage::Counted { leg, keep };
                match NonZeroU64::new(length - here as u64) {
                    Some(left) => {
                        cx.actions.push(Action::Splice { from: leg, to: Leg::CLIENT, limit: Some(left) });
                        Ok((at + here, Next::Stay))
                    }
                    None => Ok((at + here, self.finish(cx, here == rest))),
                }
            }
            Some(framing) if is_endless => {
                out.framing(framing);
                cx.actions.write(Leg::CLIENT, out.end());
                cx.actions.forward(Leg::CLIENT, at..bytes.len());
                self.stage = Stage::Endless { leg };
                if core::mem::take(&mut client.waiting) {
                    cx.actions.push(Action::Resume { leg: Leg::CLIENT });
                }
                cx.actions.push(Action::Splice { from: leg, to: Leg::CLIENT, limit: None });
                self.is_in_use(cx);
                Ok((bytes.len(), Next::Stay))
            }
            Some(framing) => {
                if !decode {
                    out.framing(framing);
                }
                cx.actions.write(Leg::CLIENT, out.end());
                self.stage = Stage::Chunks { leg, keep, body: Body::new(framing), decode };
                if self.kind == Kind::Live {
                    self.is_in_use(cx);
                }
                self.chunks(cx, bytes, at)
            }
        }
    }

    /// Passes chunks on, or what is in them, from `bytes[at..]`.
    fn chunks(&mut self, cx: &mut Cx<'_>, bytes: &[u8], at: usize) -> Result<(usize, Next), Fault> {
        let Stage::Chunks { body, decode, .. } = &mut self.stage else { return Ok((at, Next::Stay)) };
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
        let stage = core::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Collecting { leg, keep, head, content, .. } = stage else { return Next::Done };
        self.release(cx, leg, keep, clean);
        let (Some(change), Some(key)) = (&self.change, &self.key) else { return Next::Done };
        let config = &client.config;
        let candidates = Candidates { port: config.rtc_port, addresses: &config.candidates };
        match change.change(cx, key, content, &candidates) {
            Ok(Changed::Now(body)) => respond(cx, head, &body),
            Ok(Changed::Ask(query, content)) => {
                let ticket = client.names.new_ticket();
                cx.actions.push(Action::Ask { ticket, query });
                self.deadline = Some(cx.now + SESSION_TIMEOUT);
                self.stage = Stage::Naming { ticket, head, content };
                Next::Stay
            }
            Err(fault) => self.fail(cx, client, Status::BAD_GATEWAY, fault),
        }
    }

    /// The load balancer has found or stored its session.
    pub(super) fn named(&mut self, cx: &mut Cx<'_>, client: &mut Client, answer: &Answer) -> Next {
        let stage = core::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Naming { head, content, .. } = stage else { return Next::Stay };
        match (answer, &self.change) {
            (Answer::Hls(Some(session)), Some(change)) => {
                respond(cx, head, &change.named(content, &session.spbhid))
            }
            (Answer::Rtc(Some(_)), _) => respond(cx, head, &content),
            _ => self.unavailable(cx, client),
        }
    }

    pub(super) fn origin_ended(
        &mut self,
        cx: &mut Cx<'_>,
        client: &mut Client,
        broken: bool,
    ) -> Result<Next, Fault> {
        match &mut self.stage {
            Stage::Waiting { again, .. } if again.is_some() => match again.take() {
                Some(asked) => Ok(self.send_again(cx, client, asked)),
                None => Ok(Next::Stay),
            },
            Stage::Collecting { body, .. } if body.is_endless() && !broken => {
                Ok(self.collected(cx, client, true))
            }
            Stage::Waiting { .. } | Stage::Collecting { .. } => {
                Ok(self.fail(cx, client, Status::BAD_GATEWAY, Fault::Origin("closed without an answer")))
            }
            Stage::Endless { .. } if broken => Err(cut(cx, true, "broke off in the middle of an answer")),
            Stage::Endless { .. } => Ok(self.finish(cx, true)),
            stage => {
                let decode = matches!(stage, Stage::Chunks { decode: true, .. });
                Err(cut(cx, decode, "closed in the middle of an answer"))
            }
        }
    }

    /// The answer has been passed on. The origin's connection is of further use if nothing is left on it.
    pub(super) fn finish(&mut self, cx: &mut Cx<'_>, clean: bool) -> Next {
        let (leg, keep) = match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Collecting { leg, keep, .. }
            | Stage::Chunks { leg, keep, .. }
            | Stage::Counted { leg, keep } => (leg, keep),
            Stage::Waiting { leg, .. } | Stage::Endless { leg } => (leg, false),
            _ => return Next::Done,
        };
        self.release(cx, leg, keep, clean);
        Next::Done
    }

    fn release(&mut self, cx: &mut Cx<'_>, leg: Leg, keep: bool, clean: bool) {
        self.end_use(cx);
        let how = match clean && !self.is_uploading() {
            true if keep => Close::Keep,
            // Both sides have said and heard all: the origin shall not see a break.
            true => Close::Flush,
            false => Close::Abort,
        };
        cx.actions.close(leg, how);
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
