//! Heads on their way through: a request's to its origin, a response's to the client (RFC 9110 §7.6). Writes bytes,
//! decides nothing about connections.

use super::fields::{Field, Fields, Framing, HeadWriter, MAX_NOMINATIONS, Version};
use super::head::Head;
use super::reply::ReplyHead;
use super::response::{EXPOSE, Hearer, allow_pages};
use super::routes::Kind;
use alloc::string::String;
use bytes::Bytes;
use core::net::IpAddr;
use smallvec::SmallVec;

/// What we call ourselves to origins.
const VIA: &str = "srs-proxy";

/// Fields that are about one connection only. Those about a message's length stay, but in our own words.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "content-length",
    "upgrade",
];

/// Fields that no `Connection` can take away: what they say is what we act on.
const NOT_NOMINATED: [&str; 7] = [
    "host",
    "content-type",
    "content-encoding",
    "authorization",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Fields of a request that we write ourselves.
const OURS: [&str; 3] = ["host", "x-forwarded-for", "x-real-ip"];

/// Fields that ask for less than the whole of a playlist.
const PARTIAL: [&str; 6] =
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// Fields that are true only of a playlist as the origin sent it.
const OF_ORIGINAL: [&str; 5] = ["etag", "last-modified", "accept-ranges", "content-md5", "digest"];

/// The head of `head`'s request for `target`, as its origin gets it.
pub(super) fn request(head: &Head<'_>, target: &str, kind: Kind, client: IpAddr) -> Bytes {
    // A URL may have a query and no path; a target can't (RFC 9112 §3.2.1).
    let root = if target.starts_with('/') { "" } else { "/" };
    let mut out = HeadWriter::new(format_args!("{} {root}{target} HTTP/1.1", head.method));
    // An absolute target overrides the field; an old client may send neither, but an origin wants one.
    out.field("Host", head.host().unwrap_or("localhost"));
    for field in end_to_end(&head.fields) {
        let is_unfit = match kind {
            Kind::Live | Kind::Plain | Kind::Resource => false,
            Kind::Playlist | Kind::Manifest => field.is("accept-encoding") || is_one_of(field, &PARTIAL),
            // The client has been told to go on already.
            Kind::Description | Kind::Envelope => field.is("accept-encoding") || field.is("expect"),
        };
        if !is_one_of(field, &OURS) && !is_unfit {
            out.pass(field);
        }
    }
    let says_length = head.fields.values("content-length").next().is_some();
    if says_length || head.framing == Framing::Chunked {
        out.framing(head.framing);
    }
    if kind.is_changed() {
        out.field("Accept-Encoding", "identity");
    }
    out.list("X-Forwarded-For", head.fields.values("x-forwarded-for"), client);
    out.field("X-Real-IP", client);
    if head.fields.values("x-forwarded-proto").next().is_none() {
        out.field("X-Forwarded-Proto", "http");
    }
    out.field("Via", format_args!("{} {VIA}", if head.version == Version::Http10 { "1.0" } else { "1.1" }));
    if kind == Kind::Live {
        out.field("Connection", "close");
    }
    out.end()
}

/// An interim response, as the client gets it.
pub(super) fn interim(head: &ReplyHead<'_>) -> Bytes {
    let mut out = status_line(head);
    end_to_end(&head.fields).for_each(|field| out.pass(field));
    out.end()
}

/// A response's head as the client gets it, but for what says where the body ends, which may be `changed`. A
/// `Location` may have to be another one.
pub(super) fn response(
    head: &ReplyHead<'_>,
    changed: bool,
    kind: Kind,
    location: impl Fn(&str) -> Option<String>,
    hearer: Hearer,
) -> HeadWriter {
    let is_listing = changed && !kind.is_offer();
    let mut out = status_line(head);
    for field in end_to_end(&head.fields) {
        let moved =
            if field.is("location") { head.fields.text("location").and_then(&location) } else { None };
        match moved {
            Some(location) => out.field("Location", location),
            None if is_listing && is_one_of(field, &OF_ORIGINAL) => {}
            None => out.pass(field),
        }
    }
    // A list goes on from field to field (RFC 9110 §5.3): a page that may not read where its session is, ends none.
    allow_pages(&mut out, |name| {
        let continues = kind.is_signalling() && name == EXPOSE;
        continues || head.fields.values(name).next().is_none()
    });
    hearer.tell(&mut out);
    out
}

fn status_line(head: &ReplyHead<'_>) -> HeadWriter {
    HeadWriter::new(format_args!("HTTP/1.1 {:03} {}", head.status, head.reason))
}

fn is_one_of(field: &Field<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| field.is(name))
}

/// The fields that are not about the connection they came over.
fn end_to_end<'a, 'b>(fields: &'b Fields<'a>) -> impl Iterator<Item = &'b Field<'a>> {
    let nominated: SmallVec<[&str; MAX_NOMINATIONS]> = fields.tokens("connection").collect();
    fields.iter().filter(move |field| {
        let is_nominated = is_one_of(field, &nominated) && !is_one_of(field, &NOT_NOMINATED);
        !is_one_of(field, &HOP_BY_HOP) && !is_nominated
    })
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadReader;
    use super::*;
    use crate::machine::Parsed;
    use alloc::vec::Vec;

    const PEER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 9));

    /// The lines an origin gets for this head.
    fn asked(head: &str, kind: Kind) -> Vec<String> {
        let Ok(Parsed::Complete(parsed, _)) = HeadReader::default().read(head.as_bytes()) else {
            panic!("{head}")
        };
        lines(&request(&parsed, parsed.origin_form(), kind, PEER))
    }

    /// The lines a client gets for this head, of an answer that was changed or not.
    fn answered(head: &str, rewritten: bool, keep_alive: bool) -> Vec<String> {
        answered_to(head, Kind::Playlist, rewritten, keep_alive)
    }

    fn answered_to(head: &str, kind: Kind, rewritten: bool, keep_alive: bool) -> Vec<String> {
        let hearer = Hearer { version: Version::Http11, to_head: false, keep_alive };
        match HeadReader::default().read_reply(head.as_bytes()) {
            Ok(Parsed::Complete(parsed, _)) => {
                lines(&response(&parsed, rewritten, kind, |_| None, hearer).end())
            }
            other => panic!("{head}: {other:?}"),
        }
    }

    fn lines(head: &[u8]) -> Vec<String> {
        let text = core::str::from_utf8(head).unwrap().strip_suffix("\r\n\r\n").unwrap();
        text.split("\r\n").map(String::from).collect()
    }

    #[test]
    fn an_origin_gets_the_request_and_hears_whose_it_is() {
        assert_eq!(
            asked(
                "POST /a?b=%20c HTTP/1.1\r\nX-B: 2\r\nHost: H.net:80\r\nx-b:  3 \r\nContent-Length: 5\r\n\r\n",
                Kind::Plain
            ),
            [
                "POST /a?b=%20c HTTP/1.1",
                "Host: H.net:80",
                "X-B: 2",
                "x-b: 3",
                "Content-Length: 5",
                "X-Forwarded-For: 10.0.0.9",
                "X-Real-IP: 10.0.0.9",
                "X-Forwarded-Proto: http",
                "Via: 1.1 srs-proxy",
            ]
        );
    }

    #[test]
    fn an_origin_gets_a_path_even_of_a_url_that_has_none() {
        let lines = asked("GET http://h?a=b HTTP/1.1\r\nHost: h\r\n\r\n", Kind::Plain);
        assert_eq!(lines[0], "GET /?a=b HTTP/1.1");
    }

    #[test]
    fn what_is_about_one_connection_stays_there() {
        let head = "GET http://other.net/a HTTP/1.1\r\nHost: h\r\nConnection: X-Mine, Host, keep-alive, close\r\nX-Mine: 1\r\n\
                    Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: websocket\r\nProxy-Connection: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let lines = asked(head, Kind::Plain);
        assert_eq!(lines[..3], ["GET /a HTTP/1.1", "Host: other.net", "Transfer-Encoding: chunked"]);
        assert!(lines[3].starts_with("X-Forwarded-For"), "{lines:?}");
    }

    #[test]
    fn forwarding_fields_are_continued_and_the_address_is_ours_to_say() {
        let head = "GET / HTTP/1.0\r\nX-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8, 9.9.9.9\r\nX-Real-IP: 6.6.6.6\r\n\
                    X-Forwarded-Proto: https\r\nVia: 1.1 front\r\nConnection: X-Forwarded-For, X-Forwarded-Proto\r\n\r\n";
        assert_eq!(
            asked(head, Kind::Live),
            [
                "GET / HTTP/1.1",
                "Host: localhost",
                "X-Forwarded-Proto: https",
                "Via: 1.1 front",
                "X-Forwarded-For: 1.2.3.4, 5.6.7.8, 9.9.9.9, 10.0.0.9",
                "X-Real-IP: 10.0.0.9",
                "Via: 1.0 srs-proxy",
                "Connection: close",
            ]
        );
    }

    #[test]
    fn a_playlist_is_asked_for_whole_and_uncompressed() {
        let head = "GET /a/b.m3u8 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, br\r\nRange: bytes=0-5\r\n\
                    If-None-Match: \"x\"\r\nIf-Modified-Since: x\r\nAccept: */*\r\n\r\n";
        assert_eq!(asked(head, Kind::Playlist)[2..4], ["Accept: */*", "Accept-Encoding: identity"]);
    }

    #[test]
    fn a_client_gets_the_answer_and_pages_may_read_it() {
        let head = "HTTP/1.0 206 Some Part\r\nServer: x\r\nConnection: X-Mine\r\nX-Mine: 1\r\nETag: \"x\"\r\n\
                    Content-Length: 7\r\nContent-Range: bytes 0-6/9\r\nKeep-Alive: 5\r\nTrailer: Expires\r\n\r\n";
        let lines = answered(head, false, true);
        assert_eq!(
            lines[..5],
            [
                "HTTP/1.1 206 Some Part",
                "Server: x",
                "ETag: \"x\"",
                "Content-Range: bytes 0-6/9",
                "Trailer: Expires",
            ]
        );
        assert_eq!(lines[5], "Access-Control-Allow-Origin: *");
        assert!(lines[6].starts_with("Access-Control-Expose-Headers: ") && lines.len() == 7, "{lines:?}");
        assert_eq!(answered(head, false, false).last().unwrap(), "Connection: close");
    }

    #[test]
    fn what_an_origin_says_to_pages_is_not_said_twice() {
        let head = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://a.net\r\n\
                    Access-Control-Expose-Headers: X\r\nEtag: \"x\"\r\nLast-Modified: x\r\n\r\n";
        assert_eq!(
            answered(head, true, true),
            [
                "HTTP/1.1 200 OK",
                "access-control-allow-origin: https://a.net",
                "Access-Control-Expose-Headers: X",
            ]
        );
    }
    #[test]
    fn a_page_may_read_where_its_session_is_whatever_else_the_origin_lets_it_read() {
        let head = "HTTP/1.1 201 Created\r\nAccess-Control-Allow-Origin: https://a.net\r\n\
                    Access-Control-Expose-Headers: X\r\nETag: \"x\"\r\n\r\n";
        let lines = answered_to(head, Kind::Description, true, true);
        assert_eq!(
            lines[1..4],
            ["Access-Control-Allow-Origin: https://a.net", "Access-Control-Expose-Headers: X", "ETag: \"x\"",]
        );
        assert!(lines[4].starts_with("Access-Control-Expose-Headers: ") && lines[4].ends_with("Location"));
        assert_eq!(lines.len(), 5, "{lines:?}");
    }
}
