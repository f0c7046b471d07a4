//! The WebRTC sessions that one proxy knows: by their USERNAME, by the resource at which they end, and who waits for
//! their end. Answers nobody and locks nothing. Every operation is O(1).

use crate::expiring::{Expiring, Full};
use crate::{Asker, Mailbox, ReplyTo, SESSION_LIFE};
use smallvec::SmallVec;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::query::{Answer, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use std::fmt;
use std::sync::Arc;

/// Those who wait for the end of one session: the workers to which its client has moved. Of more the first finds out
/// by the client's silence.
const MAX_HOLDERS: usize = 4;

/// Sessions of one resource: a restart of ICE makes another (RFC 9725 §4.3.3). Of more the first ends by silence.
const MAX_OF_RESOURCE: usize = 4;

/// One who waits for a session's end.
pub(crate) struct Holder {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) reply_to: ReplyTo,
}

impl Holder {
    /// What it is told then.
    pub(crate) const END: Answer = Answer::Rtc(None);

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox) && self.reply_to.session == other.reply_to.session
    }
}

impl From<&Asker> for Holder {
    fn from(asker: &Asker) -> Self {
        Self { mailbox: Arc::clone(&asker.mailbox), reply_to: asker.reply_to }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reply_to.fmt(f)
    }
}

/// A session that is over, and who is to hear of it.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) session: RtcSession,
    pub(crate) holders: SmallVec<[Holder; 1]>,
}

/// A stream, and what its origin calls one of its sessions.
type Resource = (StreamKey, Arc<str>);

#[derive(Debug)]
pub(crate) struct RtcTable {
    sessions: Expiring<Arc<str>, Left>,
    /// The USERNAMEs of a stream's resource. Lives as long as one of them.
    resources: Expiring<Resource, SmallVec<[Arc<str>; 1]>>,
}

impl RtcTable {
    pub(crate) fn new(limit: usize) -> Self {
        let (sessions, resources) = (Expiring::new(SESSION_LIFE, limit), Expiring::new(SESSION_LIFE, limit));
        Self { sessions, resources }
    }

    /// Stores a session, or renews it. What is known of its resource, and who waits for its end, stays.
    pub(crate) fn store(&mut self, now: Time, mut session: RtcSession) -> Result<(), Full> {
        let mut holders = SmallVec::new();
        if let Some(old) = self.sessions.get(now, &session.username)
            && old.session.key == session.key
        {
            holders = std::mem::take(&mut old.holders);
            if session.resource.is_empty() {
                session.resource = Arc::clone(&old.session.resource);
            }
        }
        self.sessions.insert(
            now,
            Arc::clone(&session.username),
            Left { session: session.clone(), holders },
        )?;
        if session.resource.is_empty() {
            return Ok(());
        }
        let resource = (session.key, session.resource);
        match self.resources.get(now, &resource) {
            Some(names) if names.contains(&session.username) => {}
            Some(names) => {
                if names.len() >= MAX_OF_RESOURCE {
                    names.remove(0);
                }
                names.push(session.username);
            }
            // One that finds no room ends by silence.
            None => {
                let _full = self.resources.insert(now, resource, SmallVec::from_iter([session.username]));
            }
        }
        Ok(())
    }

    /// The session of this USERNAME, which is thereby used.
    pub(crate) fn load(&mut self, now: Time, username: &str) -> Option<RtcSession> {
        let session = self.sessions.get(now, username)?.session.clone();
        if !session.resource.is_empty() {
            self.resources.get(now, &(session.key.clone(), Arc::clone(&session.resource)));
        }
        Some(session)
    }

    /// Somebody waits for its end. False if it is not known.
    pub(crate) fn hold(&mut self, now: Time, username: &str, holder: Holder) -> bool {
        let Some(Left { holders, .. }) = self.sessions.get(now, username) else { return false };
        // Who asks again has forgotten that it did.
        holders.retain(|known| !known.is_same(&holder));
        if holders.len() >= MAX_HOLDERS {
            holders.remove(0);
        }
        holders.push(holder);
        true
    }

    /// Takes out the sessions of a stream that have this resource: those that were made with just it, so that nobody
    /// ends a session whose resource he does not know.
    pub(crate) fn leave(&mut self, now: Time, key: &StreamKey, resource: &Arc<str>) -> Vec<Left> {
        let resource = (key.clone(), Arc::clone(resource));
        let names = self.resources.get(now, &resource).map(std::mem::take).unwrap_or_default();
        self.resources.forget(&resource);
        let is_of = |left: &Left| left.session.key == resource.0 && left.session.resource == resource.1;
        let mut all = Vec::new();
        for name in names {
            if let Some(left) = self.sessions.get(now, &name).filter(|left| is_of(left)) {
                let holders = std::mem::take(&mut left.holders);
                all.push(Left { session: left.session.clone(), holders });
                self.sessions.forget(&name);
            }
        }
        all
    }

    /// All sessions.
    pub(crate) fn lives(&self, now: Time) -> impl Iterator<Item = (&RtcSession, Duration)> {
        self.sessions.lives(now).map(|(left, life)| (&left.session, life))
    }

    /// Frees some of what has expired.
    pub(crate) fn expire(&mut self, now: Time, most: usize) {
        self.sessions.expire(now, most);
        self.resources.expire(now, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Notify;
    use srs_proxy_core::machine::Ticket;
    use srs_proxy_core::time::Duration;

    struct Deaf;

    impl Notify for Deaf {
        fn notify(&self) {}
    }

    fn holder(session: u64, ticket: u32) -> Holder {
        let reply_to = ReplyTo { session, ticket: Ticket(ticket) };
        Holder { mailbox: Arc::new(Mailbox::new(Box::new(Deaf))), reply_to }
    }

    fn session(username: &str, stream: &str, resource: &str) -> RtcSession {
        let key = StreamKey::new("", "live", stream).unwrap();
        RtcSession { username: username.into(), key, resource: resource.into() }
    }

    fn table() -> RtcTable {
        RtcTable::new(100)
    }

    /// The USERNAMEs of those who leave.
    fn leave(table: &mut RtcTable, now: Time, stream: &str, resource: &str) -> Vec<String> {
        let key = StreamKey::new("", "live", stream).unwrap();
        table
            .leave(now, &key, &resource.into())
            .into_iter()
            .map(|left| left.session.username.to_string())
            .collect()
    }

    #[test]
    fn only_who_names_stream_and_resource_ends_a_session() {
        let mut table = table();
        table.store(Time::ZERO, session("a:b", "x", "/r/1")).unwrap();
        table.store(Time::ZERO, session("c:d", "x", "")).unwrap();
        for (stream, resource) in [("y", "/r/1"), ("x", "/r/2"), ("x", "/r"), ("x", "")] {
            assert_eq!(leave(&mut table, Time::ZERO, stream, resource), [""; 0], "{stream} {resource}");
        }
        assert_eq!(leave(&mut table, Time::ZERO, "x", "/r/1"), ["a:b"]);
        assert_eq!((table.load(Time::ZERO, "a:b"), table.lives(Time::ZERO).count()), (None, 1));
        assert_eq!(leave(&mut table, Time::ZERO, "x", "/r/1"), [""; 0], "again");
    }

    #[test]
    fn a_resource_is_known_for_as_long_as_its_session() {
        const MOST: Duration = Duration::from_secs(119);
        let mut table = table();
        let mut now = Time::ZERO;
        table.store(now, session("a:b", "x", "/r")).unwrap();
        for renew in [true, false, true] {
            now = now + MOST;
            // As another proxy's record says it, and as it is asked for.
            if renew {
                table.store(now, session("a:b", "x", "")).unwrap()
            } else {
                drop(table.load(now, "a:b"))
            }
        }
        assert_eq!(table.load(now, "a:b"), Some(session("a:b", "x", "/r")));
        assert_eq!(leave(&mut table, now + MOST, "x", "/r"), ["a:b"]);
    }

    #[test]
    fn a_restart_of_ice_ends_with_its_session() {
        let mut table = table();
        for n in 0..=MAX_OF_RESOURCE {
            table.store(Time::ZERO, session(&format!("{n}:b"), "x", "/r")).unwrap();
        }
        assert_eq!(leave(&mut table, Time::ZERO, "x", "/r").len(), MAX_OF_RESOURCE);
        assert!(table.load(Time::ZERO, "0:b").is_some(), "the first of too many ends by silence");
    }

    #[test]
    fn a_name_that_is_another_streams_now_is_not_ended() {
        let mut table = table();
        table.store(Time::ZERO, session("a:b", "x", "/r")).unwrap();
        assert!(table.hold(Time::ZERO, "a:b", holder(1, 1)));
        table.store(Time::ZERO, session("a:b", "y", "/s")).unwrap();
        assert_eq!(leave(&mut table, Time::ZERO, "x", "/r"), [""; 0]);
        assert_eq!(leave(&mut table, Time::ZERO, "y", "/s"), ["a:b"]);
    }

    #[test]
    fn who_waits_for_an_end_is_known_over_renewals_and_bounded() {
        let mut table = table();
        assert!(!table.hold(Time::ZERO, "a:b", holder(1, 1)), "there is no such session");
        table.store(Time::ZERO, session("a:b", "x", "/r")).unwrap();
        let again = holder(9, 1);
        let same = Holder {
            mailbox: Arc::clone(&again.mailbox),
            reply_to: ReplyTo { session: 9, ticket: Ticket(7) },
        };
        for holder in [again, holder(1, 1), holder(2, 1), same, holder(3, 1), holder(4, 1)] {
            assert!(table.hold(Time::ZERO, "a:b", holder));
            table.store(Time::ZERO, session("a:b", "x", "")).unwrap();
        }
        let key = StreamKey::new("", "live", "x").unwrap();
        let left = table.leave(Time::ZERO, &key, &"/r".into());
        let told: Vec<_> = left[0]
            .holders
            .iter()
            .map(|holder| (holder.reply_to.session, holder.reply_to.ticket.0))
            .collect();
        assert_eq!(told, [(2, 1), (9, 7), (3, 1), (4, 1)]);
    }
}
