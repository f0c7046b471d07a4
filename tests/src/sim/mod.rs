//! A deterministic simulator: drives any machine exactly as the contract says, in a seeded world with virtual time. It may
//! use no clock, no thread, no socket and no entropy, and only [`rtmp`], [`scene`]
//! and [`http`] know a protocol.
//!
//! The world re-splits, delays, stalls, breaks and half-closes TCP connections, loses, doubles and reorders
//! datagrams, and lets a load balancer answer late, never, or with a no. After every step it asserts that
//! the machine kept its side of the contract; at the end, that nothing leaked and nothing was lost.
//!
//! A failing seed is printed; `SIM_SEED=n` runs it again, `SIM_TRACE=1` shows all of it, `SIM_SEEDS=n` runs
//! more of them.

mod balancer;
mod bounds;
pub mod desk;
mod dice;
mod files;
pub mod http;
pub mod hub;
mod net;
mod peer;
mod pipe;
pub mod rtc;
pub mod rtmp;
mod running;
pub mod scene;
pub mod seeds;
mod slots;
pub mod srt;
mod straight;
mod trace;
mod weather;
mod world;

pub use balancer::{Balancer, Manner, Real, Reply, Scripted};
pub use bounds::Bounds;
pub use dice::Dice;
pub use files::File;
pub use net::{Fates, Host};
pub use peer::{End, Io, Peer};
pub use straight::Straight;
pub use weather::{Fate, Weather};
pub use world::{Run, World};
