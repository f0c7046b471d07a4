//! HTTP/1.1 and 1.0 as a gateway speaks it: to clients as a server, to origins as a client; and the
//! playlists and manifests that go through.

mod api;
pub mod body;
mod change;
mod connection;
mod exchange;
pub mod fields;
pub mod files;
mod forward;
pub mod head;
mod listing;
pub mod manifest;
pub mod playlist;
mod reference;
pub mod reply;
pub mod response;
mod routes;
mod signalling;

pub use connection::{
    ANSWER_TIMEOUT, BODY_TIMEOUT, Connection, Files, HEAD_TIMEOUT, HttpConfig, IDLE_TIMEOUT, MAX_BODY,
    ORIGIN_TIMEOUT,
};
pub use routes::Server;
