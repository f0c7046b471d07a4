//! The machine of the proxy's own API: one HTTP connection, requests answered in their order. Knows the
//! load balancer by its questions only; passes nothing on.
//!
//! ```text
//!            head          body             question
//!   ┌──▶ Head ───▶ Body ───────▶ (answer) ──────────▶ Asking ──┐
//!   │     │ malformed, late        │ at once                   │ answer, or too late
//!   │     ▼                        ▼                           ▼
//!   │   Closed ◀────────────── response ◀──────────────────────┘
//!   │           not keep-alive     │ keep-alive
//!   └──────────────────────────────┘
//! ```
//!
//! While it asks, the client is paused, so that pipelined requests wait where they are.

use super::fields::Framing;
use super::head::{Expectation, Head, HeadReader};
use super::response::{CONTINUE, Response, Status};
use super::routes::{Resource, Server};
use crate::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Note, Parsed, Ticket};
use crate::origin::{Origin, Protocol};
use crate::query::{Answer, Health, OriginStatus, Query, Refusal};
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use serde::Serialize;
use subtle::ConstantTimeEq;

/// The largest body, in bytes. A registration with SRS's summaries has some 3 KB.
pub const MAX_BODY: usize = 64 * 1024;
/// How long a head may take from its first byte (the first one: from the connection's start).
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may take.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may rest between requests. Longer than SRS's default heartbeat of 10 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the load balancer has to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What all connections of the API have in common.
pub struct ApiConfig {
    /// The process id, as origins and people read it.
    pub pid: String,
    /// The server's name.
    pub signature: String,
    /// Major, minor, revision.
    pub version: [u32; 3],
    /// The token that registrations and the list of origins need, if any.
    pub token: Option<String>,
}

impl ApiConfig {
    fn version_text(&self) -> String {
        let [major, minor, revision] = self.version;
        alloc::format!("{major}.{minor}.{revision}")
    }

    /// Whether the request may use what is guarded. Takes the same time for every wrong token of a length.
    fn admits(&self, head: &Head<'_>) -> bool {
        let Some(token) = &self.token else { return true };
        head.bearer().is_some_and(|given| given.ct_eq(token.as_bytes()).into())
    }
}

impl fmt::Debug for ApiConfig {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version_text();
        f.debug_struct("ApiConfig")
            .field("pid", &self.pid)
            .field("signature", &self.signature)
            .field("version", &version)
            .finish_non_exhaustive()
    }
}

/// One client's connection to the API.
#[derive(Debug)]
pub struct Api {
    config: Arc<ApiConfig>,
    server: Server,
    state: State,
    reader: HeadReader,
    deadline: Option<Time>,
    tickets: u32,
    /// The client sends no more: what is asked is answered, then the connection closed.
    ended: bool,
}

#[derive(Debug)]
enum State {
    /// Waiting for a head; `begun` if a part of it is there.
    Head { begun: bool },
    /// Reading a body, with so many bytes to come.
    Body { request: Request, left: usize, body: Vec<u8> },
    /// Waiting for the load balancer.
    Asking { request: Request, ticket: Ticket },
    /// Done. What the client still sends is nobody's business.
    Closed,
}

/// What is kept of a request while its body is read or its answer awaited.
#[derive(Clone, Copy, Debug)]
struct Request {
    verdict: Verdict,
    resource: Option<Resource>,
    /// `HEAD`: all but the body.
    to_head: bool,
    keep_alive: bool,
}

/// What becomes of a request, told by its head.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Serve(Resource),
    /// `OPTIONS`
    Describe,
    Refuse(Status, &'static str),
}

impl Api {
    /// The machine of a connection that `server` accepted at `now`.
    pub fn new(config: Arc<ApiConfig>, server: Server, now: Time) -> Self {
        Self {
            config,
            server,
            state: State::Head { begun: false },
            reader: HeadReader::default(),
            deadline: Some(now + HEAD_TIMEOUT),
            tickets: 0,
            ended: false,
        }
    }

    fn read(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            match &mut self.state {
                State::Head { .. } if rest.is_empty() => return used,
                State::Head { begun } => match self.reader.read(rest) {
                    Ok(Parsed::Partial) => {
                        if !core::mem::replace(begun, true) {
                            self.deadline = Some(cx.now + HEAD_TIMEOUT);
                        }
                        return used;
                    }
                    Ok(Parsed::Complete(head, length)) => {
                        used += length;
                        self.begin(cx, &head);
                    }
                    Err(why) => self.refuse(cx, why.status(), why.as_str()),
                },
                State::Body { left, body, .. } => {
                    let take = rest.len().min(*left);
                    body.extend_from_slice(rest.get(..take).unwrap_or_default());
                    used += take;
                    *left -= take;
                    if *left > 0 {
                        return used;
                    }
                    self.finish(cx);
                }
                State::Asking { .. } => return used,
                State::Closed => return bytes.len(),
            }
        }
    }

    /// A head is there: decide, and read the body.
    fn begin(&mut self, cx: &mut Cx<'_>, head: &Head<'_>) {
        let resource = Resource::find(self.server, head.path());
        let verdict = self.verdict(head, resource);
        let request =
            Request { verdict, resource, to_head: head.method == "HEAD", keep_alive: head.keep_alive() };
        let left = match head.framing {
            Framing::Chunked | Framing::Close => {
                return self.refuse(cx, Status::LENGTH_REQUIRED, "a body needs Content-Length");
            }
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= MAX_BODY => length,
                _ => return self.refuse(cx, Status::CONTENT_TOO_LARGE, "body too large"),
            },
        };
        match (head.expectation(), verdict) {
            (Expectation::Unknown, _) => {
                return self.refuse(cx, Status::EXPECTATION_FAILED, "unknown expectation");
            }
            // The client waits for a word before it sends the body: if that word is no, the body is not read.
            (Expectation::Continue, Verdict::Refuse(status, message)) if left > 0 => {
                return self.respond_error(cx, Request { keep_alive: false, ..request }, status, message);
            }
            (Expectation::Continue, _) if left > 0 => cx.actions.write(Leg::CLIENT, CONTINUE),
            _ => {}
        }
        self.deadline = Some(cx.now + BODY_TIMEOUT);
        self.state = State::Body { request, left, body: Vec::new() };
    }

    fn verdict(&self, head: &Head<'_>, resource: Option<Resource>) -> Verdict {
        match resource {
            None if head.method == "OPTIONS" && head.path() == "*" => Verdict::Describe,
            None => Verdict::Refuse(Status::NOT_FOUND, "no such resource"),
            Some(resource) if !resource.allows(head.method) => {
                Verdict::Refuse(Status::METHOD_NOT_ALLOWED, "method not allowed")
            }
            Some(_) if head.method == "OPTIONS" => Verdict::Describe,
            Some(resource) if resource.is_guarded() && !self.config.admits(head) => {
                Verdict::Refuse(Status::UNAUTHORIZED, "missing or wrong bearer token")
            }
            Some(resource) => Verdict::Serve(resource),
        }
    }

    /// The body is there too: answer, or ask.
    fn finish(&mut self, cx: &mut Cx<'_>) {
        let State::Body { request, body, .. } = core::mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        match request.verdict {
            Verdict::Refuse(status, message) => self.respond_error(cx, request, status, message),
            Verdict::Describe => self.describe(cx, request),
            Verdict::Serve(Resource::Versions) => self.respond_json(cx, request, &self.versions()),
            Verdict::Serve(Resource::Origins) => self.ask(cx, request, Query::Origins),
            Verdict::Serve(Resource::Register) => match Origin::from_json(&body) {
                Ok(origin) => self.ask(cx, request, Query::Register(origin)),
                Err(why) => {
                    cx.actions.note(Note::Refused { key: None, fault: Fault::Client("bad registration") });
                    self.respond_error(cx, request, Status::BAD_REQUEST, &why.to_string());
                }
            },
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, request: Request, query: Query) {
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = Ticket(self.tickets);
        cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        cx.actions.push(Action::Ask { ticket, query });
        self.deadline = Some(cx.now + ANSWER_TIMEOUT);
        self.state = State::Asking { request, ticket };
    }

    fn answered(&mut self, cx: &mut Cx<'_>, request: Request, answer: Answer) {
        match (answer, request.verdict) {
            (Answer::Registered, Verdict::Serve(Resource::Register)) => {
                let pid = self.config.pid.clone();
                self.respond_json(cx, request, &Done { code: 0, pid });
            }
            (Answer::Origins(origins), Verdict::Serve(Resource::Origins)) => {
                let list = OriginList {
                    code: 0,
                    pid: self.config.pid.clone(),
                    data: Origins { origins: origins.iter().map(OriginItem::new).collect() },
                };
                self.respond_json(cx, request, &list);
            }
            (Answer::Refused(Refusal::Full), _) => self.unavailable(cx, request, "load balancer is full"),
            _ => self.unavailable(cx, request, "load balancer is not available"),
        }
        self.resume(cx);
    }

    /// Takes the next request, if there may be one.
    fn resume(&self, cx: &mut Cx<'_>) {
        if !matches!(self.state, State::Closed) {
            cx.actions.push(Action::Resume { leg: Leg::CLIENT });
        }
    }

    fn unavailable(&mut self, cx: &mut Cx<'_>, request: Request, message: &'static str) {
        cx.actions.note(Note::Refused { key: None, fault: Fault::Balancer(message) });
        self.respond_error(cx, request, Status::UNAVAILABLE, message);
    }

    fn describe(&mut self, cx: &mut Cx<'_>, request: Request) {
        let methods = request.resource.map_or("GET, HEAD, POST, OPTIONS", Resource::methods);
        let mut response = self.begin_response(Status::NO_CONTENT, request).field("Allow", methods);
        if request.resource.is_some_and(Resource::is_shared) {
            response = response
                .field("Access-Control-Allow-Methods", methods)
                .field("Access-Control-Allow-Headers", "Authorization, Content-Type")
                .field("Access-Control-Max-Age", 600);
        }
        self.send(cx, request, response.empty());
    }

    /// Refuses what is malformed, and closes: nobody knows where the next request would begin.
    fn refuse(&mut self, cx: &mut Cx<'_>, status: Status, message: &'static str) {
        cx.actions.note(Note::Refused { key: None, fault: Fault::Client(message) });
        let verdict = Verdict::Refuse(status, message);
        let request = Request { verdict, resource: None, to_head: false, keep_alive: false };
        self.respond_error(cx, request, status, message);
    }

    fn respond_error(&mut self, cx: &mut Cx<'_>, request: Request, status: Status, message: &str) {
        let mut response = self.begin_response(status, request);
        match (status, request.resource) {
            (Status::UNAUTHORIZED, _) => {
                cx.actions
                    .note(Note::Refused { key: None, fault: Fault::Client("missing or wrong bearer token") });
                response = response.field("WWW-Authenticate", "Bearer");
            }
            (Status::METHOD_NOT_ALLOWED, Some(resource)) => {
                response = response.field("Allow", resource.methods())
            }
            _ => {}
        }
        let body = json(&Problem { code: status.0, message });
        self.send(cx, request, response.body("application/json", &body, request.to_head));
    }

    fn respond_json(&mut self, cx: &mut Cx<'_>, request: Request, value: &impl Serialize) {
        let response = self.begin_response(Status::OK, request);
        self.send(cx, request, response.body("application/json", &json(value), request.to_head));
    }

    fn begin_response(&self, status: Status, request: Request) -> Response {
        let response = Response::new(status)
            .field("Server", format_args!("{}/{}", self.config.signature, self.config.version_text()))
            .connection(request.keep_alive && !self.ended);
        match request.resource {
            Some(resource) if resource.is_shared() => response.field("Access-Control-Allow-Origin", "*"),
            _ => response,
        }
    }

    fn send(&mut self, cx: &mut Cx<'_>, request: Request, bytes: bytes::Bytes) {
        cx.actions.write(Leg::CLIENT, bytes);
        if request.keep_alive && !self.ended {
            self.state = State::Head { begun: false };
            self.deadline = Some(cx.now + IDLE_TIMEOUT);
        } else {
            self.close(cx);
        }
    }

    fn close(&mut self, cx: &mut Cx<'_>) {
        cx.actions.close(Leg::CLIENT, Close::Flush);
        self.state = State::Closed;
        self.deadline = None;
    }

    fn late(&mut self, cx: &mut Cx<'_>) {
        match self.state {
            // Nothing was asked, so nothing is answered.
            State::Head { begun: false } => self.close(cx),
            State::Head { begun: true } => self.refuse(cx, Status::REQUEST_TIMEOUT, "request head is late"),
            State::Body { .. } => self.refuse(cx, Status::REQUEST_TIMEOUT, "request body is late"),
            State::Asking { request, .. } => {
                self.unavailable(cx, request, "load balancer did not answer in time");
                self.resume(cx);
            }
            State::Closed => {}
        }
    }

    fn versions(&self) -> Versions {
        let [major, minor, revision] = self.config.version;
        let version = self.config.version_text();
        match self.server {
            Server::System | Server::HttpApi => {
                Versions::Short { signature: self.config.signature.clone(), version }
            }
            Server::Http => Versions::Long {
                code: 0,
                pid: self.config.pid.clone(),
                data: VersionData { major, minor, revision, version },
            },
        }
    }
}

impl Machine for Api {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { leg: Leg::CLIENT, bytes } => return Ok(self.read(cx, bytes)),
            Input::Eof { leg: Leg::CLIENT } => match self.state {
                State::Asking { .. } => self.ended = true,
                State::Closed => {}
                State::Head { .. } | State::Body { .. } => self.close(cx),
            },
            Input::Answer { ticket, answer } => match self.state {
                State::Asking { request, ticket: awaited } if awaited == ticket => {
                    self.answered(cx, request, answer);
                }
                // Too late: the client has its answer already.
                _ => {}
            },
            Input::Tick if self.deadline.is_some_and(|deadline| cx.now >= deadline) => self.late(cx),
            // Too early, or of a leg that there never was.
            _ => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // No map here has keys other than strings, and nothing else can fail in memory.
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Serialize)]
struct Problem<'a> {
    code: u16,
    message: &'a str,
}

#[derive(Serialize)]
struct Done {
    code: u16,
    pid: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Versions {
    Short { signature: String, version: String },
    Long { code: u16, pid: String, data: VersionData },
}

#[derive(Serialize)]
struct VersionData {
    major: u32,
    minor: u32,
    revision: u32,
    version: String,
}

#[derive(Serialize)]
struct OriginList<'a> {
    code: u16,
    pid: String,
    data: Origins<'a>,
}

#[derive(Serialize)]
struct Origins<'a> {
    origins: Vec<OriginItem<'a>>,
}

#[derive(Serialize)]
struct OriginItem<'a> {
    id: String,
    device_id: &'a str,
    server: &'a str,
    service: &'a str,
    pid: &'a str,
    health: &'static str,
    heartbeat_age_ms: u64,
    endpoints: BTreeMap<&'static str, Vec<String>>,
    streams: Vec<&'a str>,
}

impl<'a> OriginItem<'a> {
    fn new(status: &'a OriginStatus) -> Self {
        let origin = &status.origin;
        let list = |protocol| origin.serves(protocol).map(|address| address.to_string()).collect::<Vec<_>>();
        let lists = Protocol::ALL.into_iter().map(|protocol| (protocol.as_str(), list(protocol)));
        Self {
            id: origin.id().to_string(),
            device_id: &origin.device_id,
            server: &origin.server,
            service: &origin.service,
            pid: &origin.pid,
            health: match status.health {
                Health::Alive => "alive",
                Health::Quarantined => "quarantined",
                Health::Dead => "dead",
            },
            heartbeat_age_ms: status.heartbeat_age / 1000,
            endpoints: lists.filter(|(_, list)| !list.is_empty()).collect(),
            streams: status.streams.iter().map(crate::key::StreamKey::as_str).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
