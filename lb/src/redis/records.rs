//! What stands in the store, as the Go proxy writes and reads it: registrations, HLS and WebRTC sessions in JSON.
//! Reads whatever is there and asks for nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{HlsSession, RtcSession};
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

/// The names of a registration's fields in the store, where they are not those of the registration API.
const RENAMED: [(&str, &str); 2] = [("server_id", "server"), ("service_id", "service")];

/// Empty fields are left out, as the Go proxy leaves them out.
#[derive(Serialize)]
struct Registration<'a> {
    ip: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    device_id: &'a str,
    server_id: &'a str,
    service_id: &'a str,
    pid: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rtmp: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    api: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    srt: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rtc: Vec<String>,
    update_at: String,
}

#[derive(Serialize, Deserialize)]
struct Hls {
    spbhid: String,
    stream_url: String,
    full_url: String,
}

#[derive(Serialize, Deserialize)]
struct Rtc {
    stream_url: String,
    ufrag: String,
}

/// An origin's registration of this moment.
pub(super) fn registration(origin: &Origin, now: SystemTime) -> String {
    let ip = origin.serves(Protocol::Rtmp).next().map_or(IpAddr::from([127, 0, 0, 1]), |to| to.ip());
    let list = |protocol| origin.serves(protocol).map(|to| endpoint(protocol, to, ip)).collect();
    json(&Registration {
        ip: ip.to_string(),
        device_id: &origin.device_id,
        server_id: &origin.server,
        service_id: &origin.service,
        pid: &origin.pid,
        rtmp: list(Protocol::Rtmp),
        http: list(Protocol::Http),
        api: list(Protocol::Api),
        srt: list(Protocol::Srt),
        rtc: list(Protocol::Rtc),
        update_at: humantime::format_rfc3339_nanos(now).to_string(),
    })
}

/// An endpoint in the form in which SRS registers it: `1935` and `udp://0.0.0.0:8000`, if it is at the origin's `ip`.
fn endpoint(protocol: Protocol, to: SocketAddr, ip: IpAddr) -> String {
    match protocol {
        Protocol::Srt | Protocol::Rtc if to.ip() == ip && ip.is_ipv4() => {
            format!("udp://0.0.0.0:{}", to.port())
        }
        Protocol::Srt | Protocol::Rtc => format!("udp://{to}"),
        _ if to.ip() == ip => to.port().to_string(),
        _ => format!("tcp://{to}"),
    }
}

/// The origin of a registration in the store. `None` if it is none.
pub(super) fn origin(registration: &str) -> Option<Origin> {
    let mut fields: Map<String, Value> = serde_json::from_str(registration).ok()?;
    for (stored, name) in RENAMED {
        let value = fields.remove(stored)?;
        fields.insert(name.to_owned(), value);
    }
    Origin::from_fields(&fields).ok()
}

/// Whose registration this says to be, also if the rest of it cannot be read.
pub(super) fn owner(registration: &str) -> Option<OriginId> {
    let fields: Map<String, Value> = serde_json::from_str(registration).ok()?;
    let text = |name| fields.get(name).and_then(Value::as_str);
    Some(OriginId::new(text("server_id")?, text("service_id")?, text("pid")?))
}

/// An HLS session.
pub(super) fn hls(session: &HlsSession) -> String {
    json(&Hls {
        spbhid: session.spbhid.to_string(),
        stream_url: session.key.to_string(),
        full_url: session.full_url.to_string(),
    })
}

/// The HLS session of this record. `None` if it is none.
pub(super) fn read_hls(record: &str) -> Option<HlsSession> {
    let Hls { spbhid, stream_url, full_url } = serde_json::from_str(record).ok()?;
    Some(HlsSession {
        spbhid: spbhid.into(),
        key: StreamKey::from_text(&stream_url)?,
        full_url: full_url.into(),
    })
}

/// A WebRTC session.
pub(super) fn rtc(session: &RtcSession) -> String {
    json(&Rtc { stream_url: session.key.to_string(), ufrag: session.username.to_string() })
}

/// The WebRTC session of this record. `None` if it is none.
pub(super) fn read_rtc(record: &str) -> Option<RtcSession> {
    let Rtc { stream_url, ufrag } = serde_json::from_str(record).ok()?;
    Some(RtcSession { username: ufrag.into(), key: StreamKey::from_text(&stream_url)?, resource: "".into() })
}

/// A text read as each kind of record, and each of which it is one written again.
#[cfg(any(test, feature = "conformance"))]
pub fn rewrite(text: &str) -> Vec<String> {
    let origin = origin(text).map(|origin| registration(&origin, SystemTime::UNIX_EPOCH));
    let hls = read_hls(text).map(|session| hls(&session));
    let rtc = read_rtc(text).map(|session| rtc(&session));
    [origin, hls, rtc].into_iter().flatten().collect()
}

/// Strings, and lists of strings, always have a form in JSON.
fn json(record: &impl Serialize) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// As the Go proxy wrote it.
    const RECORDED: &str = r#"{"ip":"192.0.2.2","device_id":"origin1","server_id":"vid-8f503b0","service_id":"ib2f72c6","pid":"15486","rtmp":["19351"],"http":["8081"],"api":["19851"],"srt":["udp://0.0.0.0:10081"],"rtc":["udp://0.0.0.0:8001"],"update_at":"2026-11-22T10:34:52.070553836Z"}"#;

    #[test]
    fn a_registration_is_written_as_the_go_proxy_writes_it() {
        let origin = origin(RECORDED).unwrap();
        assert_eq!(origin.id().as_str(), "vid-8f503b0-ib2f72c6-15486");
        let at = UNIX_EPOCH + Duration::new(1_795_343_692, 70_553_836);
        assert_eq!(registration(&origin, at), RECORDED);
    }

    #[test]
    fn what_an_origin_does_not_say_is_left_out() {
        let few = RECORDED
            .replace(r#""device_id":"origin1","#, "")
            .replace(r#""http":["8081"],"api":["19851"],"#, "");
        let at = UNIX_EPOCH + Duration::new(1_795_343_692, 70_553_836);
        assert_eq!(registration(&origin(&few).unwrap(), at), few);
    }

    #[test]
    fn endpoints_elsewhere_keep_their_address() {
        let recorded = RECORDED
            .replace(r#""19351""#, r#""19351","tcp://192.0.2.9:1935","tcp://[2001:db8::1]:1935""#)
            .replace("udp://0.0.0.0:8001", "udp://192.0.2.7:8001");
        let again = registration(&origin(&recorded).unwrap(), SystemTime::now());
        assert_eq!(origin(&again), origin(&recorded));
        assert!(again.contains(r#"["19351","tcp://192.0.2.9:1935","tcp://[2001:db8::1]:1935"]"#), "{again}");
    }

    #[test]
    fn sessions_are_written_as_the_go_proxy_writes_them() {
        let recorded = r#"{"spbhid":"3f2bbba","stream_url":"__defaultVhost__/live/vec","full_url":"http://127.0.0.1/live/vec.m3u8"}"#;
        let session = read_hls(recorded).unwrap();
        assert_eq!((&*session.spbhid, session.key.as_str()), ("3f2bbba", "__defaultVhost__/live/vec"));
        assert_eq!(hls(&session), recorded);
        let recorded = r#"{"stream_url":"__defaultVhost__/live/vec","ufrag":"a:b"}"#;
        assert_eq!(rtc(&read_rtc(recorded).unwrap()), recorded);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for record in ["", "{}", "[]", "null", r#"{"spbhid":"1","stream_url":"x","full_url":""}"#, "\u{0}"] {
            assert_eq!(read_hls(record), None, "{record}");
            assert_eq!(read_rtc(record), None, "{record}");
            assert_eq!((origin(record), owner(record)), (None, None), "{record}");
        }
    }
}
