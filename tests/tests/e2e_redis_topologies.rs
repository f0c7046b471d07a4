//! A fleet on Sentinels and on a Cluster: when the master dies or slots move, what runs goes on and what is new works again
//! by itself.

use rustix::process::Signal;
use srs_proxy_tests::peers::fleet::{ANSWERED_WITHIN, Fleet, KEY};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::redis::{Cluster, DOWN_AFTER, Watched};
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::time::{Duration, Instant};

/// Within this the proxies have found it: the longest pause between two attempts to connect, and some work.
const RECOVERY: Duration = Duration::from_secs(7);

/// What every key of a fleet without a prefix begins with in a Cluster.
const TAG: &str = "{srs-proxy}:srs-proxy";

#[track_caller]
fn fleet(url: &str) -> Fleet {
    Fleet::start([(); 2].map(|()| Proxy::on_redis_url(url, &[])))
}

#[test]
fn sentinels_make_another_server_the_master_while_streams_run() {
    let mut watched = Watched::start();
    let mut fleet = fleet(&watched.url());
    let mapping = format!("srs-proxy-url:{KEY}");
    let home = watched.master().cli(&["get", &mapping]);
    let old = watched.master().port();

    // There is no other master before it is looked at what becomes of streams without one.
    watched.set_patience(2 * PATIENCE);
    watched.master().kill();
    fleet.assert_known_is_found();
    fleet.assert_new_is_refused("killed");
    fleet.assert_api_answers();
    watched.set_patience(DOWN_AFTER);
    let due = Instant::now();
    wait_until("there is another master", PATIENCE, || watched.master().port() != old);
    println!("another master after {:?}", due.elapsed());
    fleet.assert_new_works("new", RECOVERY);
    assert_eq!(watched.master().cli(&["get", &mapping]), home, "the stream has not moved");
    fleet.assert_no_stall("failover");
    fleet.end();
}

#[test]
fn slots_of_a_cluster_move_while_streams_run() {
    let cluster = Cluster::start();
    let mut fleet = fleet(&cluster.url());
    let mapping = format!("{TAG}-url:{KEY}");
    let from = cluster.owner(&mapping);
    let home = cluster.nodes()[from].cli(&["get", &mapping]);
    let to = (from + 1) % cluster.nodes().len();

    // While they move, some keys are here, some are there, and scripts that need both have to wait.
    let moving = cluster.begin_move(&mapping, to);
    moving.key(&mapping);
    fleet.assert_known_is_found();
    fleet.assert_api_answers();
    moving.finish();
    fleet.assert_new_works("new", RECOVERY);
    fleet.assert_known_is_found();
    assert_eq!(cluster.owner(&mapping), to);
    assert_eq!(cluster.nodes()[to].cli(&["get", &mapping]), home, "the stream has not moved");
    fleet.assert_no_stall("move");
    fleet.assert_new_works("later", ANSWERED_WITHIN);
    fleet.end();
}

#[test]
fn a_cluster_whose_node_of_the_fleet_hangs_is_a_redis_that_is_away() {
    let cluster = Cluster::start();
    let mut fleet = fleet(&cluster.url());
    let node = &cluster.nodes()[cluster.owner(&format!("{TAG}-all-servers"))];
    node.signal(Signal::STOP);
    fleet.assert_known_is_found();
    fleet.assert_new_is_refused("hangs");
    fleet.assert_no_stall("hangs");
    node.signal(Signal::CONT);
    cluster.wait_well();
    fleet.assert_new_works("new", RECOVERY);
    fleet.end();
}
