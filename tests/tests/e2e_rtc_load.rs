//! Many viewers of one WebRTC stream: what arrives, what it costs, and what is left when they vanish.

use srs_proxy_tests::peers::pion::{Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, proc, raise_descriptor_limit, wait_until};
use std::time::{Duration, Instant};

/// How long the proxy waits for a word of a session, and in words. Viewers of Pion say one every four seconds.
const TIMEOUT: (Duration, &str) = (Duration::from_secs(6), "6s");

/// What looking, and a busy machine, may add to that.
const SLACK: Duration = Duration::from_secs(4);

/// Packets a second: 470 kbit/s.
const RATE: u32 = 50;

/// By how much what half of the packets take through the proxy may exceed what they take at the origin: so many times, and
/// so much more, which is what a busy machine lets them wait for their turn. One pause of any program is no matter to them.
const LATENCY: (u32, Duration) = (3, Duration::from_millis(10));

/// The same of what one of a hundred takes, which a pause of any program delays.
const TAIL_LATENCY: (u32, Duration) = (3, Duration::from_millis(100));

/// What a packet to one of many viewers may cost the proxy, without optimization.
const MOST_CPU: Duration = Duration::from_micros(100);

/// What may be left of all sessions: pages that the allocator keeps, KiB.
const LEFT_KIB: u64 = 3 * 1024;

/// Publishes, plays with so many for so long, twice: at the origin itself and through the proxy. The last viewers
/// vanish, and all is freed.
#[track_caller]
fn watch(count: u32, period: Duration, most_lost: u64) {
    raise_descriptor_limit(u64::from(count) * 8);
    let origin = Pion::start(Location::Query);
    let proxy = Proxy::before_rtc(&origin, &[("PROXY_WEBRTC_TIMEOUT", TIMEOUT.1)]);
    let publisher = Publisher::start(&proxy.rtc_url("whip", "live", "x"), RATE);
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
    // Once, so that what is kept for good is there.
    Viewers::start(&proxy.rtc_url("whep", "live", "x"), 1, Duration::ZERO, true).finish();
    wait_until("only the publisher is left", TIMEOUT.0 + SLACK, || proxy.rtc_sessions().len() == 1);
    let before = proxy.usage();

    let mut latencies = Vec::new();
    let direct = format!("http://{}/rtc/v1/whep/?app=live&stream=x", origin.api());
    for (way, url) in [("at the origin", direct), ("through the proxy", proxy.rtc_url("whep", "live", "x"))] {
        let viewers = Viewers::start(&url, count, period, true);
        let (start, busy) = (Instant::now(), proc::busy(proxy.pid()));
        let seen = viewers.finish();
        let busy = (proc::busy(proxy.pid()) - busy).as_secs_f64();
        println!(
            "{count} viewers {way}: {} packets, {} lost, {} late, {:?} and {:?} (99 %) after they were sent, longest gap \
             {:?}; the proxy {:.1} % of a processor, {:.1} us a packet",
            seen.packets,
            seen.lost,
            seen.late,
            seen.latency.0,
            seen.latency.1,
            seen.gap,
            busy * 100.0 / start.elapsed().as_secs_f64(),
            busy * 1e6 / seen.packets as f64,
        );
        assert_eq!((seen.connected, seen.deleted), (u64::from(count), u64::from(count)), "{seen:?}");
        assert!(seen.lost <= most_lost, "{seen:?}");
        let expected = u64::from(count) * u64::from(RATE) * period.as_secs();
        assert!(seen.packets > expected * 9 / 10, "{} packets", seen.packets);
        assert!(busy < MOST_CPU.as_secs_f64() * seen.packets as f64, "{busy} s for {} packets", seen.packets);
        latencies.push(seen.latency);
    }
    let [there, through] = latencies[..] else { unreachable!("two ways") };
    assert!(
        through.0 < there.0 * LATENCY.0 + LATENCY.1 && through.1 < there.1 * TAIL_LATENCY.0 + TAIL_LATENCY.1,
        "{through:?} through the proxy, {there:?} at the origin"
    );
    wait_until("only the publisher is left", TIMEOUT.0 + SLACK, || proxy.rtc_sessions().len() == 1);

    let viewers = Viewers::start(&proxy.rtc_url("whep", "live", "x"), count, period * 4, false);
    let full = proxy.usage();
    assert_eq!(proxy.rtc_sessions().len(), 1 + count as usize);
    assert_eq!(full.threads, before.threads, "no thread for a session");
    drop(viewers); // By SIGKILL.
    let gone = Instant::now();
    wait_until("their sessions are freed", TIMEOUT.0 + SLACK, || proxy.rtc_sessions().len() == 1);
    println!("all freed {:?} after they vanished", gone.elapsed());
    wait_until("all descriptors are freed", PATIENCE, || proxy.usage().descriptors <= before.descriptors);
    let left = proxy.usage().rss_kib.saturating_sub(before.rss_kib);
    println!("{} KiB more with them, {left} KiB without", full.rss_kib.saturating_sub(before.rss_kib));
    assert!(left < LEFT_KIB, "{left} KiB left");
    let arrived = origin.packets("live/x");
    wait_until("the publisher goes on", PATIENCE, || origin.packets("live/x") > arrived);
    drop(publisher);
}

/// By hand, `RTC_VIEWERS=300` and `RTC_SECONDS=60` give figures for comparing; then the viewers themselves may lose some,
/// also at the origin.
#[test]
fn viewers_lose_nothing_and_leave_nothing() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let (count, seconds) = (number("RTC_VIEWERS"), number("RTC_SECONDS"));
    let most_lost = if count.is_some() { u64::MAX } else { 0 };
    watch(count.unwrap_or(30), Duration::from_secs(seconds.unwrap_or(5).into()), most_lost);
}
