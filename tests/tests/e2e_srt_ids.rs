//! SRT stream ids through the proxy: each spelling of a stream, and the reasons callers are refused for.

use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::srt::{Player, SrtOrigin, hex, playing, publishing, url};
use srs_proxy_tests::peers::srt_callers::{Caller, Callers, connected, refusal};
use std::net::SocketAddr;
use std::time::Duration;

/// The reference library waits so long for an answer to its handshake: what comes later is not seen.
const CALLERS_WAIT: Duration = Duration::from_secs(3);

/// The least reason that somebody gave on purpose; those below are the library's own.
const LEAST_REASON: u64 = 1000;
const BAD_REQUEST: u64 = 1400;
const FORBIDDEN: u64 = 1403;
const BAD_MODE: u64 = 1405;
const BAD_GATEWAY: u64 = 1502;
const UNAVAILABLE: u64 = 1503;

#[track_caller]
fn refused_for(at: SocketAddr, stream_id: &str) -> u64 {
    let refused = refusal(Caller::player("c", at, stream_id));
    assert!(refused.after < CALLERS_WAIT && refused.code >= LEAST_REASON, "{stream_id:?}: {refused:?}");
    refused.code
}

#[test]
fn every_form_of_a_stream_id_names_its_stream_and_arrives_unchanged() {
    let long = format!("#!::r=live/x,m=publish,u={}", "u".repeat(512 - 25));
    assert_eq!(long.len(), 512);
    let cases = [
        ("#!::r=live/x,m=publish", "__defaultVhost__/live/x"),
        ("#!::m=request,r=live/x", "__defaultVhost__/live/x"),
        ("#!::u=me,m=publish,s=1,r=live/x,t=stream", "__defaultVhost__/live/x"),
        ("#!::h=live.example.com,r=live/x,m=publish", "live.example.com/live/x"),
        ("#!::r=live/x,m=publish,h=live.example.com", "live.example.com/live/x"),
        ("#!::h=127.0.0.1,r=live/x,m=request", "__defaultVhost__/live/x"),
        ("#!::h=live.example.com/live/x,m=publish", "live.example.com/live/x"),
        ("#!::r=live/x?secret=a%2Cb,m=publish", "__defaultVhost__/live/x"),
        ("#!::r=live/x", "__defaultVhost__/live/x"),
        ("live/x", "__defaultVhost__/live/x"),
        ("publish:live/x", "__defaultVhost__/live/x"),
        ("publish:live/x:user:pass", "__defaultVhost__/live/x"),
        ("read:live/x", "__defaultVhost__/live/x"),
        ("#!::r=live/100%25,m=publish", "__defaultVhost__/live/100%"),
        ("#!::r=live/100%,m=publish", "__defaultVhost__/live/100%"),
        ("#!::r=live/fünf %E4%BA%94 五,m=publish", "__defaultVhost__/live/fünf 五 五"),
        (&long, "__defaultVhost__/live/x"),
    ];
    for (stream_id, key) in cases {
        let origin = SrtOrigin::start();
        let proxy = Proxy::before_srt(origin.addr(), &[]);
        let (callers, _) = connected(Caller::player("c", proxy.srt(), stream_id));
        assert_eq!(origin.wait_stream_ids(1), [hex(stream_id.as_bytes())], "{stream_id}");
        assert_eq!(proxy.holders(key), ["origin"], "{stream_id}: {:?}", proxy.origins());
        callers.leave();
    }
}

#[test]
fn a_stream_id_that_names_no_stream_is_refused_by_a_reason() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    for stream_id in
        ["", "#!::", "#!::m=publish", "#!::r=,m=publish", "#!:{r: live/x}", "#!x", "publish:", "live/"]
    {
        assert_eq!(refused_for(proxy.srt(), stream_id), BAD_REQUEST, "{stream_id:?}");
    }
    assert_eq!(refused_for(proxy.srt(), "#!::r=live/x,m=neither"), BAD_MODE);
    for stream_id in ["#!::", "#!::r=live/x,m=neither"] {
        let why = Player::start(&url(proxy.srt(), stream_id, "")).wait_rejection();
        assert!(why.contains("Application-defined"), "{why}");
    }
    assert!(origin.stream_ids().is_empty());
}

#[test]
fn without_an_origin_callers_are_refused_by_a_reason() {
    let proxy = Proxy::start();
    assert_eq!(refused_for(proxy.srt(), &playing("live/x")), UNAVAILABLE);
    Player::start(&url(proxy.srt(), &playing("live/x"), "")).wait_rejection();
}

#[test]
fn an_origin_that_is_not_there_is_a_reason_and_another_is_taken() {
    let gone = SrtOrigin::start().addr();
    let proxy = Proxy::before_srt(gone, &[]);
    assert_eq!(refused_for(proxy.srt(), &playing("live/x")), BAD_GATEWAY);
    let origin = SrtOrigin::start();
    proxy.register_srt("another", origin.addr());
    for stream in 0..6 {
        connected(Caller::player("c", proxy.srt(), playing(&format!("live/{stream}"))));
    }
    assert_eq!(origin.wait_stream_ids(6).len(), 6);
}

#[test]
fn the_origins_own_refusal_reaches_the_caller() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    for stream_id in [publishing("live/deny"), playing("live/deny")] {
        assert_eq!(refused_for(proxy.srt(), &stream_id), FORBIDDEN);
        let why = Player::start(&url(proxy.srt(), &stream_id, "")).wait_rejection();
        assert!(why.contains("Application-defined"), "{why}");
    }
    // A number of an application's own.
    for at in [origin.addr(), proxy.srt()] {
        assert_eq!(refused_for(at, &publishing("live/deny3404")), 3404);
    }
    let mut callers = Callers::start(&[Caller::player("c", proxy.srt(), playing("live/x"))]);
    callers.wait_connected();
}
