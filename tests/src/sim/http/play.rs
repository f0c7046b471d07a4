//! Clients, one after the other, their origins and their load balancer in a simulated world, and what must be true of
//! them afterwards.

use super::super::{Bounds, Dice, End, Fates, File, Host, Manner, Peer, Run, Scripted, Weather, World};
use super::client::{Client, ClientLog, ClientPlan};
use super::origin::{Origin, OriginLog, Receipt, Table};
use super::plan::{Body, Exchange, FILE, HOST, Rest, SHRINKING, Trouble, film};
use super::signalling::at_origin;
use crate::http::{Fields, Framing, Message};
use srs_proxy_core::http::{Connection, Files, HttpConfig, Server};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, HlsSession, Picked, Query, Report, RtcSession};
use srs_proxy_core::time::Duration;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// How long an origin may take to begin its answer.
pub const ORIGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Where all clients come from.
const CLIENT: &str = "192.0.2.7";

/// Fields that the proxy adds to an answer, or says in its own words.
const OURS: [&str; 6] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "keep-alive",
];

/// What is found at an origin's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It serves.
    Serves,
    /// Connections are refused.
    Refuses,
    /// Connections are never answered.
    Silent,
    /// This host has no descriptor for it.
    Exhausted,
}

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Whom the clients ask.
    pub server: Server,
    /// The network and the driver.
    pub weather: Weather,
    /// All that is asked and answered.
    pub exchanges: Vec<Exchange>,
    /// The clients, one after the other.
    pub clients: Vec<ClientPlan>,
    /// What befalls their connections.
    pub fates: Fates,
    /// The origins; the load balancer picks the first that is not known to be unreachable.
    pub origins: Vec<Kind>,
    /// What befalls each connection to an origin.
    pub origin_fates: Fates,
    /// How the load balancer answers.
    pub manner: Manner,
    /// When the process is about to end.
    pub drain: Option<Duration>,
}

/// What has happened.
pub struct Played {
    /// The world afterwards.
    pub world: World<Connection>,
    /// What each client's session came to.
    pub runs: Vec<Run>,
    /// What each client did and saw.
    pub clients: Vec<Rc<RefCell<ClientLog>>>,
    /// What the origins saw.
    pub origins: Rc<RefCell<OriginLog>>,
    /// What was asked and answered.
    pub table: Table,
    /// What the load balancer was told.
    pub unreachable: Rc<RefCell<BTreeSet<OriginId>>>,
    /// All origins can be reached.
    pub all_serve: bool,
    /// Connections to origins broke by themselves.
    pub breaks: bool,
    /// The ids of HLS sessions, and their streams.
    pub sessions: Rc<RefCell<BTreeMap<String, HlsSession>>>,
    /// WebRTC sessions that were stored.
    pub stored: Rc<RefCell<BTreeMap<String, RtcSession>>>,
    /// All that the load balancer was told.
    pub told: Rc<RefCell<Vec<Report>>>,
}

fn origin_address(index: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, index as u8 + 1), 8080).into()
}

fn origin_id(index: usize) -> OriginId {
    OriginId::new("origin", &index.to_string(), "1")
}

/// The machine of a client's connection to a server.
fn machine(server: Server, world_now: srs_proxy_core::time::Time) -> Connection {
    let config = HttpConfig {
        origin_timeout: ORIGIN_TIMEOUT,
        files: Files::Directory,
        rtc_port: crate::signalling::PORT,
        ..HttpConfig::default()
    };
    let peer = SocketAddr::new(CLIENT.parse().expect("an address"), 50_000);
    Connection::new(Arc::new(config), server, peer, world_now)
}

impl Scene {
    /// These exchanges in fair weather, with one client that asks them one after the other.
    pub fn plain(exchanges: Vec<Exchange>) -> Self {
        let requests = (0..exchanges.len()).collect();
        Self {
            server: Server::Http,
            weather: Weather::fair(),
            exchanges,
            clients: vec![ClientPlan::asking(requests)],
            fates: Fates::default(),
            origins: vec![Kind::Serves],
            origin_fates: Fates::default(),
            manner: Manner::Prompt,
            drain: None,
        }
    }

    /// Lets it happen.
    #[track_caller]
    pub fn play(self, seed: u64, limit: Duration) -> Played {
        let table: Table = Rc::new(RefCell::new(self.exchanges));
        let log = Rc::new(RefCell::new(OriginLog::default()));
        let mut clients = self.clients.into_iter();
        let make = |plan| Client::new(plan, Rc::clone(&table));
        let (first, first_log) = make(clients.next().expect("a client"));
        let now = srs_proxy_core::time::Time::ZERO;
        let mut world =
            World::tcp(seed, self.weather, machine(self.server, now), Box::new(first), self.fates);
        // Questions to a slow load balancer outlive the requests they were asked for.
        world.bounds(Bounds { tickets: 16, ..Bounds::default() });
        world.ends_with_client();
        world.file(FILE, File::new(film()));
        world.file(SHRINKING, File::new(film()).shrinking_to(10_000));
        let count = self.origins.len();
        let all_serve = self.origins.iter().all(|kind| *kind == Kind::Serves);
        let breaks = self.origin_fates.from_peer.is_some();
        for (index, kind) in self.origins.into_iter().enumerate() {
            let (table, log) = (Rc::clone(&table), Rc::clone(&log));
            let serve =
                move |_| -> Box<dyn Peer> { Box::new(Origin::new(Rc::clone(&table), Rc::clone(&log))) };
            let host = match kind {
                Kind::Serves => Host::Serves(Box::new(serve), self.origin_fates),
                Kind::Refuses => Host::Refuses,
                Kind::Silent => Host::Silent,
                Kind::Exhausted => Host::Exhausted,
            };
            world.host(origin_address(index), host);
        }
        let unreachable = Rc::new(RefCell::new(BTreeSet::new()));
        let sessions = Rc::new(RefCell::new(BTreeMap::new()));
        let (stored, told) = (Rc::default(), Rc::default());
        world.balancer(balancer(self.manner, count, &unreachable, &sessions, &stored, &told));
        if let Some(after) = self.drain {
            world.drain(after);
        }
        let (mut runs, mut logs) = (vec![world.run(limit)], vec![first_log]);
        for plan in clients {
            let (client, log) = make(plan);
            world.again(machine(self.server, world.now()), Box::new(client), self.fates);
            runs.push(world.run(limit));
            logs.push(log);
        }
        Played {
            world,
            runs,
            clients: logs,
            origins: log,
            table,
            unreachable,
            all_serve,
            breaks,
            sessions,
            stored,
            told,
        }
    }
}

fn balancer(
    manner: Manner,
    origins: usize,
    unreachable: &Rc<RefCell<BTreeSet<OriginId>>>,
    sessions: &Rc<RefCell<BTreeMap<String, HlsSession>>>,
    stored: &Rc<RefCell<BTreeMap<String, RtcSession>>>,
    told: &Rc<RefCell<Vec<Report>>>,
) -> Scripted {
    let (failed, known) = (Rc::clone(unreachable), Rc::clone(unreachable));
    let (stored, told) = (Rc::clone(stored), Rc::clone(told));
    let sessions = Rc::clone(sessions);
    let answer = move |query, _: &mut Dice| match query {
        Query::StoreHls(new) => {
            let mut sessions = sessions.borrow_mut();
            let old = sessions.values().find(|old| old.key == new.key).cloned();
            let session = old.unwrap_or_else(|| {
                sessions.insert(new.spbhid.to_string(), new.clone());
                new
            });
            Answer::Hls(Some(session))
        }
        Query::StoreRtc(new) => {
            stored.borrow_mut().insert(new.username.to_string(), new.clone());
            Answer::Rtc(Some(new))
        }
        Query::LoadHls(id) => Answer::Hls(sessions.borrow().get(&*id).cloned()),
        _ => {
            let alive = (0..origins).find(|index| !known.borrow().contains(&origin_id(*index)));
            let index = alive.unwrap_or(0);
            Answer::Picked(Picked { origin: origin_id(index), to: origin_address(index) })
        }
    };
    let tell = move |report: &Report| {
        if let Report::Unreachable(origin, _) = report {
            failed.borrow_mut().insert(origin.clone());
        }
        told.borrow_mut().push(report.clone());
    };
    Scripted::new(manner, answer).on_report(tell)
}

/// Whether all of `wanted` are among `got`, in their order.
fn contains_in_order(got: &Fields, wanted: &[(String, String)]) -> bool {
    let mut got = got.iter();
    wanted.iter().all(|(name, value)| got.any(|(n, v)| n.eq_ignore_ascii_case(name) && v == value))
}

impl Played {
    /// Whatever went wrong: all are gone, every request has at most one answer and its own, the origin was asked
    /// what the client asked and no more than once, and nothing that was cut off looks whole.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.world.assert_ended();
        for client in &self.clients {
            let log = client.borrow();
            let last = log.answers().count().checked_sub(1).and_then(|last| log.sent.get(last));
            let excused = last.is_some_and(|n| self.is_damage_passed_on(*n));
            assert!(log.error.is_none() || excused, "{:?} at the client\n{}", log.error, self.world.tail());
            let answers: Vec<_> = log.answers().collect();
            assert!(answers.len() <= log.sent.len() + 1, "more answers than requests");
            let mut finals = 0;
            for message in &log.reader.messages {
                let to = log.sent.get(finals).map(|n| self.table.borrow()[*n].request.old);
                finals += usize::from(message.status() >= 200);
                assert!(message.status() >= 200 || to == Some(false), "{} to an old client", message.start);
            }
            for (index, (answer, n)) in answers.iter().zip(&log.sent).enumerate() {
                assert!(answer.complete || index + 1 == answers.len(), "an answer was cut off by another");
                self.assert_answer(*n, answer, &log);
            }
        }
        let unreachable = self.unreachable.borrow();
        assert!(
            !self.all_serve || unreachable.is_empty(),
            "slandered: {unreachable:?}\n{}",
            self.world.tail()
        );
        let origins = self.origins.borrow();
        assert!(origins.errors.is_empty(), "at the origin: {:?}\n{}", origins.errors, self.world.tail());
        for receipt in &origins.receipts {
            self.assert_receipt(receipt);
        }
        for n in 0..self.table.borrow().len() {
            let mut receipts: Vec<_> = origins.receipts.iter().filter(|receipt| receipt.n == n).collect();
            receipts.pop();
            for first in receipts {
                let asked = self.clients.iter().filter(|c| c.borrow().sent.contains(&n)).count();
                let may = self.table.borrow()[n].request.is_safe() && first.reused;
                let unheard = first.written == 0 || first.broke || self.breaks;
                assert!(asked > 1 || may && unheard, "request {n} was sent again\n{}", self.world.tail());
            }
        }
    }

    /// Every request was answered by the origin, until a connection was said to end.
    #[track_caller]
    pub fn assert_served(&self) {
        for client in &self.clients {
            let log = client.borrow();
            let answers: Vec<_> = log.answers().collect();
            for (answer, n) in answers.iter().zip(&log.sent) {
                let own = self.table.borrow()[*n].request.is_for_file() && answer.status() == 200;
                let whole = answer.complete && (own || answer.value("x-n").is_some());
                assert!(whole, "request {n}: {}\n{}", answer.start, self.world.tail());
            }
            let ends = answers.last().is_some_and(|last| !last.persists());
            let all = answers.len() == log.sent.len();
            assert!(
                all || ends,
                "{} of {} are answered\n{}",
                answers.len(),
                log.sent.len(),
                self.world.tail()
            );
            assert!(!log.gave_up, "nothing happens any more\n{}", self.world.tail());
        }
    }

    /// Nobody looks at what a live stream is made of.
    fn is_damage_passed_on(&self, n: usize) -> bool {
        let Exchange { request, response } = &self.table.borrow()[n];
        request.is_live() && response.trouble == Trouble::BrokenChunk
    }

    /// The clients' answers to a request.
    pub fn answers_to(&self, n: usize) -> Vec<Message> {
        let mut found = Vec::new();
        for client in &self.clients {
            let log = client.borrow();
            let pairs = log.answers().zip(&log.sent).filter(|(_, sent)| **sent == n);
            found.extend(pairs.map(|(answer, _)| answer.clone()));
        }
        found
    }

    #[track_caller]
    fn assert_answer(&self, n: usize, answer: &Message, log: &ClientLog) {
        let tail = || format!("request {n}: {}\n{}", answer.start, self.world.tail());
        let Exchange { request, response } = &self.table.borrow()[n];
        if request.old {
            assert_ne!(answer.framing, Framing::Chunked, "{}", tail());
        }
        if request.is_for_file() && answer.status() == 200 {
            let wanted = if request.method == "HEAD" { Vec::new() } else { film() };
            assert!(wanted.starts_with(&answer.body), "{}", tail());
            let cut = request.target.contains(SHRINKING) && request.method == "GET";
            return assert!(!cut || !answer.complete, "a cut file looks whole\n{}", tail());
        }
        let Some(from) = answer.value("x-n") else { return self.assert_own_answer(answer, &tail) };
        assert_eq!(from, n.to_string(), "the answer to another request\n{}", tail());
        assert!(!request.target.is_empty() && answer.status() == response.status, "{}", tail());
        for name in ["x-hop", "keep-alive"] {
            assert_eq!(answer.value(name), None, "{}", tail());
        }
        let is_offered = request.is_offer() && response.status == 201;
        let rewritten = request.reads_playlist() && response.status == 200;
        let mut passed = response.fields.clone();
        passed.retain(|(name, _)| !(rewritten && name == "ETag" || is_offered && name == "Location"));
        assert!(contains_in_order(&answer.fields, &passed), "fields {:?}\n{}", answer.fields, tail());
        let is_known = |name: &str| {
            is_offered && name.eq_ignore_ascii_case("Location")
                || passed.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        for (name, _) in &answer.fields {
            let ours = OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) || name == "X-N";
            assert!(ours || is_known(name), "field {name}\n{}", tail());
        }
        assert!(answer.value("access-control-allow-origin").is_some(), "no CORS\n{}", tail());
        let bare = request.method == "HEAD" || matches!(response.status, 204 | 304);
        let content = if bare { &[] } else { response.body.content() };
        if is_offered {
            return self.assert_signalled(n, answer, content, &tail);
        }
        if request.method == "HEAD" && !rewritten {
            let length = answer.value("content-length");
            let planned = match &response.body {
                Body::Length(bytes) => Some(bytes.len()),
                Body::None if !matches!(response.status, 204 | 304) => Some(0),
                _ => None,
            };
            assert_eq!(length, planned.map(|length| length.to_string()).as_deref(), "{}", tail());
        }
        if rewritten && !bare && !(self.breaks && matches!(response.body, Body::Close(_))) {
            return self.assert_playlist(content, answer, &tail);
        }
        if self.is_damage_passed_on(n) {
            return;
        }
        if rewritten && !bare {
            return;
        }
        assert!(content.starts_with(&answer.body), "other bytes than the origin sent\n{}", tail());
        let whole = answer.body == content;
        let ends_with_connection = matches!(response.body, Body::Close(_));
        let cut = match response.trouble {
            Trouble::Stops(at, end) => {
                let length = if bare { 0 } else { response.body.encode().len() };
                // An end of the connection is the end of the body for those who can tell no other.
                at < length && !(ends_with_connection && end == End::Fin)
            }
            Trouble::BrokenChunk => matches!(response.body, Body::Chunked(..)) && !bare,
            _ => false,
        };
        // An end in good order looks like the end of such a body, wherever it comes; a reset does not.
        let resets = matches!(response.trouble, Trouble::Stops(_, End::Reset)) && !self.breaks;
        let excused = ends_with_connection && answer.framing == Framing::Close && !resets;
        assert!(!answer.complete || whole && !cut || excused, "a cut answer looks whole\n{}", tail());
        if let (Body::Chunked(_, chunking), Framing::Chunked, true) = (&response.body, answer.framing, whole)
        {
            assert!(!answer.complete || answer.trailers == chunking.trailers, "other trailers\n{}", tail());
        }
        let says_more = answer.complete && !answer.persists() && answer.framing != Framing::Close;
        assert!(!says_more || !log.sent.is_empty(), "{}", tail());
    }

    /// An answer of the proxy itself says what is wrong, and nothing about addresses.
    #[track_caller]
    fn assert_own_answer(&self, answer: &Message, tail: &dyn Fn() -> String) {
        let known = [400, 404, 405, 408, 417, 431, 501, 502, 503, 504, 505];
        assert!(known.contains(&answer.status()), "{}", tail());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains("10.0.0.") && !text.contains(CLIENT), "{text}\n{}", tail());
        assert!(answer.value("access-control-allow-origin").is_some(), "no CORS\n{}", tail());
    }

    /// Every URI that is the session's carries its id, once.
    #[track_caller]
    fn assert_playlist(&self, content: &[u8], answer: &Message, tail: &dyn Fn() -> String) {
        if !answer.complete {
            return;
        }
        let (sent, got) = (String::from_utf8_lossy(content), String::from_utf8_lossy(&answer.body));
        let sessions = self.sessions.borrow();
        if sent.starts_with('<') {
            let id =
                sessions.keys().find(|id| got.contains(&format!("<BaseURL>/spbhid/{id}/live/</BaseURL>")));
            return assert!(id.is_some(), "{got}\n{}", tail());
        }
        assert_eq!(sent.lines().count(), got.lines().count(), "{got}\n{}", tail());
        for (sent, got) in sent.lines().zip(got.lines()) {
            let is_uri = !sent.is_empty() && !sent.starts_with('#') || sent.contains("URI=");
            let foreign = sent.contains("://") && !sent.contains(HOST);
            if !is_uri || foreign {
                assert_eq!(sent, got, "{}", tail());
                continue;
            }
            let ids: Vec<_> = got.split("spbhid=").skip(1).collect();
            assert_eq!(ids.len(), 1, "{got}\n{}", tail());
            let id = ids[0].split(['&', '"']).next().unwrap_or_default();
            assert!(sessions.contains_key(id), "{got} has no session\n{}", tail());
        }
    }

    /// The origin got what the client sent.
    #[track_caller]
    fn assert_receipt(&self, receipt: &Receipt) {
        let Receipt { n, message, .. } = receipt;
        let tail = || format!("request {n}: {:?}\n{}", message.start, self.world.tail());
        let request = &self.table.borrow()[*n].request;
        let target = at_origin(without_session(&request.target));
        assert_eq!(message.start, format!("{} {target} HTTP/1.1", request.method), "{}", tail());
        let mut fields = request.fields.clone();
        if request.reads_playlist() {
            fields
                .retain(|(name, _)| !matches!(name.as_str(), "Accept-Encoding" | "Range" | "If-None-Match"));
            assert_eq!(message.values("accept-encoding").collect::<Vec<_>>(), ["identity"], "{}", tail());
            assert_eq!(message.value("range"), None, "{}", tail());
        }
        assert!(contains_in_order(&message.fields, &fields), "fields {:?}\n{}", message.fields, tail());
        for name in ["x-hop", "keep-alive"] {
            assert_eq!(message.value(name), None, "{}", tail());
        }
        assert_eq!(message.value("host"), Some(HOST), "{}", tail());
        assert_eq!(message.value("x-real-ip"), Some(CLIENT), "{}", tail());
        assert_eq!(message.value("x-forwarded-for"), Some(CLIENT), "{}", tail());
        assert_eq!(message.value("x-forwarded-proto"), Some("http"), "{}", tail());
        let via = if request.old { "1.0 srs-proxy" } else { "1.1 srs-proxy" };
        assert_eq!(message.value("via"), Some(via), "{}", tail());
        // An offer is asked for by the proxy.
        assert_eq!(message.value("expect").is_some(), request.expects && !request.is_offer(), "{}", tail());
        let content = request.body.content();
        assert!(content.starts_with(&message.body), "another body\n{}", tail());
        assert!(!message.complete || message.body == content, "half a body looks whole\n{}", tail());
        let reuse = self.table.borrow()[*n].response.rest;
        assert!(!matches!(reuse, Rest::Keeps) || receipt.connection > 0);
    }
}

/// As the origin knows it: `/spbhid/<id>` is led by to the session only.
fn without_session(target: &str) -> &str {
    let id = target.strip_prefix("/spbhid/");
    id.and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(target)
}
