//! Redis: one server, a master and its replica watched by Sentinels, or a Cluster. Asked by its own `redis-cli`.

use super::ports::free_port;
use super::process::{Process, command, run};
use super::temp::TempDir;
use super::{PATIENCE, wait_for, wait_until};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// The name under which Sentinels know the master.
pub const MASTER: &str = "main";

/// Sentinels: as many as it takes to agree when one is gone.
const SENTINELS: usize = 3;

/// After so long without a word of it Sentinels take a master for dead.
pub const DOWN_AFTER: Duration = Duration::from_millis(500);

/// Masters of a Cluster: the fewest that make one.
const MASTERS: usize = 3;

/// The slots of a Cluster.
const SLOTS: usize = 16384;

/// Takes a time in ms from the life of each key, and from that of each field whose value begins with its end.
const PASS: &str = "
local by = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left > by then redis.call('PEXPIRE', key, left - by) elseif left >= 0 then redis.call('DEL', key) end
  if redis.call('TYPE', key).ok == 'hash' then
    local all = redis.call('HGETALL', key)
    for n = 1, #all, 2 do
      local ending, text = all[n + 1]:match('^(%d+) (.*)$')
      redis.call('HSET', key, all[n], string.format('%.0f ', ending - by) .. text)
    end
  end
end";

/// A running redis-server, or a Sentinel. Nothing of what it holds is written to disk.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    dir: TempDir,
    port: u16,
    password: Option<String>,
    is_sentinel: bool,
}

impl Redis {
    /// Starts one that lets everybody in.
    #[track_caller]
    pub fn start() -> Self {
        Self::with("", None)
    }

    /// Starts one with these lines in its configuration, where `DIR` is its directory, and which takes this password from
    /// `redis-cli`.
    #[track_caller]
    pub fn with(config: &str, password: Option<&str>) -> Self {
        Self::at(free_port(), config, password, false)
    }

    #[track_caller]
    fn at(port: u16, config: &str, password: Option<&str>, is_sentinel: bool) -> Self {
        let dir = TempDir::new("redis");
        let path = dir.path().display().to_string();
        let mut text = format!("bind 127.0.0.1\nport {port}\ndir {path}\n{}\n", config.replace("DIR", &path));
        if !is_sentinel {
            text += "save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n";
        }
        dir.write("redis.conf", &text);
        let process = Self::launch(&dir, port, is_sentinel);
        let mut redis = Self { process, dir, port, password: password.map(str::to_owned), is_sentinel };
        redis.wait_ready();
        redis
    }

    #[track_caller]
    fn launch(dir: &TempDir, port: u16, is_sentinel: bool) -> Process {
        let mut start = command("redis-server");
        start.arg(dir.path().join("redis.conf"));
        if is_sentinel {
            start.arg("--sentinel");
        }
        Process::start(format!("redis:{port}"), &mut start)
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let ping = |redis: &Self| redis.try_cli(&["ping"]).is_some_and(|answer| answer == "PONG");
        wait_until("redis answers", PATIENCE, || {
            assert!(self.process.is_running(), "redis ended\n{}", self.process.tail());
            ping(self)
        });
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, for everybody.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sends it a signal: `STOP` makes it hang, `CONT` go on.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same port, empty.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Self::launch(&self.dir, self.port, self.is_sentinel);
        self.wait_ready();
    }

    /// Lets time pass within a moment: all lives are made shorter.
    #[track_caller]
    pub fn pass(&self, time: Duration) {
        assert_eq!(self.cli(&["eval", PASS, "0", &time.as_millis().to_string()]), "");
    }

    /// What it answers to a command; ends the test if it does not.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> String {
        self.try_cli(words).unwrap_or_else(|| panic!("{words:?} has no answer\n{}", self.process.tail()))
    }

    /// What it answers to a command, if it does.
    fn try_cli(&self, words: &[&str]) -> Option<String> {
        let mut cli = command("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-e"]);
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        cli.args(words);
        let ended = run("redis-cli", &mut cli, PATIENCE);
        ended.status.success().then(|| ended.stdout.trim_end().to_owned())
    }

    /// A field of what `INFO` or `CLUSTER INFO` say.
    fn info(&self, words: &[&str], field: &str) -> Option<String> {
        let text = self.try_cli(words)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    }
}

/// A master, its replica, and Sentinels that make the replica the master when the master is gone.
#[derive(Debug)]
pub struct Watched {
    servers: [Redis; 2],
    sentinels: Vec<Redis>,
}

impl Watched {
    /// Starts all; returns when the Sentinels know each other and the replica.
    #[track_caller]
    pub fn start() -> Self {
        let master = Redis::start();
        let replica = Redis::with(&format!("replicaof 127.0.0.1 {}", master.port), None);
        wait_until("the replica is in step", PATIENCE, || {
            replica.info(&["info", "replication"], "master_link_status").as_deref() == Some("up")
        });
        let config = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {MASTER} {}\n\
             sentinel failover-timeout {MASTER} 3000",
            master.port,
            DOWN_AFTER.as_millis(),
        );
        let sentinels = (0..SENTINELS).map(|_| Redis::at(free_port(), &config, None, true)).collect();
        let watched = Self { servers: [master, replica], sentinels };
        for sentinel in &watched.sentinels {
            wait_until("a Sentinel knows all", PATIENCE, || {
                let text = sentinel.cli(&["sentinel", "master", MASTER]);
                let lines: Vec<_> = text.lines().collect();
                let field = |name| lines.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
                field("num-other-sentinels") == Some("2") && field("num-slaves") == Some("1")
            });
        }
        watched
    }

    /// The URL of all.
    pub fn url(&self) -> String {
        let sentinels: Vec<_> =
            self.sentinels.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", sentinels.join(","))
    }

    /// From now on Sentinels take the master for dead when they have not heard of it for so long.
    #[track_caller]
    pub fn set_patience(&self, patience: Duration) {
        let millis = patience.as_millis().to_string();
        for sentinel in &self.sentinels {
            assert_eq!(sentinel.cli(&["sentinel", "set", MASTER, "down-after-milliseconds", &millis]), "OK");
        }
    }

    /// The server that the last Sentinel says is the master.
    #[track_caller]
    pub fn master(&mut self) -> &mut Redis {
        let answer = self.sentinels[SENTINELS - 1].cli(&["sentinel", "get-master-addr-by-name", MASTER]);
        let port: u16 = answer.lines().last().and_then(|line| line.parse().ok()).expect("a port");
        self.servers.iter_mut().find(|server| server.port == port).expect("one of the servers")
    }

    /// The servers, the first master first.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// The Sentinels, in the order of the URL.
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }
}

/// A Cluster of masters without replicas.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts it; returns when all nodes say that it is well.
    #[track_caller]
    pub fn start() -> Self {
        let nodes: Vec<_> = (0..MASTERS)
            .map(|_| {
                // Its own choice, 10,000 above the other, could be taken.
                let bus = free_port();
                let mut config = format!("cluster-enabled yes\ncluster-port {bus}\n");
                let _ = writeln!(config, "cluster-config-file nodes.conf\ncluster-node-timeout 1500");
                (Redis::with(&config, None), bus)
            })
            .collect();
        for (n, (node, _)) in nodes.iter().enumerate() {
            let slots = [n, n + 1].map(|n| n * SLOTS / MASTERS);
            let (from, to) = (slots[0].to_string(), (slots[1] - 1).to_string());
            node.cli(&["cluster", "addslotsrange", &from, &to]);
            node.cli(&["cluster", "set-config-epoch", &(n + 1).to_string()]);
            for (other, bus) in &nodes[..n] {
                let (port, bus) = (other.port.to_string(), bus.to_string());
                node.cli(&["cluster", "meet", "127.0.0.1", &port, &bus]);
            }
        }
        let cluster = Self { nodes: nodes.into_iter().map(|(node, _)| node).collect() };
        cluster.wait_well();
        cluster
    }

    /// Waits until all nodes say that it is well.
    #[track_caller]
    pub fn wait_well(&self) {
        for node in &self.nodes {
            let info = |field| node.info(&["cluster", "info"], field);
            wait_until("the Cluster is well", PATIENCE, || {
                info("cluster_state").as_deref() == Some("ok")
                    && info("cluster_known_nodes") == Some(MASTERS.to_string())
            });
        }
    }

    /// The URL of all nodes.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// The nodes, in the order of the URL.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The node that has `key`.
    #[track_caller]
    pub fn owner(&self, key: &str) -> usize {
        let owns = |node: &Redis| node.cli(&["exists", key]).parse::<u64>().is_ok();
        let owner =
            || self.nodes.iter().position(|node| node.try_cli(&["exists", key]).is_some() && owns(node));
        wait_for("one has the key", PATIENCE, owner)
    }

    /// Begins to move the slot of `key` to another node: from now on the old owner sends to the new one who asks for
    /// what it has not.
    #[track_caller]
    pub fn begin_move(&self, key: &str, to: usize) -> Move<'_> {
        let from = self.owner(key);
        let slot = self.nodes[from].cli(&["cluster", "keyslot", key]);
        let ids = [from, to].map(|node| self.nodes[node].cli(&["cluster", "myid"]));
        self.nodes[to].cli(&["cluster", "setslot", &slot, "importing", &ids[0]]);
        self.nodes[from].cli(&["cluster", "setslot", &slot, "migrating", &ids[1]]);
        Move { from: &self.nodes[from], to: &self.nodes[to], others: &self.nodes, slot, id: ids[1].clone() }
    }
}

/// A slot on its way.
#[derive(Debug)]
pub struct Move<'a> {
    from: &'a Redis,
    to: &'a Redis,
    others: &'a [Redis],
    slot: String,
    id: String,
}

impl Move<'_> {
    /// Moves this key.
    #[track_caller]
    pub fn key(&self, key: &str) {
        let moved = self.from.cli(&["migrate", "127.0.0.1", &self.to.port.to_string(), key, "0", "5000"]);
        assert!(["OK", "NOKEY"].contains(&&*moved), "{moved}");
    }

    /// Moves all other keys and makes the new owner known.
    #[track_caller]
    pub fn finish(self) {
        loop {
            let keys = self.from.cli(&["cluster", "getkeysinslot", &self.slot, "100"]);
            if keys.is_empty() {
                break;
            }
            keys.lines().for_each(|key| self.key(key));
        }
        for node in [self.to, self.from].into_iter().chain(self.others) {
            node.cli(&["cluster", "setslot", &self.slot, "node", &self.id]);
        }
    }
}
