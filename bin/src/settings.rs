//! The settings: one table, from which flags, help, environment and `.env` file are all read. Opens no
//! socket and changes no environment; whether the folder for static files exists is all it looks at.
//!
//! A flag goes before the environment, that before the `.env` file, that before the default. What is empty is
//! not set.

mod balancer;
mod dotenv;
#[cfg(test)]
mod tests;

pub(crate) use balancer::LoadBalancer;

use crate::logging::Format;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use log::LevelFilter;
use srs_proxy_core::endpoint;
use srs_proxy_core::origin::{Origin, Protocol};
use srs_proxy_core::rtc::sdp::MAX_ADDRESSES;
use srs_proxy_lb::redis::MAX_DB;
use srs_proxy_lb::{MAX_WEIGHT, Policy, Weights};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The longest duration that makes sense, so that no sum of times overflows.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);
/// More threads than any machine has cores.
const MAX_WORKERS: u32 = 1024;

/// A setting.
struct Row {
    var: &'static str,
    default: &'static str,
    kind: Kind,
    help: &'static str,
}

/// What a setting's value may be.
#[derive(Clone, Debug)]
enum Kind {
    /// Where to listen.
    Listen,
    /// Addresses to listen on, of a host that has several.
    Listens,
    /// Where an origin listens.
    Endpoint,
    Ip,
    Ips,
    Port,
    Folder,
    Choice(&'static [&'static str]),
    /// Not shorter than this.
    Duration(Duration),
    Switch,
    Count(RangeInclusive<u32>),
    Weights,
    Text,
    /// Text that is never shown.
    Secret,
    /// Where Redis is, perhaps with a password.
    RedisUrl,
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

const fn row(var: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Row {
    Row { var, default, kind, help }
}

/// All settings, in the order of the help text.
static TABLE: [Row; 38] = [
    row("PROXY_RTMP_SERVER", "11935", Kind::Listen, "RTMP, TCP"),
    row("PROXY_HTTP_SERVER", "18080", Kind::Listen, "HTTP-FLV, HTTP-TS, HLS, static files, TCP"),
    row("PROXY_HTTP_API", "11985", Kind::Listen, "WHIP, WHEP, origin API, TCP"),
    row("PROXY_WEBRTC_SERVER", "18000", Kind::Listens, "WebRTC media, UDP"),
    row("PROXY_SRT_SERVER", "20080", Kind::Listens, "SRT, UDP"),
    row("PROXY_SYSTEM_API", "12025", Kind::Listen, "Registration of origins and the proxy's own API, TCP"),
    row("PROXY_STATIC_FILES", "", Kind::Folder, "Folder served for other paths of the HTTP server"),
    row(
        "PROXY_LOAD_BALANCER_TYPE",
        "memory",
        Kind::Choice(&["memory", "redis"]),
        "Where routes are kept: in memory, or in redis for proxies that share them",
    ),
    row(
        "PROXY_LB_POLICY",
        "random",
        Kind::Choice(Policy::NAMES),
        "Which origin takes a new stream: random, least-streams (of two by chance), rendezvous (by a hash)",
    ),
    row(
        "PROXY_LB_WEIGHTS",
        "",
        Kind::Weights,
        "Shares of origins in new streams, by server or device_id: origin1=3,origin2=0; 1 if not set, 0 is none",
    ),
    row("PROXY_REDIS_HOST", "127.0.0.1", Kind::Text, "Redis, for proxies that share their routes"),
    row("PROXY_REDIS_PORT", "6379", Kind::Port, "Its port"),
    row("PROXY_REDIS_PASSWORD", "", Kind::Secret, "Its password"),
    row("PROXY_REDIS_DB", "0", Kind::Count(0..=MAX_DB), "Its database"),
    row(
        "PROXY_REDIS_KEY_PREFIX",
        "",
        Kind::Text,
        "Prefix of all keys: isolates clusters that share one database",
    ),
    row(
        "PROXY_REDIS_URL",
        "",
        Kind::RedisUrl,
        "Instead of these, and for TLS, Sentinels or a Cluster: where Redis is",
    ),
    row(
        "PROXY_REDIS_MIXED_FLEET",
        "off",
        Kind::Switch,
        "Whether a Go proxy is in the fleet: streams keep their origins for ever, as it needs",
    ),
    row(
        "PROXY_ORIGIN_SERVER_TTL",
        "300s",
        Kind::Duration(Duration::from_millis(1)),
        "How long a registration stays alive without a heartbeat",
    ),
    row(
        "PROXY_HTTP_ORIGIN_TIMEOUT",
        "15s",
        Kind::Duration(Duration::from_millis(1)),
        "How long an origin may take to begin its answer to an HTTP request",
    ),
    row(
        "PROXY_WEBRTC_CANDIDATE",
        "",
        Kind::Ips,
        "Addresses of the WebRTC server as clients see them, with commas between; those of the origin if not set",
    ),
    row(
        "PROXY_WEBRTC_TIMEOUT",
        "30s",
        // Clients check every few seconds; between checks a player may be silent.
        Kind::Duration(Duration::from_secs(5)),
        "A WebRTC session ends after so long without a word",
    ),
    row(
        "PROXY_SRT_TIMEOUT",
        "10s",
        // Peers that have nothing to send say so each second; one or two of these may be lost.
        Kind::Duration(Duration::from_secs(3)),
        "An SRT session ends after so long without a word",
    ),
    row(
        "PROXY_HTTP_API_AUTH_ENABLED",
        "off",
        Kind::Switch,
        "Whether registration and all that shows or changes origins needs a token",
    ),
    row("PROXY_HTTP_API_AUTH_TYPE", "", Kind::Text, "How the token is sent: only supports bearer"),
    row("PROXY_HTTP_API_AUTH_TOKEN", "", Kind::Secret, "The token"),
    row(
        "PROXY_DEFAULT_BACKEND_ENABLED",
        "off",
        Kind::Switch,
        "Whether there is one origin that need not register",
    ),
    row("PROXY_DEFAULT_BACKEND_IP", "127.0.0.1", Kind::Ip, "Its address"),
    row("PROXY_DEFAULT_BACKEND_RTMP", "1935", Kind::Endpoint, "Its RTMP"),
    row("PROXY_DEFAULT_BACKEND_HTTP", "8080", Kind::Endpoint, "Its HTTP streams"),
    row("PROXY_DEFAULT_BACKEND_API", "1985", Kind::Endpoint, "Its HTTP API"),
    row("PROXY_DEFAULT_BACKEND_RTC", "8000", Kind::Endpoint, "Its WebRTC media"),
    row("PROXY_DEFAULT_BACKEND_SRT", "10080", Kind::Endpoint, "Its SRT"),
    row(
        "PROXY_GRACE_QUIT_TIMEOUT",
        "20s",
        Kind::Duration(Duration::ZERO),
        "How long sessions may go on after SIGTERM or SIGINT",
    ),
    row(
        "PROXY_FORCE_QUIT_TIMEOUT",
        "30s",
        Kind::Duration(Duration::ZERO),
        "After so long the process ends in any case",
    ),
    row(
        "PROXY_SESSIONS_PER_NETWORK",
        "",
        Kind::Count(1..=u32::MAX),
        "Sessions of one client network (an IPv4 address, an IPv6 /64); half of all if not set",
    ),
    row("PROXY_WORKERS", "", Kind::Count(1..=MAX_WORKERS), "Threads that serve; as many as cores if not set"),
    row("PROXY_LOG_FORMAT", "text", Kind::Choice(&["text", "json"]), "How log lines look: text or json"),
    row(
        "PROXY_LOG_LEVEL",
        "info",
        Kind::Choice(LEVELS),
        "Which log lines are written: off, error, warn, info, debug, trace",
    ),
];

/// What the settings say.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `PROXY_RTMP_SERVER`
    pub(crate) rtmp: SocketAddr,
    /// `PROXY_HTTP_SERVER`
    pub(crate) http: SocketAddr,
    /// `PROXY_HTTP_API`
    pub(crate) api: SocketAddr,
    /// `PROXY_WEBRTC_SERVER`
    pub(crate) rtc: Vec<SocketAddr>,
    /// `PROXY_SRT_SERVER`
    pub(crate) srt: Vec<SocketAddr>,
    /// `PROXY_SYSTEM_API`
    pub(crate) system: SocketAddr,
    /// `PROXY_STATIC_FILES`
    pub(crate) static_files: Option<PathBuf>,
    /// `PROXY_HTTP_ORIGIN_TIMEOUT`
    pub(crate) origin_timeout: Duration,
    /// `PROXY_WEBRTC_CANDIDATE`
    pub(crate) candidates: Vec<IpAddr>,
    /// `PROXY_WEBRTC_TIMEOUT`
    pub(crate) rtc_timeout: Duration,
    /// `PROXY_SRT_TIMEOUT`
    pub(crate) srt_timeout: Duration,
    /// `PROXY_LOAD_BALANCER_TYPE`, and where Redis is.
    pub(crate) load_balancer: LoadBalancer,
    /// `PROXY_LB_POLICY`
    pub(crate) policy: Policy,
    /// `PROXY_LB_WEIGHTS`
    pub(crate) weights: Weights,
    /// `PROXY_ORIGIN_SERVER_TTL`
    pub(crate) origin_ttl: Duration,
    /// The bearer token of the registration API, if it asks for one.
    pub(crate) token: Option<Token>,
    /// `PROXY_DEFAULT_BACKEND_…`: an origin to register at start and to keep alive.
    pub(crate) default_origin: Option<Origin>,
    /// `PROXY_GRACE_QUIT_TIMEOUT`
    pub(crate) grace: Duration,
    /// `PROXY_FORCE_QUIT_TIMEOUT`
    pub(crate) force: Duration,
    /// `PROXY_SESSIONS_PER_NETWORK`
    pub(crate) sessions_per_network: Option<usize>,
    /// `PROXY_WORKERS`
    pub(crate) workers: usize,
    /// `PROXY_LOG_FORMAT`
    pub(crate) log_format: Format,
    /// `PROXY_LOG_LEVEL`
    pub(crate) log_level: LevelFilter,
}

/// A token that no log line shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// To run with these settings.
    Run(Box<Settings>),
    /// To print this and end well: help, version, or that the settings are good.
    Print(String),
}

/// Reads the settings from the arguments without the program's name, the environment (by a variable's name)
/// and the text of the `.env` file (empty if there is none).
///
/// # Errors
/// One line for people: which setting has which value, and what is allowed.
pub(crate) fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    dotenv: &str,
) -> Result<Outcome, String> {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Outcome::Print(error.to_string().trim_end().to_owned()));
        }
        Err(error) => return Err(one_line(&error)),
    };
    let settings = Settings::new(&Values::gather(&matches, env, dotenv)?)?;
    if matches.get_flag("check") {
        return Ok(Outcome::Print("the settings are good".to_owned()));
    }
    Ok(Outcome::Run(Box::new(settings)))
}

/// The text of the `.env` file at `path`; empty if there is none.
///
/// # Errors
/// One line, if it is there and cannot be read.
pub(crate) fn read_dotenv(path: &Path) -> Result<String, String> {
    match std::fs::read(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot read {}: {error}", path.display()))
        }
        // Other programs' lines may be of any encoding.
        text => Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()),
    }
}

fn command() -> Command {
    let command = Command::new("srs-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The proxy for fleets of live-media origin servers")
        .after_help("Each setting is a flag, a variable of the environment, or a line of the file .env.")
        .no_binary_name(true)
        .arg(Arg::new("check").long("check").action(ArgAction::SetTrue).help("Check the settings and end"));
    TABLE.iter().fold(command, |command, row| {
        let mut help = format!("{} [{}]", row.help, row.var);
        if !row.default.is_empty() {
            help += &format!(" [default: {}]", row.default);
        }
        let arg = Arg::new(row.var).long(flag(row.var)).value_name(row.kind.value_name()).help(help);
        command.arg(match row.kind {
            Kind::Switch => arg.num_args(0..=1).default_missing_value("on"),
            _ => arg,
        })
    })
}

/// `PROXY_RTMP_SERVER` is `--rtmp-server`.
fn flag(var: &str) -> String {
    var.trim_start_matches("PROXY_").to_ascii_lowercase().replace('_', "-")
}

fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("{} (see --help)", line.trim_start_matches("error: "))
}

impl Kind {
    const fn value_name(&self) -> &'static str {
        match self {
            Self::Listen | Self::Endpoint => "ADDRESS",
            Self::Listens => "ADDRESS,…",
            Self::Ip => "IP",
            Self::Ips => "IP,…",
            Self::Port => "PORT",
            Self::Folder => "FOLDER",
            Self::Choice(_) => "NAME",
            Self::Duration(_) => "DURATION",
            Self::Switch => "on|off",
            Self::Count(_) => "NUMBER",
            Self::Weights => "NAME=WEIGHT,…",
            Self::Text => "TEXT",
            Self::Secret => "SECRET",
            Self::RedisUrl => "URL",
        }
    }

    fn allowed(&self) -> String {
        match self {
            Self::Listen => "1935, :1935, 0.0.0.0:1935, [::]:1935".to_owned(),
            Self::Listens => format!(
                "1935, :1935, 0.0.0.0:1935, [::]:1935; or several of this host's, 192.0.2.7:1935,192.0.2.8:1935, with \
                 one port and at most {MAX_ADDRESSES}"
            ),
            Self::Endpoint => "1935, :1935, tcp://0.0.0.0:1935, udp://10.0.0.1:8000, [::1]:1935".to_owned(),
            Self::Ip => "an IPv4 or IPv6 address".to_owned(),
            Self::Ips => format!("203.0.113.7,2001:db8::7; addresses, no names, at most {MAX_ADDRESSES}"),
            Self::Port => "1 to 65535".to_owned(),
            Self::Folder => "a folder that exists".to_owned(),
            Self::Choice(choices) => choices.join(", "),
            Self::Duration(least) => {
                format!("{} to 365days, written like 300s, 1m30s, 500ms", humantime::format_duration(*least))
            }
            Self::Switch => "on, off, true, false, yes, no, 1, 0".to_owned(),
            Self::Count(range) => format!("{} to {}", range.start(), range.end()),
            Self::Weights => format!("origin1=3,origin2=0, with weights of 0 to {MAX_WEIGHT}"),
            Self::RedisUrl => "redis://[user:password@]host[:port][/db], rediss://…, redis+unix:///path, \
                               redis+sentinel://host,host/master, redis+cluster://host,host"
                .to_owned(),
            Self::Text | Self::Secret => "visible characters".to_owned(),
        }
    }
}

/// The value of each setting as text.
struct Values(BTreeMap<&'static str, String>);

impl Values {
    fn gather(
        matches: &ArgMatches,
        env: impl Fn(&str) -> Option<OsString>,
        dotenv: &str,
    ) -> Result<Self, String> {
        let file = dotenv::parse(dotenv)?;
        let mut values = BTreeMap::new();
        for row in &TABLE {
            let var = row.var;
            let value = match (matches.get_one::<String>(var), env(var).filter(|value| !value.is_empty())) {
                (Some(given), _) => given.clone(),
                (None, Some(value)) => {
                    value.into_string().map_err(|_| format!("{var}: the value is not UTF-8"))?
                }
                (None, None) => file.get(var).cloned().unwrap_or_default(),
            };
            values.insert(var, if value.is_empty() { row.default.to_owned() } else { value });
        }
        Ok(Self(values))
    }

    /// Whether it says anything but the default.
    fn is_set(&self, var: &str) -> bool {
        TABLE.iter().any(|row| row.var == var && self.text(var) != row.default)
    }

    fn text(&self, var: &str) -> &str {
        self.0.get(var).map_or("", String::as_str)
    }

    /// The value as `parse` reads it.
    fn read<T, E: Display>(
        &self,
        var: &str,
        parse: impl FnOnce(&str, &Kind) -> Result<T, E>,
    ) -> Result<T, String> {
        let value = self.text(var);
        let row = TABLE.iter().find(|row| row.var == var).ok_or_else(|| format!("{var}: no such setting"))?;
        parse(value, &row.kind).map_err(|why| {
            let shown = if matches!(row.kind, Kind::Secret | Kind::RedisUrl) {
                String::new()
            } else {
                format!("={value:?}")
            };
            format!("{var}{shown}: {why}; allowed: {}", row.kind.allowed())
        })
    }

    fn listen(&self, var: &str) -> Result<SocketAddr, String> {
        self.read(var, |value, _| endpoint::listen(value))
    }

    fn listens(&self, var: &str) -> Result<Vec<SocketAddr>, String> {
        self.read(var, |list, _| {
            let one = |text: &str| endpoint::listen(text.trim()).map_err(|why| why.to_string());
            let addresses = list.split(',').map(one).collect::<Result<Vec<_>, String>>()?;
            let [first, others @ ..] = &*addresses else { return Err("no address".to_owned()) };
            let is_another = |other: &SocketAddr| other.ip() != first.ip() && other.port() == first.port();
            match others {
                [] => Ok(addresses),
                _ if first.port() == 0 || addresses.iter().any(|address| address.ip().is_unspecified()) => {
                    Err("not addresses of this host with a port".to_owned())
                }
                _ if !others.iter().all(is_another) => {
                    Err("not different addresses with one port".to_owned())
                }
                _ if addresses.len() > MAX_ADDRESSES => Err("too many addresses".to_owned()),
                _ => Ok(addresses),
            }
        })
    }

    fn endpoint(&self, var: &str, ip: IpAddr) -> Result<SocketAddr, String> {
        self.read(var, |value, _| endpoint::resolve(value, ip))
    }

    fn count(&self, var: &str) -> Result<u32, String> {
        self.read(var, |value, kind| match (value.parse(), kind) {
            (Ok(number), Kind::Count(range)) if range.contains(&number) => Ok(number),
            _ => Err("not such a number"),
        })
    }

    /// Nothing, if it is not set and has no default.
    fn optional_count(&self, var: &str) -> Result<Option<usize>, String> {
        if self.text(var).is_empty() { Ok(None) } else { self.count(var).map(|count| Some(count as usize)) }
    }

    fn duration(&self, var: &str) -> Result<Duration, String> {
        self.read(var, |value, kind| match (humantime::parse_duration(value), kind) {
            (Ok(duration), Kind::Duration(least)) if (*least..=MAX_DURATION).contains(&duration) => {
                Ok(duration)
            }
            _ => Err("not such a duration"),
        })
    }

    fn switch(&self, var: &str) -> Result<bool, String> {
        self.read(var, |value, _| match value.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok(true),
            "off" | "false" | "no" | "0" => Ok(false),
            _ => Err("neither on nor off"),
        })
    }

    fn choice<T>(&self, var: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        self.read(var, |value, _| parse(&value.to_ascii_lowercase()).ok_or("no such choice"))
    }

    /// Text for people and other programs, where a control character is always a mistake.
    fn visible(&self, var: &str) -> Result<&str, String> {
        self.read(var, |value, _| match value.chars().any(char::is_control) {
            true => Err("has a control character"),
            false => Ok(()),
        })?;
        Ok(self.text(var))
    }
}

impl Settings {
    fn new(values: &Values) -> Result<Self, String> {
        let settings = Self {
            rtmp: values.listen("PROXY_RTMP_SERVER")?,
            http: values.listen("PROXY_HTTP_SERVER")?,
            api: values.listen("PROXY_HTTP_API")?,
            rtc: values.listens("PROXY_WEBRTC_SERVER")?,
            srt: values.listens("PROXY_SRT_SERVER")?,
            system: values.listen("PROXY_SYSTEM_API")?,
            static_files: static_files(values)?,
            origin_timeout: values.duration("PROXY_HTTP_ORIGIN_TIMEOUT")?,
            candidates: candidates(values)?,
            rtc_timeout: values.duration("PROXY_WEBRTC_TIMEOUT")?,
            srt_timeout: values.duration("PROXY_SRT_TIMEOUT")?,
            load_balancer: LoadBalancer::read(values)?,
            policy: values.choice("PROXY_LB_POLICY", Policy::named)?,
            weights: values.read("PROXY_LB_WEIGHTS", |value, _| value.parse::<Weights>())?,
            origin_ttl: values.duration("PROXY_ORIGIN_SERVER_TTL")?,
            token: token(values)?,
            default_origin: default_origin(values)?,
            grace: values.duration("PROXY_GRACE_QUIT_TIMEOUT")?,
            force: values.duration("PROXY_FORCE_QUIT_TIMEOUT")?,
            sessions_per_network: values.optional_count("PROXY_SESSIONS_PER_NETWORK")?,
            workers: workers(values)?,
            log_format: values.choice("PROXY_LOG_FORMAT", |name| match name {
                "text" => Some(Format::Text),
                "json" => Some(Format::Json),
                _ => None,
            })?,
            log_level: values.choice("PROXY_LOG_LEVEL", |name| {
                LEVELS.contains(&name).then(|| LevelFilter::from_str(name).ok()).flatten()
            })?,
        };
        Ok(settings)
    }
}

fn candidates(values: &Values) -> Result<Vec<IpAddr>, String> {
    values.read("PROXY_WEBRTC_CANDIDATE", |list, _| {
        let addresses = list.split(',').map(str::trim).filter(|text| !text.is_empty());
        let addresses: Result<Vec<IpAddr>, _> = addresses.map(str::parse).collect();
        match addresses {
            Ok(addresses) if addresses.len() > MAX_ADDRESSES => Err("too many addresses"),
            Ok(addresses) if addresses.iter().any(IpAddr::is_unspecified) => Err("not the address of a host"),
            Ok(addresses) => Ok(addresses),
            Err(_) => Err("not a list of IP addresses"),
        }
    })
}

fn static_files(values: &Values) -> Result<Option<PathBuf>, String> {
    values.read("PROXY_STATIC_FILES", |path, _| match path {
        "" => Ok(None),
        path if Path::new(path).is_dir() => Ok(Some(path.into())),
        _ => Err("no such folder"),
    })
}

fn workers(values: &Values) -> Result<usize, String> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS as usize);
    Ok(values.optional_count("PROXY_WORKERS")?.unwrap_or_else(cores))
}

/// A good token is visible ASCII, since anything else has no place in a header field.
fn token(values: &Values) -> Result<Option<Token>, String> {
    let kind = values.visible("PROXY_HTTP_API_AUTH_TYPE")?;
    let token = values.read("PROXY_HTTP_API_AUTH_TOKEN", |value, _| {
        match value.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(value.to_owned()),
            false => Err("has characters that no bearer token has"),
        }
    })?;
    if !values.switch("PROXY_HTTP_API_AUTH_ENABLED")? {
        return Ok(None);
    }
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err(format!(
            "PROXY_HTTP_API_AUTH_TYPE={kind:?}: PROXY_HTTP_API_AUTH_ENABLED only supports bearer"
        ));
    }
    if token.is_empty() {
        return Err("PROXY_HTTP_API_AUTH_TOKEN is not set, but PROXY_HTTP_API_AUTH_ENABLED is on".to_owned());
    }
    Ok(Some(Token(token)))
}

fn default_origin(values: &Values) -> Result<Option<Origin>, String> {
    let ip = values.read("PROXY_DEFAULT_BACKEND_IP", |value, _| match value.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() => Ok(ip),
        _ => Err("not the address of a host"),
    })?;
    let rtmp = values.endpoint("PROXY_DEFAULT_BACKEND_RTMP", ip)?;
    let endpoints = vec![
        (Protocol::Rtmp, rtmp),
        (Protocol::Http, values.endpoint("PROXY_DEFAULT_BACKEND_HTTP", ip)?),
        (Protocol::Api, values.endpoint("PROXY_DEFAULT_BACKEND_API", ip)?),
        (Protocol::Srt, values.endpoint("PROXY_DEFAULT_BACKEND_SRT", ip)?),
        (Protocol::Rtc, values.endpoint("PROXY_DEFAULT_BACKEND_RTC", ip)?),
    ];
    // The same identity in every proxy that has this origin, so that they agree where a stream is; and another one for each
    // of several origins on one machine.
    let origin = Origin {
        device_id: "default".into(),
        server: format!("default-{ip}:{}", rtmp.port()).into(),
        service: "default".into(),
        pid: "0".into(),
        endpoints,
    };
    Ok(values.switch("PROXY_DEFAULT_BACKEND_ENABLED")?.then_some(origin))
}
