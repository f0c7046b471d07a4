//! A connection to one server, on which every step has an end: names are resolved, connections made and answers waited
//! for within limits. Knows no command and no topology.

use super::client::Lost;
use super::config::{Node, RedisConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, Connection, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, Value};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to answer.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// What is told to a server at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Login {
    /// Nothing.
    None,
    /// User and password.
    User,
    /// These and the database.
    Full,
}

/// A connection to one server.
pub(super) struct Link {
    node: Node,
    connection: Connection,
}

impl Link {
    /// Connects to a node. The name may take longer to be resolved than `limit`: see [`within`].
    pub(super) fn open(
        config: &RedisConfig,
        node: &Node,
        login: Login,
        limit: Duration,
    ) -> Result<Self, Lost> {
        let lost = |why| lost(node, &why);
        let address = match node {
            Node::Tcp(host, port) if config.tls => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            Node::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
            Node::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let mut access = RedisConnectionInfo::default().set_skip_set_lib_name();
        if login == Login::Full {
            access = access.set_db(i64::from(config.db));
        }
        if login != Login::None {
            if let Some(password) = &config.password {
                access = access.set_password(password);
            }
            if let Some(user) = &config.user {
                access = access.set_username(user);
            }
        }
        let info = address.into_connection_info().map_err(lost)?;
        let info = info.set_redis_settings(access).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let connection = Client::open(info).and_then(|client| client.get_connection_with_timeout(limit));
        let connection = connection.map_err(lost)?;
        connection.set_read_timeout(Some(limit)).map_err(lost)?;
        connection.set_write_timeout(Some(limit)).map_err(lost)?;
        Ok(Self { node: node.clone(), connection })
    }

    /// Where it leads to.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Sends what is packed and takes as many answers, of which each may be an error. An error of this function is the
    /// connection's end: answers may still be on their way.
    pub(super) fn exchange(
        &mut self,
        packed: &[u8],
        answers: usize,
        deadline: Instant,
    ) -> Result<Vec<Value>, Lost> {
        if answers == 0 {
            return Ok(Vec::new());
        }
        let node = &self.node;
        let lost = |why| lost(node, &why);
        let limit = deadline.saturating_duration_since(Instant::now()).min(RESPONSE_TIMEOUT);
        if limit.is_zero() {
            return Err(late(node));
        }
        self.connection.set_read_timeout(Some(limit)).map_err(lost)?;
        self.connection.set_write_timeout(Some(limit)).map_err(lost)?;
        self.connection.send_packed_command(packed).map_err(lost)?;
        let mut values = Vec::with_capacity(answers);
        while values.len() < answers {
            // The limit is for each read; this one for all of them.
            if Instant::now() >= deadline {
                return Err(late(node));
            }
            values.push(self.connection.recv_response().map_err(lost)?);
        }
        Ok(values)
    }

    /// Asks one thing. An error that the server answers is a value.
    pub(super) fn ask(&mut self, question: &redis::Cmd, deadline: Instant) -> Result<Value, Lost> {
        let mut answers = self.exchange(&question.get_packed_command(), 1, deadline)?;
        answers.pop().ok_or_else(|| Lost(format!("{}: no answer", self.node)))
    }
}

fn lost(node: &Node, why: &redis::RedisError) -> Lost {
    if why.is_timeout() { late(node) } else { Lost(format!("{node}: {why}")) }
}

fn late(node: &Node) -> Lost {
    Lost(format!("{node}: no answer in time"))
}

/// Does `work` on a thread of its own, and waits no longer than `limit`: the system's resolver of names knows no limit.
/// Work that takes longer ends unheard.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, Lost> + Send + 'static,
) -> Result<T, Lost> {
    let (send, receive) = sync_channel(1);
    let work = move || {
        // Nobody waits any more when it took too long.
        let _late = send.send(work());
    };
    let started = thread::Builder::new().name("redis-connect".to_owned()).spawn(work);
    started.map_err(|why| Lost(format!("no thread to connect with: {why}")))?;
    receive.recv_timeout(limit).unwrap_or_else(|_| Err(Lost("not connected in time".to_owned())))
}
