//! The client of a real Redis: one server, the master that Sentinels name, or a Cluster. Finds the right server, sends it
//! each batch in one pipeline, and drops the connection at the first doubt. Knows no stream and no origin.
//!
//! In a Cluster all keys are in one slot, so that there too one server has all of them; what moves with the slot is
//! sent after it.

use super::client::{Command, Lost, RedisClient, Reply};
use super::config::{Node, RedisConfig, Topology};
use super::keys::Keys;
use super::node::{Link, Login, RESPONSE_TIMEOUT, within};
use super::wire;
use redis::{Cmd, ServerError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it may take to find the right server and to be let in.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// How long one of several nodes may take: so that one that hangs leaves time for another.
const NODE_TIMEOUT: Duration = Duration::from_millis(250);

/// How often in one batch something may be sent elsewhere: a slot that just moves on does so once, perhaps twice.
const MAX_REDIRECTS: usize = 4;

/// Answers to a single command that say that no command would fare better.
const USELESS: [&str; 9] =
    ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "MISCONF", "NOREPLICAS", "BUSY", "DENIED"];

/// A client of a real Redis.
pub struct RealRedis {
    config: Arc<RedisConfig>,
    keys: Keys,
    /// Who is asked first: after a failure another one, since one that hangs may use up the time of all.
    first: usize,
    link: Option<Link>,
    /// Where a slot is on its way to.
    aside: Option<Link>,
}

/// Where a Cluster says that a command belongs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Redirect {
    /// There from now on.
    Moved(Node),
    /// There this time.
    Ask(Node),
}

impl RealRedis {
    /// A client for the keys under `prefix`, which [`RedisConfig::keys`] names. Connects when it is first used.
    pub fn new(config: RedisConfig, prefix: &str) -> Self {
        let keys = config.keys(prefix);
        Self { config: Arc::new(config), keys, first: 0, link: None, aside: None }
    }

    fn connect(&mut self, deadline: Instant) -> Result<Link, Lost> {
        let (config, keys, first) = (Arc::clone(&self.config), self.keys.clone(), self.first);
        let limit = CONNECT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let link = within(limit, move || connect(&config, &keys, first));
        if link.is_err() {
            self.first += 1;
        }
        link
    }

    fn open(&self, node: &Node, deadline: Instant) -> Result<Link, Lost> {
        let (config, node) = (Arc::clone(&self.config), node.clone());
        let limit = CONNECT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        within(limit, move || Link::open(&config, &node, Login::Full, limit))
    }

    /// Where else an answer sends its command, if it does. An answer that means that the server is no good at all is
    /// the connection's end.
    fn elsewhere(&self, answer: &Value, node: &Node) -> Result<Option<Redirect>, Lost> {
        let Value::ServerError(error) = answer else { return Ok(None) };
        let redirect = Redirect::read(error, node);
        // Without the Cluster's names of keys nothing would be found where it sends us.
        let is_useless = USELESS.contains(&wire::why(error).0)
            || redirect.is_some() && self.config.topology != Topology::Cluster;
        if is_useless { Err(useless(node, error)) } else { Ok(redirect) }
    }

    /// The link that leads where `redirect` says, taken out; the usual one if it says nothing.
    fn link(&mut self, redirect: Option<&Redirect>, deadline: Instant) -> Result<Link, Lost> {
        match redirect {
            None => self.link.take().map_or_else(|| self.connect(deadline), Ok),
            Some(Redirect::Moved(node)) => self.open(node, deadline),
            Some(Redirect::Ask(node)) => {
                let known = self.aside.take().filter(|link| link.node() == node);
                known.map_or_else(|| self.open(node, deadline), Ok)
            }
        }
    }
}

impl RedisClient for RealRedis {
    fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
        let deadline = Instant::now() + CONNECT_TIMEOUT + RESPONSE_TIMEOUT;
        let mut replies = vec![Reply::Done; commands.len()];
        let mut waiting = BTreeMap::from([(None, commands.iter().zip(&mut replies).collect::<Vec<_>>())]);
        for _ in 0..=MAX_REDIRECTS {
            let Some((redirect, batch)) = waiting.pop_first() else { break };
            // What fails drops the link, which is out of its place until all is well.
            let mut link = self.link(redirect.as_ref(), deadline)?;
            let is_aside = matches!(redirect, Some(Redirect::Ask(_)));
            let packed = batch.iter().map(|(command, _)| wire::pack(command, &self.keys));
            let answers = exchange(&mut link, packed, is_aside, deadline)?;
            for ((command, reply), answer) in batch.into_iter().zip(answers) {
                match self.elsewhere(&answer, link.node())? {
                    // Where a slot is on its way to, what has not arrived yet seems not to be. Better no answer.
                    Some(Redirect::Ask(_)) if wire::looks_further(command) => {
                        *reply = wire::read(command, answer);
                    }
                    Some(elsewhere) => waiting.entry(Some(elsewhere)).or_default().push((command, reply)),
                    None => *reply = wire::read(command, answer),
                }
            }
            *(if is_aside { &mut self.aside } else { &mut self.link }) = Some(link);
        }
        if waiting.is_empty() {
            return Ok(replies);
        }
        self.link = None;
        Err(Lost("the Cluster sends its clients around".to_owned()))
    }
}

/// Sends all commands in one go; their answers.
fn exchange(
    link: &mut Link,
    commands: impl Iterator<Item = Cmd>,
    asking: bool,
    deadline: Instant,
) -> Result<Vec<Value>, Lost> {
    let mut packed = Vec::new();
    let mut answers = 0;
    let asking = asking.then(|| redis::cmd("ASKING"));
    for command in commands {
        for command in asking.iter().chain([&command]) {
            command.write_packed_command(&mut packed);
            answers += 1;
        }
    }
    let answers = link.exchange(&packed, answers, deadline)?.into_iter();
    // The last of each command's answers is its own.
    let each = 1 + usize::from(asking.is_some());
    Ok(answers.skip(each - 1).step_by(each).collect())
}

/// Connects to whoever has the keys. Each node is asked in turn, the `first` one first.
fn connect(config: &RedisConfig, keys: &Keys, first: usize) -> Result<Link, Lost> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut why = Lost("there is no node".to_owned());
    let nodes = &config.nodes;
    for node in nodes.iter().cycle().skip(first % nodes.len().max(1)).take(nodes.len()) {
        let link = match &config.topology {
            Topology::Single => Link::open(config, node, Login::Full, CONNECT_TIMEOUT),
            Topology::Sentinel(master) => connect_to_master(config, node, master),
            Topology::Cluster => connect_to_owner(config, node, &keys.all_servers()),
        };
        match link {
            Ok(link) => return Ok(link),
            Err(lost) => why = lost,
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(why)
}

/// Connects to the server that a Sentinel says is the master.
fn connect_to_master(config: &RedisConfig, sentinel: &Node, master: &str) -> Result<Link, Lost> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(master);
    let ask = |login| {
        let mut link = Link::open(config, sentinel, login, NODE_TIMEOUT)?;
        link.ask(&question, Instant::now() + NODE_TIMEOUT)
    };
    let mut answer = ask(Login::None)?;
    if matches!(&answer, Value::ServerError(error) if error.code() == "NOAUTH") {
        answer = ask(Login::User)?;
    }
    let lost = |why: &str| Lost(format!("{sentinel}: {why}"));
    if let Value::ServerError(error) = &answer {
        return Err(lost(error.code()));
    }
    let address: Option<(String, u16)> =
        redis::from_redis_value(answer).map_err(|why| lost(&why.to_string()))?;
    let (host, port) = address.ok_or_else(|| lost("knows no master of this name"))?;
    let mut link = Link::open(config, &Node::Tcp(host, port), Login::Full, CONNECT_TIMEOUT)?;
    // A master that comes back after a failover calls itself one until it hears of the other; a Sentinel that has not
    // heard of the failover yet names a server that may be a replica by now.
    let role = link.ask(&redis::cmd("ROLE"), Instant::now() + CONNECT_TIMEOUT)?;
    match role {
        Value::Array(role) if role.first() == Some(&Value::BulkString(b"slave".to_vec())) => {
            Err(Lost(format!("{}: a replica, no master", link.node())))
        }
        // Who may not ask for the role is believed the Sentinel.
        _ => Ok(link),
    }
}

/// Connects to the node of a Cluster that has the slot of all keys, of which `key` is one.
fn connect_to_owner(config: &RedisConfig, node: &Node, key: &str) -> Result<Link, Lost> {
    let mut link = Link::open(config, node, Login::Full, NODE_TIMEOUT)?;
    let mut question = redis::cmd("EXISTS");
    question.arg(key);
    let answer = link.ask(&question, Instant::now() + NODE_TIMEOUT)?;
    match &answer {
        Value::ServerError(error) => match Redirect::read(error, node) {
            Some(Redirect::Moved(owner)) => Link::open(config, &owner, Login::Full, CONNECT_TIMEOUT),
            // The slot is on its way, and still here.
            Some(Redirect::Ask(_)) => Ok(link),
            None => Err(useless(link.node(), error)),
        },
        _ => Ok(link),
    }
}

impl Redirect {
    /// What `node` answered: `MOVED 3999 127.0.0.1:6381`, where no host is its own.
    fn read(error: &ServerError, node: &Node) -> Option<Self> {
        let place = || {
            let (_slot, address) = error.details()?.split_once(' ')?;
            let (host, port) = address.rsplit_once(':')?;
            let host = match (host, node) {
                ("" | "?", Node::Tcp(own, _)) => own,
                _ => host,
            };
            Some(Node::Tcp(host.to_owned(), port.parse().ok()?))
        };
        match error.code() {
            "MOVED" => place().map(Self::Moved),
            "ASK" => place().map(Self::Ask),
            _ => None,
        }
    }
}

fn useless(node: &Node, error: &ServerError) -> Lost {
    let (code, details) = wire::why(error);
    Lost(format!("{node}: {code} {details}"))
}
