//! The settings: one table, from which flags, help, environment and `.env` file are all read. Opens no
//! socket and changes no environment; whether the folder for static files exists is all it looks at.
//!
//! A flag goes before the environment, that before the `.env` file, that before the default. What is empty is
//! not set.

use crate::logging::Format;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use log::LevelFilter;
use srs_proxy_core::endpoint;
use srs_proxy_core::origin::{MAX_TEXT, Origin, Protocol};
use srs_proxy_core::rtc::sdp::MAX_ADDRESSES;
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
/// Redis numbers its databases so far by a signed 32-bit number.
const MAX_REDIS_DB: u32 = i32::MAX as u32;

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
    /// Where an origin listens.
    Endpoint,
    Ip,
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
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

const fn row(var: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Row {
    Row { var, default, kind, help }
}

/// All settings, in the order of the help text.
static TABLE: [Row; 35] = [
    row("PROXY_RTMP_SERVER", "11935", Kind::Listen, "RTMP, TCP"),
    row("PROXY_HTTP_SERVER", "18080", Kind::Listen, "HTTP-FLV, HTTP-TS, HLS, static files, TCP"),
    row("PROXY_HTTP_API", "11985", Kind::Listen, "WHIP, WHEP, origin API, TCP"),
    row("PROXY_WEBRTC_SERVER", "18000", Kind::Listen, "WebRTC media, UDP"),
    row("PROXY_SRT_SERVER", "20080", Kind::Listen, "SRT, UDP"),
    row("PROXY_SYSTEM_API", "12025", Kind::Listen, "Registration of origins and the proxy's own API, TCP"),
    row("PROXY_STATIC_FILES", "", Kind::Folder, "Folder served for other paths of the HTTP server"),
    row(
        "PROXY_LOAD_BALANCER_TYPE",
        "memory",
        Kind::Choice(&["memory", "redis"]),
        "Where routes are kept: memory",
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
    row("PROXY_REDIS_DB", "0", Kind::Count(0..=MAX_REDIS_DB), "Its database"),
    row(
        "PROXY_REDIS_KEY_PREFIX",
        "",
        Kind::Text,
        "Prefix of all keys: isolates clusters that share one database",
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
        Kind::Text,
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
        Kind::Duration(Duration::from_secs(1)),
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
    pub(crate) rtc: SocketAddr,
    /// `PROXY_SRT_SERVER`
    pub(crate) srt: SocketAddr,
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
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot read {}: {error}", path.display()))
        }
        text => Ok(text.unwrap_or_default()),
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
            Self::Ip => "IP",
            Self::Port => "PORT",
            Self::Folder => "FOLDER",
            Self::Choice(_) => "NAME",
            Self::Duration(_) => "DURATION",
            Self::Switch => "on|off",
            Self::Count(_) => "NUMBER",
            Self::Weights => "NAME=WEIGHT,…",
            Self::Text => "TEXT",
            Self::Secret => "SECRET",
        }
    }

    fn allowed(&self) -> String {
        match self {
            Self::Listen => "1935, :1935, 0.0.0.0:1935, [::]:1935".to_owned(),
            Self::Endpoint => "1935, :1935, tcp://0.0.0.0:1935, udp://10.0.0.1:8000, [::1]:1935".to_owned(),
            Self::Ip => "an IPv4 or IPv6 address".to_owned(),
            Self::Port => "1 to 65535".to_owned(),
            Self::Folder => "a folder that exists".to_owned(),
            Self::Choice(choices) => choices.join(", "),
            Self::Duration(least) => {
                format!("{} to 365days, written like 300s, 1m30s, 500ms", humantime::format_duration(*least))
            }
            Self::Switch => "on, off, true, false, yes, no, 1, 0".to_owned(),
            Self::Count(range) => format!("{} to {}", range.start(), range.end()),
            Self::Weights => format!("origin1=3,origin2=0, with weights of 0 to {MAX_WEIGHT}"),
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
        let file = parse_dotenv(dotenv)?;
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
            let shown = if matches!(row.kind, Kind::Secret) { String::new() } else { format!("={value:?}") };
            format!("{var}{shown}: {why}; allowed: {}", row.kind.allowed())
        })
    }

    fn listen(&self, var: &str) -> Result<SocketAddr, String> {
        self.read(var, |value, _| endpoint::listen(value))
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

/// The variables of a `.env` file; of a variable that is set twice, the last.
fn parse_dotenv(text: &str) -> Result<BTreeMap<String, String>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut values = BTreeMap::new();
    for line in dotenvy::from_read_iter(text.as_bytes()) {
        let (var, value) = line.map_err(|error| match error {
            // Without the value, which may be a secret.
            dotenvy::Error::LineParse(line, _) => {
                format!(
                    ".env: not a line of the form NAME=value: {:?}",
                    line.split('=').next().unwrap_or_default()
                )
            }
            other => format!(".env: {other}"),
        })?;
        values.insert(var, value);
    }
    Ok(values)
}

impl Settings {
    fn new(values: &Values) -> Result<Self, String> {
        let settings = Self {
            rtmp: values.listen("PROXY_RTMP_SERVER")?,
            http: values.listen("PROXY_HTTP_SERVER")?,
            api: values.listen("PROXY_HTTP_API")?,
            rtc: values.listen("PROXY_WEBRTC_SERVER")?,
            srt: values.listen("PROXY_SRT_SERVER")?,
            system: values.listen("PROXY_SYSTEM_API")?,
            static_files: static_files(values)?,
            origin_timeout: values.duration("PROXY_HTTP_ORIGIN_TIMEOUT")?,
            candidates: candidates(values)?,
            rtc_timeout: values.duration("PROXY_WEBRTC_TIMEOUT")?,
            srt_timeout: values.duration("PROXY_SRT_TIMEOUT")?,
            policy: values.choice("PROXY_LB_POLICY", Policy::named)?,
            weights: values.read("PROXY_LB_WEIGHTS", |value, _| value.parse::<Weights>())?,
            origin_ttl: values.duration("PROXY_ORIGIN_SERVER_TTL")?,
            token: token(values)?,
            default_origin: default_origin(values)?,
            grace: values.duration("PROXY_GRACE_QUIT_TIMEOUT")?,
            force: values.duration("PROXY_FORCE_QUIT_TIMEOUT")?,
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
        check_load_balancer(values)?;
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
    if values.text("PROXY_WORKERS").is_empty() {
        return Ok(std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS as usize));
    }
    Ok(values.count("PROXY_WORKERS")? as usize)
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
    let endpoints = vec![
        (Protocol::Rtmp, values.endpoint("PROXY_DEFAULT_BACKEND_RTMP", ip)?),
        (Protocol::Http, values.endpoint("PROXY_DEFAULT_BACKEND_HTTP", ip)?),
        (Protocol::Api, values.endpoint("PROXY_DEFAULT_BACKEND_API", ip)?),
        (Protocol::Srt, values.endpoint("PROXY_DEFAULT_BACKEND_SRT", ip)?),
        (Protocol::Rtc, values.endpoint("PROXY_DEFAULT_BACKEND_RTC", ip)?),
    ];
    // The same identity in every proxy that has this origin, so that they agree where a stream is.
    let origin = Origin {
        device_id: "default".into(),
        server: format!("default-{ip}").into(),
        service: "default".into(),
        pid: "0".into(),
        endpoints,
    };
    Ok(values.switch("PROXY_DEFAULT_BACKEND_ENABLED")?.then_some(origin))
}

fn check_load_balancer(values: &Values) -> Result<(), String> {
    values.visible("PROXY_REDIS_HOST")?;
    values.read("PROXY_REDIS_PORT", |value, _| match value.parse::<u16>() {
        Ok(port) if port != 0 => Ok(()),
        _ => Err("not a port"),
    })?;
    values.visible("PROXY_REDIS_PASSWORD")?;
    values.count("PROXY_REDIS_DB")?;
    values.read("PROXY_REDIS_KEY_PREFIX", |value, _| match value.len() <= MAX_TEXT {
        true => Ok(()),
        false => Err("too long"),
    })?;
    values.visible("PROXY_REDIS_KEY_PREFIX")?;
    let var = "PROXY_LOAD_BALANCER_TYPE";
    match values.choice(var, |name| ["memory", "redis"].into_iter().find(|known| *known == name))? {
        "redis" => {
            Err(format!("{var}=\"redis\": this version has no Redis load balancer yet; allowed: memory"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(args: &[&str], env: &[(&str, &str)], dotenv: &str) -> Result<Outcome, String> {
        let env = |var: &str| env.iter().find(|(name, _)| *name == var).map(|(_, value)| value.into());
        load(args.iter().map(OsString::from), env, dotenv)
    }

    fn settings(args: &[&str], env: &[(&str, &str)], dotenv: &str) -> Settings {
        match outcome(args, env, dotenv) {
            Ok(Outcome::Run(settings)) => *settings,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(env: &[(&str, &str)]) -> String {
        outcome(&[], env, "").unwrap_err()
    }

    fn printed(args: &[&str]) -> String {
        match outcome(args, &[], "") {
            Ok(Outcome::Print(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_as_documented() {
        let settings = settings(&[], &[], "");
        let servers =
            [settings.rtmp, settings.http, settings.api, settings.rtc, settings.srt, settings.system];
        let ports = [11935, 18080, 11985, 18000, 20080, 12025].map(|port| format!("[::]:{port}"));
        assert_eq!(servers.map(|address| address.to_string()), ports);
        assert_eq!((settings.token, settings.default_origin), (None, None));
        assert_eq!((settings.policy, settings.weights), (Policy::Random, Weights::default()));
        let seconds =
            [settings.origin_ttl, settings.grace, settings.force].map(|duration| duration.as_secs());
        assert_eq!(seconds, [300, 20, 30]);
        assert!(settings.workers >= 1);
        assert_eq!((settings.log_format, settings.log_level), (Format::Text, LevelFilter::Info));
    }

    #[test]
    fn a_flag_goes_before_the_environment_that_before_the_file_that_before_the_default() {
        let ttl =
            |args: &[&str], env: &[(&str, &str)], file: &str| settings(args, env, file).origin_ttl.as_secs();
        let (flag, var) = ("--origin-server-ttl=1s", ("PROXY_ORIGIN_SERVER_TTL", "2s"));
        let file = "# a comment\nexport PROXY_ORIGIN_SERVER_TTL='3s'\nOTHER=x\n";
        assert_eq!(ttl(&[flag], &[var], file), 1);
        assert_eq!(ttl(&["--origin-server-ttl", "1m30s"], &[], ""), 90);
        assert_eq!(ttl(&[], &[var], file), 2);
        assert_eq!(ttl(&[], &[], file), 3);
        assert_eq!(ttl(&[], &[], "PROXY_ORIGIN_SERVER_TTL=4s\nPROXY_ORIGIN_SERVER_TTL=5s"), 5);
        assert_eq!(ttl(&[], &[], "\u{feff}PROXY_ORIGIN_SERVER_TTL=6s"), 6);
        assert_eq!(ttl(&[], &[], ""), 300);
    }

    #[test]
    fn what_is_empty_is_not_set() {
        let empty = ("PROXY_ORIGIN_SERVER_TTL", "");
        assert_eq!(settings(&[], &[empty], "").origin_ttl.as_secs(), 300);
        assert_eq!(settings(&[], &[empty], "PROXY_ORIGIN_SERVER_TTL=3s").origin_ttl.as_secs(), 3);
        assert_eq!(settings(&[], &[], "PROXY_ORIGIN_SERVER_TTL=").origin_ttl.as_secs(), 300);
        // A flag, too, can only say "the default" by it.
        let set = ("PROXY_ORIGIN_SERVER_TTL", "2s");
        assert_eq!(settings(&["--origin-server-ttl="], &[set], "").origin_ttl.as_secs(), 300);
    }

    #[test]
    fn every_setting_has_its_flag_and_is_in_the_help() {
        let help = printed(&["--help"]);
        for row in &TABLE {
            assert!(help.contains(&format!("--{} ", flag(row.var))), "{}\n{help}", row.var);
            let (_, entry) = help.split_once(&format!("[{}]", row.var)).unwrap();
            let default = format!("[default: {}]", row.default);
            let entry = entry.split("--").next().unwrap();
            assert_eq!(entry.contains(&default), !row.default.is_empty(), "{}: {entry}", row.var);
        }
        assert_eq!(printed(&["--version"]), concat!("srs-proxy ", env!("CARGO_PKG_VERSION")));
        assert_eq!(printed(&["--check"]), "the settings are good");
    }

    #[test]
    fn each_wrong_value_is_named_with_what_is_allowed() {
        for (var, value, allowed) in [
            ("PROXY_RTMP_SERVER", "rtmp", "0.0.0.0:1935"),
            ("PROXY_HTTP_SERVER", "70000", "1935"),
            ("PROXY_HTTP_API", "localhost:1", "1935"),
            ("PROXY_WEBRTC_SERVER", "-1", "1935"),
            ("PROXY_SRT_SERVER", "[::1", "1935"),
            ("PROXY_SYSTEM_API", "0x10", "1935"),
            ("PROXY_STATIC_FILES", "/no/such/folder", "a folder that exists"),
            ("PROXY_LOAD_BALANCER_TYPE", "roulette", "memory"),
            ("PROXY_LB_POLICY", "best", "random, least-streams, rendezvous"),
            ("PROXY_LB_WEIGHTS", "origin1", "origin1=3,origin2=0"),
            ("PROXY_LB_WEIGHTS", "origin1=1001", "0 to 1000"),
            ("PROXY_REDIS_HOST", "a\tb", "visible"),
            ("PROXY_REDIS_PORT", "0", "65535"),
            ("PROXY_REDIS_DB", "first", "0 to 2147483647"),
            ("PROXY_REDIS_KEY_PREFIX", "\u{7f}", "visible"),
            ("PROXY_ORIGIN_SERVER_TTL", "300", "1ms to 365days, written like 300s"),
            ("PROXY_ORIGIN_SERVER_TTL", "0s", "1ms to 365days"),
            ("PROXY_ORIGIN_SERVER_TTL", "-3s", "1ms to 365days"),
            ("PROXY_HTTP_API_AUTH_ENABLED", "perhaps", "on, off"),
            ("PROXY_HTTP_API_AUTH_TYPE", "\u{1}", "visible"),
            ("PROXY_DEFAULT_BACKEND_ENABLED", "2", "on, off"),
            ("PROXY_DEFAULT_BACKEND_IP", "0.0.0.0", "address"),
            ("PROXY_DEFAULT_BACKEND_RTMP", "0", "1935"),
            ("PROXY_DEFAULT_BACKEND_HTTP", "x", "1935"),
            ("PROXY_DEFAULT_BACKEND_API", "http://:1985", "1935"),
            ("PROXY_DEFAULT_BACKEND_RTC", "x", "1935"),
            ("PROXY_DEFAULT_BACKEND_SRT", "x", "1935"),
            ("PROXY_GRACE_QUIT_TIMEOUT", "later", "0s to 365days"),
            ("PROXY_FORCE_QUIT_TIMEOUT", "500days", "0s to 365days"),
            ("PROXY_WORKERS", "0", "1 to 1024"),
            ("PROXY_WORKERS", "many", "1 to 1024"),
            ("PROXY_LOG_FORMAT", "xml", "text, json"),
            ("PROXY_LOG_LEVEL", "loud", "off, error, warn"),
        ] {
            let line = refusal(&[(var, value)]);
            let start = format!("{var}={value:?}: ");
            assert!(line.starts_with(&start) && line.contains(allowed), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            let by_file = outcome(&[], &[], &format!("{var}=\"{}\"", value.escape_default()));
            assert!(by_file.is_err(), "{var}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        for var in ["PROXY_HTTP_API_AUTH_TOKEN", "PROXY_REDIS_PASSWORD"] {
            let line = refusal(&[(var, "s3cret\u{1}")]);
            assert!(line.starts_with(&format!("{var}: ")) && !line.contains("s3cret"), "{line}");
        }
        let on = [("PROXY_HTTP_API_AUTH_ENABLED", "on"), ("PROXY_HTTP_API_AUTH_TYPE", "bearer")];
        let settings = settings(&["--http-api-auth-token=s3cret"], &on, "");
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert!(!outcome(&[], &[], "TOKEN='s3cret").unwrap_err().contains("s3cret"));
    }

    #[test]
    fn a_policy_has_a_name_and_an_origin_a_weight() {
        let settings = settings(&["--lb-policy=Least-Streams", "--lb-weights=a=3, b=0"], &[], "");
        assert_eq!((settings.policy, settings.weights), (Policy::LeastStreams, "a=3,b=0".parse().unwrap()));
        let line = refusal(&[("PROXY_LB_WEIGHTS", "a=1,a=2")]);
        assert!(line.contains("\"a=2\" has a weight already"), "{line}");
    }

    #[test]
    fn bearer_auth_needs_type_and_token() {
        let on = ("PROXY_HTTP_API_AUTH_ENABLED", "on");
        let bearer = ("PROXY_HTTP_API_AUTH_TYPE", "Bearer");
        let token = ("PROXY_HTTP_API_AUTH_TOKEN", "t0k-en");
        assert_eq!(settings(&[], &[on, bearer, token], "").token, Some(Token("t0k-en".into())));
        assert_eq!(settings(&[], &[bearer, token], "").token, None);
        assert!(refusal(&[on, token]).contains("only supports bearer"));
        assert!(refusal(&[on, ("PROXY_HTTP_API_AUTH_TYPE", "basic"), token]).contains("\"basic\""));
        assert!(refusal(&[on, bearer]).starts_with("PROXY_HTTP_API_AUTH_TOKEN is not set"));
    }

    #[test]
    fn the_default_origin_is_registered_only_where_it_is_switched_on() {
        let env =
            [("PROXY_DEFAULT_BACKEND_IP", "10.0.0.7"), ("PROXY_DEFAULT_BACKEND_RTC", "udp://10.0.0.8:8001")];
        assert_eq!(settings(&[], &env, "").default_origin, None);
        let origin = settings(&["--default-backend-enabled"], &env, "").default_origin.unwrap();
        assert_eq!(origin.id().as_str(), "default-10.0.0.7-default-0");
        let endpoints: Vec<_> =
            origin.endpoints.iter().map(|(protocol, to)| format!("{protocol} {to}")).collect();
        assert_eq!(
            endpoints,
            [
                "rtmp 10.0.0.7:1935",
                "http 10.0.0.7:8080",
                "api 10.0.0.7:1985",
                "srt 10.0.0.7:10080",
                "rtc 10.0.0.8:8001"
            ]
        );
    }

    #[test]
    fn switches_take_every_usual_word() {
        for (word, on) in [
            ("on", true),
            ("TRUE", true),
            ("1", true),
            ("yes", true),
            ("Off", false),
            ("false", false),
            ("0", false),
            ("no", false),
        ] {
            let settings = settings(&[], &[("PROXY_DEFAULT_BACKEND_ENABLED", word)], "");
            assert_eq!(settings.default_origin.is_some(), on, "{word}");
        }
    }

    #[test]
    fn a_static_folder_that_exists_is_taken() {
        settings(&["--static-files", env!("CARGO_MANIFEST_DIR")], &[], "");
    }

    #[test]
    fn redis_is_known_but_refused_for_now() {
        let line = refusal(&[("PROXY_LOAD_BALANCER_TYPE", "redis")]);
        assert_eq!(
            line,
            "PROXY_LOAD_BALANCER_TYPE=\"redis\": this version has no Redis load balancer yet; allowed: memory"
        );
    }

    #[test]
    fn a_wrong_flag_or_file_is_one_line_too() {
        for args in [&["--rtmp-sever=1"][..], &["extra"], &["--workers"], &["--workers=1", "--workers=2"]] {
            let line = outcome(args, &[], "").unwrap_err();
            assert!(line.lines().count() == 1 && line.ends_with("(see --help)"), "{line}");
        }
        let line = outcome(&[], &[], "PROXY_RTMP_SERVER 1935\n").unwrap_err();
        assert!(
            line.starts_with(".env: ") && line.contains("PROXY_RTMP_SERVER") && line.lines().count() == 1,
            "{line}"
        );
        assert_eq!(read_dotenv(Path::new("/no/such/file")), Ok(String::new()));
        assert!(read_dotenv(Path::new("/")).is_err());
    }
}
