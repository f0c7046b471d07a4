//! Which sessions of a hub run, as its notes tell: each is routed once, ends once, and is called the same both times.

use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Leg, Note};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Running(BTreeMap<Leg, StreamKey>);

impl Running {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Hears a note. Those of `CLIENT` are of no session, or of the only one, whose end the driver knows.
    pub(super) fn hear(&mut self, leg: Leg, note: &Note) {
        match note {
            Note::Routed { key, .. } if leg != Leg::CLIENT => {
                let before = self.0.insert(leg, key.clone());
                assert_eq!(before, None, "{leg:?} was routed before");
            }
            Note::Ended { key, .. } => assert_eq!(self.0.remove(&leg).as_ref(), Some(key), "{leg:?} ends"),
            _ => {}
        }
    }
}
