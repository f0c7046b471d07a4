//! The few bodies that are changed on their way: playlists and manifests get their session, answers of WebRTC
//! signalling the proxy's address. Moves no bytes; says what to ask, and tells what ends.

use super::head::{Head, path_of_target};
use super::listing::{Listing, MAX_LISTING};
use super::reply::ReplyHead;
use super::routes::Kind;
use super::signalling::Signalling;
use crate::key::StreamKey;
use crate::machine::{Action, Cx, Fault};
use crate::query::{Query, Report};
use crate::rtc::sdp::Candidates;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What is done to the answer to one request.
#[derive(Debug)]
pub(super) enum Change {
    /// A playlist or manifest gets its session.
    Listing(Listing),
    /// Media are led to the proxy.
    Signalling(Signalling),
    /// Nothing is changed, but a session of this resource ends.
    Goodbye(Box<str>),
}

/// What becomes of a body that is there.
#[derive(Debug)]
pub(super) enum Changed {
    /// It can be sent.
    Now(Vec<u8>),
    /// This is to be asked before.
    Ask(Query, Vec<u8>),
}

impl Change {
    /// What is done to the answer to this request, if anything is.
    pub(super) fn of(kind: Kind, head: &Head<'_>, target: &str, session: Option<&Arc<str>>) -> Option<Self> {
        let host = head.host().unwrap_or_default().into();
        // What is added to an offer is of the same resource; that of an offer is yet to be made.
        let resource = if head.method == "PATCH" { target.into() } else { Arc::default() };
        let target = target.into();
        Some(match kind {
            Kind::Resource if head.method == "DELETE" => Self::Goodbye(target),
            Kind::Live | Kind::Plain | Kind::Resource => return None,
            Kind::Playlist | Kind::Manifest => {
                let is_manifest = kind == Kind::Manifest;
                Self::Listing(Listing { is_manifest, host, target, session: session.cloned() })
            }
            Kind::Description | Kind::Envelope => {
                let is_envelope = kind == Kind::Envelope;
                Self::Signalling(Signalling { is_envelope, host, target, offer: None, resource })
            }
        })
    }

    /// The session that the request carried is none.
    pub(super) fn forget_session(&mut self) {
        if let Self::Listing(listing) = self {
            listing.session = None;
        }
    }

    /// Reads what the client offers, which may name the stream.
    pub(super) fn take_offer(&mut self, offer: &[u8]) -> Result<Option<StreamKey>, Fault> {
        match self {
            Self::Signalling(signalling) => signalling.take_offer(offer),
            Self::Listing(_) | Self::Goodbye(_) => Ok(None),
        }
    }

    /// The answer's head is there: what it says of a session's beginning is remembered, of its end told.
    pub(super) fn hear(&mut self, cx: &mut Cx<'_>, head: &ReplyHead<'_>, key: &StreamKey) {
        match self {
            Self::Listing(_) => {}
            Self::Signalling(signalling) => {
                signalling.take_location(head.status, head.fields.text("location"));
            }
            // It is over, or was already.
            Self::Goodbye(resource) if matches!(head.status, 200..=299 | 404 | 410) => {
                let resource = core::mem::take(resource).into();
                cx.actions.push(Action::Tell(Report::Left(key.clone(), resource)));
            }
            Self::Goodbye(_) => {}
        }
    }

    /// Whether this answer is one to be changed. A playlist that an origin compressed against our wish passes; an
    /// answer to an offer would lead past the proxy.
    pub(super) fn applies_to(&self, head: &ReplyHead<'_>) -> Result<bool, Fault> {
        let is_encoded =
            head.fields.tokens("content-encoding").any(|coding| !coding.eq_ignore_ascii_case("identity"));
        match self {
            Self::Goodbye(_) => Ok(false),
            Self::Listing(_) => Ok(head.status == 200 && !is_encoded),
            Self::Signalling(_) if !matches!(head.status, 200..=299) => Ok(false),
            Self::Signalling(_) if is_encoded => Err(Fault::Origin("compressed against our wish")),
            Self::Signalling(_) => Ok(true),
        }
    }

    /// The largest body that is changed, in bytes.
    pub(super) const fn limit(&self) -> usize {
        match self {
            Self::Listing(_) => MAX_LISTING,
            Self::Signalling(signalling) => signalling.limit(),
            Self::Goodbye(_) => 0,
        }
    }

    /// The body is there.
    pub(super) fn change(
        &self,
        cx: &mut Cx<'_>,
        key: &StreamKey,
        content: Vec<u8>,
        candidates: &Candidates<'_>,
    ) -> Result<Changed, Fault> {
        match self {
            Self::Listing(listing) => Ok(listing.change(cx, key, content)),
            Self::Signalling(signalling) => signalling.change(key, content, candidates),
            Self::Goodbye(_) => Ok(Changed::Now(content)),
        }
    }

    /// A playlist or manifest with this session.
    pub(super) fn named(&self, content: Vec<u8>, id: &str) -> Vec<u8> {
        match self {
            Self::Listing(listing) => listing.named(content, id),
            Self::Signalling(_) | Self::Goodbye(_) => content,
        }
    }

    /// Where the client finds what this answer says to be elsewhere, if not where the origin says.
    pub(super) fn location(&self, status: u16, location: &str, key: &StreamKey) -> Option<String> {
        match self {
            Self::Signalling(signalling) if status == 201 => Some(signalling.location(location, key)),
            _ => None,
        }
    }
}

/// The part of a target's path up to its last slash.
pub(super) fn directory(target: &str) -> &str {
    let path = path_of_target(target);
    path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or("/")
}
