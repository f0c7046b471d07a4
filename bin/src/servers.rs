//! The servers of one proxy: which address, which machine. All are bound before any is served.

use crate::pages;
use crate::settings::Settings;
use srs_proxy_core::http::{Connection, Files, HttpConfig, Server};
use srs_proxy_core::rtc::{RtcConfig, RtcHub};
use srs_proxy_core::rtmp::RtmpSession;
use srs_proxy_runtime_mio::{Accepted, BoxMachine, Class, Listener, NewMachine, bind_tcp, bind_udp};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// What `/api/v1/versions` calls us.
const SIGNATURE: &str = "srs-proxy";

/// All sockets of the process.
pub(crate) struct Bound {
    /// Of the servers that run.
    pub(crate) listeners: Vec<Listener>,
    /// Of those that do not yet; nobody else shall have them.
    pub(crate) reserved: Vec<UdpSocket>,
}

/// Binds every server's sockets, one for each worker, and logs a line for each.
///
/// # Errors
/// One line that names the variable, the address and what is wrong.
pub(crate) fn bind(settings: &Settings) -> Result<Bound, String> {
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
            let Accepted { now, peer } = accepted;
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
    // SRT is not served yet. That its port is free is seen now, not on the day it is.
    let reserved = udp("PROXY_SRT_SERVER", settings.srt, 1)?;
    let rtc = RtcConfig { idle: settings.rtc_timeout, ..RtcConfig::default() };
    let hub: NewMachine = Arc::new(move |_: Accepted| Box::new(RtcHub::new(rtc)) as BoxMachine);
    let sockets = udp("PROXY_WEBRTC_SERVER", settings.rtc, settings.workers)?;
    let mut bound = Vec::new();
    bound.extend(sockets.first().map(UdpSocket::local_addr).map(|address| ("webrtc", address)));
    let mut listeners = vec![Listener::Udp("webrtc", sockets, hub)];
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
    Ok(Bound { listeners, reserved })
}

fn udp(variable: &str, address: SocketAddr, count: usize) -> Result<Vec<UdpSocket>, String> {
    bind_udp(address, count).map_err(|error| cannot_listen(variable, address, &error))
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
