//! A client's address changes while it publishes or plays, as behind a NAT whose binding expired: media go on.

use srs_proxy_tests::peers::nat::Nat;
use srs_proxy_tests::peers::pion::{LONGEST, Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::rtc::{Client, Program, Role};
use srs_proxy_tests::peers::{PATIENCE, wait_for, wait_until};
use std::net::SocketAddr;
use std::time::Duration;

/// Where clients find the translator: another address of the loopback, at the proxy's port.
const INSIDE: &str = "127.0.0.2";

/// Media go on with the client's next check; Pion's come every four seconds at least. The rest is a busy machine's.
const LONGEST_GAP: Duration = Duration::from_secs(7);

/// How long after that check. Were it not enough, media would wait for another, of aiortc after four seconds at least.
const RECOVERY: Duration = Duration::from_secs(2);

/// Datagrams that say that media flow.
const FLOWING: u64 = 100;

/// More packets than can be on their way when a port changes.
const ON_THEIR_WAY: u64 = 10;

/// Origin that the proxy leads to, proxy, and the translator before it that clients are led to.
fn behind_nat() -> (Pion, Proxy, Nat) {
    let origin = Pion::start(Location::Query);
    // A session is at one worker, and so must be all ports of its client.
    let settings = [("PROXY_WEBRTC_CANDIDATE", INSIDE), ("PROXY_WORKERS", "2")];
    let proxy = Proxy::before_rtc(&origin, &settings);
    let inside = SocketAddr::new(INSIDE.parse().expect("an address"), proxy.rtc().port());
    let nat = Nat::start(inside, proxy.rtc());
    (origin, proxy, nat)
}

/// Waits until so many datagrams more have come to the clients.
#[track_caller]
fn wait_flow(nat: &Nat) {
    let before = nat.passed();
    wait_until("media come through the translator", PATIENCE, || nat.passed() > before + FLOWING);
}

/// The clients' ports change, and media come to the new ones.
#[track_caller]
fn rebind(nat: &Nat) {
    nat.rebind();
    let recovered = wait_for("media come to a new port", PATIENCE, || nat.recovered());
    println!("media came {recovered:?} after the first check");
    assert!(recovered < RECOVERY, "{recovered:?} after the first check");
}

#[test]
fn viewers_see_a_short_gap_when_their_ports_change() {
    let (origin, proxy, nat) = behind_nat();
    let publisher = Publisher::start(&proxy.rtc_url("whip", "live", "x"), 100);
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
    let viewers = Viewers::start(&proxy.rtc_url("whep", "live", "x"), 3, LONGEST, true);
    for _ in 0..2 {
        wait_flow(&nat);
        nat.rebind();
        wait_flow(&nat);
    }
    assert_eq!(proxy.rtc_sessions().len(), 4, "each has kept its socket");
    let seen = viewers.leave();
    assert_eq!((seen.connected, seen.deleted), (3, 3), "{seen:?}");
    assert_eq!(seen.remotes.into_iter().collect::<Vec<_>>(), [nat.inside()]);
    assert!(seen.gap < LONGEST_GAP, "{:?} without media", seen.gap);
    drop(publisher);
}

#[test]
fn a_publishers_media_go_on_arriving_when_its_port_changes() {
    let (origin, proxy, nat) = behind_nat();
    let publisher = Publisher::start(&proxy.rtc_url("whip", "live", "x"), 100);
    let flows = || {
        let before = origin.packets("live/x");
        wait_until("its media arrive", PATIENCE, || origin.packets("live/x") > before + FLOWING);
    };
    flows();
    for _ in 0..3 {
        nat.rebind();
        let before = origin.packets("live/x");
        wait_until("its media arrive again", LONGEST_GAP, || {
            origin.packets("live/x") > before + ON_THEIR_WAY
        });
        flows();
    }
    assert_eq!(proxy.rtc_sessions().len(), 1, "it has kept its socket");
    drop(publisher);
}

/// This program plays on while its port changes.
#[track_caller]
fn plays_on(program: Program) {
    let (origin, proxy, nat) = behind_nat();
    // At the origin itself: the player is alone behind the translator.
    let mut publisher = Client::start(Program::Aiortc, Role::Whip, "live/x", origin.api(), 10);
    publisher.wait_flow();
    wait_until("both tracks have arrived", PATIENCE, || origin.tracks("live/x") == 2);
    // Many of them after the change, before which there are fewer of them than datagrams.
    let frames = 2 * FLOWING;
    let mut player = Client::start(program, Role::Whep, "live/x", proxy.http_api(), frames);
    wait_until("media come through the translator", PATIENCE, || nat.passed() > FLOWING);
    rebind(&nat);
    player.wait_flow();
    let seen = player.leave();
    assert_eq!((seen.remote, &seen.deleted[..]), (Some(nat.inside()), &[200][..]), "{seen:?}");
    assert!(seen.frames >= frames, "{seen:?}");
    publisher.leave();
}

#[test]
fn chromium_plays_on_when_its_port_changes() {
    plays_on(Program::Chromium);
}

#[test]
fn aiortc_plays_on_when_its_port_changes() {
    plays_on(Program::Aiortc);
}
