//! Addresses of peers as the kernel says them, and as machines know them.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// An IPv4 peer of a socket for both kinds is known by its IPv4 address. An IPv6 peer keeps its scope, without which
/// nothing can be sent to a link-local one; what it calls a flow is no part of who it is.
pub(crate) fn canonical(peer: SocketAddr) -> SocketAddr {
    match (peer, peer.ip().to_canonical()) {
        (SocketAddr::V6(peer), IpAddr::V6(ip)) => {
            SocketAddrV6::new(ip, peer.port(), 0, peer.scope_id()).into()
        }
        (_, ip) => SocketAddr::new(ip, peer.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_what_it_takes_to_answer_it() {
        let v6 = |ip: &str, flow, scope| {
            SocketAddr::from(SocketAddrV6::new(ip.parse().expect("an address"), 7, flow, scope))
        };
        for (said, known) in [
            (v6("::ffff:10.0.0.1", 0, 0), SocketAddr::from(([10, 0, 0, 1], 7))),
            (SocketAddr::from(([10, 0, 0, 1], 7)), SocketAddr::from(([10, 0, 0, 1], 7))),
            (v6("fe80::1", 0, 3), v6("fe80::1", 0, 3)),
            (v6("2001:db8::1", 5, 0), v6("2001:db8::1", 0, 0)),
        ] {
            assert_eq!(canonical(said), known, "{said}");
        }
    }
}
