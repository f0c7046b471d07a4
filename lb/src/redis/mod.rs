//! The load balancer of proxies that share their state through Redis.

mod client;
#[cfg(any(test, feature = "conformance"))]
mod fake;
mod keys;

pub use client::{Census, Command, FOREVER, LOADS_LIFE, Lost, Mark, RedisClient, Reply};
#[cfg(any(test, feature = "conformance"))]
pub use fake::{FakeRedis, Seen};
pub use keys::Keys;
