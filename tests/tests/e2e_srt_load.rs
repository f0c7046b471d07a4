//! Many SRT callers and several origins: each caller has its own stream, and one bad origin is its callers' trouble alone.

use rustix::process::Signal;
use serde_json::Value;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::srt::{SrtOrigin, playing, publishing};
use srs_proxy_tests::peers::srt_callers::{Caller, Callers, refusal};
use std::time::Duration;

/// Messages a second of each publisher: many publishers share a small machine.
const RATE: u32 = 20;

/// The reference library waits so long for an answer to its handshake.
const CALLERS_WAIT: Duration = Duration::from_secs(3);

/// The least reason that somebody gave on purpose.
const LEAST_REASON: u64 = 1000;

/// Three origins behind one proxy.
fn three() -> (Vec<SrtOrigin>, Proxy) {
    let origins: Vec<_> = (0..3).map(|_| SrtOrigin::start()).collect();
    let proxy = Proxy::start();
    for (number, origin) in origins.iter().enumerate() {
        proxy.register_srt(&number.to_string(), origin.addr());
    }
    (origins, proxy)
}

fn publishers(proxy: &Proxy, streams: &[String]) -> Vec<Caller> {
    let publisher = |name: &String| {
        Caller::publisher(name, proxy.srt(), publishing(&format!("live/{name}"))).with("rate", RATE)
    };
    streams.iter().map(publisher).collect()
}

fn players(proxy: &Proxy, streams: &[String]) -> Vec<Caller> {
    let player = |name: &String| Caller::player(name, proxy.srt(), playing(&format!("live/{name}")));
    streams.iter().map(player).collect()
}

/// The names of the streams that are published to this origin.
fn published(origin: &SrtOrigin) -> Vec<String> {
    let accepted = origin.events("accepted");
    let resources = accepted.iter().filter(|event| event["publishes"] == true);
    resources
        .filter_map(|event| Some(event["resource"].as_str()?.strip_prefix("live/")?.to_owned()))
        .collect()
}

/// Half of these publish, each to one player, at three origins, none of which has more than the others.
#[track_caller]
fn callers_have_their_streams(count: usize) {
    let (origins, proxy) = three();
    let streams: Vec<_> = (0..count / 2).map(|number| number.to_string()).collect();
    let mut publishing = Callers::start(&publishers(&proxy, &streams));
    publishing.wait_connected();
    let mut playing = Callers::start(&players(&proxy, &streams));
    playing.wait_connected();
    let names: Vec<_> = streams.iter().map(String::as_str).collect();
    playing.wait_flow(&names, 2);
    let shares = origins.iter().map(|origin| published(origin).len());
    assert!(shares.clone().all(|share| share >= count / 6), "{:?}", shares.collect::<Vec<_>>());
    for ends in [playing.leave(), publishing.leave()] {
        let whole = |end: &Value| end["gaps"] == 0 && end["messages"].as_u64() > Some(0);
        assert!(ends.len() == streams.len() && ends.iter().all(whole), "{ends:?}");
    }
}

#[test]
fn thirty_callers_at_three_origins_have_their_own_streams() {
    callers_have_their_streams(30);
}

#[test]
#[ignore = "heavy: a hundred callers of the reference library take a machine of their own"]
fn a_hundred_callers_at_three_origins_have_their_own_streams() {
    callers_have_their_streams(100);
}

#[test]
fn a_frozen_origin_is_its_callers_trouble_alone() {
    let (origins, proxy) = three();
    let streams: Vec<_> = (0..6).map(|number| number.to_string()).collect();
    let mut publishing = Callers::start(&publishers(&proxy, &streams));
    publishing.wait_connected();
    let mut watching = Callers::start(&players(&proxy, &streams));
    watching.wait_connected();
    let (frozen, others) = origins.split_first().expect("three origins");
    for origin in &origins {
        origin.wait_count("accepted", 4);
    }
    let lost = published(frozen);
    let kept: Vec<_> = others.iter().flat_map(published).collect();
    let kept_names: Vec<_> = kept.iter().map(String::as_str).collect();
    assert_eq!((lost.len(), kept.len()), (2, 4));

    frozen.signal(Signal::STOP);
    // The port is not frozen with it: callers of others come in while its own wait for their answer.
    let callers = players(&proxy, &lost);
    let own = std::thread::spawn(move || callers.into_iter().map(refusal).collect::<Vec<_>>());
    let mut more = Callers::start(&players(&proxy, &kept));
    for connected in more.wait_connected() {
        assert!(connected["ms"].as_u64() < Some(1000), "{connected}");
    }
    more.wait_flow(&kept_names, 2);
    watching.wait_flow(&kept_names, 2);
    for refused in own.join().expect("they are refused") {
        assert!(refused.code >= LEAST_REASON && refused.after < CALLERS_WAIT, "{refused:?}");
    }
    frozen.signal(Signal::CONT);
    let ends = more.leave();
    assert!(ends.len() == 4 && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
}
