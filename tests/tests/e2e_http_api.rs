//! The HTTP API's port: what names a stream goes to that stream's origin, at the endpoint of its API.

use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin};
use srs_proxy_tests::peers::proxy::{Proxy, TCP_SERVERS};
use srs_proxy_tests::peers::{http, ports::free_port};
use std::net::{Ipv4Addr, SocketAddr};

#[track_caller]
fn ask(to: SocketAddr, request: &Request) -> Response {
    Connection::open(to).expect("a connection").ask(request).expect("an answer")
}

fn origin(name: &'static str) -> HttpOrigin {
    HttpOrigin::start(move |_| Answer::ok("application/json", name.as_bytes()))
}

#[test]
fn a_request_that_names_a_stream_passes_to_the_api_of_its_origin() {
    let (streams, api) = (origin("streams"), origin("api"));
    let proxy = Proxy::start();
    let rtmp = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    proxy.register_serving("origin", "1", rtmp, &[("http", streams.addr()), ("api", api.addr())]);
    let cases = [
        Request::get("/api/v1/streams?app=live&stream=x"),
        Request::get("/api/v1/clients/?stream=x.flv&app=live&token=a%2Fb"),
        Request::new("DELETE", "/api/v1/clients/7?app=live&stream=x"),
        Request::new("POST", "/api/v1/anything?app=live&stream=x&vhost=streams.test").body(b"{\"a\":1}"),
    ];
    for request in cases {
        api.forget();
        let request = request.field("Authorization", "Bearer t").host("streams.test:11985");
        let answer = ask(proxy.http_api(), &request);
        assert_eq!((answer.status, &answer.body.text()[..]), (200, "api"), "{request:?}");
        let seen = api.only_request();
        assert!(request.head_bytes().starts_with(format!("{} {} ", seen.method, seen.target).as_bytes()));
        assert_eq!(seen.fields.all("authorization"), ["Bearer t"]);
        assert_eq!(seen.fields.all("host"), ["streams.test:11985"]);
        assert_eq!(seen.fields.all("x-real-ip"), ["127.0.0.1"]);
    }
    assert!(streams.requests().is_empty());
    assert_eq!(proxy.holders("streams.test/live/x"), ["origin"]);
}

#[test]
fn the_api_is_that_of_the_origin_that_has_the_stream() {
    let origins = [origin("0"), origin("1"), origin("2")];
    let proxy = Proxy::start();
    for (name, origin) in ["0", "1", "2"].iter().zip(&origins) {
        let addr = origin.addr();
        proxy.register_serving(name, "1", addr, &[("http", addr), ("api", addr)]);
    }
    for n in 0..12 {
        let stream = ask(proxy.http(), &Request::get(&format!("/live/s{n}.flv"))).body;
        let api = ask(proxy.http_api(), &Request::get(&format!("/api/v1/streams?app=live&stream=s{n}"))).body;
        assert_eq!(stream, api, "stream {n}");
    }
}

#[test]
fn no_origin_with_an_api_is_503_and_one_that_is_down_502() {
    let streams = origin("streams");
    let proxy = Proxy::before(streams.addr(), &[]);
    let request = Request::get("/api/v1/streams?app=live&stream=x");
    assert_eq!(ask(proxy.http_api(), &request).status, 503);
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    proxy.register_serving("origin", "2", nowhere, &[("http", streams.addr()), ("api", nowhere)]);
    assert_eq!(ask(proxy.http_api(), &request).status, 502);
}

#[test]
fn what_names_no_stream_is_not_found() {
    let api = origin("api");
    let proxy = Proxy::start();
    proxy.register_serving("origin", "1", api.addr(), &[("api", api.addr())]);
    for target in ["/api/v1/streams", "/api/v1/streams?app=live", "/", "/live/x.flv"] {
        assert_eq!(ask(proxy.http_api(), &Request::get(target)).status, 404, "{target}");
    }
    assert!(api.requests().is_empty());
}

#[test]
fn the_proxys_own_resources_are_not_asked_of_an_origin() {
    let addr = origin("origin");
    let proxy = Proxy::start();
    proxy.register_serving("origin", "1", addr.addr(), &[("http", addr.addr()), ("api", addr.addr())]);
    for server in TCP_SERVERS.into_iter().filter(|server| *server != "PROXY_RTMP_SERVER") {
        for target in ["/api/v1/versions", "/api/v1/versions?app=live&stream=x"] {
            let answer = http::get(proxy.addr(server), target).expect("an answer");
            assert!(
                answer.status == 200 && answer.body.contains(env!("CARGO_PKG_VERSION")),
                "{server} {target}"
            );
        }
    }
    assert!(addr.requests().is_empty());
}
