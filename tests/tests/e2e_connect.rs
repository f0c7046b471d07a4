//! From connect to the first media, or to a refusal: what the origin is told, and what the client is told.

use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::session::Session;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use srs_proxy_tests::rtmp::amf0::Value;
use srs_proxy_tests::rtmp::command::connect_object;
use srs_proxy_tests::rtmp::{ClientScript, Event, OriginScript, Refuse, Role};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Within this a client knows that there is no stream for it: 5 s, and what a busy machine adds.
const REFUSED_WITHIN: Duration = Duration::from_secs(8);

/// A payload of `connect` up to its command object: the name and the transaction's number, AMF0.
const BEFORE_OBJECT: usize = 1 + 2 + "connect".len() + 1 + 8;

fn recorder(refuse: Option<Refuse>) -> Recorder {
    Recorder::start(Behaviour::Answer(OriginScript { refuse, ..OriginScript::default() }))
}

fn proxy_to(rtmp: SocketAddr) -> Proxy {
    let proxy = Proxy::start();
    proxy.register("origin", "1", rtmp);
    proxy
}

/// Properties of Enhanced RTMP, and some that nobody knows.
fn unusual() -> Vec<(String, Value)> {
    [
        ("fourCcList", Value::StrictArray(["av01", "hvc1", "vp09"].map(Value::string).into())),
        ("videoFourCcInfoMap", Value::object([("*", Value::Number(4.0)), ("hvc1", Value::Number(7.0))])),
        ("capsEx", Value::Number(15.0)),
        ("pageUrl", Value::string("http://example.com/page?a=1&b=2")),
        ("swfUrl", Value::Undefined),
        ("objectEncoding", Value::Number(0.0)),
        ("audioCodecs", Value::Number(3575.0)),
        ("fpad", Value::Boolean(false)),
        ("nothing", Value::Null),
        ("at", Value::Date(1.7e12, 0)),
        ("map", Value::EcmaArray(vec![("k".into(), Value::string("v"))])),
        ("long", Value::string("x".repeat(70_000))),
        ("größe", Value::string("ünïcödé")),
        ("", Value::string("a property without a name")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[test]
fn the_origin_receives_the_clients_own_connect_object() {
    let origin = recorder(None);
    let proxy = proxy_to(origin.rtmp());
    for role in [Role::Publish, Role::Play] {
        let script = ClientScript {
            role,
            tc_url: "rtmp://media.example.com:1935/live?vhost=v.example.com&token=abc".into(),
            app: "live?vhost=v.example.com&token=abc".into(),
            extra: unusual(),
            ..ClientScript::publish("", "x?secret=s&t=1")
        };
        let object = connect_object(&script.app, &script.tc_url, &script.extra);
        let mut sent = Vec::new();
        object.encode(&mut sent);

        let before = origin.records().len();
        let mut client = Session::start(proxy.rtmp(), script);
        client.wait_started(PATIENCE);
        let record = origin.records().into_iter().nth(before).expect("a connection of the proxy");
        let received = record.command("connect").expect("a connect command");
        assert_eq!(&received[BEFORE_OBJECT..], &sent[..], "{role:?}: the object's bytes");
        assert!(record.events.contains(&Event::Connected(object)), "{role:?}");
        assert_eq!(record.stream(), Some("x?secret=s&t=1"), "{role:?}");
        assert_eq!(proxy.holders("v.example.com/live/x"), ["origin"]);
    }
}

#[test]
fn a_client_that_waits_for_no_answer_is_served() {
    let origin = recorder(None);
    let proxy = proxy_to(origin.rtmp());
    for role in [Role::Publish, Role::Play] {
        let script = ClientScript { role, pipelined: true, ..ClientScript::publish("live", "x") };
        Session::start(proxy.rtmp(), script).wait_started(PATIENCE);
    }
}

#[test]
fn an_origins_refusal_of_a_publisher_reaches_it_as_it_is() {
    let refuse = Refuse::Publish("NetStream.Publish.BadName".into(), "busy, says the origin".into());
    let origin = recorder(Some(refuse));
    let proxy = proxy_to(origin.rtmp());
    let mut client = Session::start(proxy.rtmp(), ClientScript::publish("live", "x"));
    client.wait("the origin's own status", REFUSED_WITHIN, |client| client.refusal().is_some());
    assert_eq!(client.refusal(), Some(("NetStream.Publish.BadName", "busy, says the origin")));
    assert!(!client.is_started());
}

#[test]
fn an_origins_refusal_of_a_player_reaches_it_as_it_is() {
    let refuse = Refuse::Play("NetStream.Play.Failed".into(), "no, says the origin".into());
    let origin = recorder(Some(refuse));
    let proxy = proxy_to(origin.rtmp());
    let mut client = Session::start(proxy.rtmp(), ClientScript::play("live", "x"));
    client.wait("the origin's own status", REFUSED_WITHIN, |client| client.refusal().is_some());
    assert_eq!(client.refusal(), Some(("NetStream.Play.Failed", "no, says the origin")));
    assert!(!client.is_started());
}

#[test]
fn an_origins_refusal_to_connect_reaches_the_client_as_it_is() {
    let refuse = Refuse::Connect("NetConnection.Connect.Rejected".into(), "wrong token".into());
    let origin = recorder(Some(refuse));
    let proxy = proxy_to(origin.rtmp());
    for role in [Role::Publish, Role::Play] {
        let mut client =
            Session::start(proxy.rtmp(), ClientScript { role, ..ClientScript::publish("live", "x") });
        client.wait("the origin's own error", REFUSED_WITHIN, |client| {
            client.events().iter().any(|event| match event {
                Event::Command(command) => {
                    command.name == "_error"
                        && command.info("code") == "NetConnection.Connect.Rejected"
                        && command.info("description") == "wrong token"
                }
                _ => false,
            })
        });
        assert!(!client.is_started());
    }
}

/// Publisher and player are told so by a status of level error, and the connection is closed.
#[track_caller]
fn assert_both_refused(proxy: &Proxy) {
    for (role, codes) in [(Role::Publish, "NetStream.Publish."), (Role::Play, "NetStream.Play.")] {
        let mut client =
            Session::start(proxy.rtmp(), ClientScript { role, ..ClientScript::publish("live", "x") });
        client.wait_ended(REFUSED_WITHIN);
        let (code, description) = client.refusal().unwrap_or_else(|| panic!("no status\n{}", client.story()));
        assert!(code.starts_with(codes), "{code}");
        assert!(!description.is_empty() && !description.contains("127.0.0.1"), "{description}");
        assert!(!client.is_started());
    }
    // ffmpeg reports it, and ends; its own start and end take time of their own.
    let publisher = ffmpeg::Publisher::try_start(&proxy.url("live/x")).wait_end(PATIENCE);
    assert!(!publisher.status.success() && publisher.stderr.contains("Server error"), "{}", publisher.stderr);
    let player = ffmpeg::decode_for(&proxy.url("live/x"), 1, PATIENCE);
    assert!(!player.status.success() && player.stderr.contains("Server error"), "{}", player.stderr);
}

#[test]
fn without_an_origin_clients_are_refused() {
    assert_both_refused(&Proxy::start());
}

#[test]
fn with_an_origin_that_is_not_there_clients_are_refused() {
    assert_both_refused(&proxy_to((Ipv4Addr::LOCALHOST, free_port()).into()));
}

#[test]
fn with_an_origin_that_never_answers_clients_are_refused() {
    let mute = Recorder::start(Behaviour::Mute);
    assert_both_refused(&proxy_to(mute.rtmp()));
    wait_until("the proxy leaves the origin", PATIENCE, || mute.count(|record| !record.ended) == 0);
}

#[test]
fn a_second_publisher_of_a_stream_is_refused_and_the_first_goes_on() {
    let origin = Nginx::start();
    let proxy = proxy_to(origin.rtmp());
    let mut first = ffmpeg::Publisher::start(&proxy.url("live/x"));
    let [direct, proxied] = [origin.rtmp(), proxy.rtmp()].map(|to| {
        let mut second = Session::start(to, ClientScript::publish("live", "x"));
        second.wait("a status of level error", REFUSED_WITHIN, |client| client.refusal().is_some());
        second
    });
    assert_eq!(proxied.refusal(), direct.refusal(), "the origin's own words");
    assert_eq!(proxied.refusal().map(|(code, _)| code), Some("NetStream.Publish.BadName"));
    let ended = ffmpeg::Publisher::try_start(&proxy.url("live/x")).wait_end(PATIENCE);
    assert!(!ended.status.success() && ended.stderr.contains("Server error"), "{}", ended.stderr);
    let sent = first.frames();
    wait_until("the first publisher goes on", PATIENCE, || first.frames() > sent + 25);
    assert!(first.is_running());
}

#[test]
fn an_origin_that_is_not_there_is_left_for_one_that_is() {
    let origin = recorder(None);
    let proxy = proxy_to(origin.rtmp());
    proxy.register("gone", "1", (Ipv4Addr::LOCALHOST, free_port()).into());
    // So many that chance cannot spare all of them the origin that is not there.
    for number in 0..24 {
        let name = format!("x{number}");
        Session::start(proxy.rtmp(), ClientScript::publish("live", &name)).wait_started(REFUSED_WITHIN);
        assert_eq!(proxy.holders(&format!("__defaultVhost__/live/{name}")), ["origin"]);
    }
    assert_eq!(proxy.health("gone").as_deref(), Some("quarantined"));
}
