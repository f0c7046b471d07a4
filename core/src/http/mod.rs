//! HTTP/1.1 and 1.0 as a server speaks it: request heads, responses, files, and the machine of the proxy's own
//! API.

pub mod api;
pub mod files;
pub mod head;
pub mod response;
mod routes;

pub use api::{Api, ApiConfig};
pub use routes::Server;
