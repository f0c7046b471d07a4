//! URI references (RFC 3986 §4.1) as playlists and manifests name them: where one leads, seen from the host
//! that the client asked. Resolves nothing and knows neither format.

/// Where a reference leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// Somewhere below what it is resolved against: `a/b?c`, `?c`, `#d`, or nothing at all.
    Relative,
    /// To a path from the root, which begins at this byte. At 0 it is the root of the host of whatever the
    /// reference is resolved against; behind it stands the client's own host.
    Rooted(usize),
    /// To another host, or to no host.
    Foreign,
}

/// Where `uri` leads for a client that asked `host`, its `Host` field.
pub(super) fn target(uri: &[u8], host: &str) -> Target {
    let (scheme, rest) = split_scheme(uri);
    let ports: &[&[u8]] = match scheme {
        // The client knows which of the two it speaks.
        None => &[b"80", b"443"],
        Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => &[b"80"],
        Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => &[b"443"],
        Some(_) => return Target::Foreign,
    };
    let Some(rest) = rest.strip_prefix(b"//") else {
        return match (scheme, rest.first()) {
            (None, Some(b'/')) => Target::Rooted(0),
            (None, _) => Target::Relative,
            (Some(_), _) => Target::Foreign,
        };
    };
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(length);
    match same_host(authority, host.as_bytes(), ports) {
        true => Target::Rooted(uri.len() - path.len()),
        false => Target::Foreign,
    }
}

/// The scheme, and what follows its colon; all of it if there is none.
fn split_scheme(uri: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let length = uri.iter().position(|byte| !is_scheme(byte)).unwrap_or(uri.len());
    match uri.split_at(length) {
        ([first, ..], [b':', rest @ ..]) if first.is_ascii_alphabetic() => (uri.get(..length), rest),
        _ => (None, uri),
    }
}

/// Whether two authorities are the same server for a scheme with one of these default ports.
fn same_host(authority: &[u8], host: &[u8], ports: &[&[u8]]) -> bool {
    let user = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    let (name, port) = split_port(authority.get(user..).unwrap_or_default());
    let (host, host_port) = split_port(host);
    !name.is_empty()
        && name.eq_ignore_ascii_case(host)
        && ports.iter().any(|default| port.unwrap_or(default) == host_port.unwrap_or(default))
}

/// Name and port of `name`, `name:`, `name:80`, `[v6]` or `[v6]:80`.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let digits = authority.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (name, port) = authority.split_at(authority.len() - digits);
    match name {
        [name @ .., b':'] => (name, Some(port).filter(|port| !port.is_empty())),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::Target::{Foreign, Relative, Rooted};
    use super::*;

    #[test]
    fn references_lead_below_to_the_root_or_elsewhere() {
        for (uri, leads) in [
            ("", Relative),
            ("a.ts", Relative),
            ("a/b:c.ts", Relative),
            ("./a:b.ts", Relative),
            ("2026-01-01T12:00.ts", Relative),
            ("?a=http://x/", Relative),
            ("#a", Relative),
            ("{$base}/a.ts", Relative),
            ("/", Rooted(0)),
            ("/a//b", Rooted(0)),
            ("http://example.com", Rooted(18)),
            ("HTTP://Example.COM/a", Rooted(18)),
            ("https://example.com?a", Rooted(19)),
            ("//example.com/a", Rooted(13)),
            ("http://user:pw@example.com/a", Rooted(26)),
            ("http://other.net/a", Foreign),
            ("http://example.com.evil.net/a", Foreign),
            ("http://example.com@evil.net/a", Foreign),
            ("//other.net/a", Foreign),
            ("///a", Foreign),
            ("http:///a", Foreign),
            ("http:/a", Foreign),
            ("http:a", Foreign),
            ("data:text/plain,a", Foreign),
            ("skd://example.com/a", Foreign),
            ("urn:a", Foreign),
            ("live-1:a.ts", Foreign),
        ] {
            assert_eq!(target(uri.as_bytes(), "example.com"), leads, "{uri}");
        }
    }

    #[test]
    fn default_ports_are_as_good_as_none() {
        for (authority, host, same) in [
            ("http://h", "h:80", true),
            ("http://h:80", "h", true),
            ("http://h:", "h", true),
            ("https://h", "h:443", true),
            ("https://h:443", "h", true),
            ("//h:80", "h", true),
            ("//h", "h:443", true),
            ("http://h:8080", "h:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://[::1]", "[::1]:80", true),
            ("http://h", "h:443", false),
            ("https://h", "h:80", false),
            ("http://h:443", "h", false),
            ("//h:80", "h:443", false),
            ("http://h:8080", "h", false),
            ("http://h", "h:8080", false),
            ("http://[::1]", "[::2]", false),
            ("http://", "", false),
            ("http://:80", "", false),
        ] {
            let expected = if same { Rooted(authority.len()) } else { Foreign };
            assert_eq!(target(authority.as_bytes(), host), expected, "{authority} {host}");
        }
    }
}
