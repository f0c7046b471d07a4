//! The desk's work with HLS and WebRTC sessions.

use super::client::Command;
use super::desk::{About, Alone, Desk, Job, Renewal};
use super::{FRESH, records};
use crate::rtc::{Holder, Left};
use crate::{Asker, Outcome, SESSION_LIFE};
use smallvec::smallvec;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::query::{Answer, HlsSession, Refusal, RtcSession};
use srs_proxy_core::time::Time;
use std::sync::Arc;

impl Desk {
    pub(super) fn load_or_store_hls(&mut self, asker: &Asker, new: HlsSession) -> Outcome<HlsSession> {
        if let Some(session) = self.view.hls_of(asker.now, &new.key) {
            self.renew_hls(asker.now, &session);
            return Outcome::Now(session);
        }
        if self.is_away() {
            return Outcome::Now(self.keep_hls(asker.now, new));
        }
        self.ask(asker, About::Hls(new.key.clone()), Alone::Keep(new.clone()), |_| Job::StoreHls(new))
    }

    /// Keeps a session that the store does not have, as far as is known. What finds no room is asked for each time.
    pub(super) fn keep_hls(&mut self, now: Time, session: HlsSession) -> HlsSession {
        self.view.load_or_store_hls(now, session.clone()).unwrap_or(session)
    }

    /// A session by stream and by id; by stream only if there is none yet.
    pub(super) fn hls_command(&self, session: &HlsSession) -> Command {
        Command::Store {
            of_stream: self.keys.hls(&session.key),
            key: self.keys.spbhid(&session.spbhid),
            value: records::hls(session),
            keeps: true,
            life: SESSION_LIFE,
        }
    }

    pub(super) fn find_hls_command(&self, spbhid: &str) -> Command {
        let (key, of_stream) = (self.keys.spbhid(spbhid), Some(self.keys.hls("")));
        Command::Find { key, of_stream, life: SESSION_LIFE }
    }

    /// The store has this session of the stream.
    pub(super) fn stored_hls(&mut self, now: Time, new: HlsSession, held: &str) {
        let about = About::Hls(new.key.clone());
        // A record that is none is as good as one of ours: its id is found, and its time comes.
        let session = records::read_hls(held).filter(|session| session.key == new.key);
        let session = session.unwrap_or_else(|| new.clone());
        // Another one will be renewed when it is used.
        if session.spbhid == new.spbhid {
            self.renewals.renewed(now, now, Renewal::Spbhid(new.spbhid));
        }
        // Even if another one was known here: all proxies give the same to new clients. What finds no room is asked for
        // each time.
        let _full = self.view.store_hls(now, session.clone());
        self.answer_all(&about, &Answer::Hls(Some(session)));
    }

    fn renew_hls(&mut self, now: Time, session: &HlsSession) {
        if self.renewals.is_due(now, self.up_since(), Renewal::Spbhid(Arc::clone(&session.spbhid))) {
            self.meanwhile(Job::StoreHls(session.clone()));
        }
    }

    pub(super) fn load_hls(&mut self, asker: &Asker, spbhid: &str) -> Outcome<Option<HlsSession>> {
        if let Some(session) = self.view.load_hls(asker.now, spbhid) {
            self.renew_hls(asker.now, &session);
            return Outcome::Now(Some(session));
        }
        self.find(asker, spbhid, About::Spbhid, Job::FindHls)
    }

    pub(super) fn found_hls(&mut self, now: Time, spbhid: Arc<str>, record: Option<&str>) {
        let session = record.and_then(records::read_hls).filter(|session| session.spbhid == spbhid);
        match &session {
            Some(session) => {
                // What finds no room is asked for each time.
                let _full = self.view.learn_hls(now, session.clone());
                self.renewals.renewed(now, now, Renewal::Spbhid(Arc::clone(&spbhid)));
            }
            None => self.is_absent(now, About::Spbhid(Arc::clone(&spbhid))),
        }
        self.answer_all(&About::Spbhid(spbhid), &Answer::Hls(session));
    }

    /// Stores a session by USERNAME and by stream.
    pub(super) fn store_rtc(&mut self, asker: &Asker, session: RtcSession) -> Outcome<()> {
        let _full = self.view.store_rtc(asker.now, session.clone());
        if self.is_away() {
            return Outcome::Now(());
        }
        let (about, alone) = (self.next_change(), Alone::Say(Answer::Rtc(Some(session.clone()))));
        self.ask(asker, about.clone(), alone, |_| Job::StoreRtc(about, session))
    }

    /// The store has this session.
    pub(super) fn stored_rtc(&mut self, now: Time, about: &About, session: RtcSession) {
        self.renewals.renewed(now, now, Renewal::Ufrag(Arc::clone(&session.username)));
        self.answer_all(about, &Answer::Rtc(Some(session)));
    }

    /// A session's two keys, and what stands there.
    fn rtc_entries(&self, session: &RtcSession) -> [(String, String); 2] {
        let value = records::rtc(session);
        [self.keys.ufrag(&session.username), self.keys.rtc(&session.key)].map(|key| (key, value.clone()))
    }

    /// A session by USERNAME, and as its stream's, which nobody reads but who looks into the store.
    pub(super) fn rtc_command(&self, session: &RtcSession) -> Command {
        let [(key, value), (of_stream, _)] = self.rtc_entries(session);
        Command::Store { of_stream, key, value, keeps: false, life: SESSION_LIFE }
    }

    pub(super) fn find_rtc_command(&self, username: &str) -> Command {
        Command::Find { key: self.keys.ufrag(username), of_stream: None, life: SESSION_LIFE }
    }

    pub(super) fn load_rtc(&mut self, asker: &Asker, username: &str) -> Outcome<Option<RtcSession>> {
        if let Some(session) = self.view.rtc.load(asker.now, username) {
            self.renew_rtc(asker.now, &session);
            return Outcome::Now(Some(session));
        }
        self.find(asker, username, About::Ufrag, Job::FindRtc)
    }

    /// What is not known here, for want of room, may still be in the store. It has no end that would be heard of here,
    /// unless it was a moment ago.
    pub(super) fn end_of_rtc(&mut self, asker: &Asker, username: &str) -> Outcome<()> {
        let is_held = self.view.rtc.hold(asker.now, username, Holder::from(asker));
        if !is_held && self.is_known_absent(asker.now, &About::Ufrag(username.into())) {
            return Outcome::Now(());
        }
        Outcome::Later
    }

    /// A session is left. Of its two keys the stream's may be another session's by now.
    pub(super) fn leave(&mut self, now: Time, key: &StreamKey, resource: &Arc<str>) {
        for Left { session, holders } in self.view.rtc.leave(now, key, resource) {
            let commands = self.rtc_entries(&session).map(|(key, value)| Command::Delete { key, value });
            self.meanwhile(Job::Tell(commands.into()));
            self.is_absent(now, About::Ufrag(session.username));
            holders.into_iter().for_each(|holder| self.tell_end(holder));
        }
    }

    pub(super) fn found_rtc(&mut self, now: Time, username: Arc<str>, record: Option<&str>) {
        let session = record.and_then(records::read_rtc).filter(|session| session.username == username);
        match &session {
            Some(session) => {
                let _full = self.view.store_rtc(now, session.clone());
                self.renewals.renewed(now, now, Renewal::Ufrag(Arc::clone(&username)));
            }
            None => self.is_absent(now, About::Ufrag(Arc::clone(&username))),
        }
        self.answer_all(&About::Ufrag(username), &Answer::Rtc(session));
    }

    pub(super) fn flowing(&mut self, now: Time, session: &RtcSession) {
        self.view.flowing(now, session);
        self.renew_rtc(now, session);
    }

    fn renew_rtc(&mut self, now: Time, session: &RtcSession) {
        if self.renewals.is_due(now, self.up_since(), Renewal::Ufrag(Arc::clone(&session.username))) {
            let (key, value) = (self.keys.ufrag(&session.username), records::rtc(session));
            let set = Command::Set { key, value, life: Some(SESSION_LIFE) };
            self.meanwhile(Job::Tell(smallvec![set]));
        }
    }

    /// Sessions that began or were found here live on for as long as they would have, if the store has lost them.
    pub(super) fn give_back_sessions(&mut self, now: Time) {
        let claim =
            |key, value: &str, life| Command::Claim { key, value: value.to_owned(), life: Some(life) };
        for (session, life) in self.view.all_rtc(now) {
            let claim = claim(self.keys.ufrag(&session.username), &records::rtc(&session), life);
            self.meanwhile(Job::Tell(smallvec![claim]));
        }
        for (session, life) in self.view.all_hls(now) {
            let keys = [self.keys.spbhid(&session.spbhid), self.keys.hls(&session.key)];
            let claims = keys.map(|key| claim(key, &records::hls(&session), life));
            self.meanwhile(Job::Tell(claims.into()));
        }
    }

    /// Asks for the session of a name, unless the store has said a moment ago that there is none: strangers may ask
    /// for anything.
    fn find<T>(
        &mut self,
        asker: &Asker,
        name: &str,
        about: fn(Arc<str>) -> About,
        job: fn(Arc<str>) -> Job,
    ) -> Outcome<Option<T>> {
        if self.is_away() {
            return Outcome::Refused(Refusal::Unavailable);
        }
        let name: Arc<str> = name.into();
        let about = about(Arc::clone(&name));
        if self.is_known_absent(asker.now, &about) {
            return Outcome::Now(None);
        }
        let alone = Alone::Say(Answer::Refused(Refusal::Unavailable));
        self.ask(asker, about, alone, |_| job(name))
    }

    fn is_known_absent(&mut self, now: Time, session: &About) -> bool {
        self.absent.get(now, session).is_some_and(|at| now.since(*at) < FRESH)
    }

    fn is_absent(&mut self, now: Time, session: About) {
        // A full table of such names costs questions, no more.
        let _full = self.absent.insert(now, session, now);
    }
}
