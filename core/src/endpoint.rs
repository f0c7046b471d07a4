//! Addresses as people and origins write them: where an origin listens (in a registration), and where this
//! proxy shall listen (in its settings). Names are never resolved.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What is wrong with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndpointError {
    /// There is a scheme, but none of `tcp://` and `udp://`.
    UnknownScheme,
    /// What stands before the port is no IP address.
    NotAnIp,
    /// An IPv6 address stands without brackets, so that its port cannot be told.
    NoBrackets,
    /// The port is missing.
    NoPort,
    /// The port is no number from 1 (0, where any port will do) to 65535.
    BadPort,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownScheme => "the scheme is neither tcp:// nor udp://",
            Self::NotAnIp => "the host is not an IP address",
            Self::NoBrackets => "an IPv6 address needs brackets",
            Self::NoPort => "the port is missing",
            Self::BadPort => "the port is not a number up to 65535",
        })
    }
}

impl core::error::Error for EndpointError {}

/// Where an origin that registered with `ip` listens: `port`, `:port`, `ip:port` or `[v6]:port`, each also
/// after `tcp://` or `udp://`. A concrete address overrides `ip`; an unspecified one (`0.0.0.0`, `[::]`)
/// does not. The scheme says nothing that the protocol does not.
///
/// # Errors
/// If it is none of these.
pub fn resolve(text: &str, ip: IpAddr) -> Result<SocketAddr, EndpointError> {
    let address = match text.split_once("://") {
        Some(("tcp" | "udp", address)) => address,
        Some(_) => return Err(EndpointError::UnknownScheme),
        None => text,
    };
    let (own, port) = split(address)?;
    if port == 0 {
        return Err(EndpointError::BadPort);
    }
    Ok(SocketAddr::new(own.filter(|own| !own.is_unspecified()).unwrap_or(ip), port))
}

/// Where to listen: `port` or `:port` (IPv6 and IPv4), `0.0.0.0:port` (IPv4), `[::]:port`, `ip:port`.
/// Port 0 lets the system choose.
///
/// # Errors
/// If it is none of these.
pub fn listen(text: &str) -> Result<SocketAddr, EndpointError> {
    let (ip, port) = split(text)?;
    Ok(SocketAddr::new(ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), port))
}

/// The address, if there is one, and the port.
fn split(text: &str) -> Result<(Option<IpAddr>, u16), EndpointError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(EndpointError::NotAnIp)?;
            let host = host.parse::<Ipv6Addr>().map_err(|_| EndpointError::NotAnIp)?;
            (Some(IpAddr::V6(host)), port.strip_prefix(':').ok_or(EndpointError::NoPort)?)
        }
        None => match text.split_once(':') {
            None if text.parse::<IpAddr>().is_ok() => return Err(EndpointError::NoPort),
            None => (None, text),
            Some(("", port)) if !port.contains(':') => (None, port),
            Some((_, port)) if port.contains(':') => {
                let v6 = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
                return Err(if v6 { EndpointError::NoBrackets } else { EndpointError::NotAnIp });
            }
            Some((host, port)) => (Some(host.parse().map_err(|_| EndpointError::NotAnIp)?), port),
        },
    };
    if port.is_empty() {
        return Err(EndpointError::NoPort);
    }
    // `parse` takes a plus sign; nobody means one.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointError::BadPort);
    }
    Ok((host, port.parse().map_err(|_| EndpointError::BadPort)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn resolved(text: &str, ip: &str) -> Result<alloc::string::String, EndpointError> {
        resolve(text, ip.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn a_port_is_at_the_registrations_address() {
        for text in [
            "19352",
            ":19352",
            "tcp://:19352",
            "udp://:19352",
            "tcp://19352",
            "tcp://0.0.0.0:19352",
            "udp://0.0.0.0:19352",
            "0.0.0.0:19352",
            "[::]:19352",
            "udp://[::]:19352",
        ] {
            assert_eq!(resolved(text, "10.78.122.184"), Ok("10.78.122.184:19352".into()), "{text}");
            assert_eq!(resolved(text, "2001:db8::7"), Ok("[2001:db8::7]:19352".into()), "{text}");
        }
    }

    #[test]
    fn a_concrete_address_overrides_the_registrations() {
        assert_eq!(resolved("udp://10.0.0.9:8001", "10.0.0.1"), Ok("10.0.0.9:8001".into()));
        assert_eq!(resolved("10.0.0.9:8001", "::1"), Ok("10.0.0.9:8001".into()));
        assert_eq!(resolved("tcp://[2001:db8::9]:1935", "10.0.0.1"), Ok("[2001:db8::9]:1935".into()));
    }

    #[test]
    fn what_is_no_endpoint_says_why() {
        for (text, why) in [
            ("", EndpointError::NoPort),
            ("tcp://", EndpointError::NoPort),
            (":", EndpointError::NoPort),
            ("10.0.0.1", EndpointError::NoPort),
            ("10.0.0.1:", EndpointError::NoPort),
            ("[::1]", EndpointError::NoPort),
            ("[::1]:", EndpointError::NoPort),
            ("0", EndpointError::BadPort),
            ("65536", EndpointError::BadPort),
            ("-1", EndpointError::BadPort),
            ("+1935", EndpointError::BadPort),
            (" 1935", EndpointError::BadPort),
            ("1935/tcp", EndpointError::BadPort),
            ("rtmp://0.0.0.0:1935", EndpointError::UnknownScheme),
            ("origin.example.com:1935", EndpointError::NotAnIp),
            ("[::1", EndpointError::NotAnIp),
            ("[10.0.0.1]:1935", EndpointError::NotAnIp),
            ("::1:1935", EndpointError::NoBrackets),
        ] {
            assert_eq!(resolved(text, "10.0.0.1"), Err(why), "{text}");
        }
    }

    #[test]
    fn a_bare_port_listens_on_both_families() {
        for (text, address) in [
            ("1935", "[::]:1935"),
            (":1935", "[::]:1935"),
            ("[::]:1935", "[::]:1935"),
            ("0.0.0.0:1935", "0.0.0.0:1935"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:1935", "[::1]:1935"),
        ] {
            assert_eq!(listen(text).unwrap().to_string(), address, "{text}");
        }
        assert_eq!(listen("tcp://:1935"), Err(EndpointError::NotAnIp));
        assert_eq!(listen("localhost:1935"), Err(EndpointError::NotAnIp));
        assert_eq!(listen("rtmp"), Err(EndpointError::BadPort));
    }

    proptest::proptest! {
        #[test]
        fn every_address_is_read_as_it_is_written(address: SocketAddr) {
            proptest::prop_assume!(address.port() != 0 && !address.ip().is_unspecified());
            // A flow label or zone is no part of an endpoint.
            let address = SocketAddr::new(address.ip(), address.port());
            let other = IpAddr::V6(Ipv6Addr::LOCALHOST);
            assert_eq!(resolve(&address.to_string(), other), Ok(address));
            assert_eq!(listen(&address.to_string()), Ok(address));
        }

        #[test]
        fn any_text_is_an_endpoint_or_an_error(text in "(.|[0-9:\\\\[\\\\]])*") {
            let _ = listen(&text);
            if let Ok(address) = resolve(&text, IpAddr::V6(Ipv6Addr::LOCALHOST)) {
                assert!(address.port() != 0 && !address.ip().is_unspecified());
            }
        }
    }
}
