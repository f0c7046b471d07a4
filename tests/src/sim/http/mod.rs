//! HTTP in the simulated world: clients and origins that follow plans, and what must be true of them afterwards.

pub mod client;
pub mod origin;
pub mod plan;
pub mod play;
mod signalling;

pub use client::{Client, ClientLog, ClientPlan, Leave};
pub use origin::{Origin, OriginLog, Table};
pub use plan::{Body, Exchange, Request, Response, Rest, Trouble};
pub use play::{Kind, ORIGIN_TIMEOUT, Played, Scene};
