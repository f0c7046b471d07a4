//! HTTP/1.1 and 1.0 as a server speaks it: request heads, responses, and the machine of the proxy's own API.

pub mod api;
pub mod body;
pub mod fields;
pub mod head;
pub mod reply;
pub mod response;
mod routes;

pub use api::{Api, ApiConfig};
pub use routes::Server;
