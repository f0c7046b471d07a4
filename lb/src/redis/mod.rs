//! The load balancer of proxies that share their state through Redis.

mod client;
mod config;
#[cfg(any(test, feature = "conformance"))]
mod fake;
mod keys;
mod node;
#[cfg(any(test, feature = "conformance"))]
pub mod semantics;
mod server;
mod wire;

pub use client::{Census, Command, FOREVER, LOADS_LIFE, Lost, Mark, RedisClient, Reply};
pub use config::{BadUrl, MAX_DB, Node, RedisConfig, Topology};
#[cfg(any(test, feature = "conformance"))]
pub use fake::{FakeRedis, Seen};
pub use keys::Keys;
pub use server::RealRedis;
