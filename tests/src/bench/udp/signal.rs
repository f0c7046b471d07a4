//! Signalling, for a proxy that routes by ICE user names: the origin's WHIP, and the clients' offers.

use super::wire::ufrags;
use crate::peers::http::{Connection, Request};
use crate::peers::http_origin::{Answer, HttpOrigin, Seen};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two looks whether the proxy listens.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a stream's name has before the number of its flow.
const STREAM: &str = "stream=f";

fn description(ufrag: &str) -> Vec<u8> {
    let lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        &format!("a=ice-ufrag:{ufrag}"),
        "a=ice-pwd:0123456789abcdef01234567",
        "a=candidate:0 1 udp 2130706431 127.0.0.1 8000 typ host",
        "",
    ];
    lines.join("\r\n").into_bytes()
}

/// An origin's API, which gives each flow its user name.
pub fn origin() -> HttpOrigin {
    HttpOrigin::start(|seen: &Seen| {
        let flow = seen.target.split_once(STREAM).and_then(|(_, flow)| flow.parse().ok());
        let Some(flow) = flow else { return Answer::new(404, "Not Found") };
        Answer::new(201, "Created")
            .field("Content-Type", "application/sdp")
            .field("Location", "/rtc/v1/whip/?action=delete")
            .body(&description(&ufrags(flow).0))
    })
}

/// Makes an offer for each flow at this API, as soon as it listens.
///
/// # Errors
/// It does not listen within `limit`, or does not take an offer.
pub fn offer(api: SocketAddr, flows: usize, limit: Duration) -> io::Result<()> {
    let began = Instant::now();
    let mut connection = loop {
        match Connection::open(api) {
            Ok(connection) => break connection,
            Err(error) if began.elapsed() > limit => return Err(error),
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    };
    for flow in 0..flows as u32 {
        let offer = description(&ufrags(flow).1);
        let target = format!("/rtc/v1/whip/?app=live&{STREAM}{flow}");
        let request = Request::new("POST", &target).field("Content-Type", "application/sdp").body(&offer);
        let answer = connection.ask(&request)?;
        if answer.status != 201 {
            return Err(io::Error::other(format!("an offer is answered with {}", answer.status)));
        }
    }
    Ok(())
}
