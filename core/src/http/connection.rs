//! One client's connection to any of the proxy's HTTP servers: its requests, one after the other, each answered by
//! the proxy's own API, by a file, or by the origin of a stream. The diagram is in docs/http.md.
//!
//! ```text
//!            head           body              question
//!   ┌──▶ Head ───▶ Body ────────▶ (response) ───────────▶ Asking ──┐
//!   │     │ ├────▶ File ─────────────────────────────────────────┐ │ answer, or too late
//!   │     │ └────▶ Exchange, see exchange.rs ──────────────────┐ │ │
//!   │     │ malformed, late                                    ▼ ▼ ▼
//!   │     ▼              not keep-alive                   (response)
//!   │   Closed ◀──────────────────────────────────────────────┤
//!   └──────────────────────────────────────── keep-alive ─────┘
//! ```
//!
//! Pipelined requests wait where they are. A client that ends its side has left, and what was done for it ends, unless
//! it has just sent a whole body: that reaches its origin.

use super::api::{Call, Reply};
use super::exchange::{Exchange, Next};
use super::fields::{Framing, Version};
use super::files::{FileRequest, Page, Plan};
use super::head::{Expectation, Head, HeadReader};
use super::response::{CONTINUE, Hearer, Response, Status};
use super::routes::{self, Server};
use crate::machine::{
    Action, Close, Cx, Fault, Input, Leg, Machine, Note, OpenError, Opened, Parsed, Ticket,
};
use crate::query::Query;
use crate::reach::Names;
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// The largest body of a request to the proxy's own API, in bytes. A registration with SRS's summaries has some 3 KB.
pub const MAX_BODY: usize = 64 * 1024;
/// How long a head may take from its first byte (the first one: from the connection's start).
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long such a body may take.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may rest between requests. Longer than SRS's default heartbeat of 10 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an origin has to begin its answer, if nothing else is set.
pub const ORIGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the load balancer has to answer what the API asks.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of later requests that may wait, beside one read, until the client is not read any more. As long as it is
/// read, its leaving is seen.
const MAX_WAITING: usize = 16 * 1024;

/// What may be done to a stream's resources. Tunnels and traces are not for gateways.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What a page may send along, if it asks for nothing in particular.
const REQUEST_FIELDS: &str = "Authorization, Content-Type, Range";

/// How long a page may remember what it is allowed, in seconds.
const MAX_AGE: u32 = 600;

/// What is served at paths that are no stream's.
#[derive(Clone, Debug)]
pub enum Files {
    /// Pages of the program.
    Pages(Vec<Page>),
    /// The driver's directory of files.
    Directory,
}

/// What all connections have in common.
pub struct HttpConfig {
    /// The process id, as origins and people read it.
    pub pid: String,
    /// The server's name.
    pub signature: String,
    /// Major, minor, revision.
    pub version: [u32; 3],
    /// The token that registrations and the list of origins need, if any.
    pub token: Option<String>,
    /// How long an origin has to begin its answer.
    pub origin_timeout: Duration,
    /// The UDP port of WebRTC media, as clients see it.
    pub rtc_port: u16,
    /// The addresses of WebRTC media, as clients see them; if there are none, those of the origin stay.
    pub candidates: Vec<IpAddr>,
    /// What the HTTP server has beside streams.
    pub files: Files,
}

impl Default for HttpConfig {
    /// A server without a name, a token or files.
    fn default() -> Self {
        Self {
            pid: String::new(),
            signature: String::new(),
            version: [0; 3],
            token: None,
            origin_timeout: ORIGIN_TIMEOUT,
            rtc_port: 0,
            candidates: Vec::new(),
            files: Files::Pages(Vec::new()),
        }
    }
}

impl HttpConfig {
    pub(super) fn version_text(&self) -> String {
        let [major, minor, revision] = self.version;
        format!("{major}.{minor}.{revision}")
    }
}

impl fmt::Debug for HttpConfig {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("pid", &self.pid)
            .field("signature", &self.signature)
            .field("version", &self.version_text())
            .field("origin_timeout", &self.origin_timeout)
            .finish_non_exhaustive()
    }
}

/// The client, as all that serves it sees it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) config: Arc<HttpConfig>,
    pub(super) server: Server,
    pub(super) peer: IpAddr,
    /// How it hears the answer to its present request.
    pub(super) hearer: Hearer,
    pub(super) names: Names,
    /// It sends no more, or the process ends: there is no next request.
    is_last: bool,
    /// Bytes of later requests wait.
    pub(super) waiting: bool,
    /// It has left, or will say no more; what it said before is still coming.
    hung_up: bool,
}

impl Client {
    /// The present request, if there is one, is the last.
    fn expect_no_more(&mut self) {
        self.is_last = true;
        self.hearer.keep_alive = false;
    }

    /// Begins a response of the proxy's own.
    pub(super) fn response(&self, status: Status) -> Response {
        let HttpConfig { signature, .. } = &*self.config;
        let version = self.config.version_text();
        Response::new(status, self.hearer).field("Server", format_args!("{signature}/{version}"))
    }

    /// Says in short what is wrong: to programs in JSON, to players in words.
    pub(super) fn problem(&self, status: Status, message: &str) -> Bytes {
        let response = self.response(status);
        match self.server {
            Server::Http => {
                let text = format!("{message}\n");
                response.for_all_pages().body("text/plain; charset=utf-8", text.as_bytes())
            }
            // Pages of any site signal here.
            Server::HttpApi => {
                response.for_all_pages().body("application/json", &super::api::problem(status, message))
            }
            Server::System => response.body("application/json", &super::api::problem(status, message)),
        }
    }
}

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    state: State,
    reader: HeadReader,
    /// When to stop waiting, unless an exchange is on its way, which has its own.
    deadline: Option<Time>,
}

#[derive(Debug)]
enum State {
    /// Waiting for a head; `begun` if a part of it is there.
    Head { begun: bool },
    /// Reading the body of a request to the API, with so many bytes to come.
    Body { call: Call, left: usize, body: Vec<u8> },
    /// Waiting for the load balancer.
    Asking { call: Call, ticket: Ticket },
    /// Opening a file, or sending it.
    File { leg: Leg, request: Box<FileRequest> },
    /// Passing a request on.
    Exchange(Box<Exchange>),
    /// Done. What the client still sends is nobody's business.
    Closed,
}

impl Connection {
    /// The machine of a connection of `peer` that `server` accepted at `now`.
    pub fn new(config: Arc<HttpConfig>, server: Server, peer: SocketAddr, now: Time) -> Self {
        Self {
            client: Client {
                config,
                server,
                peer: peer.ip().to_canonical(),
                hearer: Hearer { version: Version::Http11, to_head: false, keep_alive: true },
                names: Names::default(),
                is_last: false,
                waiting: false,
                hung_up: false,
            },
            state: State::Head { begun: false },
            reader: HeadReader::default(),
            deadline: Some(now + HEAD_TIMEOUT),
        }
    }

    fn read(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            match &mut self.state {
                State::Closed => return Ok(bytes.len()),
                _ if rest.is_empty() => return Ok(used),
                State::Head { begun } => match self.reader.read(rest) {
                    Ok(Parsed::Partial) => {
                        if !core::mem::replace(begun, true) {
                            self.deadline = Some(cx.now + HEAD_TIMEOUT);
                        }
                        return Ok(used);
                    }
                    Ok(Parsed::Complete(head, length)) => {
                        used += length;
                        self.begin(cx, &head);
                        if let State::Head { .. } = self.state
                            && used < bytes.len()
                        {
                            // Answered at once. The next has its turn when the client has taken enough of that: a
                            // page is ten thousand times as long as the request for it.
                            cx.actions.push(Action::Resume { leg: Leg::CLIENT });
                            return Ok(used);
                        }
                    }
                    Err(why) => self.reject(cx, why.status(), why.as_str()),
                },
                State::Body { left, body, .. } => {
                    let take = rest.len().min(*left);
                    body.extend_from_slice(rest.get(..take).unwrap_or_default());
                    used += take;
                    *left -= take;
                    if *left == 0 {
                        self.call(cx);
                    }
                }
                State::Exchange(exchange) => {
                    let (end, next) = exchange.client_bytes(cx, &mut self.client, bytes, used)?;
                    used = end;
                    if next == Next::Done {
                        self.end(cx);
                    } else if self.client.hung_up && exchange.is_uploaded() {
                        self.leave(cx);
                    } else if used < bytes.len() {
                        self.wait(cx, bytes.len() - used);
                        return Ok(used);
                    }
                }
                State::File { .. } | State::Asking { .. } => {
                    let waiting = rest.len();
                    self.wait(cx, waiting);
                    return Ok(used);
                }
            }
        }
    }

    /// So many bytes wait for the present request to be answered.
    fn wait(&mut self, cx: &mut Cx<'_>, bytes: usize) {
        self.client.waiting = true;
        // A body that waits for its origin is paused already.
        if bytes < MAX_WAITING || self.is_uploading() {
            return;
        }
        // Its end will not be seen behind so much that waits, unless it has been seen already.
        if self.client.hung_up {
            self.leave(cx);
        } else {
            cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        }
    }

    /// A head is there: decide who answers.
    fn begin(&mut self, cx: &mut Cx<'_>, head: &Head<'_>) {
        let Client { server, config, is_last, hearer, .. } = &mut self.client;
        *hearer = Hearer {
            version: head.version,
            to_head: head.method == "HEAD",
            keep_alive: head.keep_alive() && !*is_last,
        };
        if head.expectation() == Expectation::Unknown {
            return self.reject(cx, Status::EXPECTATION_FAILED, "unknown expectation");
        }
        if let Some(call) = Call::of(config, *server, head) {
            return self.begin_call(cx, call, head);
        }
        let has_files = matches!(config.files, Files::Directory);
        let wanted = match head.method {
            "CONNECT" | "TRACE" => {
                return self.respond_bare(cx, head, |client| {
                    let response = client.response(Status::METHOD_NOT_ALLOWED).field("Allow", METHODS);
                    response.body("text/plain", b"method not allowed\n")
                });
            }
            _ => routes::wanted(*server, head, has_files),
        };
        let is_draining = *is_last;
        match wanted {
            // Its media would come too late.
            Some(wanted) if is_draining && wanted.kind.is_offer() && head.method == "POST" => {
                self.respond_bare(cx, head, |client| {
                    client.problem(Status::UNAVAILABLE, "no new sessions, the process ends")
                });
            }
            Some(wanted) => {
                let (exchange, next) = Exchange::begin(cx, &mut self.client, head, wanted);
                self.state = State::Exchange(Box::new(exchange));
                if next == Next::Done {
                    self.end(cx);
                }
            }
            None if head.method == "OPTIONS" => self.respond_bare(cx, head, |client| describe(client, head)),
            None if *server == Server::Http => self.begin_file(cx, head),
            None => {
                self.respond_bare(cx, head, |client| client.problem(Status::NOT_FOUND, "no such resource"))
            }
        }
    }

    /// Answers a request whose body, if it has one, nobody wants.
    fn respond_bare(&mut self, cx: &mut Cx<'_>, head: &Head<'_>, response: impl Fn(&Client) -> Bytes) {
        self.client.hearer.keep_alive &= head.framing == Framing::Length(0);
        cx.actions.write(Leg::CLIENT, response(&self.client));
        self.end(cx);
    }

    // Files.

    fn begin_file(&mut self, cx: &mut Cx<'_>, head: &Head<'_>) {
        self.client.hearer.keep_alive &= head.framing == Framing::Length(0);
        let request = match FileRequest::new(head) {
            Ok(request) => request,
            Err(plan) => return self.plan(cx, None, &plan),
        };
        let config = Arc::clone(&self.client.config);
        match &config.files {
            Files::Pages(pages) => match pages.iter().find(|page| page.path() == request.path()) {
                Some(page) => {
                    let plan = request.page(page);
                    self.respond_plan(cx, &plan);
                    cx.actions.write(Leg::CLIENT, page.part(&plan.range));
                    self.end(cx);
                }
                None => self.plan(cx, None, &request.missing()),
            },
            Files::Directory => {
                let leg = self.client.names.new_leg();
                cx.actions.push(Action::OpenFile { leg, path: request.path().into() });
                self.deadline = None;
                self.state = State::File { leg, request: Box::new(request) };
            }
        }
    }

    fn respond_plan(&self, cx: &mut Cx<'_>, plan: &Plan) {
        let response = self.client.response(plan.status).for_all_pages();
        cx.actions.write(Leg::CLIENT, plan.head(response));
    }

    /// Answers as planned, with bytes of the file at `leg`, if they are wanted.
    fn plan(&mut self, cx: &mut Cx<'_>, leg: Option<Leg>, plan: &Plan) {
        self.respond_plan(cx, plan);
        match leg {
            Some(from) if !plan.range.is_empty() => {
                cx.actions.push(Action::SendFile { from, to: Leg::CLIENT, range: plan.range.clone() });
            }
            _ => self.close_file(cx, leg),
        }
    }

    fn close_file(&mut self, cx: &mut Cx<'_>, leg: Option<Leg>) {
        if let Some(leg) = leg {
            cx.actions.close(leg, Close::Abort);
        }
        self.end(cx);
    }

    fn file(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(), Fault> {
        let State::File { leg, request } = &self.state else { return Ok(()) };
        let leg = *leg;
        match input {
            Input::Opened { what: Opened::File(info), .. } => {
                let plan = request.opened(&info);
                self.plan(cx, Some(leg), &plan);
            }
            Input::OpenFailed { why, .. } => {
                let plan = request.failed(why);
                if why == OpenError::Exhausted {
                    cx.actions.note(Note::Refused { key: None, fault: Fault::Proxy("out of descriptors") });
                }
                self.plan(cx, None, &plan);
            }
            Input::Spliced { .. } => self.close_file(cx, Some(leg)),
            Input::Eof { .. } => return Err(Fault::Proxy("a file became shorter while it was sent")),
            _ => {}
        }
        Ok(())
    }

    // The proxy's own API.

    fn begin_call(&mut self, cx: &mut Cx<'_>, call: Call, head: &Head<'_>) {
        let left = match head.framing {
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= MAX_BODY => length,
                _ => return self.reject(cx, Status::CONTENT_TOO_LARGE, "body too large"),
            },
            Framing::Chunked | Framing::Close => {
                return self.reject(cx, Status::LENGTH_REQUIRED, "a body needs Content-Length");
            }
        };
        if head.expectation() == Expectation::Continue && left > 0 {
            // The client waits for a word before it sends the body: if that word is no, the body is not read.
            if call.is_refused() {
                self.client.hearer.keep_alive = false;
                let reply = call.run(&self.client, &[]);
                return self.reply(cx, call, reply);
            }
            cx.actions.write(Leg::CLIENT, CONTINUE);
        }
        self.deadline = Some(cx.now + BODY_TIMEOUT);
        self.state = State::Body { call, left, body: Vec::new() };
        if left == 0 {
            self.call(cx);
        }
    }

    /// The body is there too.
    fn call(&mut self, cx: &mut Cx<'_>) {
        let State::Body { call, body, .. } = &self.state else { return };
        let (call, reply) = (call.clone(), call.run(&self.client, body));
        self.reply(cx, call, reply);
    }

    fn reply(&mut self, cx: &mut Cx<'_>, call: Call, reply: Reply) {
        match reply {
            Reply::Response(response, fault) => {
                if let Some(fault) = fault {
                    cx.actions.note(Note::Refused { key: None, fault });
                }
                cx.actions.write(Leg::CLIENT, response);
                self.end(cx);
            }
            Reply::Ask(query) => self.ask(cx, call, query),
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, call: Call, query: Query) {
        let ticket = self.client.names.new_ticket();
        // A client may ask more, and end its side, before it has an answer: what came before the end counts.
        cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        self.client.waiting = true;
        cx.actions.push(Action::Ask { ticket, query });
        self.deadline = Some(cx.now + ANSWER_TIMEOUT);
        self.state = State::Asking { call, ticket };
    }

    // From one request to the next.

    /// Refuses what is malformed, and closes: nobody knows where the next request would begin.
    fn reject(&mut self, cx: &mut Cx<'_>, status: Status, message: &'static str) {
        cx.actions.note(Note::Refused { key: None, fault: Fault::Client(message) });
        self.client.hearer.keep_alive = false;
        cx.actions.write(Leg::CLIENT, self.client.problem(status, message));
        self.end(cx);
    }

    /// The present request is answered.
    fn end(&mut self, cx: &mut Cx<'_>) {
        if self.client.hearer.keep_alive && !self.client.is_last {
            self.state = State::Head { begun: false };
            self.deadline = Some(cx.now + IDLE_TIMEOUT);
            if core::mem::take(&mut self.client.waiting) {
                cx.actions.push(Action::Resume { leg: Leg::CLIENT });
            }
        } else {
            // What served it is closed already.
            self.state = State::Closed;
            self.close(cx, Close::Flush);
        }
    }

    /// Whether a part of the present request, which is passed on, is still to come.
    fn is_uploading(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange) if exchange.is_uploading())
    }

    /// The client has left.
    fn leave(&mut self, cx: &mut Cx<'_>) {
        if let State::Exchange(exchange) = &mut self.state {
            exchange.leave(cx);
        }
        self.close(cx, Close::Abort);
    }

    fn close(&mut self, cx: &mut Cx<'_>, how: Close) {
        match core::mem::replace(&mut self.state, State::Closed) {
            State::Exchange(mut exchange) => exchange.abandon(cx),
            State::File { leg, .. } => cx.actions.close(leg, Close::Abort),
            _ => {}
        }
        cx.actions.close(Leg::CLIENT, how);
        self.deadline = None;
    }

    fn late(&mut self, cx: &mut Cx<'_>) {
        match &self.state {
            // Nothing was asked, so nothing is answered.
            State::Head { begun: false } => self.close(cx, Close::Flush),
            State::Head { begun: true } => self.reject(cx, Status::REQUEST_TIMEOUT, "request head is late"),
            State::Body { .. } => self.reject(cx, Status::REQUEST_TIMEOUT, "request body is late"),
            State::Asking { call, .. } => {
                let (call, reply) = (call.clone(), call.unanswered(&self.client));
                self.reply(cx, call, reply);
            }
            State::File { .. } | State::Exchange(_) | State::Closed => {}
        }
    }
}

/// Says what may be done, and that pages of all sites may do it.
fn describe(client: &Client, head: &Head<'_>) -> Bytes {
    let fields = head.fields.text("access-control-request-headers").unwrap_or(REQUEST_FIELDS);
    client
        .response(Status::NO_CONTENT)
        .field("Allow", METHODS)
        .for_all_pages()
        .field("Access-Control-Allow-Methods", METHODS)
        .field("Access-Control-Allow-Headers", fields)
        .field("Access-Control-Max-Age", MAX_AGE)
        .empty()
}

impl Connection {
    fn take(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        let is_uploading = self.is_uploading();
        match (&mut self.state, input) {
            (_, Input::Stream { leg: Leg::CLIENT, bytes }) => return self.read(cx, bytes),
            (State::Closed, _) => {}
            // Not while it is still heard: a body may end with the connection.
            (State::Exchange(_) | State::File { .. }, Input::HungUp { leg: Leg::CLIENT })
                if !is_uploading =>
            {
                self.leave(cx);
            }
            (_, Input::HungUp { leg: Leg::CLIENT }) => self.client.hung_up = true,
            // It still hears what it asked the API; for all else it has left.
            (State::Asking { .. }, Input::Eof { leg: Leg::CLIENT, .. }) => self.client.expect_no_more(),
            (State::Head { .. } | State::Body { .. }, Input::Eof { .. }) => self.close(cx, Close::Flush),
            (_, Input::Eof { leg: Leg::CLIENT, .. }) => self.leave(cx),
            (state, Input::Drain) => {
                self.client.expect_no_more();
                if let State::Head { begun: false } = state {
                    self.close(cx, Close::Flush);
                }
            }
            (State::Exchange(exchange), Input::Stop) => exchange.end_use(cx),
            (State::Exchange(exchange), input) => {
                let (used, next) = exchange.handle(cx, &mut self.client, input)?;
                if next == Next::Done {
                    self.end(cx);
                }
                return Ok(used);
            }
            (State::File { .. }, input) => self.file(cx, input)?,
            (State::Asking { call, ticket }, Input::Answer { ticket: answered, answer })
                if *ticket == answered =>
            {
                let (call, reply) = (call.clone(), call.answered(&self.client, answer));
                self.reply(cx, call, reply);
            }
            (_, Input::Tick) if self.deadline.is_some_and(|deadline| cx.now >= deadline) => self.late(cx),
            // Too early or too late, or of a leg that there never was.
            _ => {}
        }
        Ok(0)
    }
}

impl Machine for Connection {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        let outcome = self.take(cx, input);
        if let (Err(_), State::Exchange(exchange)) = (&outcome, &mut self.state) {
            exchange.end_use(cx);
        }
        outcome
    }

    fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Exchange(exchange) => exchange.deadline(),
            _ => self.deadline,
        }
    }
}

#[cfg(test)]
mod tests;
