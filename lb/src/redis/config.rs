//! Which Redis, and how to get in: read from a URL or from single settings. Opens no socket.

use super::keys::Keys;
use std::fmt;
use std::path::PathBuf;

/// The highest number of a database: Redis numbers them by a signed 32-bit number.
pub const MAX_DB: u32 = i32::MAX as u32;

/// The port of a Redis server.
const PORT: u16 = 6379;
/// The port of a Sentinel.
const SENTINEL_PORT: u16 = 26379;
/// The most nodes a URL may name: one that runs is enough to find the others.
const MAX_NODES: usize = 32;

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Node {
    /// A name or an address without brackets, and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How the servers stand to each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Topology {
    /// There is one.
    Single,
    /// The nodes are Sentinels, and know which server is the master of this name.
    Sentinel(String),
    /// The nodes are some of a Cluster.
    Cluster,
}

/// Which Redis, and how to get in.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// What the nodes are.
    pub topology: Topology,
    /// Whom to ask; at least one.
    pub nodes: Vec<Node>,
    /// Whether to speak TLS. The certificates trusted are the system's, or those of `SSL_CERT_FILE`.
    pub tls: bool,
    /// The user; the default one if none.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<String>,
    /// The database.
    pub db: u32,
}

/// What is wrong with a URL. Never tells what is in it, which may be a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadUrl(&'static str);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topology, nodes, tls, user, password, db } = self;
        f.debug_struct("RedisConfig")
            .field("topology", topology)
            .field("nodes", nodes)
            .field("tls", tls)
            .field("has_user", &user.is_some())
            .field("has_password", &password.is_some())
            .field("db", db)
            .finish()
    }
}

impl RedisConfig {
    /// One server.
    pub fn single(node: Node) -> Self {
        Self { topology: Topology::Single, nodes: vec![node], tls: false, user: None, password: None, db: 0 }
    }

    /// The names of keys there.
    pub fn keys(&self, prefix: &str) -> Keys {
        match self.topology {
            Topology::Cluster => Keys::in_one_slot(prefix),
            _ => Keys::new(prefix),
        }
    }

    /// Reads one of these; user and password may be percent-encoded:
    ///
    /// ```text
    /// redis://[[user]:password@]host[:port][/db]                    rediss://… the same over TLS
    /// redis+unix://[[user]:password@]/path[?db=db]
    /// redis+sentinel://[[user]:password@]host[:port],…/master[/db]  rediss+sentinel://…
    /// redis+cluster://[[user]:password@]host[:port],…               rediss+cluster://…
    /// ```
    ///
    /// # Errors
    /// What is wrong.
    pub fn from_url(url: &str) -> Result<Self, BadUrl> {
        if url.chars().any(char::is_control) {
            return Err(BadUrl("has a control character"));
        }
        let (scheme, rest) = url.split_once("://").ok_or(BadUrl("not a URL"))?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (access, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = read_access(access)?;
        let scheme = scheme.to_ascii_lowercase();
        let (program, kind) = scheme.split_once('+').unwrap_or((&scheme, ""));
        let tls = match program {
            "redis" => false,
            "rediss" => true,
            _ => return Err(BadUrl("not the scheme of a Redis")),
        };
        let (topology, nodes, db) = match kind {
            "" => (Topology::Single, read_nodes(hosts, PORT)?, path),
            "sentinel" => {
                let (master, db) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(BadUrl("names no master"));
                }
                (Topology::Sentinel(decode(master)?), read_nodes(hosts, SENTINEL_PORT)?, db)
            }
            "cluster" => (Topology::Cluster, read_nodes(hosts, PORT)?, path),
            "unix" if tls => return Err(BadUrl("no TLS over a Unix socket")),
            "unix" if path.is_empty() || !hosts.is_empty() => return Err(BadUrl("not the path of a socket")),
            "unix" => {
                let socket = Node::Unix(format!("/{}", decode(path)?).into());
                let db = query.map_or(Some(""), |query| query.strip_prefix("db="));
                (Topology::Single, vec![socket], db.ok_or(BadUrl("has options that there are not"))?)
            }
            _ => return Err(BadUrl("not the scheme of a Redis")),
        };
        if query.is_some() && kind != "unix" {
            return Err(BadUrl("has options that there are not"));
        }
        if topology == Topology::Single && nodes.len() > 1 {
            return Err(BadUrl("has more than one server"));
        }
        let db = match db.trim_end_matches('/') {
            "" => 0,
            db => db.parse().ok().filter(|db| *db <= MAX_DB).ok_or(BadUrl("not the number of a database"))?,
        };
        if topology == Topology::Cluster && db != 0 {
            return Err(BadUrl("a Cluster has no other databases"));
        }
        Ok(Self { topology, nodes, tls, user, password, db })
    }
}

/// `user:password`, `:password` or nothing.
fn read_access(text: &str) -> Result<(Option<String>, Option<String>), BadUrl> {
    if text.is_empty() {
        return Ok((None, None));
    }
    match text.split_once(':') {
        None | Some((_, "")) => Err(BadUrl("has a user without a password")),
        Some(("", password)) => Ok((None, Some(decode(password)?))),
        Some((user, password)) => Ok((Some(decode(user)?), Some(decode(password)?))),
    }
}

fn read_nodes(hosts: &str, default_port: u16) -> Result<Vec<Node>, BadUrl> {
    let nodes: Vec<_> =
        hosts.split(',').map(|host| read_node(host, default_port)).collect::<Result<_, _>>()?;
    if nodes.len() > MAX_NODES { Err(BadUrl("has too many servers")) } else { Ok(nodes) }
}

fn read_node(text: &str, default_port: u16) -> Result<Node, BadUrl> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(BadUrl("has a bracket that is not closed"))?,
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BadUrl("has a port that is none"))?,
        None => return Err(BadUrl("has a port that is none")),
    };
    if host.is_empty() {
        return Err(BadUrl("has no host"));
    }
    Ok(Node::Tcp(host.to_owned(), port))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, BadUrl> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(BadUrl("not percent-encoded"))?;
        // A sign is no digit, though it may stand before a number.
        let code = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
        bytes.push(code.ok_or(BadUrl("not percent-encoded"))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| BadUrl("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Node {
        Node::Tcp(host.to_owned(), port)
    }

    #[test]
    fn every_form_is_read() {
        let single = RedisConfig::single(tcp("r.example.com", 6379));
        let user = Some("us:er".to_owned());
        let password = Some("p@ss/wörd".to_owned());
        let two = |port| vec![tcp("a", port), tcp("::1", 7)];
        for (url, expected) in [
            ("redis://r.example.com", single.clone()),
            ("REDIS://r.example.com/", single.clone()),
            (
                "redis://r.example.com:7/3",
                RedisConfig { nodes: vec![tcp("r.example.com", 7)], db: 3, ..single.clone() },
            ),
            ("redis://[::1]:7", RedisConfig { nodes: vec![tcp("::1", 7)], ..single.clone() }),
            (
                "rediss://us%3Aer:p%40ss%2Fw%c3%B6rd@r.example.com",
                RedisConfig { tls: true, user, password: password.clone(), ..single.clone() },
            ),
            (
                "redis://:p@ss%2fwörd@r.example.com",
                RedisConfig { password: password.clone(), ..single.clone() },
            ),
            (
                "redis+unix:///run/my%20redis.sock?db=2",
                RedisConfig { nodes: vec![Node::Unix("/run/my redis.sock".into())], db: 2, ..single.clone() },
            ),
            (
                "redis+unix://:x@/r.sock",
                RedisConfig {
                    nodes: vec![Node::Unix("/r.sock".into())],
                    password: Some("x".into()),
                    ..single.clone()
                },
            ),
            (
                "redis+sentinel://a,[::1]:7/main/1",
                RedisConfig {
                    topology: Topology::Sentinel("main".into()),
                    nodes: two(26379),
                    db: 1,
                    ..single.clone()
                },
            ),
            (
                "rediss+cluster://:p%40ss%2Fw%c3%B6rd@a,[::1]:7",
                RedisConfig { topology: Topology::Cluster, nodes: two(6379), tls: true, password, ..single },
            ),
        ] {
            assert_eq!(RedisConfig::from_url(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_in_the_url() {
        for (url, why) in [
            ("s3cret", "not a URL"),
            ("http://s3cret", "not the scheme of a Redis"),
            ("redis+s3cret://a", "not the scheme of a Redis"),
            ("redis://s3cret@a", "has a user without a password"),
            ("redis://s3cret:@a", "has a user without a password"),
            ("redis://:s3cret%4@a", "not percent-encoded"),
            ("redis://:s3cret%+4@a", "not percent-encoded"),
            ("redis://:s3cret%ff@a", "not UTF-8"),
            ("redis://:s3cret@", "has no host"),
            ("redis://:s3cret@:1", "has no host"),
            ("redis://:s3cret@a:b", "has a port that is none"),
            ("redis://:s3cret@a:0", "has a port that is none"),
            ("redis://:s3cret@[::1]1", "has a port that is none"),
            ("redis://:s3cret@[::1", "has a bracket that is not closed"),
            ("redis://:s3cret@a,b", "has more than one server"),
            ("redis://:s3cret@a/first", "not the number of a database"),
            ("redis://:s3cret@a/2147483648", "not the number of a database"),
            ("redis://:s3cret@a?db=1", "has options that there are not"),
            ("redis+unix://", "not the path of a socket"),
            ("redis+unix://a/b", "not the path of a socket"),
            ("redis+unix:///a?x=1", "has options that there are not"),
            ("rediss+unix:///a", "no TLS over a Unix socket"),
            ("redis+sentinel://a", "names no master"),
            ("redis+cluster://a/1", "a Cluster has no other databases"),
            ("redis://a\n", "has a control character"),
        ] {
            assert_eq!(RedisConfig::from_url(url), Err(BadUrl(why)), "{url}");
        }
        let many = format!("redis+cluster://{}", vec!["a"; MAX_NODES + 1].join(","));
        assert_eq!(RedisConfig::from_url(&many), Err(BadUrl("has too many servers")));
    }

    #[test]
    fn nothing_secret_is_ever_shown() {
        let config = RedisConfig::from_url("redis://us3r:s3cret@a").unwrap();
        assert!(!format!("{config:?}").contains("s3cret") && !format!("{config:?}").contains("us3r"));
    }
}
