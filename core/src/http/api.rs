//! The proxy's own API: what a call to one of its resources is answered. Knows the load balancer by its questions only;
//! reads no head and owns no connection.

use super::connection::{Client, HttpConfig};
use super::head::Head;
use super::response::{Response, Status};
use super::routes::{Resource, Server};
use crate::machine::Fault;
use crate::origin::{Origin, Protocol};
use crate::query::{Answer, Health, OriginStatus, Query, Refusal};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use serde::Serialize;
use subtle::ConstantTimeEq;

/// A call, of which the head was read.
#[derive(Clone, Debug)]
pub(super) struct Call {
    verdict: Verdict,
    resource: Option<Resource>,
}

/// What becomes of a call, told by its head.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Serve,
    /// `DELETE`
    TakeBack,
    /// `OPTIONS`
    Describe,
    Refuse(Status, &'static str),
}

/// What a call leads to.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// The response, and who is to blame if it is a refusal that should be seen.
    Response(Bytes, Option<Fault>),
    /// The load balancer knows.
    Ask(Query),
}

impl Call {
    /// The call that a request is, if it is for `server`'s own API.
    pub(super) fn of(config: &HttpConfig, server: Server, head: &Head<'_>) -> Option<Self> {
        let resource = Resource::find(server, head.path());
        let verdict = match &resource {
            // What is not here may be an origin's, or a file.
            None if server != Server::System => return None,
            None if head.method == "OPTIONS" && head.path() == "*" => Verdict::Describe,
            None => Verdict::Refuse(Status::NOT_FOUND, "no such resource"),
            Some(resource) if !resource.allows(head.method) => {
                Verdict::Refuse(Status::METHOD_NOT_ALLOWED, "method not allowed")
            }
            Some(_) if head.method == "OPTIONS" => Verdict::Describe,
            Some(resource) if !resource.is_shared() && is_of_another_site(head) => {
                Verdict::Refuse(Status::FORBIDDEN, "pages of other sites may not change anything")
            }
            Some(resource) if resource.is_guarded() && !admits(config, head) => {
                Verdict::Refuse(Status::UNAUTHORIZED, "missing or wrong bearer token")
            }
            Some(_) if head.method == "DELETE" => Verdict::TakeBack,
            Some(_) => Verdict::Serve,
        };
        Some(Self { verdict, resource })
    }

    /// Whether it is refused, whatever its body.
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self.verdict, Verdict::Refuse(..))
    }

    /// Serves the call with this body.
    pub(super) fn run(&self, client: &Client, body: &[u8]) -> Reply {
        let is_asked = match self.verdict {
            Verdict::Refuse(status, message) => return self.refuse(client, status, message),
            Verdict::Describe => return Reply::Response(self.describe(client), None),
            Verdict::Serve => true,
            Verdict::TakeBack => false,
        };
        match &self.resource {
            Some(Resource::Versions) => self.json(client, &versions(client)),
            Some(Resource::Origins) => Reply::Ask(Query::Origins),
            Some(Resource::Register) => match Origin::from_json(body) {
                Ok(origin) => Reply::Ask(Query::Register(origin)),
                Err(why) => {
                    let body = problem(Status::BAD_REQUEST, &why.to_string());
                    let response = self.response(client, Status::BAD_REQUEST).body(JSON, &body);
                    Reply::Response(response, Some(Fault::Client("bad registration")))
                }
            },
            Some(Resource::Drain(id)) => Reply::Ask(Query::Drain { origin: id.clone(), on: is_asked }),
            Some(Resource::Origin(id)) => Reply::Ask(Query::Deregister(id.clone())),
            None => self.refuse(client, Status::NOT_FOUND, "no such resource"),
        }
    }

    /// The load balancer has answered.
    pub(super) fn answered(&self, client: &Client, answer: Answer) -> Reply {
        let pid = client.config.pid.clone();
        match (answer, &self.resource) {
            (Answer::Registered, Some(Resource::Register))
            | (Answer::Known(true), Some(Resource::Drain(_) | Resource::Origin(_))) => {
                self.json(client, &Done { code: 0, pid })
            }
            (Answer::Known(false), Some(Resource::Drain(_) | Resource::Origin(_))) => {
                self.refuse(client, Status::NOT_FOUND, "no such origin")
            }
            (Answer::Origins(origins), Some(Resource::Origins)) => {
                let data = Origins { origins: origins.iter().map(OriginItem::new).collect() };
                self.json(client, &OriginList { code: 0, pid, data })
            }
            (Answer::Refused(Refusal::Full), _) => self.unavailable(client, "load balancer is full"),
            _ => self.unavailable(client, "load balancer is not available"),
        }
    }

    /// The load balancer has not answered in time.
    pub(super) fn unanswered(&self, client: &Client) -> Reply {
        self.unavailable(client, "load balancer did not answer in time")
    }

    fn unavailable(&self, client: &Client, message: &'static str) -> Reply {
        let response =
            self.response(client, Status::UNAVAILABLE).body(JSON, &problem(Status::UNAVAILABLE, message));
        Reply::Response(response, Some(Fault::Balancer(message)))
    }

    fn refuse(&self, client: &Client, status: Status, message: &'static str) -> Reply {
        let mut response = self.response(client, status);
        let mut fault = None;
        match (status, &self.resource) {
            (Status::UNAUTHORIZED, _) => {
                fault = Some(Fault::Client(message));
                response = response.field("WWW-Authenticate", "Bearer");
            }
            (Status::METHOD_NOT_ALLOWED, Some(resource)) => {
                response = response.field("Allow", resource.methods())
            }
            _ => {}
        }
        Reply::Response(response.body(JSON, &problem(status, message)), fault)
    }

    fn describe(&self, client: &Client) -> Bytes {
        let methods = self.resource.as_ref().map_or("GET, HEAD, POST, DELETE, OPTIONS", Resource::methods);
        let mut response = self.response(client, Status::NO_CONTENT).field("Allow", methods);
        if self.resource.as_ref().is_some_and(Resource::is_shared) {
            response = response
                .field("Access-Control-Allow-Methods", methods)
                .field("Access-Control-Allow-Headers", "Authorization, Content-Type")
                .field("Access-Control-Max-Age", 600);
        }
        response.empty()
    }

    fn json(&self, client: &Client, value: &impl Serialize) -> Reply {
        Reply::Response(self.response(client, Status::OK).body(JSON, &json(value)), None)
    }

    fn response(&self, client: &Client, status: Status) -> Response {
        let response = client.response(status);
        match &self.resource {
            Some(resource) if resource.is_shared() => response.for_all_pages(),
            _ => response,
        }
    }
}

/// Whether the request may use what is guarded. Takes the same time for every wrong token of a length.
fn admits(config: &HttpConfig, head: &Head<'_>) -> bool {
    let Some(token) = &config.token else { return true };
    head.bearer().is_some_and(|given| given.ct_eq(token.as_bytes()).into())
}

/// Whether a page of another site asks (RFC 6454 §7). A browser sends a simple `POST` for any page without asking first,
/// also from within the network that keeps strangers away from this API. Programs send no such field.
fn is_of_another_site(head: &Head<'_>) -> bool {
    let is_here = |origin: &[u8]| {
        let origin = core::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"));
        origin.zip(head.host()).is_some_and(|((_, authority), host)| authority.eq_ignore_ascii_case(host))
    };
    !head.values("origin").all(is_here)
}

fn versions(client: &Client) -> Versions {
    let HttpConfig { signature, pid, version: [major, minor, revision], .. } = &*client.config;
    let version = client.config.version_text();
    match client.server {
        Server::System | Server::HttpApi => Versions::Short { signature: signature.clone(), version },
        Server::Http => {
            let data = VersionData { major: *major, minor: *minor, revision: *revision, version };
            Versions::Long { code: 0, pid: pid.clone(), data }
        }
    }
}

/// Says what is wrong, as the body of a response.
pub(super) fn problem(status: Status, message: &str) -> Vec<u8> {
    json(&Problem { code: status.0, message })
}

const JSON: &str = "application/json";

fn json(value: &impl Serialize) -> Vec<u8> {
    // No map here has keys other than strings, and nothing else can fail in memory.
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Serialize)]
struct Problem<'a> {
    code: u16,
    message: &'a str,
}

#[derive(Serialize)]
struct Done {
    code: u16,
    pid: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Versions {
    Short { signature: String, version: String },
    Long { code: u16, pid: String, data: VersionData },
}

#[derive(Serialize)]
struct VersionData {
    major: u32,
    minor: u32,
    revision: u32,
    version: String,
}

#[derive(Serialize)]
struct OriginList<'a> {
    code: u16,
    pid: String,
    data: Origins<'a>,
}

#[derive(Serialize)]
struct Origins<'a> {
    origins: Vec<OriginItem<'a>>,
}

#[derive(Serialize)]
struct OriginItem<'a> {
    id: String,
    device_id: &'a str,
    server: &'a str,
    service: &'a str,
    pid: &'a str,
    health: &'static str,
    heartbeat_age_ms: u64,
    endpoints: BTreeMap<&'static str, Vec<String>>,
    streams: Vec<&'a str>,
}

impl<'a> OriginItem<'a> {
    fn new(status: &'a OriginStatus) -> Self {
        let origin = &status.origin;
        let list = |protocol| origin.serves(protocol).map(|address| address.to_string()).collect::<Vec<_>>();
        let lists = Protocol::ALL.into_iter().map(|protocol| (protocol.as_str(), list(protocol)));
        Self {
            id: origin.id().to_string(),
            device_id: &origin.device_id,
            server: &origin.server,
            service: &origin.service,
            pid: &origin.pid,
            health: match status.health {
                Health::Alive => "alive",
                Health::Draining => "draining",
                Health::Quarantined => "quarantined",
                Health::Dead => "dead",
            },
            heartbeat_age_ms: status.heartbeat_age / 1000,
            endpoints: lists.filter(|(_, list)| !list.is_empty()).collect(),
            streams: status.streams.iter().map(crate::key::StreamKey::as_str).collect(),
        }
    }
}
