//! The protocols of srs-proxy as pure state machines: bytes in, actions out.
//!
//! Nothing here touches a socket, a clock, a thread or the standard library; time, randomness and the
//! load balancer's answers are handed in. The same inputs give the same actions, always.
//!
//! Start at [`machine`]: it is the contract between a protocol and whatever event loop drives it.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

pub mod amf0;
pub mod endpoint;
pub mod flow;
pub mod http;
pub mod key;
pub mod machine;
pub mod origin;
mod percent;
pub mod query;
mod reach;
pub mod read;
pub mod rtc;
pub mod rtmp;
pub mod srt;
pub mod time;
pub mod usage;
