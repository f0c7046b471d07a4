//! Where routes are kept: the load balancer and its Redis. Opens no socket.

use super::Values;
use srs_proxy_core::origin::MAX_TEXT;
use srs_proxy_lb::redis::{Node, RedisConfig};

/// Where routes are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LoadBalancer {
    /// In this proxy alone.
    Memory,
    /// In a store that proxies share.
    Redis {
        /// Which.
        config: RedisConfig,
        /// `PROXY_REDIS_KEY_PREFIX`
        prefix: String,
        /// `PROXY_REDIS_MIXED_FLEET`
        mixed: bool,
    },
}

/// All is read in any case, so that a mistake is found before it matters.
pub(super) fn load_balancer(values: &Values) -> Result<LoadBalancer, String> {
    let config = redis(values)?;
    values.read("PROXY_REDIS_KEY_PREFIX", |value, _| match value.len() <= MAX_TEXT {
        true => Ok(()),
        false => Err("too long"),
    })?;
    let prefix = values.visible("PROXY_REDIS_KEY_PREFIX")?.to_owned();
    let mixed = values.switch("PROXY_REDIS_MIXED_FLEET")?;
    values.choice("PROXY_LOAD_BALANCER_TYPE", |name| match name {
        "memory" => Some(LoadBalancer::Memory),
        "redis" => Some(LoadBalancer::Redis { config, prefix, mixed }),
        _ => None,
    })
}

fn redis(values: &Values) -> Result<RedisConfig, String> {
    // An address of IPv6 may be in brackets, as where a port follows.
    let host = values.visible("PROXY_REDIS_HOST")?.trim_matches(['[', ']']).to_owned();
    let port = values.read("PROXY_REDIS_PORT", |value, _| match value.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err("not a port"),
    })?;
    let password = Some(values.visible("PROXY_REDIS_PASSWORD")?).filter(|password| !password.is_empty());
    let db = values.count("PROXY_REDIS_DB")?;
    let by_url = values.read("PROXY_REDIS_URL", |url, _| match url {
        "" => Ok(None),
        url => RedisConfig::from_url(url).map(Some),
    })?;
    let Some(config) = by_url else {
        let single = RedisConfig::single(Node::Tcp(host, port));
        return Ok(RedisConfig { password: password.map(str::to_owned), db, ..single });
    };
    let parts = ["PROXY_REDIS_HOST", "PROXY_REDIS_PORT", "PROXY_REDIS_PASSWORD", "PROXY_REDIS_DB"];
    match parts.into_iter().find(|part| values.is_set(part)) {
        Some(part) => Err(format!("{part} and PROXY_REDIS_URL are both set: the URL says all of it")),
        None => Ok(config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::{refusal, settings};

    const REDIS: (&str, &str) = ("PROXY_LOAD_BALANCER_TYPE", "redis");

    fn config(env: &[(&str, &str)]) -> RedisConfig {
        match settings(&[], &[env, &[REDIS]].concat(), "").load_balancer {
            LoadBalancer::Redis { config, .. } => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn routes_are_kept_in_memory_unless_redis_is_chosen() {
        let redis = ("PROXY_REDIS_HOST", "r.example.com");
        assert_eq!(settings(&[], &[redis], "").load_balancer, LoadBalancer::Memory);
        let here = RedisConfig::single(Node::Tcp("127.0.0.1".into(), 6379));
        let plain = LoadBalancer::Redis { config: here.clone(), prefix: String::new(), mixed: false };
        assert_eq!(settings(&[], &[REDIS], "").load_balancer, plain);
        let flags = ["--load-balancer-type=Redis", "--redis-key-prefix=eu", "--redis-mixed-fleet"];
        let all = LoadBalancer::Redis { config: here, prefix: "eu".into(), mixed: true };
        assert_eq!(settings(&flags, &[], "").load_balancer, all);
    }

    #[test]
    fn redis_is_named_by_its_parts() {
        let parts = config(&[
            ("PROXY_REDIS_HOST", "[::1]"),
            ("PROXY_REDIS_PORT", "7"),
            ("PROXY_REDIS_PASSWORD", "p%40ss"),
            ("PROXY_REDIS_DB", "2"),
        ]);
        let single = RedisConfig::single(Node::Tcp("::1".into(), 7));
        // Percent signs are of URLs only.
        assert_eq!(parts, RedisConfig { password: Some("p%40ss".into()), db: 2, ..single });
    }

    #[test]
    fn redis_is_named_by_a_url_or_by_its_parts_but_not_by_both() {
        let url = "rediss+sentinel://proxy:p%40ss@a,b:7/main/1";
        assert_eq!(Ok(config(&[("PROXY_REDIS_URL", url)])), RedisConfig::from_url(url));
        for (part, value) in [
            ("PROXY_REDIS_HOST", "a"),
            ("PROXY_REDIS_PORT", "7"),
            ("PROXY_REDIS_PASSWORD", "s3cret"),
            ("PROXY_REDIS_DB", "1"),
        ] {
            let line = refusal(&[("PROXY_REDIS_URL", "redis://:s3cret@a"), (part, value)]);
            assert_eq!(line, format!("{part} and PROXY_REDIS_URL are both set: the URL says all of it"));
        }
    }

    #[test]
    fn a_wrong_url_is_explained_and_not_shown() {
        for (url, why) in [
            ("http://:s3cret@a", "not the scheme of a Redis"),
            ("redis://:s3cret@a:b", "has a port that is none"),
            ("redis+sentinel://:s3cret@a", "names no master"),
        ] {
            let line = refusal(&[("PROXY_REDIS_URL", url)]);
            assert!(line.starts_with(&format!("PROXY_REDIS_URL: {why}; allowed: redis://")), "{line}");
            assert!(!line.contains("s3cret"), "{line}");
        }
        let settings = settings(&[], &[REDIS, ("PROXY_REDIS_URL", "redis://us3r:s3cret@a")], "");
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
