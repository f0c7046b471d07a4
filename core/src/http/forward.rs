//! Heads on their way through: a request's to its origin, a response's to the client (RFC 9110 §7.6). Writes bytes,
//! decides nothing about connections.

use super::fields::{Field, Fields, Framing, HeadWriter, Version};
use super::head::Head;
use super::reply::ReplyHead;
use super::response::{Hearer, allow_pages};
use super::routes::Kind;
use bytes::Bytes;
use core::net::IpAddr;

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
const NOT_NOMINATED: [&str; 6] =
    ["host", "content-type", "content-encoding", "authorization", "x-forwarded-for", "x-real-ip"];

/// Fields of a request that we write ourselves.
const OURS: [&str; 3] = ["host", "x-forwarded-for", "x-real-ip"];

/// Fields that ask for less than the whole of a playlist, or for a form that we can't read.
const PARTIAL: [&str; 7] = [
    "accept-encoding",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];

/// Fields that are true only of a playlist as the origin sent it.
const OF_ORIGINAL: [&str; 5] = ["etag", "last-modified", "accept-ranges", "content-md5", "digest"];

/// The head of `head`'s request for `target`, as its origin gets it.
pub(super) fn request(head: &Head<'_>, target: &str, kind: Kind, client: IpAddr) -> Bytes {
    let mut out = HeadWriter::new(format_args!("{} {target} HTTP/1.1", head.method));
    // An absolute target overrides the field; an old client may send neither, but an origin wants one.
    out.field("Host", head.host().unwrap_or("localhost"));
    for field in end_to_end(&head.fields) {
        if !is_one_of(field, &OURS) && !(kind.is_rewritten() && is_one_of(field, &PARTIAL)) {
            out.pass(field);
        }
    }
    let says_length = head.fields.values("content-length").next().is_some();
    if says_length || head.framing == Framing::Chunked {
        out.framing(head.framing);
    }
    if kind.is_rewritten() {
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

/// A response's head as the client gets it, but for what says where the body ends.
pub(super) fn response(head: &ReplyHead<'_>, rewritten: bool, hearer: Hearer) -> HeadWriter {
    let mut out = status_line(head);
    for field in end_to_end(&head.fields) {
        if !(rewritten && is_one_of(field, &OF_ORIGINAL)) {
            out.pass(field);
        }
    }
    allow_pages(&mut out, |name| head.fields.values(name).next().is_none());
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
    fields.iter().filter(move |field| {
        let nominated = fields.has_token("connection", field.name) && !is_one_of(field, &NOT_NOMINATED);
        !is_one_of(field, &HOP_BY_HOP) && !nominated
    })
}
