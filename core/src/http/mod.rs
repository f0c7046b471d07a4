//! HTTP/1.1 and 1.0 as a server speaks it: request heads, responses, and the machine of the proxy's own API;
//! and the playlists and manifests that go through.

pub mod api;
pub mod head;
pub mod manifest;
pub mod playlist;
mod reference;
pub mod response;
mod routes;

pub use api::{Api, ApiConfig};
pub use routes::Server;
