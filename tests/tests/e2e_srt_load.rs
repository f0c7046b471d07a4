//! Many SRT callers and several origins: each caller has its own stream, and one bad origin is its callers' trouble alone.

use rustix::process::Signal;
use serde_json::Value;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::srt::{SrtOrigin, playing, publishing};
use srs_proxy_tests::peers::srt_callers::{Caller, Callers, connected, refusals};
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::time::Duration;

/// Messages a second of each publisher: many publishers share a small machine.
const RATE: u32 = 20;

/// So long the proxy waits for an origin's answer to a handshake before it refuses the caller. Who waits for a frozen one
/// with others is held up so long at least.
const REFUSED_AFTER: Duration = Duration::from_millis(2500);

/// What a busy machine may add to that, beyond what it adds to all who call at the same time. A second wait would be longer.
const SLACK: Duration = Duration::from_secs(1);

/// Longer than all of these, so that it is not the callers who give up first, which by themselves do so after three
/// seconds, in milliseconds.
const CALLERS_WAIT: u32 = 10_000;

/// The least reason that somebody gave on purpose.
const LEAST_REASON: u64 = 1000;

fn publishers(proxy: &Proxy, streams: &[String]) -> Vec<Caller> {
    let publisher = |name: &String| {
        let caller = Caller::publisher(name, proxy.srt(), publishing(&format!("live/{name}")));
        caller.with("rate", RATE).with("timeout", CALLERS_WAIT)
    };
    streams.iter().map(publisher).collect()
}

fn player(name: &str, proxy: &Proxy, stream: &str) -> Caller {
    Caller::player(name, proxy.srt(), playing(&format!("live/{stream}"))).with("timeout", CALLERS_WAIT)
}

fn players(proxy: &Proxy, streams: &[String]) -> Vec<Caller> {
    streams.iter().map(|name| player(name, proxy, name)).collect()
}

/// The names of the streams that are published to this origin.
fn published(origin: &SrtOrigin) -> Vec<String> {
    let accepted = origin.events("accepted");
    let resources = accepted.iter().filter(|event| event["publishes"] == true);
    resources
        .filter_map(|event| Some(event["resource"].as_str()?.strip_prefix("live/")?.to_owned()))
        .collect()
}

/// Half of these publish, each to one player, at three origins.
#[track_caller]
fn callers_have_their_streams(count: usize) {
    let origins = [SrtOrigin::start(), SrtOrigin::start(), SrtOrigin::start()];
    let proxy = Proxy::start();
    for (name, origin) in ["a", "b", "c"].iter().zip(&origins) {
        proxy.register_srt(name, origin.addr());
    }
    let streams: Vec<_> = (0..count / 2).map(|number| number.to_string()).collect();
    let mut publishing = Callers::start(&publishers(&proxy, &streams));
    publishing.wait_connected();
    let mut playing = Callers::start(&players(&proxy, &streams));
    playing.wait_connected();
    let names: Vec<_> = streams.iter().map(String::as_str).collect();
    playing.wait_flow(&names, 2);
    let shares: Vec<_> = origins.iter().map(|origin| published(origin).len()).collect();
    // Origins are chosen at random; that one of three has none of so many is no chance.
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    for ends in [playing.leave(), publishing.leave()] {
        let whole = |end: &Value| end["gaps"] == 0 && end["messages"].as_u64() > Some(0);
        assert!(ends.len() == streams.len() && ends.iter().all(whole), "{ends:?}");
    }
}

#[test]
fn a_hundred_callers_at_three_origins_have_their_own_streams() {
    callers_have_their_streams(100);
}

#[test]
fn a_frozen_origin_is_its_callers_trouble_alone() {
    // Two streams while there is one origin are there for sure, and of the others at three origins some elsewhere.
    let streams: Vec<_> = (0..25).map(|number| number.to_string()).collect();
    let (frozen, others) = (SrtOrigin::start(), [SrtOrigin::start(), SrtOrigin::start()]);
    let proxy = Proxy::before_srt(frozen.addr(), &[]);
    let mut first = Callers::start(&publishers(&proxy, &streams[..2]));
    first.wait_connected();
    proxy.register_srt("another", others[0].addr());
    proxy.register_srt("third", others[1].addr());
    let mut further = Callers::start(&publishers(&proxy, &streams[2..]));
    further.wait_connected();
    let mut watching = Callers::start(&players(&proxy, &streams));
    watching.wait_connected();
    let accepted = || [&frozen, &others[0], &others[1]].map(|origin| origin.events("accepted").len());
    wait_until("the origins have them all", PATIENCE, || {
        accepted().iter().sum::<usize>() == 2 * streams.len()
    });
    let lost = published(&frozen);
    let kept: Vec<_> = others.iter().flat_map(published).collect();
    let kept_names: Vec<_> = kept.iter().map(String::as_str).collect();
    assert!(lost.len() >= 2 && !kept.is_empty(), "{lost:?} {kept:?}");

    frozen.signal(Signal::STOP);
    // The port is not frozen with it: callers of others come in while its own wait for their answer.
    let callers: Vec<_> = lost.iter().cycle().take(50 - kept.len()).cloned().collect();
    let callers = players(&proxy, &callers);
    let late = player("late", &proxy, &lost[0]);
    // When they are refused it is left alone for some seconds: whoever comes then finds another origin, at once.
    let own = std::thread::spawn(move || {
        let refusals = refusals(&callers);
        let (elsewhere, late) = connected(late);
        elsewhere.leave();
        (refusals, late)
    });
    let mut more = Callers::start(&players(&proxy, &kept));
    let took = |connected: &Value| Duration::from_millis(connected["ms"].as_u64().expect("a time"));
    let slowest = more.wait_connected().iter().map(took).max().expect("some");
    assert!(slowest < REFUSED_AFTER, "{slowest:?}");
    more.wait_flow(&kept_names, 2);
    watching.wait_flow(&kept_names, 2);
    let (refusals, late) = own.join().expect("they are refused, and one is not");
    for refused in refusals {
        let in_time = refused.after < REFUSED_AFTER + slowest + SLACK;
        assert!(refused.code >= LEAST_REASON && in_time, "{refused:?}, others connected within {slowest:?}");
    }
    assert!(took(&late) < REFUSED_AFTER, "{late}");
    frozen.signal(Signal::CONT);
    let ends = more.leave();
    assert!(ends.len() == kept.len() && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
    // Nor has anybody missed anything who was there before.
    let mut ends = watching.leave();
    ends.retain(|end| end["name"].as_str().is_some_and(|name| kept_names.contains(&name)));
    assert!(ends.len() == kept.len() && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
}
