//! What is done at the store, in batches, and what is said to it. Decides nothing.

use super::waiting::About;
use crate::redis::client::{Command, Reply};
use crate::redis::origins::Registered;
use crate::redis::streams::{Claim, Publication, Sought};
use smallvec::SmallVec;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, HlsSession, RtcSession};
use std::sync::Arc;

/// Something to do at the store, in one round trip.
#[derive(Clone, Debug)]
pub(in crate::redis) enum Job {
    Census,
    Claim(Claim),
    /// Who has a stream, after a census if one may be had: none is known that could be given it.
    Find(Sought),
    /// Who it is that has a stream.
    Meet(Sought, String),
    Publish(Publication),
    /// A stream is in use, at this origin if it is known.
    Renew(StreamKey, Option<OriginId>),
    StoreHls(HlsSession),
    FindHls(Arc<str>),
    StoreRtc(About, RtcSession),
    FindRtc(Arc<str>),
    /// A change that nobody else makes, and what is answered when it is made.
    Change {
        about: About,
        commands: SmallVec<[Command; 2]>,
        made: Answer,
    },
    /// Nobody waits for it.
    Tell(SmallVec<[Command; 2]>),
}

impl Job {
    /// Whether it changes nothing that was promised: without anybody who waits, it need not be done.
    pub(super) const fn is_question(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Meet(..) | Self::Find(..) | Self::FindHls(_) | Self::FindRtc(_))
    }

    /// Who waits for it.
    pub(super) fn about(&self) -> Option<About> {
        match self {
            Self::Claim(Claim { sought, .. }) | Self::Find(sought) | Self::Meet(sought, _) => {
                Some(About::Stream(sought.key.clone()))
            }
            Self::Publish(publication) => Some(About::Stream(publication.key.clone())),
            Self::StoreHls(session) => Some(About::Hls(session.key.clone())),
            Self::StoreRtc(about, _) => Some(about.clone()),
            Self::FindHls(spbhid) => Some(About::Spbhid(Arc::clone(spbhid))),
            Self::FindRtc(ufrag) => Some(About::Ufrag(Arc::clone(ufrag))),
            Self::Change { about, .. } => Some(about.clone()),
            Self::Census | Self::Renew(..) | Self::Tell(_) => None,
        }
    }
}

/// Jobs, and their commands, on the way to the store.
#[derive(Debug, Default)]
pub(in crate::redis) struct Batch {
    /// Each with how many of the commands are its own.
    pub(super) jobs: Vec<(Job, usize)>,
    pub(in crate::redis) commands: Vec<Command>,
}

impl Batch {
    /// The batch in pieces of so many jobs, each with its replies: so that nobody has to wait until all are heard.
    pub(in crate::redis) fn pieces(self, jobs: usize, heard: Vec<Heard>) -> Vec<(Self, Vec<Heard>)> {
        let (mut left, mut heard) = (self.jobs.into_iter(), heard.into_iter());
        let mut pieces = Vec::new();
        while left.len() > 0 {
            let jobs: Vec<_> = left.by_ref().take(jobs).collect();
            let count = jobs.iter().map(|(_, count)| count).sum();
            pieces.push((Self { jobs, commands: Vec::new() }, heard.by_ref().take(count).collect()));
        }
        pieces
    }
}

/// What the store said to a command. A census is read before it comes to the desk, since that takes a while.
pub(in crate::redis) type Heard = Reply<Registered>;
