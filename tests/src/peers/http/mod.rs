//! HTTP/1.1 for tests: requests written as they are to be sent, answers read strictly and kept whole. Knows no
//! proxy; shares no code with it.

mod connection;
mod message;
mod wire;

pub use connection::Connection;
pub use message::{Body, Fields, Request, Response, chunked};
pub use wire::{Framing, Head, Left, Wire, framing};

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the other side may take for a step on a busy machine.
pub const STEP: Duration = Duration::from_secs(10);

/// Asks `GET path` on a connection of its own.
///
/// # Errors
/// When there is no connection, or no whole answer in time.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    request(addr, "GET", path, &[], "")
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// When there is no connection, or no whole answer in time.
pub fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let mut request = Request::new(method, path).host(&addr.to_string()).field("Connection", "close");
    for (name, value) in fields {
        request = request.field(name, value);
    }
    Connection::open(addr)?.ask(&request.body(body.as_bytes()))
}
