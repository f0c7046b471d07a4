//! The load balancer of proxies that share their state through Redis.

mod client;

pub use client::{Census, Command, Lost, Mark, RedisClient, Reply};
