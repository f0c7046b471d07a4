use super::super::exchange::UPLOAD_TIMEOUT;
use super::*;
use crate::key::StreamKey;
use crate::machine::Actions;
use crate::origin::Origin;
use crate::origin::OriginId;
use crate::query::{Answer, Health, OriginStatus, Refusal, Report};
use crate::usage::USE_INTERVAL;
use alloc::collections::VecDeque;
use alloc::format;
use proptest::prelude::*;
use rand_pcg::Pcg32;
use serde_json::{Value, json};

const GOOD: &str = r#"{"ip":"10.0.0.1","server":"s","service":"v","pid":"7","rtmp":["1935"]}"#;

/// A client of one connection, with the driver's part: keeps what is not consumed, honours pauses.
struct Client {
    api: Connection,
    now: Time,
    rng: Pcg32,
    kept: Vec<u8>,
    paused: bool,
    /// What was kept is to be offered again.
    resumed: bool,
    closed: bool,
    received: Vec<u8>,
    asked: VecDeque<(Ticket, Query)>,
    notes: usize,
    /// Answers questions at once.
    balancer: fn(&Query) -> Option<Answer>,
}

fn origin() -> Origin {
    Origin::from_json(GOOD.as_bytes()).unwrap()
}

fn obliging(query: &Query) -> Option<Answer> {
    Some(match query {
        Query::Register(_) => Answer::Registered,
        Query::Origins => Answer::Origins(
            [(Health::Alive, 1_234_567), (Health::Quarantined, 0), (Health::Dead, 9), (Health::Draining, 0)]
                .map(|(health, heartbeat_age)| OriginStatus {
                    origin: origin(),
                    health,
                    heartbeat_age,
                    streams: [StreamKey::new("", "live", "a").unwrap()].into(),
                })
                .into(),
        ),
        Query::Drain { origin: id, .. } | Query::Deregister(id) => Answer::Known(*id == origin().id()),
        _ => Answer::Refused(Refusal::NoOrigin),
    })
}

fn silent(_: &Query) -> Option<Answer> {
    None
}

impl Client {
    fn new(server: Server, token: Option<&str>) -> Self {
        let config = HttpConfig {
            pid: "42".into(),
            signature: "srs-proxy".into(),
            version: [1, 2, 3],
            token: token.map(Into::into),
            ..HttpConfig::default()
        };
        let peer = SocketAddr::from(([10, 0, 0, 9], 1234));
        Self {
            api: Connection::new(Arc::new(config), server, peer, Time::ZERO),
            now: Time::ZERO,
            rng: Pcg32::new(1, 1),
            kept: Vec::new(),
            paused: false,
            resumed: false,
            closed: false,
            received: Vec::new(),
            asked: VecDeque::new(),
            notes: 0,
            balancer: obliging,
        }
    }

    fn system() -> Self {
        Self::new(Server::System, None)
    }

    fn input(&mut self, input: Input<'_>) -> usize {
        let mut actions = Actions::new();
        let mut cx = Cx { now: self.now, rng: &mut self.rng, actions: &mut actions };
        let used = self.api.handle(&mut cx, input).unwrap();
        for action in actions.drain() {
            match action {
                Action::Write { to: Leg::CLIENT, peer: None, bytes } if !self.closed => {
                    self.received.extend(bytes)
                }
                Action::Pause { leg: Leg::CLIENT } => self.paused = true,
                Action::Resume { leg: Leg::CLIENT } if !self.closed => {
                    self.paused = false;
                    self.resumed = true;
                }
                Action::Close { leg: Leg::CLIENT, how: Close::Flush } if !self.closed => self.closed = true,
                Action::Ask { ticket, query } => self.asked.push_back((ticket, query)),
                Action::Note { .. } => self.notes += 1,
                other => panic!("{other:?}"),
            }
        }
        used
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.kept.extend_from_slice(bytes.as_ref());
        loop {
            if !self.paused && !self.closed && !self.kept.is_empty() {
                let bytes = core::mem::take(&mut self.kept);
                let used = self.input(Input::Stream { leg: Leg::CLIENT, bytes: &bytes });
                self.kept = bytes[used..].to_vec();
            }
            if core::mem::take(&mut self.resumed) && !self.kept.is_empty() {
                continue;
            }
            let Some((ticket, query)) = self.asked.front() else { return };
            let Some(answer) = (self.balancer)(query) else { return };
            let ticket = *ticket;
            self.asked.pop_front();
            self.input(Input::Answer { ticket, answer });
        }
    }

    fn tick_after(&mut self, wait: Duration) {
        self.now = self.now + wait;
        self.input(Input::Tick);
    }

    /// The responses received since the last call: status, head, body.
    fn responses(&mut self) -> Vec<(u16, String, String)> {
        let received = core::mem::take(&mut self.received);
        let mut text = core::str::from_utf8(&received).unwrap();
        let mut responses = Vec::new();
        while !text.is_empty() {
            let (head, rest) = text.split_once("\r\n\r\n").unwrap();
            let length = head
                .split_once("Content-Length: ")
                .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            let (body, rest) = rest.split_at(length.min(rest.len()));
            responses.push((head[9..12].parse().unwrap(), head.into(), body.into()));
            text = rest;
        }
        responses
    }

    fn request(&mut self, request: impl AsRef<[u8]>) -> (u16, String, Value) {
        self.send(request);
        let mut responses = self.responses();
        let Some((status, head, body)) = responses.pop() else { panic!("no response") };
        assert!(responses.is_empty(), "{responses:?}");
        (status, head, serde_json::from_str(&body).unwrap_or(Value::Null))
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn request(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn post(body: &str, fields: &str) -> String {
    let length = body.len();
    format!("POST /api/v1/srs/register HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

#[test]
fn versions_have_the_shape_of_their_server() {
    for server in [Server::System, Server::HttpApi] {
        let (status, head, body) = Client::new(server, Some("secret")).request(get("/api/v1/versions?x=y"));
        assert_eq!((status, body), (200, json!({"signature": "srs-proxy", "version": "1.2.3"})));
        assert!(
            head.contains("\r\nServer: srs-proxy/1.2.3\r\n") && head.contains("Allow-Origin: *"),
            "{head}"
        );
    }
    let data = json!({"major": 1, "minor": 2, "revision": 3, "version": "1.2.3"});
    let (status, _, body) = Client::new(Server::Http, None).request(get("/api/v1/versions"));
    assert_eq!((status, body), (200, json!({"code": 0, "pid": "42", "data": data})));
}

#[test]
fn a_registration_reaches_the_load_balancer_and_is_confirmed() {
    let mut client = Client::system();
    client.balancer = silent;
    client.send(post(GOOD, ""));
    assert!(client.received.is_empty());
    let (ticket, query) = client.asked.pop_front().unwrap();
    assert_eq!(query, Query::Register(origin()));
    client.input(Input::Answer { ticket: Ticket(ticket.0 + 1), answer: Answer::Registered });
    assert!(client.received.is_empty(), "another question's answer");
    client.input(Input::Answer { ticket, answer: Answer::Registered });
    assert_eq!(client.responses().pop().unwrap().2, r#"{"code":0,"pid":"42"}"#);
    assert!(!client.paused && !client.closed);
}

#[test]
fn srs_recorded_request_is_served() {
    let body = r#"{"device_id":"origin1","ip":"127.0.0.1","server":"vid-tn77780","service":"ns8dh1ub","pid":"17302","rtmp":["18000"],"http":["18001"],"api":["18002"],"srt":["udp://0.0.0.0:18004"],"rtc":["udp://0.0.0.0:18003"]}"#;
    let head = "POST /api/v1/srs/register HTTP/1.1\r\nConnection: Keep-Alive\r\nContent-Length: 208\r\n\
                Content-Type: application/json\r\nHost: 127.0.0.1:12025\r\nUser-Agent: SRS/7.0.18(Hang)\r\n\r\n";
    let (status, _, answer) = Client::system().request(format!("{head}{body}"));
    assert_eq!((status, answer), (200, json!({"code": 0, "pid": "42"})));
}

#[test]
fn a_bad_registration_is_refused_by_name_and_asks_nothing() {
    let mut client = Client::system();
    client.balancer = |query| panic!("{query:?}");
    for (body, message) in [
        ("", "body: not a JSON object"),
        ("{}", "ip: mandatory, but missing or empty"),
        (r#"{"ip":"10.0.0.1","server":"s","service":"v","pid":7}"#, "pid: not a string"),
    ] {
        let (status, _, answer) = client.request(post(body, ""));
        assert_eq!((status, answer), (400, json!({"code": 400, "message": message})));
    }
    assert_eq!(client.notes, 3);
    assert!(!client.closed, "the connection is still good");
}

#[test]
fn origins_are_listed_with_health_and_streams() {
    let (status, _, body) = Client::system().request(get("/api/v1/origins"));
    assert_eq!(status, 200);
    assert_eq!((&body["code"], &body["pid"]), (&json!(0), &json!("42")));
    let list = body["data"]["origins"].as_array().unwrap();
    assert_eq!(
        list[0],
        json!({
            "id": OriginId::new("s", "v", "7").as_str(), "device_id": "", "server": "s", "service": "v", "pid": "7",
            "health": "alive", "heartbeat_age_ms": 1234, "endpoints": {"rtmp": ["10.0.0.1:1935"]},
            "streams": ["__defaultVhost__/live/a"],
        })
    );
    let health: Vec<_> = list.iter().map(|origin| origin["health"].as_str().unwrap()).collect();
    assert_eq!(health, ["alive", "quarantined", "dead", "draining"]);
}

#[test]
fn the_token_guards_all_but_the_version() {
    let mut client = Client::new(Server::System, Some("secret"));
    let refused = [
        "",
        "Authorization: Bearer secreT\r\n",
        "Authorization: Bearer secret2\r\n",
        "Authorization: secret\r\n",
    ];
    for fields in refused {
        let (status, head, body) = client.request(post(GOOD, fields));
        assert_eq!((status, &body["code"]), (401, &json!(401)), "{fields}");
        assert!(head.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{head}");
    }
    assert_eq!(client.request(get("/api/v1/origins")).0, 401);
    let token = "Authorization: Bearer secret\r\n";
    for line in [
        "POST /api/v1/origins/s-v-7/drain",
        "DELETE /api/v1/origins/s-v-7/drain",
        "DELETE /api/v1/origins/s-v-7",
    ] {
        assert_eq!(client.request(request(line, "")).0, 401, "{line}");
        assert_eq!(client.request(request(line, token)).0, 200, "{line}");
    }
    assert_eq!(client.request(get("/api/v1/versions")).0, 200);
    assert_eq!(client.request(post(GOOD, "Authorization: Bearer secret\r\n")).0, 200);
}

#[test]
fn an_origin_is_drained_and_deregistered_by_its_id() {
    for (line, asks) in [
        ("POST /api/v1/origins/s-v-7/drain", Query::Drain { origin: origin().id(), on: true }),
        ("DELETE /api/v1/origins/s-v-7/drain", Query::Drain { origin: origin().id(), on: false }),
        ("DELETE /api/v1/origins/s%2Dv-7?why=x", Query::Deregister(origin().id())),
        ("DELETE /api/v1/origins/a%2Fb%20%E7%9B%B4", Query::Deregister(OriginId::from_text("a/b 直"))),
    ] {
        let mut client = Client::system();
        client.balancer = silent;
        client.send(request(line, ""));
        let (ticket, query) = client.asked.pop_front().unwrap();
        assert_eq!(query, asks, "{line}");
        client.input(Input::Answer { ticket, answer: Answer::Known(true) });
        let (status, head, body) = client.responses().pop().unwrap();
        assert_eq!((status, &*body), (200, r#"{"code":0,"pid":"42"}"#), "{line}");
        assert!(!head.contains("Access-Control"), "{head}");
    }
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let register = |fields: &str| post(GOOD, fields);
    let drain = |fields: &str| request("POST /api/v1/origins/s-v-7/drain", fields);
    let delete = |fields: &str| request("DELETE /api/v1/origins/s-v-7", fields);
    for (origin, status) in [
        ("Origin: http://page.net\r\n", 403),
        ("Origin: http://h:8080\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin:\r\n", 403),
        ("Origin: h\r\n", 403),
        ("Origin: http://h\r\nOrigin: http://page.net\r\n", 403),
        ("Origin: http://H\r\n", 200),
        ("Referer: http://page.net/\r\n", 200),
    ] {
        for ask in [register(origin), drain(origin), delete(origin)] {
            let mut client = Client::system();
            let (answered, head, body) = client.request(&ask);
            assert_eq!(
                (answered, &body["code"]),
                (status, &json!(if status == 200 { 0 } else { 403 })),
                "{ask}"
            );
            assert!(!head.contains("Access-Control"), "{head}");
        }
    }
    let mut client = Client::new(Server::System, Some("secret"));
    let fields = "Origin: http://console.net\r\nAuthorization: Bearer secret\r\n";
    assert_eq!(client.request(request("GET /api/v1/origins", fields)).0, 200, "they may read");
    assert_eq!(client.request(request("GET /api/v1/versions", fields)).0, 200);
    assert_eq!(client.request(request("OPTIONS /api/v1/srs/register", fields)).0, 204);
}

#[test]
fn an_origin_that_is_not_there_cannot_be_drained() {
    let mut client = Client::system();
    for line in ["POST /api/v1/origins/s-v-8/drain", "DELETE /api/v1/origins/s-v-8"] {
        let (status, _, body) = client.request(request(line, ""));
        assert_eq!((status, body), (404, json!({"code": 404, "message": "no such origin"})), "{line}");
    }
    client.balancer = |query| panic!("{query:?}");
    for path in
        ["", "/drain", "s-v-7/", "s-v-7/other", "s-v-7/drain/", "s-v-7/drain/x", "%zz", "%ff/drain", "%"]
    {
        let (status, _, body) = client.request(request(&format!("DELETE /api/v1/origins/{path}"), ""));
        assert_eq!((status, &body["message"]), (404, &json!("no such resource")), "{path}");
    }
    let (status, head, _) = client.request(get("/api/v1/origins/s-v-7"));
    assert!(status == 405 && head.contains("\r\nAllow: DELETE, OPTIONS\r\n"), "{head}");
    let (status, head, _) = client.request(request("OPTIONS /api/v1/origins/s-v-7/drain", ""));
    assert!(status == 204 && head.contains("\r\nAllow: POST, DELETE, OPTIONS"), "{head}");
    assert!(!head.contains("Access-Control"), "{head}");
    assert!(!client.closed);
    for server in [Server::HttpApi, Server::Http] {
        let mut client = Client::new(server, None);
        client.balancer = |query| panic!("{query:?}");
        assert_ne!(client.request(request("DELETE /api/v1/origins/s-v-7", "")).0, 200);
    }
}

#[test]
fn what_is_not_there_or_not_allowed_is_said_in_json() {
    let mut client = Client::system();
    let (status, _, body) = client.request(get("/api/v1/nothing"));
    assert_eq!((status, body), (404, json!({"code": 404, "message": "no such resource"})));
    let (status, head, body) = client.request(get("/api/v1/srs/register"));
    assert_eq!((status, &body["code"]), (405, &json!(405)));
    assert!(head.contains("\r\nAllow: POST, OPTIONS\r\n"), "{head}");
    let (status, head, _) =
        client.request("DELETE /api/v1/versions HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxx");
    assert!(status == 405 && head.contains("Allow: GET, HEAD, OPTIONS"), "{head}");
    assert!(!client.closed);
    for path in ["/api/v1/srs/register", "/api/v1/origins"] {
        assert_eq!(Client::new(Server::HttpApi, None).request(get(path)).0, 404);
        assert_eq!(Client::new(Server::Http, None).request(get(path)).0, 404);
    }
}

#[test]
fn options_describe_a_resource_and_let_pages_read_only() {
    let mut client = Client::new(Server::System, Some("secret"));
    let options = |path: &str| format!("OPTIONS {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let (status, head, _) = client.request(options("/api/v1/origins"));
    assert!(status == 204 && head.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{head}");
    assert!(
        head.contains("Access-Control-Allow-Headers: Authorization") && !head.contains("\r\nContent-Length")
    );
    let (status, head, _) = client.request(options("/api/v1/srs/register"));
    assert!(
        status == 204 && head.contains("Allow: POST, OPTIONS") && !head.contains("Access-Control"),
        "{head}"
    );
    assert_eq!(client.request(options("*")).0, 204);
    assert_eq!(client.request(options("/nothing")).0, 404);
}

#[test]
fn head_is_get_without_the_body() {
    let mut client = Client::system();
    client.send("HEAD /api/v1/versions HTTP/1.1\r\nHost: h\r\n\r\n");
    let text = String::from_utf8(core::mem::take(&mut client.received)).unwrap();
    assert!(text.ends_with("Content-Length: 43\r\n\r\n"), "{text}");
    client.send(get("/api/v1/versions"));
    assert_eq!(client.responses().pop().unwrap().2.len(), 43);
}

#[test]
fn connections_are_kept_as_the_client_wishes() {
    for (request, kept) in [
        ("GET /api/v1/versions HTTP/1.1\r\nHost: h\r\n\r\n", None),
        ("GET /api/v1/versions HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET /api/v1/versions HTTP/1.0\r\n\r\n", Some("close")),
        ("GET /api/v1/versions HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
    ] {
        let mut client = Client::system();
        let (status, head, _) = client.request(request);
        let said = head.split_once("Connection: ").map(|(_, rest)| rest.split("\r\n").next().unwrap());
        assert_eq!((status, said, client.closed), (200, kept, kept == Some("close")), "{request}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut client = Client::system();
    let requests =
        [get("/api/v1/versions"), post(GOOD, ""), get("/x"), get("/api/v1/origins"), get("/api/v1/versions")];
    client.send(requests.concat());
    let statuses: Vec<_> =
        client.responses().into_iter().map(|(status, _, body)| (status, body.len() > 60)).collect();
    assert_eq!(statuses, [(200, false), (200, false), (404, false), (200, true), (200, false)]);
}

#[test]
fn the_driver_has_its_turn_between_answers_that_need_no_waiting() {
    let mut client = Client::new(Server::Http, None);
    let both = get("/a.html").repeat(2);
    let used = client.input(Input::Stream { leg: Leg::CLIENT, bytes: both.as_bytes() });
    assert_eq!((used, client.responses().len(), client.resumed), (both.len() / 2, 1, true));
}

#[test]
fn bodies_that_cannot_be_read_are_refused_and_the_connection_closed() {
    let chunked =
        "POST /api/v1/srs/register HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let large = |length: u64| {
        format!("POST /api/v1/srs/register HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
    };
    for (request, status) in [
        (chunked.into(), 411),
        (large(MAX_BODY as u64 + 1), 413),
        (large(u64::MAX), 413),
        (post("{}", "Expect: tea\r\n"), 417),
        (post("{}", "Content-Length: 2\r\n"), 400),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)), 431),
        ("GET / HTTP/1.1\n\n".into(), 400),
        ("GET / HTTP/3.0\r\n\r\n".into(), 505),
    ] {
        let mut client = Client::system();
        let (answered, head, body) = client.request(&request);
        assert_eq!((answered, &body["code"]), (status, &json!(status)), "{request}");
        assert!(
            client.closed
                && head.contains("Connection: close")
                && client.kept.is_empty()
                && client.notes == 1
        );
    }
    let mut client = Client::system();
    client.balancer = |query| panic!("{query:?}");
    assert_eq!(client.request(post(&" ".repeat(MAX_BODY), "")).0, 400);
}

#[test]
fn a_client_that_waits_for_a_word_gets_it_before_the_body() {
    let mut client = Client::system();
    let request = post(GOOD, "Expect: 100-continue\r\n");
    let (head, body) = request.split_at(request.len() - GOOD.len());
    client.send(head);
    assert_eq!(core::mem::take(&mut client.received), CONTINUE);
    assert_eq!(client.request(body).0, 200);

    let mut guarded = Client::new(Server::System, Some("secret"));
    assert_eq!(guarded.request(head).0, 401);
    assert!(guarded.closed, "the body was not read");
}

#[test]
fn late_heads_and_bodies_are_told_so_and_idle_connections_closed_silently() {
    let mut client = Client::system();
    client.send("GET / HT");
    client.tick_after(HEAD_TIMEOUT);
    assert_eq!(client.responses().pop().unwrap().0, 408);
    assert!(client.closed);

    let mut client = Client::system();
    client.send(&post(GOOD, "")[..100]);
    client.tick_after(BODY_TIMEOUT);
    assert_eq!(client.responses().pop().unwrap().0, 408);
    assert!(client.closed);

    let mut client = Client::system();
    client.tick_after(HEAD_TIMEOUT);
    assert!(client.closed && client.received.is_empty());

    let mut client = Client::system();
    client.request(get("/api/v1/versions"));
    client.tick_after(IDLE_TIMEOUT - Duration::from_micros(1));
    assert!(!client.closed);
    client.tick_after(Duration::from_micros(1));
    assert!(client.closed && client.received.is_empty());
    assert_eq!(client.api.deadline(), None);
}

#[test]
fn bytes_one_by_one_do_not_put_the_deadline_off() {
    let mut client = Client::system();
    for byte in get("/api/v1/versions").as_bytes().chunks(1).take(20) {
        client.send(byte);
        client.now = client.now + Duration::from_secs(1);
    }
    assert_eq!(client.api.deadline(), Some(Time::ZERO + HEAD_TIMEOUT));
}

#[test]
fn a_load_balancer_that_refuses_or_is_silent_gives_503() {
    let mut client = Client::system();
    for balancer in [
        |_: &Query| Some(Answer::Refused(Refusal::Unavailable)),
        |_: &Query| Some(Answer::Refused(Refusal::Full)),
    ] {
        client.balancer = balancer;
        let (status, _, body) = client.request(post(GOOD, ""));
        assert_eq!((status, &body["code"]), (503, &json!(503)));
    }
    client.balancer = silent;
    client.send(post(GOOD, ""));
    client.tick_after(ANSWER_TIMEOUT);
    assert_eq!(client.responses().pop().unwrap().0, 503);
    let (ticket, _) = client.asked.pop_front().unwrap();
    client.input(Input::Answer { ticket, answer: Answer::Registered });
    assert!(client.received.is_empty(), "an answer that is too late is dropped");
    assert_eq!(client.request(get("/api/v1/versions")).0, 200);
}

#[test]
fn a_playlist_is_found_by_its_name_where_its_session_cannot_be() {
    for answer in [Answer::Hls(None), Answer::Refused(Refusal::Unavailable)] {
        for (target, is_found) in [("/live/a.m3u8?spbhid=1", true), ("/live/a-1.ts?spbhid=1", false)] {
            let mut client = Client::new(Server::Http, None);
            client.balancer = silent;
            client.send(get(target));
            let Some((ticket, Query::LoadHls(_))) = client.asked.pop_front() else { panic!("{target}") };
            client.input(Input::Answer { ticket, answer: answer.clone() });
            let picks =
                client.asked.pop_front().is_some_and(|(_, query)| matches!(query, Query::Pick { .. }));
            assert_eq!((picks, client.responses().is_empty()), (is_found, is_found), "{target} {answer:?}");
        }
    }
}

/// A client whose request has reached its origin, by hand.
struct Reached {
    connection: Connection,
    now: Time,
    origin: Leg,
}

impl Reached {
    /// After this request, with this at the other end.
    fn new(request: &[u8], what: Opened) -> Self {
        let peer = SocketAddr::from(([10, 0, 0, 9], 1234));
        let connection = Connection::new(Arc::new(HttpConfig::default()), Server::Http, peer, Time::ZERO);
        let mut reached = Self { connection, now: Time::ZERO, origin: Leg::CLIENT };
        let actions = reached.input(Input::Stream { leg: Leg::CLIENT, bytes: request });
        let Some(Action::Ask { ticket, .. }) = actions.last() else { panic!("{actions:?}") };
        let picked = Answer::Picked(crate::query::Picked { origin: origin().id(), to: peer });
        let actions = reached.input(Input::Answer { ticket: *ticket, answer: picked });
        let Some(Action::Open { leg, .. }) = actions.last() else { panic!("{actions:?}") };
        reached.origin = *leg;
        reached.input(Input::Opened { leg: *leg, what });
        reached
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Action> {
        let mut actions = Actions::new();
        let mut cx = Cx { now: self.now, rng: &mut Pcg32::new(1, 1), actions: &mut actions };
        let _ = self.connection.handle(&mut cx, input);
        actions.drain().collect()
    }

    /// What the load balancer is told at this input, so much later.
    fn told(&mut self, later: Duration, input: Input<'_>) -> Vec<Report> {
        self.now = self.now + later;
        let reports = self.input(input).into_iter().filter_map(|action| match action {
            Action::Tell(report) => Some(report),
            _ => None,
        });
        reports.collect()
    }
}

/// What is held for a viewer of a live stream is held by the hundred thousand.
#[test]
fn a_request_is_forgotten_once_its_answer_begins() {
    let request = b"GET /live/a.flv?token=secret HTTP/1.1\r\nHost: h\r\n\r\n";
    // It may have to be sent again, if a connection that served before turns out to be dead.
    for (what, is_held) in [(Opened::Fresh, false), (Opened::Reused, true)] {
        let mut viewer = Reached::new(request, what);
        assert_eq!(format!("{:?}", viewer.connection).contains("secret"), is_held);
        viewer.input(Input::Stream { leg: viewer.origin, bytes: b"HTTP/1.1 200 OK\r\n\r\nFLV" });
        let held = format!("{:?}", viewer.connection);
        assert!(held.contains("Endless") && !held.contains("secret"), "{held}");
    }
    assert!(size_of::<Connection>() + size_of::<Exchange>() <= 512);
}

#[test]
fn who_sends_a_stream_is_its_publisher_until_it_ends() {
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let key = StreamKey::new("", "live", "a").unwrap();
    let begins = [Report::Publishing(key.clone(), origin().id())];
    let ends = [Report::Ended(key, origin().id())];
    let body = |bytes| Input::Stream { leg: Leg::CLIENT, bytes };
    let gone = || Input::Eof { leg: Leg::CLIENT, broken: true };
    let publisher = || {
        let mut publisher = Reached::new(post("/live/a.flv").as_bytes(), Opened::Fresh);
        assert_eq!(publisher.told(Duration::ZERO, body(b"3\r\nFLV\r\n")), []);
        assert_eq!(publisher.told(USE_INTERVAL, Input::Tick), begins);
        assert_eq!(publisher.told(USE_INTERVAL, Input::Tick), begins);
        publisher
    };
    assert_eq!(publisher().told(Duration::ZERO, gone()), ends);
    assert_eq!(publisher().told(Duration::ZERO, Input::Stop), ends);
    assert_eq!(publisher().told(Duration::ZERO, body(b"broken\r\n")), ends);
    assert_eq!(publisher().told(UPLOAD_TIMEOUT, Input::Tick).last(), ends.last());
    let mut publisher = publisher();
    assert_eq!(publisher.told(Duration::ZERO, body(b"0\r\n\r\n")), []);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let answer = Input::Stream { leg: publisher.origin, bytes: answer };
    assert_eq!(publisher.told(Duration::ZERO, answer), ends);

    // What takes no longer than a segment is no publisher, nor is what goes where no stream would.
    let mut segment = Reached::new(post("/live/a-1.ts").as_bytes(), Opened::Fresh);
    assert_eq!(segment.told(Duration::from_secs(2), gone()), []);
    let mut playlist = Reached::new(post("/live/a.m3u8").as_bytes(), Opened::Fresh);
    assert_eq!(playlist.told(USE_INTERVAL, Input::Tick), []);
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer() {
    let mut client = Client::system();
    client.balancer = silent;
    client.send(post(GOOD, ""));
    client.input(Input::Eof { leg: Leg::CLIENT, broken: false });
    assert!(!client.closed);
    client.balancer = obliging;
    client.send("");
    let (status, head, _) = client.responses().pop().unwrap();
    assert!(status == 200 && head.contains("Connection: close") && client.closed);

    let mut client = Client::system();
    client.send("GET /");
    client.input(Input::Eof { leg: Leg::CLIENT, broken: false });
    assert!(client.closed && client.received.is_empty());
}

#[test]
fn the_token_is_not_in_debug_output() {
    let client = Client::new(Server::System, Some("secret"));
    assert!(!format!("{:?}", client.api).contains("secret"));
}

/// Everything a connection gives when its bytes arrive in these pieces.
fn transcript(bytes: &[u8], cuts: &[usize]) -> (String, bool, usize) {
    let mut client = Client::new(Server::System, Some("secret"));
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        client.send(&bytes[start..end]);
        start = end;
    }
    (String::from_utf8(client.received).unwrap(), client.closed, client.notes)
}

proptest! {
    #[test]
    fn answers_are_the_same_however_requests_are_split(
        picks in prop::collection::vec(0..12_usize, 0..8),
        mut cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        let auth = "Authorization: Bearer secret\r\n";
        let requests = [
            get("/api/v1/versions"),
            get("/nothing"),
            post(GOOD, auth),
            post(GOOD, ""),
            post("{}", auth),
            post(GOOD, "Authorization: Bearer secret\r\nExpect: 100-continue\r\n"),
            format!("GET /api/v1/origins HTTP/1.1\r\nHost: h\r\n{auth}\r\n"),
            "\r\n".into(),
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "HEAD /api/v1/versions HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            post(GOOD, "Expect: 100-continue\r\n"),
            "GET / HTTP/1.1\n".into(),
        ];
        let bytes = picks.iter().map(|pick| requests[*pick].as_str()).collect::<String>().into_bytes();
        for cut in &mut cuts {
            *cut %= bytes.len() + 1;
        }
        cuts.sort_unstable();
        let whole = transcript(&bytes, &[]);
        prop_assert_eq!(&whole, &transcript(&bytes, &cuts));
        prop_assert_eq!(&whole, &transcript(&bytes, &(0..bytes.len()).collect::<Vec<_>>()));
    }

    #[test]
    fn any_bytes_are_survived(pieces: Vec<Vec<u8>>) {
        let mut client = Client::system();
        for piece in pieces {
            client.send(piece);
        }
    }
}
