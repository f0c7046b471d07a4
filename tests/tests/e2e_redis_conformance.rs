//! The load balancer with a real Redis behaves as every load balancer must. Hours pass at the server within a moment.

use srs_proxy_lb::conformance;
use srs_proxy_lb::redis::{RealRedis, RedisConfig, RedisSubject};
use srs_proxy_tests::peers::redis::{Cluster, Redis};
use std::sync::Arc;

#[test]
fn with_one_server() {
    let redis = Arc::new(Redis::start());
    conformance::run(&|setup| {
        redis.cli(&["flushall"]);
        let config = RedisConfig::from_url(&redis.url()).expect("a URL");
        let (keys, client) = (config.keys(""), Box::new(RealRedis::new(config, "")));
        let server = Arc::clone(&redis);
        Box::new(RedisSubject::new(&setup, keys, client, move |by| server.pass(by)))
    });
}

#[test]
fn with_a_cluster() {
    let cluster = Arc::new(Cluster::start());
    conformance::run(&|setup| {
        cluster.nodes().iter().for_each(|node| drop(node.cli(&["flushall"])));
        let config = RedisConfig::from_url(&cluster.url()).expect("a URL");
        let (keys, client) = (config.keys("eu"), Box::new(RealRedis::new(config, "eu")));
        let owner = cluster.owner(&keys.all_servers());
        let servers = Arc::clone(&cluster);
        Box::new(RedisSubject::new(&setup, keys, client, move |by| servers.nodes()[owner].pass(by)))
    });
}
