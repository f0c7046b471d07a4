//! An origin server: its identity and its registration. Keeps nothing; who is alive is the load balancer's.

use crate::endpoint::{self, EndpointError};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use serde_json::{Map, Value};

/// The longest text of a registration (`server`, `pid`, …), in bytes: identities go into log lines and into
/// the keys of shared stores.
pub const MAX_TEXT: usize = 128;
/// The most endpoints of one protocol that an origin may list.
pub const MAX_ENDPOINTS: usize = 16;

/// `{server}-{service}-{pid}`: one life of one origin server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(Arc<str>);

impl OriginId {
    /// The identity made of these parts.
    pub fn new(server: &str, service: &str, pid: &str) -> Self {
        Self(format!("{server}-{service}-{pid}").into())
    }

    /// The identity that this text is: [`OriginId::as_str`] of an origin, here or in another proxy.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What an origin may serve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// RTMP over TCP.
    Rtmp,
    /// HTTP-FLV, HTTP-TS, HLS, DASH over TCP.
    Http,
    /// The HTTP API: WHIP, WHEP and the server's own, over TCP.
    Api,
    /// SRT over UDP.
    Srt,
    /// WebRTC media over UDP.
    Rtc,
}

impl Protocol {
    /// Each protocol, in the order of a registration.
    pub const ALL: [Self; 5] = [Self::Rtmp, Self::Http, Self::Api, Self::Srt, Self::Rtc];

    /// Its name in a registration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Http => "http",
            Self::Api => "api",
            Self::Srt => "srt",
            Self::Rtc => "rtc",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An origin server as it registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// `device_id` of the registration, for people.
    pub device_id: Arc<str>,
    /// `server`: the same over restarts.
    pub server: Arc<str>,
    /// `service`: new at each start.
    pub service: Arc<str>,
    /// `pid`: new at each start.
    pub pid: Arc<str>,
    /// Where it serves what: at least one RTMP entry, others as registered, in the order registered.
    pub endpoints: Vec<(Protocol, SocketAddr)>,
}

impl Origin {
    /// Its identity.
    pub fn id(&self) -> OriginId {
        OriginId::new(&self.server, &self.service, &self.pid)
    }

    /// Where it serves `protocol`.
    pub fn serves(&self, protocol: Protocol) -> impl Iterator<Item = SocketAddr> + '_ {
        self.endpoints.iter().filter(move |(served, _)| *served == protocol).map(|(_, address)| *address)
    }

    /// Reads a registration, as SRS's `heartbeat` block sends it with `ports on`:
    ///
    /// ```json
    /// {"device_id": "origin2", "ip": "10.78.122.184", "server": "vid-46p14mm", "service": "z2s3w865",
    ///  "pid": "42583", "rtmp": ["19352"], "http": ["8082"], "api": ["19853"], "srt": ["10082"],
    ///  "rtc": ["udp://0.0.0.0:8001"]}
    /// ```
    ///
    /// `ip`, `server`, `service`, `pid`, `rtmp` are mandatory, the others of these optional, further ones are
    /// nobody's business. The lists hold endpoints as [`endpoint::resolve`] reads them.
    ///
    /// # Errors
    /// The first field that is missing or wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, RegistrationError> {
        Self::from_fields(&serde_json::from_slice(json).map_err(|_| Problem::NotAnObject.of("body"))?)
    }

    /// Reads the fields of a registration.
    ///
    /// # Errors
    /// As [`Origin::from_json`].
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self, RegistrationError> {
        let ip = text(fields, "ip", Mandatory::Yes)?;
        let ip = ip.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
        let ip = ip.ok_or(Problem::NotAnIp.of("ip"))?;
        let mut origin = Self {
            device_id: text(fields, "device_id", Mandatory::No)?.into(),
            server: text(fields, "server", Mandatory::Yes)?.into(),
            service: text(fields, "service", Mandatory::Yes)?.into(),
            pid: text(fields, "pid", Mandatory::Yes)?.into(),
            endpoints: Vec::new(),
        };
        for protocol in Protocol::ALL {
            let field = protocol.as_str();
            let list = match fields.get(field) {
                None | Some(Value::Null) => &[][..],
                Some(Value::Array(list)) => list,
                Some(_) => return Err(Problem::NotAList.of(field)),
            };
            if list.is_empty() && protocol == Protocol::Rtmp {
                return Err(Problem::Missing.of(field));
            }
            if list.len() > MAX_ENDPOINTS {
                return Err(Problem::TooMany.of(field));
            }
            for endpoint in list {
                let endpoint = endpoint.as_str().ok_or(Problem::NotAList.of(field))?;
                let address =
                    endpoint::resolve(endpoint, ip).map_err(|why| Problem::Endpoint(why).of(field))?;
                origin.endpoints.push((protocol, address));
            }
        }
        Ok(origin)
    }
}

/// Why a registration was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegistrationError {
    /// The field, or `body` if it is the whole.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl core::error::Error for RegistrationError {}

/// What is wrong with a field of a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// It is no JSON object.
    NotAnObject,
    /// It is mandatory, and missing or empty.
    Missing,
    /// It is no string.
    NotText,
    /// It is longer than [`MAX_TEXT`].
    TooLong,
    /// There is a control character in it.
    ControlCharacter,
    /// It is no address of a host.
    NotAnIp,
    /// It is no list of strings.
    NotAList,
    /// It lists more than [`MAX_ENDPOINTS`].
    TooMany,
    /// It lists something that is no endpoint.
    Endpoint(EndpointError),
}

impl Problem {
    const fn of(self, field: &'static str) -> RegistrationError {
        RegistrationError { field, problem: self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("not a JSON object"),
            Self::Missing => f.write_str("mandatory, but missing or empty"),
            Self::NotText => f.write_str("not a string"),
            Self::TooLong => write!(f, "longer than {MAX_TEXT} bytes"),
            Self::ControlCharacter => f.write_str("has a control character"),
            Self::NotAnIp => f.write_str("not an IP address of a host"),
            Self::NotAList => f.write_str("not a list of strings"),
            Self::TooMany => write!(f, "more than {MAX_ENDPOINTS} endpoints"),
            Self::Endpoint(why) => write!(f, "not an endpoint: {why}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mandatory {
    Yes,
    No,
}

fn text<'a>(
    fields: &'a Map<String, Value>,
    field: &'static str,
    mandatory: Mandatory,
) -> Result<&'a str, RegistrationError> {
    let text = match fields.get(field) {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(Problem::NotText.of(field)),
    };
    let problem = if text.is_empty() && mandatory == Mandatory::Yes {
        Problem::Missing
    } else if text.len() > MAX_TEXT {
        Problem::TooLong
    } else if text.chars().any(char::is_control) {
        Problem::ControlCharacter
    } else {
        return Ok(text);
    };
    Err(problem.of(field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use serde_json::json;

    fn addresses(origin: &Origin, protocol: Protocol) -> Vec<String> {
        origin.serves(protocol).map(|address| address.to_string()).collect()
    }

    fn good() -> Value {
        json!({"ip": "10.78.122.184", "server": "s", "service": "v", "pid": "1", "rtmp": ["1935"]})
    }

    fn refusal(field: &str, value: Value) -> String {
        let mut registration = good();
        registration[field] = value;
        Origin::from_json(registration.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn srs_registers_as_it_was_recorded() {
        let body = br#"{"device_id":"origin1","ip":"127.0.0.1","server":"vid-tn77780","service":"ns8dh1ub","pid":"17302","rtmp":["18000"],"http":["18001"],"api":["18002"],"srt":["udp://0.0.0.0:18004"],"rtc":["udp://0.0.0.0:18003"]}"#;
        let origin = Origin::from_json(body).unwrap();
        assert_eq!(origin.id().as_str(), "vid-tn77780-ns8dh1ub-17302");
        assert_eq!(&*origin.device_id, "origin1");
        let ports: Vec<_> =
            origin.endpoints.iter().map(|(protocol, at)| (protocol.as_str(), at.port())).collect();
        assert_eq!(ports, [("rtmp", 18000), ("http", 18001), ("api", 18002), ("srt", 18004), ("rtc", 18003)]);
    }

    #[test]
    fn every_listed_endpoint_is_kept_in_order_and_every_form_is_read() {
        let mut registration = good();
        registration["rtmp"] =
            json!(["1935", ":1936", "tcp://10.0.0.9:1937", "tcp://0.0.0.0:1938", "[::1]:1939"]);
        registration["summaries"] = json!({"data": {"ok": [true, {}]}});
        registration["srt"] = Value::Null;
        let origin = Origin::from_json(registration.to_string().as_bytes()).unwrap();
        assert_eq!(
            addresses(&origin, Protocol::Rtmp),
            ["10.78.122.184:1935", "10.78.122.184:1936", "10.0.0.9:1937", "10.78.122.184:1938", "[::1]:1939"]
        );
        assert_eq!(origin.serves(Protocol::Srt).count(), 0);
        assert_eq!(&*origin.device_id, "");
    }

    #[test]
    fn each_mandatory_field_is_missed_by_name() {
        for field in ["ip", "server", "service", "pid", "rtmp"] {
            let mut registration = good();
            registration.as_object_mut().unwrap().remove(field);
            let error = Origin::from_json(registration.to_string().as_bytes()).unwrap_err();
            assert_eq!(error, Problem::Missing.of(field));
            let empty = if field == "rtmp" { json!([]) } else { json!("") };
            assert_eq!(refusal(field, empty), format!("{field}: mandatory, but missing or empty"));
        }
    }

    #[test]
    fn each_bad_field_is_named_with_what_is_wrong() {
        assert_eq!(refusal("ip", json!("origin.example.com")), "ip: not an IP address of a host");
        assert_eq!(refusal("ip", json!("0.0.0.0")), "ip: not an IP address of a host");
        assert_eq!(refusal("ip", json!("224.0.0.1")), "ip: not an IP address of a host");
        assert_eq!(refusal("pid", json!(42583)), "pid: not a string");
        assert_eq!(refusal("device_id", json!([])), "device_id: not a string");
        assert_eq!(refusal("server", json!("x".repeat(129))), "server: longer than 128 bytes");
        assert_eq!(refusal("service", json!("a\nb")), "service: has a control character");
        assert_eq!(refusal("rtmp", json!("1935")), "rtmp: not a list of strings");
        assert_eq!(refusal("http", json!([8080])), "http: not a list of strings");
        assert_eq!(refusal("srt", ["1"; 17][..].into()), "srt: more than 16 endpoints");
        assert_eq!(refusal("rtc", json!(["udp://0.0.0.0"])), "rtc: not an endpoint: the port is missing");
    }

    #[test]
    fn what_is_no_object_is_a_bad_body() {
        for body in ["", "{", "[]", "\"x\"", "null", "{}x", &"[".repeat(100_000)] {
            assert_eq!(Origin::from_json(body.as_bytes()), Err(Problem::NotAnObject.of("body")));
        }
        assert_eq!(Origin::from_json(b"\xff"), Err(Problem::NotAnObject.of("body")));
    }
}
