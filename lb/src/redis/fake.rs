//! A store in memory that does every [`Command`] as Redis does, for tests: with a clock of its own, and able to be
//! away, to be full and to lose replies. Opens no socket.

use super::client::{Census, Command, FOREVER, LOADS_LIFE, Lost, Mark, RedisClient, Reply, Returned, millis};
use super::keys::Keys;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A store that any number of clients share. A clone is the same store.
#[derive(Clone, Debug)]
pub struct FakeRedis {
    store: Arc<Mutex<Store>>,
}

/// What a store was asked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Seen {
    /// Calls of [`RedisClient::run`], also while the store was away.
    pub runs: usize,
    /// Batches that were done.
    pub batches: usize,
    /// Commands in them.
    pub commands: usize,
}

/// What a store held at a moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    entries: HashMap<String, Entry>,
    marks: BTreeMap<(String, Kind), (Mark, Duration)>,
    loads: BTreeMap<Arc<str>, Loads>,
}

#[derive(Debug)]
struct Store {
    keys: Keys,
    now: Duration,
    entries: HashMap<String, Entry>,
    /// By origin and kind, with their ends.
    marks: BTreeMap<(String, Kind), (Mark, Duration)>,
    loads: BTreeMap<Arc<str>, Loads>,
    is_away: bool,
    is_full: bool,
    loses_reply: bool,
    seen: Seen,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Draining,
    Gone,
    Trouble(&'static str),
}

/// What one proxy has, and until when that counts.
#[derive(Clone, Debug)]
struct Loads {
    streams: Vec<(String, u32)>,
    end: Duration,
}

#[derive(Clone, Debug)]
struct Entry {
    value: String,
    /// When it ends.
    end: Option<Duration>,
}

impl Entry {
    fn is_alive(&self, now: Duration) -> bool {
        self.end.is_none_or(|end| end > now)
    }
}

impl FakeRedis {
    /// An empty store whose origins, marks and loads are at the keys of this name.
    pub fn new(keys: Keys) -> Self {
        let store = Store {
            keys,
            now: Duration::ZERO,
            entries: HashMap::new(),
            marks: BTreeMap::new(),
            loads: BTreeMap::new(),
            is_away: false,
            is_full: false,
            loses_reply: false,
            seen: Seen::default(),
        };
        Self { store: Arc::new(Mutex::new(store)) }
    }

    /// Another client of this store.
    pub fn client(&self) -> Box<dyn RedisClient> {
        Box::new(Client(self.clone()))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.store().now += by;
    }

    /// While it is away, every batch is lost before it is done.
    pub fn set_away(&self, is_away: bool) {
        self.store().is_away = is_away;
    }

    /// The next batch is done and then lost, once.
    pub fn lose_next_reply(&self) {
        self.store().loses_reply = true;
    }

    /// While it is full, what needs memory fails, as with `maxmemory`.
    pub fn set_full(&self, is_full: bool) {
        self.store().is_full = is_full;
    }

    /// Forgets everything, as after a restart without a disk.
    pub fn flush(&self) {
        let mut store = self.store();
        store.entries.clear();
        store.marks.clear();
        store.loads.clear();
    }

    /// What it holds.
    pub fn snapshot(&self) -> Snapshot {
        let store = self.store();
        let (entries, marks, loads) = (store.entries.clone(), store.marks.clone(), store.loads.clone());
        Snapshot { entries, marks, loads }
    }

    /// Holds what it once held and nothing else, as after a failover to one that had not heard all. Lives have gone on.
    pub fn restore(&self, snapshot: &Snapshot) {
        let Snapshot { entries, marks, loads } = snapshot.clone();
        let mut store = self.store();
        (store.entries, store.marks, store.loads) = (entries, marks, loads);
    }

    /// The keys of all texts, and how long each lives on; `None` if it has no end.
    pub fn lives(&self) -> Vec<(String, Option<Duration>)> {
        let store = self.store();
        let alive = store.entries.iter().filter(|(_, entry)| entry.is_alive(store.now));
        alive.map(|(key, entry)| (key.clone(), entry.end.map(|end| end - store.now))).collect()
    }

    /// The text at `key`.
    pub fn get(&self, key: &str) -> Option<String> {
        self.store().entry(key).map(|entry| entry.value.clone())
    }

    /// How long the entry at `key` lives on. Inside: `None` if it has no end.
    pub fn ttl(&self, key: &str) -> Option<Option<Duration>> {
        let mut store = self.store();
        let now = store.now;
        Some(store.entry(key)?.end.map(|end| end.saturating_sub(now)))
    }

    /// Puts a text there, whatever was there.
    pub fn set(&self, key: &str, value: &str, life: Option<Duration>) {
        self.store().put(key.to_owned(), value.to_owned(), life);
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Seen {
        self.store().seen
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an entry lives on.
fn left(entry: &Entry, now: Duration) -> Duration {
    entry.end.map_or(FOREVER, |end| end.saturating_sub(now))
}

struct Client(FakeRedis);

impl RedisClient for Client {
    fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
        self.0.store().run(commands)
    }
}

impl Store {
    fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
        self.seen.runs += 1;
        if self.is_away {
            return Err(Lost("the store is away".to_owned()));
        }
        self.seen.batches += 1;
        self.seen.commands += commands.len();
        let replies = commands.iter().map(|command| self.reply(command)).collect();
        if std::mem::take(&mut self.loses_reply) {
            return Err(Lost("the reply was lost".to_owned()));
        }
        Ok(replies)
    }

    fn reply(&mut self, command: &Command) -> Reply {
        let needs_memory = matches!(
            command,
            Command::Set { .. }
                | Command::Claim { .. }
                | Command::Store { .. }
                | Command::Map { .. }
                | Command::Publish { .. }
                | Command::Register { .. }
                | Command::GiveBack { .. }
                | Command::Mark { .. }
        );
        if self.is_full && needs_memory {
            return Reply::Failed("OOM command not allowed when used memory > 'maxmemory'.".to_owned());
        }
        match command.clone() {
            Command::Get { key } => {
                return Reply::Value(self.entry(&key).map(|entry| entry.value.clone()));
            }
            Command::Meet { id } => {
                let (now, key) = (self.now, self.keys.server(&id));
                let met = self.entry(&key).map(|entry| (entry.value.clone(), left(entry, now)));
                return Reply::Met(met);
            }
            Command::Find { key, of_stream, life } => return Reply::Value(self.find(&key, of_stream, life)),
            Command::Store { of_stream, key, value, keeps, life } => {
                self.put(key, value.clone(), Some(life));
                if keeps {
                    return Reply::Value(Some(self.claim(of_stream, value, None, Some(life))));
                }
                self.put(of_stream, value.clone(), Some(life));
                return Reply::Value(Some(value));
            }
            Command::Set { key, value, life } => self.put(key, value, life),
            Command::Claim { key, value, life } => {
                return Reply::Value(Some(self.claim(key, value, None, life)));
            }
            Command::Map { stream, origin, instead_of, publishes, life } => {
                let url = self.keys.url(&stream);
                let before = self.entry(&url).map(|entry| entry.value.clone());
                let held = self.map(&stream, &origin, instead_of, publishes, life);
                // It is in use there, wherever that is.
                let held = self.claim(url.clone(), held, None, life);
                let is_new = held == self.keys.server(&origin) && before.as_ref() != Some(&held);
                let stays = self.entry(&url).is_some_and(|entry| entry.end.is_none());
                return Reply::Mapped { held, is_new, stays };
            }
            Command::Publish { stream, origin, not_at, moves, fresh, life } => {
                let publisher = self.claim(self.keys.publisher(&stream), origin.clone(), not_at, Some(fresh));
                let (url, server) = (self.keys.url(&stream), self.keys.server(&origin));
                let old = if moves && publisher == origin { self.entry(&url) } else { None };
                let old = old.map(|entry| entry.value.clone());
                return Reply::Published { publisher, held: self.claim(url, server, old, life) };
            }
            Command::Delete { key, value } => {
                if self.entry(&key).is_some_and(|entry| entry.value == value) {
                    self.entries.remove(&key);
                }
            }
            Command::Register { id, server, json, life } => self.register(id, &server, json, life),
            Command::GiveBack { origins } => {
                origins.into_iter().for_each(|origin| self.give_back(origin));
            }
            Command::Deregister { id } => self.deregister(&id),
            Command::Mark { id, mark, life } => self.mark(id, mark, life),
            Command::Census { proxy, loads } => return Reply::Census(self.census(proxy, loads)),
        }
        Reply::Done
    }

    fn entry(&mut self, key: &str) -> Option<&mut Entry> {
        let now = self.now;
        self.entries.get_mut(key).filter(|entry| entry.is_alive(now))
    }

    fn put(&mut self, key: String, value: String, life: Option<Duration>) {
        let end = life.map(|life| self.end(life));
        self.entries.insert(key, Entry { value, end });
    }

    fn end(&self, life: Duration) -> Duration {
        self.now + Duration::from_millis(millis(life))
    }

    fn claim(
        &mut self,
        key: String,
        value: String,
        instead_of: Option<String>,
        life: Option<Duration>,
    ) -> String {
        let end = life.map(|life| self.end(life));
        match self.entry(&key) {
            Some(there) if there.value == value => {
                there.end = there.end.zip(end).map(|(old, new)| old.max(new));
                value
            }
            Some(there) if Some(&there.value) != instead_of.as_ref() => there.value.clone(),
            _ => {
                self.put(key, value.clone(), life);
                value
            }
        }
    }

    fn find(&mut self, key: &str, of_stream: Option<String>, life: Duration) -> Option<String> {
        let text = self.entry(key)?.value.clone();
        self.claim(key.to_owned(), text.clone(), None, Some(life));
        let session: Option<Value> = serde_json::from_str(&text).ok();
        let stream = session.as_ref().and_then(|session| session.get("stream_url")?.as_str());
        if let (Some(of_stream), Some(stream)) = (of_stream, stream) {
            let key = of_stream + stream;
            if self.entry(&key).is_some_and(|entry| entry.value == text) {
                self.claim(key, text.clone(), None, Some(life));
            }
        }
        Some(text)
    }

    fn map(
        &mut self,
        stream: &str,
        origin: &str,
        instead_of: Option<String>,
        publishes: bool,
        life: Option<Duration>,
    ) -> String {
        let (url, publisher) = (self.keys.url(stream), self.keys.publisher(stream));
        let server = self.keys.server(origin);
        if let Some(old) = instead_of.clone().filter(|old| *old != server)
            && self.entry(&url).is_some_and(|there| there.value == old)
            && let Some(id) = self.keys.id_of(&old).map(str::to_owned)
            && self.entry(&publisher).is_some_and(|at| at.value == id)
        {
            if !publishes && !self.is_gone(&id) {
                return old;
            }
            self.entries.remove(&publisher);
        }
        self.claim(url, server, instead_of, life)
    }

    fn is_gone(&self, id: &str) -> bool {
        self.marks.get(&(id.to_owned(), Kind::Gone)).is_some_and(|(_, end)| *end > self.now)
    }

    fn register(&mut self, id: String, server: &str, json: String, life: Duration) {
        let key = self.keys.server(&id);
        self.marks.remove(&(id.clone(), Kind::Gone));
        let list = self.list().unwrap_or_default();
        if !list.iter().any(|listed| self.keys.id_of(listed) == Some(&id)) {
            self.enlist(list, &id, server, life);
        }
        self.put(key, json, Some(life));
    }

    /// Puts an origin on the list, in place of all other lives of its server and of who is gone.
    fn enlist(&mut self, mut list: Vec<String>, id: &str, server: &str, life: Duration) {
        let key = self.keys.server(id);
        for listed in self.others(&list, id, server) {
            self.entries.remove(&self.registration_key(&listed));
            let ended = self.keys.id_of(&listed).unwrap_or_default().to_owned();
            self.mark(ended, Mark::Gone, life);
        }
        list.retain(|listed| self.registration(listed).is_some() || self.keys.id_of(listed) == Some(id));
        if !list.iter().any(|listed| self.keys.id_of(listed) == Some(id)) {
            list.push(key);
        }
        self.put_list(&list);
    }

    /// Other lives of a server on the list.
    fn others(&self, list: &[String], id: &str, server: &str) -> Vec<String> {
        let is_other = |listed: &&String| {
            self.keys.id_of(listed) != Some(id) && self.server_of(listed).as_deref() == Some(server)
        };
        list.iter().filter(is_other).cloned().collect()
    }

    fn give_back(&mut self, Returned { id, server, json, life }: Returned) {
        let (key, list) = (self.keys.server(&id), self.list());
        let now = self.now;
        let there = self.entry(&key).map(|entry| left(entry, now));
        let others = self.others(list.as_deref().unwrap_or_default(), &id, &server);
        let longest =
            others.iter().filter_map(|other| self.registration(other).map(|entry| left(entry, now)));
        let is_older = longest.max().is_some_and(|longest| longest >= there.unwrap_or_default().max(life));
        let is_listed = list.iter().flatten().any(|listed| self.keys.id_of(listed) == Some(&id));
        if self.is_gone(&id) || is_older {
            if list.is_none() {
                self.put_list(&[]);
            }
            return;
        }
        if there.is_none_or(|there| there < life) {
            self.put(key, json, Some(life));
        }
        if !is_listed || !others.is_empty() {
            self.enlist(list.unwrap_or_default(), &id, &server, life);
        }
    }

    fn deregister(&mut self, id: &str) {
        self.entries.remove(&self.keys.server(id));
        if let Some(mut list) = self.list() {
            list.retain(|key| self.keys.id_of(key) != Some(id));
            self.put_list(&list);
        }
    }

    /// The keys of all registrations. What is not a list is none; what is no server's key is not on it.
    fn list(&mut self) -> Option<Vec<String>> {
        let key = self.keys.all_servers();
        let list: Vec<Value> = serde_json::from_str(&self.entry(&key)?.value).ok()?;
        let keys = list.iter().filter_map(Value::as_str).filter(|key| self.keys.id_of(key).is_some());
        Some(keys.map(str::to_owned).collect())
    }

    fn put_list(&mut self, list: &[String]) {
        self.put(self.keys.all_servers(), serde_json::json!(list).to_string(), None);
    }

    /// Where the registration is that a key on the list stands for, whatever prefix the list has.
    fn registration_key(&self, listed: &str) -> String {
        self.keys.server(self.keys.id_of(listed).unwrap_or_default())
    }

    fn registration(&mut self, listed: &str) -> Option<&mut Entry> {
        self.entry(&self.registration_key(listed))
    }

    /// The server whose life a registration is.
    fn server_of(&self, listed: &str) -> Option<String> {
        let entry =
            self.entries.get(&self.registration_key(listed)).filter(|entry| entry.is_alive(self.now))?;
        let registration: Value = serde_json::from_str(&entry.value).ok()?;
        Some(registration.get("server_id")?.as_str()?.to_owned())
    }

    fn mark(&mut self, id: String, mark: Mark, life: Duration) {
        let kind = match mark {
            Mark::Trouble(protocol, _) => Kind::Trouble(protocol.as_str()),
            Mark::Draining => Kind::Draining,
            Mark::Gone => Kind::Gone,
        };
        match life.is_zero() {
            true => self.marks.remove(&(id, kind)),
            false => self.marks.insert((id, kind), (mark, self.end(life))),
        };
    }

    fn census(&mut self, proxy: Arc<str>, loads: Vec<(String, u32)>) -> Census {
        let now = self.now;
        self.marks.retain(|_, (_, end)| *end > now);
        self.loads.retain(|_, loads| loads.end > now);
        let list = self.list();
        let mut registrations = Vec::new();
        for listed in list.iter().flatten() {
            if let Some(entry) = self.registration(listed) {
                registrations.push((entry.value.clone(), left(entry, now)));
            }
        }
        let marks = self.marks.iter().map(|((id, _), (mark, end))| (id.clone(), *mark, *end - now)).collect();
        let mut sums = BTreeMap::new();
        for (_, others) in self.loads.iter().filter(|(other, _)| **other != proxy) {
            for (id, streams) in &others.streams {
                *sums.entry(id.clone()).or_insert(0) += streams;
            }
        }
        // One that is full neither remembers nor forgets.
        let knows_us = self.is_full || self.loads.contains_key(&proxy);
        if !self.is_full {
            self.loads.insert(proxy, Loads { streams: loads, end: now + LOADS_LIFE });
        }
        let loads = sums.into_iter().collect();
        Census { has_list: list.is_some(), knows_us, is_full: self.is_full, registrations, marks, loads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::semantics::{self, Subject};

    impl Subject for FakeRedis {
        fn keys(&self) -> Keys {
            self.store().keys.clone()
        }

        fn client(&self) -> Box<dyn RedisClient> {
            self.client()
        }

        fn ttl(&self, key: &str) -> Option<Option<Duration>> {
            self.ttl(key)
        }

        fn pass(&self, time: Duration) {
            self.advance(time);
        }
    }

    #[test]
    fn it_does_what_every_store_must() {
        for keys in [Keys::new(""), Keys::new("eu"), Keys::in_one_slot("")] {
            semantics::run(&|| Box::new(FakeRedis::new(keys.clone())));
        }
    }

    #[test]
    fn it_can_be_away_and_full_and_empty_and_lose_a_reply() {
        let store = FakeRedis::new(Keys::new(""));
        let mut client = store.client();
        let set = [Command::Set { key: "a".into(), value: "1".into(), life: None }];
        let get = [Command::Get { key: "a".into() }];
        let is = |value: Option<&str>| Ok(vec![Reply::Value(value.map(str::to_owned))]);

        store.set_away(true);
        assert!(client.run(&set).is_err());
        store.set_away(false);
        assert_eq!(client.run(&get), is(None));

        store.lose_next_reply();
        assert!(client.run(&set).is_err());
        assert_eq!(client.run(&get), is(Some("1")));

        store.set_full(true);
        assert!(matches!(client.run(&set).as_deref(), Ok([Reply::Failed(_)])));
        assert_eq!(client.run(&get), is(Some("1")));

        store.flush();
        assert_eq!(client.run(&get), is(None));
        assert_eq!(store.seen(), Seen { runs: 7, batches: 6, commands: 6 });
    }
}
