//! The settings of the load balancer: in memory, or which Redis.

use super::Values;
use srs_proxy_core::origin::MAX_TEXT;
use srs_proxy_lb::redis::{Mappings, Node, RedisConfig};

/// The settings of one Redis server, which [`URL`] stands instead of.
const SINGLE: [&str; 4] = ["PROXY_REDIS_HOST", "PROXY_REDIS_PORT", "PROXY_REDIS_PASSWORD", "PROXY_REDIS_DB"];
const URL: &str = "PROXY_REDIS_URL";

/// Where routes are kept.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum LoadBalancer {
    /// In this process.
    Memory,
    /// In Redis, with other proxies.
    Redis {
        config: RedisConfig,
        /// Of all keys; empty for none.
        prefix: String,
        mappings: Mappings,
    },
}

impl LoadBalancer {
    /// Reads all of them, also those that are not used: a mistake is one in any case.
    pub(super) fn read(values: &Values) -> Result<Self, String> {
        let (config, prefix) = (redis(values)?, prefix(values)?);
        let mixed = values.switch("PROXY_REDIS_MIXED_FLEET")?;
        let mappings = if mixed { Mappings::Stay } else { Mappings::End };
        values.choice("PROXY_LOAD_BALANCER_TYPE", |name| match name {
            "memory" => Some(Self::Memory),
            "redis" => Some(Self::Redis { config, prefix, mappings }),
            _ => None,
        })
    }
}

fn redis(values: &Values) -> Result<RedisConfig, String> {
    let host = values.visible("PROXY_REDIS_HOST")?.trim_matches(['[', ']']).to_owned();
    let port = values.read("PROXY_REDIS_PORT", |value, _| match value.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err("not a port"),
    })?;
    let password = Some(values.visible("PROXY_REDIS_PASSWORD")?.to_owned()).filter(|text| !text.is_empty());
    let db = values.count("PROXY_REDIS_DB")?;
    if values.text(URL).is_empty() {
        return Ok(RedisConfig { password, db, ..RedisConfig::single(Node::Tcp(host, port)) });
    }
    if let Some(other) = SINGLE.iter().find(|var| values.is_set(var)) {
        return Err(format!("{URL} and {other} are both set: only one can say where Redis is"));
    }
    values.read(URL, |url, _| RedisConfig::from_url(url))
}

fn prefix(values: &Values) -> Result<String, String> {
    let var = "PROXY_REDIS_KEY_PREFIX";
    values.read(var, |value, _| match value.len() <= MAX_TEXT {
        true => Ok(()),
        false => Err("too long"),
    })?;
    values.visible(var).map(str::to_owned)
}
