//! What is in use here and therefore renewed at the store, lest it end there. Sends nothing.

use crate::SESSION_LIFE;
use crate::expiring::Expiring;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::time::{Duration, Time};
use std::sync::Arc;

/// How often what is in use is renewed: often enough that one lost renewal ends nothing that lives for a minute.
pub(in crate::redis) const RENEW: Duration = Duration::from_secs(15);

/// What is renewed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::redis) enum Renewal {
    Played(StreamKey),
    Published(StreamKey),
    Spbhid(Arc<str>),
    Ufrag(Arc<str>),
}

/// When each was renewed.
pub(in crate::redis) struct Renewals(Expiring<Renewal, Time>);

impl Renewals {
    /// None yet, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self(Expiring::new(SESSION_LIFE, limit))
    }

    /// Whether it is time to renew this; it is then taken as renewed. `since` is when the store began to remember what
    /// it is told: `None` while it is away, when nothing is renewed.
    pub(in crate::redis) fn is_due(&mut self, now: Time, since: Option<Time>, what: Renewal) -> bool {
        let Some(since) = since else { return false };
        let at = self.0.get(now, &what).copied();
        let is_due = at.is_none_or(|at| at < since || now.since(at) >= RENEW);
        if is_due {
            self.renewed(now, now, what);
        }
        is_due
    }

    /// The store was told, or asked, so that this lives on.
    pub(in crate::redis) fn renewed(&mut self, now: Time, at: Time, what: Renewal) {
        // What finds no room is renewed as often as it is spoken of.
        let _full = self.0.insert(now, what, at);
    }

    /// It is in use no more.
    pub(in crate::redis) fn ended(&mut self, what: &Renewal) {
        self.0.forget(what);
    }

    /// Whether this is renewed from time to time, as it is in use here.
    pub(in crate::redis) fn is_in_use(&mut self, now: Time, what: &Renewal) -> bool {
        self.0.get(now, what).is_some()
    }

    /// The streams that are played here.
    pub(in crate::redis) fn played(&self, now: Time) -> Vec<StreamKey> {
        let renewals = self.0.iter(now);
        renewals
            .filter_map(|(what, _)| if let Renewal::Played(key) = what { Some(key.clone()) } else { None })
            .collect()
    }

    /// Frees up to `most` that are in use no more.
    pub(super) fn expire(&mut self, now: Time, most: usize) {
        self.0.expire(now, most);
    }
}
