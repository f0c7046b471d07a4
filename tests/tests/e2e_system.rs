//! The proxy's own API: versions, registrations, the list of origins, bearer auth.

use serde_json::{Value, json};
use srs_proxy_tests::peers::http::{self, Response};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::proxy::{Proxy, registration};
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use std::net::SocketAddr;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn somewhere() -> SocketAddr {
    "127.0.0.1:9".parse().expect("an address")
}

/// A bad request's answer: 400, JSON, a code that is not zero, and `names` in the text.
#[track_caller]
fn assert_bad(answer: &Response, names: &str) {
    assert_eq!(answer.status, 400, "{names}: {}", answer.body);
    let body = answer.json();
    assert!(body["code"].as_i64().is_some_and(|code| code != 0), "{body}");
    assert!(answer.body.contains(names), "{names:?} in {body}");
}

#[test]
fn versions_answer_on_all_three_http_servers() {
    let proxy = Proxy::start();
    for server in ["PROXY_SYSTEM_API", "PROXY_HTTP_API"] {
        let answer = http::get(proxy.addr(server), "/api/v1/versions").expect("an answer");
        assert_eq!(answer.status, 200, "{server}");
        let body = answer.json();
        assert_eq!(body["version"], VERSION, "{server}: {body}");
        assert!(body["signature"].as_str().is_some_and(|text| !text.is_empty()), "{server}: {body}");
    }
    let answer = http::get(proxy.addr("PROXY_HTTP_SERVER"), "/api/v1/versions").expect("an answer");
    let body = answer.json();
    let parts: Vec<u64> = VERSION.split('.').filter_map(|part| part.parse().ok()).collect();
    let data = json!({ "major": parts[0], "minor": parts[1], "revision": parts[2], "version": VERSION });
    assert_eq!((answer.status, &body["code"], &body["data"]), (200, &json!(0), &data));
    assert_eq!(body["pid"], proxy.pid().to_string());
}

#[test]
fn a_registration_is_answered_and_listed() {
    let proxy = Proxy::start();
    assert_eq!(proxy.origins(), Vec::<Value>::new());
    let sent = json!({
        "device_id": "origin2", "ip": "10.78.122.184", "server": "vid-46p14mm", "service": "z2s3w865",
        "pid": "42583", "rtmp": ["19352"], "http": ["8082"], "api": ["19853"], "srt": ["10082"],
        "rtc": ["udp://0.0.0.0:8001"], "summaries": { "ok": true, "data": [1, 2, 3] },
    });
    let answer = proxy.post_registration(&sent, &[]);
    assert_eq!((answer.status, answer.json()), (200, json!({ "code": 0, "pid": proxy.pid().to_string() })));
    let origins = proxy.origins();
    assert_eq!(origins.len(), 1);
    let origin = &origins[0];
    for (field, value) in [
        ("id", "vid-46p14mm-z2s3w865-42583"),
        ("device_id", "origin2"),
        ("server", "vid-46p14mm"),
        ("service", "z2s3w865"),
        ("pid", "42583"),
        ("health", "alive"),
    ] {
        assert_eq!(origin[field], value, "{field} in {origin}");
    }
    let endpoints = json!({
        "rtmp": ["10.78.122.184:19352"], "http": ["10.78.122.184:8082"], "api": ["10.78.122.184:19853"],
        "srt": ["10.78.122.184:10082"], "rtc": ["10.78.122.184:8001"],
    });
    assert_eq!(origin["endpoints"], endpoints);
    assert_eq!(origin["streams"], json!([]));
    assert!(origin["heartbeat_age_ms"].as_u64().is_some_and(|age| age < 10_000), "{origin}");
}

#[test]
fn an_endpoint_may_be_written_in_every_documented_way() {
    let proxy = Proxy::start();
    let spellings = [
        ("1935", "10.0.0.5:1935"),
        ("tcp://:1935", "10.0.0.5:1935"),
        ("tcp://0.0.0.0:1935", "10.0.0.5:1935"),
        ("tcp://10.0.0.6:1935", "10.0.0.6:1935"),
        ("udp://10.0.0.6:1935", "10.0.0.6:1935"),
        ("tcp://[::]:1935", "10.0.0.5:1935"),
        ("tcp://[::1]:1935", "[::1]:1935"),
        ("[::1]:1935", "[::1]:1935"),
    ];
    for (spelled, meant) in spellings {
        let mut sent = registration("a", "1", somewhere());
        sent["ip"] = json!("10.0.0.5");
        sent["rtmp"] = json!([spelled]);
        let answer = proxy.post_registration(&sent, &[]);
        assert_eq!(answer.status, 200, "{spelled}: {}", answer.body);
        assert_eq!(proxy.origins()[0]["endpoints"]["rtmp"], json!([meant]), "{spelled}");
    }
}

#[test]
fn a_bad_registration_names_its_field_and_changes_nothing() {
    let proxy = Proxy::start();
    proxy.register("good", "1", somewhere());
    let known = |proxy: &Proxy| -> Vec<Value> {
        proxy.origins().iter().map(|origin| json!([origin["id"], origin["endpoints"]])).collect()
    };
    let before = known(&proxy);
    for field in ["ip", "server", "service", "pid", "rtmp"] {
        let mut missing = registration("bad", "1", somewhere());
        missing.as_object_mut().expect("an object").remove(field);
        assert_bad(&proxy.post_registration(&missing, &[]), field);
        let mut mistyped = registration("bad", "1", somewhere());
        mistyped[field] = json!({ "not": "this" });
        assert_bad(&proxy.post_registration(&mistyped, &[]), field);
    }
    for (field, value) in [
        ("ip", json!("nowhere at all")),
        ("ip", json!("")),
        ("server", json!("")),
        ("rtmp", json!([])),
        ("rtmp", json!(["port"])),
        ("rtmp", json!(["70000"])),
        ("rtmp", json!(["0"])),
        ("rtmp", json!(["tcp://host.name:1935"])),
        ("http", json!(["http"])),
        ("srt", json!(["udp://[::1:9"])),
    ] {
        let mut wrong = registration("bad", "1", somewhere());
        wrong[field] = value;
        assert_bad(&proxy.post_registration(&wrong, &[]), field);
    }
    for text in ["", "{", "[]", "null", "\u{0}", "{\"ip\":"] {
        let answer = proxy.post_text(text, &[]);
        assert_eq!(answer.status, 400, "{text:?}: {}", answer.body);
        assert!(answer.json()["code"].as_i64().is_some_and(|code| code != 0), "{text:?}: {}", answer.body);
    }
    assert_eq!(known(&proxy), before);
}

#[test]
fn a_new_life_of_an_origin_replaces_the_old_one_at_once() {
    let proxy = Proxy::start();
    proxy.register("a", "1", somewhere());
    proxy.register("b", "1", somewhere());
    proxy.register("a", "2", somewhere());
    let mut ids: Vec<_> = proxy.origins().iter().map(|origin| origin["id"].clone()).collect();
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, ["a-service-2-2", "b-service-1-1"]);
}

#[test]
fn an_origin_without_heartbeats_is_dead_until_the_next_one() {
    let proxy = Proxy::with(&[("PROXY_ORIGIN_SERVER_TTL", "3s")]);
    proxy.register("a", "1", somewhere());
    assert_eq!(proxy.health("a").as_deref(), Some("alive"));
    wait_until("the origin counts as dead", PATIENCE, || proxy.health("a").as_deref() == Some("dead"));
    proxy.register("a", "1", somewhere());
    assert_eq!(proxy.health("a").as_deref(), Some("alive"));
}

#[test]
fn bearer_auth_guards_registration() {
    let proxy = Proxy::with(&[
        ("PROXY_HTTP_API_AUTH_ENABLED", "on"),
        ("PROXY_HTTP_API_AUTH_TYPE", "bearer"),
        ("PROXY_HTTP_API_AUTH_TOKEN", "s3cret"),
    ]);
    let origin = registration("a", "1", somewhere());
    let wrong: [&[(&str, &str)]; 6] = [
        &[],
        &[("Authorization", "Bearer s3cre")],
        &[("Authorization", "Bearer s3cret2")],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Basic s3cret")],
        &[("Authorization", "s3cret")],
    ];
    for headers in wrong {
        let answer = proxy.post_registration(&origin, headers);
        assert_eq!(answer.status, 401, "{headers:?}: {}", answer.body);
        assert!(
            answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")),
            "{answer:?}"
        );
    }
    let right = ("Authorization", "Bearer s3cret");
    let listed = |proxy: &Proxy| {
        let answer =
            http::request(proxy.system_api(), "GET", "/api/v1/origins", &[right], "").expect("an answer");
        answer.json()["data"]["origins"].as_array().map(Vec::len)
    };
    assert_eq!(listed(&proxy), Some(0), "nothing was registered");
    assert_eq!(proxy.post_registration(&origin, &[right]).status, 200);
    assert_eq!(listed(&proxy), Some(1));
}

#[test]
fn the_origins_list_shows_the_streams_each_holds() {
    let origin = Nginx::start();
    let proxy = Proxy::start();
    proxy.register("a", "1", origin.rtmp());
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x?token=t"));
    assert_eq!(proxy.holders("__defaultVhost__/live/x"), ["a"]);
    drop(publisher);
}

#[test]
fn the_default_origin_needs_no_registration() {
    let origin = Nginx::start();
    let proxy = Proxy::with(&[
        ("PROXY_DEFAULT_BACKEND_ENABLED", "on"),
        ("PROXY_DEFAULT_BACKEND_IP", "127.0.0.1"),
        ("PROXY_DEFAULT_BACKEND_RTMP", &origin.rtmp().port().to_string()),
    ]);
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    wait_until("the origin has the stream", PATIENCE, || origin.has_publisher("x"));
    drop(publisher);
}

#[test]
fn what_is_not_there_is_404() {
    let proxy = Proxy::start();
    for server in ["PROXY_SYSTEM_API", "PROXY_HTTP_API"] {
        let answer = http::get(proxy.addr(server), "/no/such/thing").expect("an answer");
        assert_eq!(answer.status, 404, "{server}: {}", answer.body);
    }
}
