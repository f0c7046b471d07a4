//! Playlists and manifests on their way to a player: each URI that belongs to the session gets its id. Moves no bytes
//! and asks nobody; says what to ask.

use super::change::{Changed, directory};
use super::head::path_of_target;
use super::routes::SESSION;
use super::{manifest, playlist};
use crate::key::{StreamKey, without_port};
use crate::machine::Cx;
use crate::query::{HlsSession, Query};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The largest playlist or manifest, in bytes: a day of two-second segments with long names has 5 MB.
pub(super) const MAX_LISTING: usize = 8 * 1024 * 1024;

/// The longest URL that is held with a session, in bytes: sessions are held by the hundred thousand, and whoever asks
/// may put into a path what he likes.
const MAX_FULL_URL: usize = 512;

/// The letters of a session's id.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Letters in a session's id: 120 bits, so that none can be guessed.
const SESSION_LETTERS: usize = 24;

/// What is done to a playlist or manifest.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) is_manifest: bool,
    /// The authority that the client asked.
    pub(super) host: Box<str>,
    /// The target as the origin knows it.
    pub(super) target: Box<str>,
    /// The id of the HLS session, if the request carried a valid one.
    pub(super) session: Option<Arc<str>>,
}

impl Listing {
    /// The body is there: it gets the request's session, or the stream's if that has none.
    pub(super) fn change(&self, cx: &mut Cx<'_>, key: &StreamKey, content: Vec<u8>) -> Changed {
        if let Some(id) = &self.session {
            return Changed::Now(self.named(content, id));
        }
        // As the Go proxy writes it. What is in the query is the player's business, and no other's.
        let (host, path) = (without_port(&self.host), path_of_target(&self.target));
        let full_url = Some(format!("http://{host}{path}"));
        let full_url = full_url.filter(|url| url.len() <= MAX_FULL_URL).unwrap_or_default().into();
        let session = HlsSession { spbhid: new_session_id(cx).into(), key: key.clone(), full_url };
        Changed::Ask(Query::StoreHls(session), content)
    }

    /// It with this session. What is none in spite of its name stays as it is.
    pub(super) fn named(&self, content: Vec<u8>, id: &str) -> Vec<u8> {
        let changed = if self.is_manifest {
            let prefix = format!("/{SESSION}/{id}");
            manifest::rewrite(&content, &prefix, directory(&self.target), &self.host).ok()
        } else {
            playlist::rewrite(&content, id, &self.host).ok()
        };
        changed.unwrap_or(content)
    }
}

fn new_session_id(cx: &mut Cx<'_>) -> String {
    let mut bytes = [0; SESSION_LETTERS];
    cx.rng.fill_bytes(&mut bytes);
    let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32)));
    letters.map(|letter| char::from(*letter)).collect()
}
