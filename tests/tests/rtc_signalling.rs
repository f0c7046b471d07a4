//! What real WebRTC stacks say to each other, led to the proxy and read by the parser that Firefox uses.

use rand_pcg::Pcg32;
use srs_proxy_core::http::{Connection, HttpConfig, Server};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Action, Actions, Cx, Input, Leg, Machine, Opened, Ticket};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked, Query, Report};
use srs_proxy_core::rtc::envelope;
use srs_proxy_core::rtc::sdp::{self, SdpError};
use srs_proxy_core::time::Time;
use srs_proxy_tests::signalling::{PORT, check_envelope, check_sdp};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use webrtc_sdp::SdpSession;
use webrtc_sdp::address::Address;
use webrtc_sdp::attribute_type::{SdpAttribute, SdpAttributeType};

const SESSIONS: [&str; 6] =
    ["whip-chromium", "whep-chromium", "whip-pion", "whep-pion", "whep-aiortc", "whip-delete"];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rtc").join(name)).expect("a fixture")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn parsed(sdp: &[u8]) -> SdpSession {
    let text = std::str::from_utf8(sdp).expect("UTF-8");
    webrtc_sdp::parse_sdp(text, false).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// The candidates of each media section: foundation and where to.
fn candidates(sdp: &[u8]) -> Vec<Vec<(String, IpAddr, u32)>> {
    let session = parsed(sdp);
    let of_media = session.media.iter().map(|media| {
        let all = media.get_attributes_of_type(SdpAttributeType::Candidate);
        let read = all.into_iter().map(|attribute| match attribute {
            SdpAttribute::Candidate(candidate) => match candidate.address {
                Address::Ip(ip) => (candidate.foundation.clone(), ip, candidate.port),
                Address::Fqdn(_) => panic!("a name: {candidate}"),
            },
            other => panic!("{other}"),
        });
        read.collect()
    });
    of_media.collect()
}

#[test]
fn real_answers_lead_to_the_proxy_and_read_as_before() {
    let origin = || (String::from("0"), ip("10.99.0.1"), u32::from(PORT));
    let set = [ip("203.0.113.7"), ip("2001:db8::7")];
    let proxy = || {
        let numbered = set.into_iter().zip(["1", "2"]);
        numbered.map(|(ip, foundation)| (foundation.to_owned(), ip, u32::from(PORT))).collect::<Vec<_>>()
    };
    for name in SESSIONS {
        let answer = fixture(&format!("{name}.answer.sdp"));
        let kept = check_sdp(&answer, &[]).expect("an answer");
        assert_eq!(candidates(&kept), [[origin()], [origin()]], "{name}");
        assert_eq!(candidates(&check_sdp(&answer, &set).expect("an answer")), [proxy(), proxy()], "{name}");
        assert_eq!(kept.len(), answer.len(), "ports of five digits both, nothing else: {name}");
    }
}

#[test]
fn answers_of_other_stacks_lead_to_the_proxy() {
    let set = [ip("203.0.113.7")];
    let proxy = || (String::from("1"), set[0], u32::from(PORT));
    for (name, sections) in [("by-pion", 1), ("by-aiortc", 2), ("by-chromium", 1)] {
        let answer = fixture(&format!("{name}.answer.sdp"));
        let led = candidates(&check_sdp(&answer, &set).expect("an answer"));
        let with_candidates: Vec<_> = led.into_iter().filter(|media| !media.is_empty()).collect();
        assert_eq!(with_candidates, vec![[proxy()]; sections], "{name}");
    }
    let addresses = |name: &str| {
        let led = check_sdp(&fixture(name), &[]).map(|answer| candidates(&answer));
        led.map(|led| led[0].iter().map(|(_, ip, _)| ip.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(addresses("by-pion.answer.sdp"), Ok(vec!["127.0.0.1".into()]), "the second component is gone");
    assert_eq!(addresses("by-aiortc.answer.sdp"), Ok(vec!["192.0.2.2".into(), "fd00::2".into()]));
    assert_eq!(addresses("by-chromium.answer.sdp"), Err(SdpError::NoCandidate), "names lead nowhere");
}

#[test]
fn the_users_of_real_sessions_are_those_that_srs_names() {
    // SRS's Location, and the session id in its JSON, are `server:client`.
    for (name, expected) in [
        ("whip-pion", "ht49l288:nlUuMxpwyIeCsDDq"),
        ("whep-aiortc", "8ph2ge83:Wf2v"),
        ("whip-delete", "d172j1x9:c7583d18"),
        ("whep-chromium", "e6w71khp:ASq+"),
    ] {
        let [answer, offer] = ["answer", "offer"].map(|kind| fixture(&format!("{name}.{kind}.sdp")));
        let user = [&answer, &offer].map(|sdp| sdp::ufrag(sdp).expect("a user name")).join(":");
        assert_eq!(user, expected);
    }
}

#[test]
fn real_envelopes_are_read_and_led_to_the_proxy() {
    for (name, stream) in [("legacy-publish", "live/pion"), ("legacy-play", "live/livestream")] {
        let offer = envelope::offer(&fixture(&format!("{name}.offer.json"))).expect("an offer");
        let (app, stream) = stream.split_once('/').expect("two parts");
        assert_eq!(Ok(offer.key), StreamKey::new("", app, stream));
        let json = fixture(&format!("{name}.answer.json"));
        let led = check_envelope(&json, &[ip("203.0.113.7")]).expect("an answer").expect("no refusal");
        let text = String::from_utf8(led).expect("UTF-8");
        let expected = String::from_utf8(json.clone()).expect("UTF-8").replace(
            "a=candidate:0 1 udp 2130706431 10.99.0.1 18003 typ host",
            "a=candidate:1 1 udp 2130706431 203.0.113.7 18000 typ host",
        );
        assert_eq!(text, expected, "and not a byte more");
        let answer = envelope::answer(&json, &sdp::Candidates { port: PORT, addresses: &[] });
        let users = answer.expect("an answer").expect("no refusal").ufrag + ":" + &offer.ufrag;
        assert!(text.contains(&format!("\"sessionid\":\"{users}\"")), "{users}");
    }
}

/// A client's connection to the HTTP API, step by step.
struct Api {
    machine: Connection,
    rng: Pcg32,
}

impl Api {
    fn new() -> Self {
        let peer = ([10, 0, 0, 9], 1234).into();
        let machine = Connection::new(Arc::new(HttpConfig::default()), Server::HttpApi, peer, Time::ZERO);
        Self { machine, rng: Pcg32::new(1, 1) }
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Action> {
        let mut actions = Actions::new();
        let mut cx = Cx { now: Time::ZERO, rng: &mut self.rng, actions: &mut actions };
        self.machine.handle(&mut cx, input).expect("no fault");
        actions.drain().collect()
    }

    /// Sends a request, and reaches its origin.
    fn ask(&mut self, request: &[u8]) -> Leg {
        let actions = self.input(Input::Stream { leg: Leg::CLIENT, bytes: request });
        let (ticket, Query::Pick { .. }) = asked(&actions).expect("a question") else {
            panic!("{actions:?}")
        };
        let picked = Picked { origin: OriginId::from_text("o"), to: ([10, 0, 0, 1], 1985).into() };
        let actions = self.input(Input::Answer { ticket, answer: Answer::Picked(picked) });
        let opened = actions.iter().find_map(|action| match action {
            Action::Open { leg, .. } => Some(*leg),
            _ => None,
        });
        let leg = opened.expect("a connection");
        self.input(Input::Opened { leg, what: Opened::Fresh });
        leg
    }
}

fn asked(actions: &[Action]) -> Option<(Ticket, Query)> {
    actions.iter().find_map(|action| match action {
        Action::Ask { ticket, query } => Some((*ticket, query.clone())),
        _ => None,
    })
}

/// What the client is sent.
fn sent(actions: &[Action]) -> String {
    let written = actions.iter().filter_map(|action| match action {
        Action::Write { to: Leg::CLIENT, bytes, .. } => Some(String::from_utf8_lossy(bytes)),
        _ => None,
    });
    written.collect()
}

fn message(start: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{start}\r\nHost: h\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn an_answer_waits_until_its_session_is_stored() {
    let mut api = Api::new();
    let target = "/rtc/v1/whip/?app=live&stream=a";
    let leg = api.ask(&message(&format!("POST {target} HTTP/1.1"), &fixture("whip-pion.offer.sdp")));
    let answer = message("HTTP/1.1 201 Created\r\nLocation: 7", &fixture("whip-pion.answer.sdp"));
    let actions = api.input(Input::Stream { leg, bytes: &answer });
    assert_eq!(sent(&actions), "", "nobody would know whose its checks are");
    let (ticket, Query::StoreRtc(session)) = asked(&actions).expect("a question") else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (&*session.username, session.key.as_str()),
        ("ht49l288:nlUuMxpwyIeCsDDq", "__defaultVhost__/live/a")
    );
    assert_eq!(&*session.resource, "/rtc/v1/whip/7");
    let actions = api.input(Input::Answer { ticket, answer: Answer::Rtc(Some(session)) });
    assert!(sent(&actions).starts_with("HTTP/1.1 201 Created\r\n"), "{actions:?}");
}

#[test]
fn a_restart_of_ice_is_a_session_of_the_same_resource() {
    let mut api = Api::new();
    let fragment = b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    let leg = api.ask(&message("PATCH /of/__defaultVhost__%2Flive%2Fa/session/1?x HTTP/1.1", fragment));
    let restarted = b"a=ice-ufrag:new1\r\na=ice-pwd:0123456789abcdef01234567\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:0 1 udp 1 10.99.0.1 8000 typ host\r\n";
    let actions = api.input(Input::Stream { leg, bytes: &message("HTTP/1.1 200 OK", restarted) });
    let (_, Query::StoreRtc(session)) = asked(&actions).expect("a question") else { panic!("{actions:?}") };
    assert_eq!((&*session.username, &*session.resource), ("new1:EsAw", "/session/1?x"));
}

#[test]
fn a_session_is_left_when_its_origin_says_so() {
    let of_stream =
        |resource: &str| Report::Left(StreamKey::new("", "live", "a").expect("a key"), resource.into());
    let named = "/rtc/v1/whip/?action=delete&app=live&stream=a&session=s:c";
    let elsewhere = "/session/1?app=live&stream=a";
    for (target, resource) in [
        (named, named),
        (elsewhere, elsewhere),
        ("/of/__defaultVhost__%2Flive%2Fa/session/1?x", "/session/1?x"),
    ] {
        for (status, is_over) in [
            ("200 OK", true),
            ("204 No Content", true),
            ("404 Not Found", true),
            ("410 Gone", true),
            ("401 Unauthorized", false),
            ("302 Found", false),
            ("500 Oops", false),
        ] {
            let mut api = Api::new();
            let leg = api.ask(format!("DELETE {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let actions = api.input(Input::Stream { leg, bytes: answer.as_bytes() });
            let told: Vec<_> = actions
                .iter()
                .filter_map(|action| match action {
                    Action::Tell(report) => Some(report.clone()),
                    _ => None,
                })
                .collect();
            assert_eq!(told, if is_over { vec![of_stream(resource)] } else { vec![] }, "{status}");
            assert!(sent(&actions).starts_with(&format!("HTTP/1.1 {status}\r\n")));
        }
    }
}

#[test]
fn a_process_that_drains_answers_offers_that_were_begun_and_takes_no_new_ones() {
    let offer = message("POST /rtc/v1/whip/?app=live&stream=a HTTP/1.1", &fixture("whip-pion.offer.sdp"));
    let mut api = Api::new();
    let leg = api.ask(&offer);
    api.input(Input::Drain);
    let answer = message("HTTP/1.1 201 Created\r\nLocation: 7", &fixture("whip-pion.answer.sdp"));
    let (ticket, query) = asked(&api.input(Input::Stream { leg, bytes: &answer })).expect("a question");
    let Query::StoreRtc(session) = query else { panic!("{query:?}") };
    let actions = api.input(Input::Answer { ticket, answer: Answer::Rtc(Some(session)) });
    assert!(sent(&actions).starts_with("HTTP/1.1 201 Created\r\n"), "{actions:?}");

    let of_resource = ["PATCH", "DELETE"].map(|method| {
        let target = "/of/__defaultVhost__%2Flive%2Fa/7";
        message(&format!("{method} {target} HTTP/1.1"), b"a=end-of-candidates\r\n")
    });
    for (request, is_new) in [(&offer, true), (&of_resource[0], false), (&of_resource[1], false)] {
        let mut api = Api::new();
        // Its head is not there yet.
        api.input(Input::Stream { leg: Leg::CLIENT, bytes: &request[..20] });
        api.input(Input::Drain);
        let actions = api.input(Input::Stream { leg: Leg::CLIENT, bytes: request });
        let is_refused = sent(&actions).starts_with("HTTP/1.1 503 Service Unavailable\r\n");
        assert_eq!((is_refused, asked(&actions).is_some()), (is_new, !is_new), "{actions:?}");
    }
}
