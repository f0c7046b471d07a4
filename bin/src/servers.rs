//! The servers of one proxy: which address, which machine. All are bound before any is served.

use crate::pages;
use crate::settings::Settings;
use srs_proxy_core::flow::Limits;
use srs_proxy_core::http::{Connection, Files, HttpConfig, Server};
use srs_proxy_core::rtc::RtcHub;
use srs_proxy_core::rtmp::RtmpSession;
use srs_proxy_core::srt::SrtHub;
use srs_proxy_runtime_mio::{
    Accepted, BoxMachine, Class, Listener, NewMachine, bind_tcp, bind_udp, keep_networks_together,
};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// What `/api/v1/versions` calls us.
const SIGNATURE: &str = "srs-proxy";

/// Binds every server's sockets, one for each worker, and logs a line for each.
///
/// # Errors
/// One line that names the variable, the address and what is wrong.
pub(crate) fn bind(settings: &Settings) -> Result<Vec<Listener>, String> {
    let config = Arc::new(HttpConfig {
        pid: std::process::id().to_string(),
        signature: SIGNATURE.into(),
        version: version(),
        token: settings.token.as_ref().map(|token| token.0.clone()),
        origin_timeout: settings.origin_timeout,
        rtc_port: settings.rtc.port(),
        candidates: settings.candidates.clone(),
        files: match &settings.static_files {
            Some(_) => Files::Directory,
            None => Files::Pages(pages::pages()),
        },
    });
    let connection = |server: Server| -> NewMachine {
        let config = Arc::clone(&config);
        Arc::new(move |accepted: Accepted| {
            let Accepted { now, peer, .. } = accepted;
            Box::new(Connection::new(Arc::clone(&config), server, peer, now)) as BoxMachine
        })
    };
    let rtmp: NewMachine =
        Arc::new(|accepted: Accepted| Box::new(RtmpSession::new(accepted.now)) as BoxMachine);
    let servers = [
        ("rtmp", Class::Session, "PROXY_RTMP_SERVER", settings.rtmp, rtmp),
        ("http", Class::Session, "PROXY_HTTP_SERVER", settings.http, connection(Server::Http)),
        ("http-api", Class::Session, "PROXY_HTTP_API", settings.api, connection(Server::HttpApi)),
        ("system-api", Class::Control, "PROXY_SYSTEM_API", settings.system, connection(Server::System)),
    ];
    let rtc = Limits::new(settings.rtc_timeout);
    let rtc: NewMachine = Arc::new(move |hub: Accepted| Box::new(RtcHub::new(rtc, hub.key)) as BoxMachine);
    let srt = Limits::new(settings.srt_timeout);
    let srt: NewMachine = Arc::new(move |hub: Accepted| Box::new(SrtHub::new(srt, hub.key)) as BoxMachine);
    let hubs = [
        ("webrtc", "PROXY_WEBRTC_SERVER", settings.rtc, rtc),
        ("srt", "PROXY_SRT_SERVER", settings.srt, srt),
    ];
    let (mut bound, mut listeners) = (Vec::new(), Vec::new());
    for (name, variable, address, new) in hubs {
        let sockets =
            bind_udp(address, settings.workers).map_err(|error| cannot_listen(variable, address, &error))?;
        // A WebRTC client's port may change within its session, and the session is at one worker.
        if variable == "PROXY_WEBRTC_SERVER"
            && let Err(error) = keep_networks_together(&sockets)
        {
            log::warn!("{variable}: clients that change their port may come to another worker: {error}");
        }
        bound.extend(sockets.first().map(UdpSocket::local_addr).map(|address| (name, address)));
        listeners.push(Listener::Udp(name, sockets, new));
    }
    for (name, class, variable, address, new) in servers {
        let sockets =
            bind_tcp(address, settings.workers).map_err(|error| cannot_listen(variable, address, &error))?;
        bound.extend(sockets.first().map(TcpListener::local_addr).map(|address| (name, address)));
        listeners.push(Listener::Tcp(name, class, sockets, new));
    }
    for (name, address) in bound {
        let address = address.map_err(|error| format!("{name}: {error}"))?;
        log::info!("{name} listens on {address}");
    }
    Ok(listeners)
}

fn cannot_listen(variable: &str, address: SocketAddr, error: &io::Error) -> String {
    format!("{variable}: cannot listen on {address}: {error}")
}

/// Major, minor, revision of this build.
fn version() -> [u32; 3] {
    let part = |text: &str| text.parse().unwrap_or_default();
    [
        part(env!("CARGO_PKG_VERSION_MAJOR")),
        part(env!("CARGO_PKG_VERSION_MINOR")),
        part(env!("CARGO_PKG_VERSION_PATCH")),
    ]
}
