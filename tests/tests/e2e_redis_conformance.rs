//! The load balancer with a real Redis behaves as every load balancer must. Hours pass at the server within a moment: the
//! lives of all that is there are made shorter.

use srs_proxy_lb::conformance;
use srs_proxy_lb::redis::{RealRedis, RedisConfig, RedisSubject};
use srs_proxy_tests::peers::redis::{Cluster, Redis};
use std::sync::Arc;
use std::time::Duration;

/// Takes a time in ms from the life of each key, and from that of each field whose value begins with its end.
const PASS: &str = "
local by = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left > by then redis.call('PEXPIRE', key, left - by) elseif left >= 0 then redis.call('DEL', key) end
  if redis.call('TYPE', key).ok == 'hash' then
    local all = redis.call('HGETALL', key)
    for n = 1, #all, 2 do
      local ending, text = all[n + 1]:match('^(%d+) (.*)$')
      redis.call('HSET', key, all[n], string.format('%.0f ', ending - by) .. text)
    end
  end
end";

fn pass(server: &Redis, by: Duration) {
    assert_eq!(server.cli(&["eval", PASS, "0", &by.as_millis().to_string()]), "");
}

#[test]
fn with_one_server() {
    let redis = Arc::new(Redis::start());
    conformance::run(&|setup| {
        redis.cli(&["flushall"]);
        let config = RedisConfig::from_url(&redis.url()).expect("a URL");
        let (keys, client) = (config.keys(""), Box::new(RealRedis::new(config, "")));
        let server = Arc::clone(&redis);
        Box::new(RedisSubject::new(&setup, keys, client, move |by| pass(&server, by)))
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
        Box::new(RedisSubject::new(&setup, keys, client, move |by| pass(&servers.nodes()[owner], by)))
    });
}
