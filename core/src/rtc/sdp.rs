//! Session descriptions (RFC 8866, RFC 8839) and their fragments (RFC 8840): reads the ICE user name, and leads
//! an answer's candidates to the proxy. Goes line by line, understands nothing else, and changes nothing else.
//!
//! **Candidates.** Media flows through the proxy's one UDP port, and everything a client may try but this port
//! leads past it. So of the origin's candidates those stay that are like the proxy's own: UDP, of type `host`,
//! component 1. What goes is TCP (the proxy takes no media there), `srflx`, `prflx` and `relay` (addresses that
//! the network or a TURN server gave the *origin*), component 2 (RTCP on a port of its own, which WHIP forbids,
//! RFC 9725 §4.4), and names instead of addresses (mDNS: only in the origin's own network does it resolve).
//!
//! ```text
//! a=candidate:0 1 udp 2130706431 10.0.0.9 8000 typ host generation 0
//!     no address is set     →  a=candidate:0 1 udp 2130706431 10.0.0.9 18000 typ host generation 0
//!     two addresses are set →  a=candidate:1 1 udp 2130706431 203.0.113.7 18000 typ host generation 0
//!                              a=candidate:2 1 udp 2130706175 2001:db8::7 18000 typ host generation 0
//! ```
//!
//! **Default candidates** (`m=`, `c=`, `a=rtcp`) stand before the candidates and are for peers without ICE,
//! which WebRTC does not know. They become what WebRTC writes if there is none, port 9 at the unspecified
//! address; that is no mismatch (RFC 8839 §4.2.5) and points nowhere.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::IpAddr;

/// The longest description that is read, in bytes. A browser's offer of many codecs and tracks has 20,000.
pub const MAX_SDP: usize = 128 * 1024;
/// The most addresses that candidates are given, and the most that are kept of one media section: every pair of
/// a client's and a server's candidate is a check that the client makes.
pub const MAX_ADDRESSES: usize = 16;
/// The longest ICE user name, in characters (RFC 8839 §5.4).
pub const MAX_UFRAG: usize = 256;

/// The port of a default candidate where there is none.
const NO_PORT: &[u8] = b"9";
/// How a candidate's value begins.
const CANDIDATE: &[u8] = b"candidate:";
/// What ends a line (RFC 8866 §5), where LF alone does not.
const CRLF: &[u8] = b"\r\n";
/// About what an address takes in the candidates of two media sections, in bytes.
const ROOM: usize = 256;
/// The priority of a host candidate on a machine with one address (RFC 8445 §5.1.2.1): type preference 126,
/// local preference 65535, component 1.
const HOST_PRIORITY: u32 = 126 << 24 | 65535 << 8 | 255;
/// By what the priorities of two candidates differ whose local preferences differ by one.
const NEXT_PREFERENCE: u32 = 1 << 8;

/// Where the proxy takes media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidates<'a> {
    /// Its UDP port.
    pub port: u16,
    /// Its addresses as clients see them, the best first; at most [`MAX_ADDRESSES`] count. Empty: those of the
    /// origin stay, which is right where the proxy and its origins share their addresses.
    pub addresses: &'a [IpAddr],
}

/// Why a description is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SdpError {
    /// It has a line that is not `x=value`.
    NoSdp,
    /// It is longer than [`MAX_SDP`].
    TooLong,
    /// There is no ICE user name, or one that cannot be a part of a STUN user name.
    NoUfrag,
    /// No candidate is left that leads to the proxy.
    NoCandidate,
}

impl SdpError {
    /// The error in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSdp => "not a session description",
            Self::TooLong => "session description too long",
            Self::NoUfrag => "no ICE user name",
            Self::NoCandidate => "no candidate for UDP",
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for SdpError {}

/// The ICE user name of an offer, an answer or a fragment: that of the first media section in use that has one,
/// else the session's. WebRTC bundles its media, so that all have the first one's transport (RFC 8843 §7.1).
///
/// # Errors
/// If there is none, it is unfit, or this is no description.
pub fn ufrag(sdp: &[u8]) -> Result<&str, SdpError> {
    let (mut in_media, mut is_in_use, mut of_session) = (false, true, None);
    for line in lines(sdp)? {
        let line = line?;
        if line.kind == b'm' {
            (in_media, is_in_use) = (true, line.is_media_in_use());
        }
        let Some(found) = line.attribute(b"ice-ufrag:").filter(|_| is_in_use) else { continue };
        if in_media {
            return checked(found);
        }
        of_session = of_session.or(Some(found));
    }
    checked(of_session.unwrap_or_default())
}

/// A user name that is one side of a STUN user name, `server:client`. More characters are allowed than RFC 8839
/// does, because it is compared with nothing but itself.
fn checked(ufrag: &[u8]) -> Result<&str, SdpError> {
    let fits = (1..=MAX_UFRAG).contains(&ufrag.len());
    let is_fit = fits && ufrag.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':');
    core::str::from_utf8(ufrag).ok().filter(|_| is_fit).ok_or(SdpError::NoUfrag)
}

/// The answer, or the fragment that answers one, with candidates that lead to the proxy. An answer without a
/// fitting one is given one, if an address is set. All other lines are as they were, and lines end as they did.
///
/// # Errors
/// If it is no description, or an answer with media but without a candidate and none can be given.
pub fn rewrite(sdp: &[u8], candidates: &Candidates<'_>) -> Result<Vec<u8>, SdpError> {
    let (mut has_candidate, mut has_media) = (false, false);
    for line in lines(sdp)? {
        let line = line?;
        has_candidate |= line.candidate().is_some_and(|candidate| candidates.can_use(&candidate));
        has_media |= line.is_media_in_use();
    }
    // A fragment may have any lines or none (RFC 8840 §9), and media that was refused needs no candidate.
    let is_missing = sdp.starts_with(b"v=") && has_media && !has_candidate;
    if is_missing && candidates.addresses.is_empty() {
        return Err(SdpError::NoCandidate);
    }
    let grown = sdp.len() + candidates.addresses.len() * ROOM;
    let line_end = lines(sdp)?.find_map(Result::ok).map_or(CRLF, |first| first.end);
    let mut writer = Writer {
        out: Vec::with_capacity(grown),
        candidates,
        line_end: if line_end.is_empty() { CRLF } else { line_end },
        known: Known::default(),
        is_missing,
        gives: false,
    };
    for line in lines(sdp)? {
        writer.line(&line?);
    }
    writer.give();
    Ok(writer.out)
}

/// One line: `kind=value`, and what ends it.
#[derive(Clone, Copy)]
struct Line<'a> {
    whole: &'a [u8],
    kind: u8,
    value: &'a [u8],
    end: &'a [u8],
}

/// Each line. Empty ones mean nothing, wherever they are.
fn lines(sdp: &[u8]) -> Result<impl Iterator<Item = Result<Line<'_>, SdpError>>, SdpError> {
    if sdp.len() > MAX_SDP {
        return Err(SdpError::TooLong);
    }
    Ok(sdp.split_inclusive(|byte| *byte == b'\n').map(|whole| {
        let text = whole.strip_suffix(CRLF).or_else(|| whole.strip_suffix(b"\n")).unwrap_or(whole);
        let (_, end) = whole.split_at(text.len());
        match text {
            [] => Ok(Line { whole, kind: 0, value: text, end }),
            // To some a lone CR ends a line, and would hide another one in this.
            [kind, b'=', value @ ..] if !value.contains(&b'\r') => {
                Ok(Line { whole, kind: *kind, value, end })
            }
            _ => Err(SdpError::NoSdp),
        }
    }))
}

impl<'a> Line<'a> {
    fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        if self.kind == b'a' { self.value.strip_prefix(name) } else { None }
    }

    fn candidate(&self) -> Option<Candidate<'a>> {
        Candidate::read(self.attribute(CANDIDATE)?)
    }

    /// Whether a media section begins that is in use. Port 0 refuses one (RFC 3264 §6).
    fn is_media_in_use(&self) -> bool {
        self.kind == b'm' && split_port(self.value).1.iter().any(|digit| *digit != b'0')
    }
}

/// What is before, in and behind the port of an `m=` line's value: `audio`, `9`, `/2 UDP/TLS/RTP/SAVPF 111`.
fn split_port(media: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let space = media.iter().position(|byte| *byte == b' ').unwrap_or(media.len());
    let (_, spaced) = media.split_at(space);
    let port = spaced.trim_ascii_start();
    let (before, _) = media.split_at(media.len() - port.len());
    let digits = port.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(port.len());
    let (port, after) = port.split_at(digits);
    (before, port, after)
}

/// What is in a candidate of UDP, type `host` and component 1 (RFC 8839 §5.1).
#[derive(Clone, Copy)]
struct Candidate<'a> {
    foundation: &'a [u8],
    transport: &'a [u8],
    priority: u32,
    /// `None` if it is a name.
    address: Option<IpAddr>,
    /// What follows the type.
    extensions: &'a [u8],
}

impl<'a> Candidate<'a> {
    /// Reads a candidate's value; `None` if it is of another kind, or wrong.
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut rest = text;
        let mut word = || {
            let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_ascii_start();
            word
        };
        let (foundation, component, transport) = (word(), word(), word());
        let priority = number(word())?;
        let address = core::str::from_utf8(word()).ok()?;
        let _port: u16 = number(word())?;
        let is_host = word() == b"typ" && word() == b"host";
        if !is_host || component != b"1" || !transport.eq_ignore_ascii_case(b"udp") || foundation.is_empty() {
            return None;
        }
        Some(Self { foundation, transport, priority, address: address.parse().ok(), extensions: rest })
    }
}

fn number<T: core::str::FromStr>(text: &[u8]) -> Option<T> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

impl Candidates<'_> {
    /// Whether the origin's candidate becomes one of the proxy.
    fn can_use(&self, candidate: &Candidate<'_>) -> bool {
        !self.addresses.is_empty() || candidate.address.is_some_and(|address| !address.is_unspecified())
    }
}

/// The addresses that a media section has candidates of.
#[derive(Default)]
struct Known([Option<IpAddr>; MAX_ADDRESSES]);

impl Known {
    /// Whether this address is new, and there is room for it.
    fn add(&mut self, address: IpAddr) -> bool {
        for slot in &mut self.0 {
            match slot {
                Some(known) if *known == address => return false,
                Some(_) => {}
                None => {
                    *slot = Some(address);
                    return true;
                }
            }
        }
        false
    }
}

struct Writer<'a> {
    out: Vec<u8>,
    candidates: &'a Candidates<'a>,
    /// What ends lines that are new.
    line_end: &'a [u8],
    /// Of the media section that is being written.
    known: Known,
    /// No media section in use has a candidate: the first one is given one.
    is_missing: bool,
    /// This media section is it.
    gives: bool,
}

impl<'a> Writer<'a> {
    fn line(&mut self, line: &Line<'a>) {
        match line.kind {
            b'm' => {
                self.give();
                self.known = Known::default();
                if line.is_media_in_use() {
                    self.gives = core::mem::take(&mut self.is_missing);
                    let (before, _, after) = split_port(line.value);
                    self.put(&[b"m=", before, NO_PORT, after, line.end]);
                } else {
                    self.put(&[line.whole]);
                }
            }
            b'c' => self.put(&[b"c=", no_address(line.value), line.end]),
            b'a' if line.value.starts_with(CANDIDATE) => {
                if let Some(candidate) = line.candidate() {
                    self.candidate(&candidate);
                }
            }
            b'a' if line.value == b"end-of-candidates" => {
                self.give();
                self.put(&[line.whole]);
            }
            b'a' => match line.attribute(b"rtcp:") {
                Some(rtcp) => match rtcp.iter().position(|byte| *byte == b' ') {
                    Some(space) => {
                        let (_, address) = rtcp.split_at(space);
                        self.put(&[b"a=rtcp:", NO_PORT, b" ", no_address(address), line.end]);
                    }
                    None => self.put(&[b"a=rtcp:", NO_PORT, line.end]),
                },
                None => self.put(&[line.whole]),
            },
            _ => self.put(&[line.whole]),
        }
    }

    /// Gives this media section the candidate that the description lacks, if it is the one.
    fn give(&mut self) {
        if !core::mem::take(&mut self.gives) {
            return;
        }
        // The very last line may have no end.
        if !self.out.ends_with(b"\n") {
            self.put(&[self.line_end]);
        }
        let made = Candidate {
            foundation: b"1",
            transport: b"udp",
            priority: HOST_PRIORITY,
            address: None,
            extensions: b"",
        };
        self.candidate(&made);
    }

    /// The proxy's candidates in place of this one of the origin, but for those that are there already.
    fn candidate(&mut self, candidate: &Candidate<'_>) {
        let Candidates { addresses, .. } = *self.candidates;
        if addresses.is_empty() {
            let address = candidate.address.filter(|_| self.candidates.can_use(candidate));
            if let Some(address) = address.filter(|address| self.known.add(*address)) {
                self.put(&[b"a=candidate:", candidate.foundation]);
                self.host(candidate, candidate.priority, address);
            }
            return;
        }
        // The same address has the same foundation in every section and every fragment, and no other has it
        // (RFC 8445 §5.1.1.3).
        let mut priority = candidate.priority;
        for (foundation, address) in (1_usize..).zip(addresses) {
            if self.known.add(*address) {
                self.format(format_args!("a=candidate:{foundation}"));
                self.host(candidate, priority, *address);
                priority = priority.saturating_sub(NEXT_PREFERENCE).max(1);
            }
        }
    }

    /// A candidate behind its foundation.
    fn host(&mut self, candidate: &Candidate<'_>, priority: u32, address: IpAddr) {
        let port = self.candidates.port;
        self.put(&[b" 1 ", candidate.transport]);
        self.format(format_args!(" {priority} {address} {port} typ host"));
        if !candidate.extensions.is_empty() {
            self.put(&[b" ", candidate.extensions]);
        }
        self.put(&[self.line_end]);
    }

    fn put(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.out.extend_from_slice(part));
    }

    fn format(&mut self, text: fmt::Arguments<'_>) {
        // Only what is formatted could fail, and none of that does.
        let _ = Text(&mut self.out).write_fmt(text);
    }
}

/// The unspecified address, of the family of this one.
fn no_address(connection: &[u8]) -> &'static [u8] {
    let mut words = connection.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    if words.nth(1).is_some_and(|family| family.eq_ignore_ascii_case(b"IP6")) {
        b"IN IP6 ::"
    } else {
        b"IN IP4 0.0.0.0"
    }
}

/// Text among bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    /// A description of two bundled media sections, with these lines in the first one.
    fn description(lines: &str) -> String {
        let head = "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n";
        let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n";
        let lines: String = lines.lines().map(|line| format!("{}\r\n", line.trim())).collect();
        format!("{head}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n{lines}{video}")
    }

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    fn rewritten(sdp: &str, set: &str) -> Result<String, SdpError> {
        let to = Candidates { port: 18000, addresses: &addresses(set) };
        rewrite(sdp.as_bytes(), &to).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// What becomes of these lines in a description that has a candidate.
    fn lines_of(lines: &str, set: &str) -> String {
        let other = "a=candidate:7 1 UDP 9 10.7.7.7 7 typ host";
        let whole = format!("{}{other}\r\n", description(lines));
        let out = rewritten(&whole, set).unwrap();
        let begin = description("").split("m=video").next().unwrap().len();
        let end = out.rfind("m=video").unwrap();
        out[begin..end].replace("\r\n", "\n").trim_end().into()
    }

    #[test]
    fn the_port_of_each_usable_candidate_becomes_the_proxys() {
        for (line, expected) in [
            (
                "a=candidate:0 1 udp 2130706431 10.99.0.1 8000 typ host generation 0",
                "a=candidate:0 1 udp 2130706431 10.99.0.1 18000 typ host generation 0",
            ),
            ("a=candidate:f 1 UDP 1 ::1 1 typ host", "a=candidate:f 1 UDP 1 ::1 18000 typ host"),
            (
                "a=candidate:f 1 udp 1 2001:db8:0::7 1 typ host a b c d",
                "a=candidate:f 1 udp 1 2001:db8::7 18000 typ host a b c d",
            ),
        ] {
            assert_eq!(lines_of(line, ""), expected);
        }
    }

    #[test]
    fn what_leads_past_the_proxy_is_dropped() {
        for line in [
            "a=candidate:1 2 udp 2130706430 10.99.0.1 8000 typ host",
            "a=candidate:1 1 tcp 1518280447 10.99.0.1 8000 typ host tcptype passive",
            "a=candidate:1 1 tcp 1518280447 10.99.0.1 9 typ host tcptype active",
            "a=candidate:1 1 udp 1694498815 198.51.100.1 8000 typ srflx raddr 10.99.0.1 rport 8000",
            "a=candidate:1 1 udp 1694498815 198.51.100.1 8000 typ prflx raddr 10.99.0.1 rport 8000",
            "a=candidate:1 1 udp 16777215 198.51.100.1 8000 typ relay raddr 10.99.0.1 rport 8000",
            "a=candidate:1 1 ssltcp 1 10.99.0.1 443 typ host",
            "a=candidate:1 1 udp 1 10.99.0.1 65536 typ host",
            "a=candidate:1 1 udp 1 10.99.0.1 8000 host",
            "a=candidate:1 1 udp 1 10.99.0.1 8000",
            "a=candidate: 1 udp 1 10.99.0.1 8000 typ host",
            "a=candidate:",
        ] {
            for set in ["", "203.0.113.7"] {
                assert_eq!(lines_of(line, set), "", "{line}");
            }
        }
        for line in [
            "a=candidate:1 1 udp 1 8d6a1d21-1b2c.local 8000 typ host",
            "a=candidate:1 1 udp 1 0.0.0.0 8000 typ host",
            "a=candidate:1 1 udp 1 fe80::1%eth0 8000 typ host",
        ] {
            assert_eq!(lines_of(line, ""), "", "{line}");
            assert_eq!(lines_of(line, "203.0.113.7"), "a=candidate:1 1 udp 1 203.0.113.7 18000 typ host");
        }
    }

    #[test]
    fn the_origins_candidates_collapse_into_one_for_each_address_that_is_set() {
        let several = "a=candidate:a 1 udp 2130706431 10.0.0.9 8000 typ host generation 0
            a=candidate:a 2 udp 2130706430 10.0.0.9 8001 typ host generation 0
            a=candidate:b 1 udp 2130706175 10.1.0.9 8000 typ host generation 0
            a=candidate:c 1 udp 2130705919 2001:db8::9 8000 typ host
            a=end-of-candidates";
        assert_eq!(
            lines_of(several, "203.0.113.7 2001:db8::7 203.0.113.7"),
            "a=candidate:1 1 udp 2130706431 203.0.113.7 18000 typ host generation 0
a=candidate:2 1 udp 2130706175 2001:db8::7 18000 typ host generation 0
a=end-of-candidates"
        );
        assert_eq!(
            lines_of(several, ""),
            "a=candidate:a 1 udp 2130706431 10.0.0.9 18000 typ host generation 0
a=candidate:b 1 udp 2130706175 10.1.0.9 18000 typ host generation 0
a=candidate:c 1 udp 2130705919 2001:db8::9 18000 typ host
a=end-of-candidates"
        );
    }

    #[test]
    fn two_ports_at_one_address_are_one_candidate() {
        let two =
            "a=candidate:a 1 udp 2 10.0.0.9 8000 typ host\na=candidate:b 1 udp 1 10.0.0.9 8001 typ host";
        assert_eq!(lines_of(two, ""), "a=candidate:a 1 udp 2 10.0.0.9 18000 typ host");
    }

    #[test]
    fn each_media_section_has_its_own_candidates() {
        let line = "a=candidate:0 1 udp 5 10.0.0.9 8000 typ host";
        let out = rewritten(&format!("{}{line}\r\n", description(line)), "203.0.113.7").unwrap();
        assert_eq!(out.matches("a=candidate:1 1 udp 5 203.0.113.7 18000 typ host\r\n").count(), 2);
        assert!(!out.contains("10.0.0.9 8000"));
    }

    #[test]
    fn default_candidates_point_nowhere() {
        let line = "a=candidate:0 1 udp 5 10.0.0.9 8000 typ host";
        for (before, after) in [
            ("m=audio 50296 UDP/TLS/RTP/SAVPF 96", "m=audio 9 UDP/TLS/RTP/SAVPF 96"),
            ("m=audio 9 UDP/TLS/RTP/SAVPF 96", "m=audio 9 UDP/TLS/RTP/SAVPF 96"),
            ("m=audio 49170/2 RTP/AVP 31", "m=audio 9/2 RTP/AVP 31"),
            ("m=audio 0 UDP/TLS/RTP/SAVPF 96", "m=audio 0 UDP/TLS/RTP/SAVPF 96"),
            ("c=IN IP4 10.0.0.9", "c=IN IP4 0.0.0.0"),
            ("c=IN IP4 224.2.36.42/127", "c=IN IP4 0.0.0.0"),
            ("c=IN IP4 origin.example.com", "c=IN IP4 0.0.0.0"),
            ("c=IN IP6 2001:db8::9", "c=IN IP6 ::"),
            ("c=", "c=IN IP4 0.0.0.0"),
            ("a=rtcp:50297", "a=rtcp:9"),
            ("a=rtcp:50297 IN IP4 10.0.0.9", "a=rtcp:9 IN IP4 0.0.0.0"),
            ("a=rtcp:50297 IN IP6 2001:db8::9", "a=rtcp:9 IN IP6 ::"),
            ("a=rtcp-mux", "a=rtcp-mux"),
            ("a=rtcp-fb:96 nack ", "a=rtcp-fb:96 nack "),
        ] {
            let sdp = |changed: &str| format!("v=0\nm=video 9 X 1\n{changed}\nm=video 9 X 1\n");
            let candidate = |port| line.replace("8000", port) + "\n";
            assert_eq!(
                rewritten(&(sdp(before) + &candidate("8000")), ""),
                Ok(sdp(after) + &candidate("18000")),
                "{before}"
            );
        }
    }

    #[test]
    fn an_answer_without_a_usable_candidate_is_given_one_if_an_address_is_set() {
        let tcp = "a=candidate:1 1 tcp 1518280447 10.99.0.1 8000 typ host tcptype passive";
        for lines in ["", tcp, "a=candidate:1 1 udp 1 h.local 80 typ srflx"] {
            let sdp = description(lines);
            assert_eq!(rewritten(&sdp, ""), Err(SdpError::NoCandidate), "{lines}");
            let out = rewritten(&sdp, "203.0.113.7 2001:db8::7").unwrap();
            let made = "c=IN IP4 0.0.0.0\r\n\
                a=candidate:1 1 udp 2130706431 203.0.113.7 18000 typ host\r\n\
                a=candidate:2 1 udp 2130706175 2001:db8::7 18000 typ host\r\nm=video";
            assert!(out.contains(made), "{out}");
            assert_eq!(out.matches("a=candidate").count(), 2, "only the first section is given one");
        }
        assert!(
            rewritten(&description("a=end-of-candidates\na=mid:0"), "203.0.113.7")
                .unwrap()
                .contains("203.0.113.7 18000 typ host\r\na=end-of-candidates\r\na=mid:0\r\n")
        );
        assert_eq!(
            rewritten("v=0\nm=audio 0 X 1\nm=video 9 X 1\na=x", "203.0.113.7").as_deref(),
            Ok("v=0\nm=audio 0 X 1\nm=video 9 X 1\na=x\n\
                a=candidate:1 1 udp 2130706431 203.0.113.7 18000 typ host\n")
        );
    }

    #[test]
    fn an_answer_that_refuses_all_media_needs_no_candidate() {
        for sdp in ["v=0\r\n", "v=0\r\nm=audio 0 X 1\r\nm=video 0 X 1\r\n"] {
            for set in ["", "203.0.113.7"] {
                assert_eq!(rewritten(sdp, set).as_deref(), Ok(sdp));
            }
        }
    }

    #[test]
    fn a_fragment_needs_no_candidate_and_none_is_made() {
        let fragment = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\n\
            a=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw\r\n\
            a=candidate:393455558 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\na=end-of-candidates\r\n";
        let kept =
            "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n";
        assert_eq!(
            rewritten(fragment, "203.0.113.7").unwrap(),
            format!(
                "{kept}a=candidate:1 1 udp 2122260223 203.0.113.7 18000 typ host generation 0 ufrag EsAw\r\n\
                a=end-of-candidates\r\n"
            )
        );
        assert_eq!(ufrag(fragment.as_bytes()), Ok("EsAw"));
        for set in ["", "203.0.113.7"] {
            assert_eq!(rewritten(kept, set).as_deref(), Ok(kept));
            assert_eq!(rewritten("", set).as_deref(), Ok(""));
        }
    }

    #[test]
    fn the_user_name_is_the_first_medias_or_the_sessions() {
        for (lines, expected) in [
            ("a=ice-ufrag:one\nm=audio 9 X 1", Ok("one")),
            ("m=audio 9 X 1\na=ice-ufrag:one\nm=video 9 X 1\na=ice-ufrag:two", Ok("one")),
            ("a=ice-ufrag:one\nm=audio 9 X 1\na=ice-ufrag:two", Ok("two")),
            ("a=ice-ufrag:one\nm=audio 9 X 1\nm=video 9 X 1\na=ice-ufrag:two", Ok("two")),
            ("m=audio 0 X 1\na=ice-ufrag:one\nm=video 9 X 1\na=ice-ufrag:two", Ok("two")),
            ("a=ice-ufrag:one\nm=audio 0 X 1\na=ice-ufrag:two", Ok("one")),
            ("a=ice-ufrag:+/aZ09-_=", Ok("+/aZ09-_=")),
            ("m=audio 9 X 1\na=ice-ufrag:", Err(SdpError::NoUfrag)),
            ("a=ice-ufrag:one\nm=audio 9 X 1\na=ice-ufrag:a:b", Err(SdpError::NoUfrag)),
            ("a=ice-ufrag:one two", Err(SdpError::NoUfrag)),
            ("a=ice-ufrag:o\u{e4}", Err(SdpError::NoUfrag)),
            ("b=ice-ufrag:one", Err(SdpError::NoUfrag)),
            ("", Err(SdpError::NoUfrag)),
            ("ice-ufrag", Err(SdpError::NoSdp)),
        ] {
            for end in ["\n", "\r\n"] {
                let sdp = format!("v=0\n{lines}\n").replace('\n', end);
                assert_eq!(ufrag(sdp.as_bytes()), expected, "{sdp}");
                assert_eq!(ufrag(sdp.trim_end().as_bytes()), expected, "{sdp}");
            }
        }
        for (length, fits) in [(MAX_UFRAG, true), (MAX_UFRAG + 1, false)] {
            assert_eq!(ufrag(format!("a=ice-ufrag:{}", "x".repeat(length)).as_bytes()).is_ok(), fits);
        }
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for text in [
            "<html></html>",
            "v=0\r\nhello\r\n",
            "{\"code\":0}",
            "v=0\na=x\ra=candidate:\n",
            "v=0\na=x\r",
            "v",
        ] {
            assert_eq!(rewritten(text, "203.0.113.7"), Err(SdpError::NoSdp), "{text:?}");
            assert_eq!(ufrag(text.as_bytes()), Err(SdpError::NoSdp), "{text:?}");
        }
        let long = format!("v=0\n{}", "\n".repeat(MAX_SDP - 4));
        assert_eq!(rewritten(&long, "").as_deref(), Ok(&*long));
        assert_eq!(rewritten(&(long + "\n"), ""), Err(SdpError::TooLong));
    }

    #[test]
    fn more_addresses_than_a_client_should_check_are_left_out() {
        let many: Vec<IpAddr> = (0..40).map(|last| IpAddr::from([203, 0, 113, last])).collect();
        let to = Candidates { port: 1, addresses: &many };
        let line = "a=candidate:0 1 udp 700 10.0.0.9 8000 typ host";
        let count = |sdp: Vec<u8>| String::from_utf8(sdp).unwrap().matches("a=candidate").count();
        let out = rewrite(description(line).as_bytes(), &to).unwrap();
        assert!(String::from_utf8_lossy(&out).contains("a=candidate:16 1 udp 1 203.0.113.15 1 typ host"));
        assert_eq!(count(out), MAX_ADDRESSES);
        let of_origin: String =
            (0..40).map(|last| line.replace("0.9", &format!("0.{last}")) + "\n").collect();
        let unset = Candidates { port: 1, addresses: &[] };
        assert_eq!(count(rewrite(description(&of_origin).as_bytes(), &unset).unwrap()), MAX_ADDRESSES);
    }

    /// Lines as descriptions have them, and worse ones.
    fn any_line() -> impl Strategy<Value = String> {
        prop_oneof![
            "a=candidate:[ab] [12] (udp|UDP|tcp) [0-9]{1,9} (10[.]0[.]0[.][1-3]|::[1-3]|x[.]local) [0-9]{1,4} typ (host|srflx)( x y)?",
            "a=candidate:((udp|1|9|host|typ|::1|10[.]0[.]0[.]1|[a-z]{1,3}) ){0,10}",
            "m=(audio|video) [09]{1,2} UDP/TLS/RTP/SAVPF 96",
            "(c|m|b)=((IN|IP4|IP6|::1|10[.]0[.]0[.]1|[0-9]) ){0,4}",
            "a=(end-of-candidates|rtcp:[0-9]{1,5}( IN IP4 10[.]0[.]0[.]1)?|ice-ufrag:[a-z]{0,9}|mid:0)",
            "[a-z]=[^\r\n]{0,9}",
        ]
    }

    proptest! {
        #[test]
        fn no_candidate_leads_past_the_proxy(
            lines in proptest::collection::vec(any_line(), 0..30),
            addresses in proptest::collection::vec(any::<IpAddr>(), 0..3),
            end in "\r?\n",
        ) {
            let sdp = format!("v=0{end}{}{end}", lines.join(&end));
            let to = Candidates { port: 18000, addresses: &addresses };
            let Ok(out) = rewrite(sdp.as_bytes(), &to) else { return Ok(()) };
            prop_assert_eq!(rewrite(&out, &to), Ok(out.clone()), "again");
            prop_assert_eq!(ufrag(&out), ufrag(sdp.as_bytes()));
            let out = String::from_utf8(out).unwrap();
            for line in out.lines().filter(|line| line.starts_with("a=candidate:")) {
                let words: Vec<_> = line.split(' ').collect();
                prop_assert_eq!((words[1], words[5], words[7]), ("1", "18000", "host"), "{}", line);
                prop_assert!(words[2].eq_ignore_ascii_case("udp"), "{}", line);
                let address: IpAddr = words[4].parse().unwrap();
                prop_assert!(addresses.is_empty() || addresses.contains(&address), "{}", line);
            }
            let is_kept = |line: &&str| {
                !["a=candidate:", "a=rtcp:", "c=", "m="].iter().any(|changed| line.starts_with(changed))
            };
            prop_assert!(out.lines().filter(is_kept).eq(sdp.lines().filter(is_kept)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, port: u16) {
            let _ = (ufrag(&bytes), rewrite(&bytes, &Candidates { port, addresses: &[] }));
        }
    }
}
