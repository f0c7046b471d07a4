//! The servers of one proxy: which address, which machine. All are bound before any is served.

use crate::pages;
use crate::settings::Settings;
use srs_proxy_core::flow::Limits;
use srs_proxy_core::http::{Connection, Files, HttpConfig, Server};
use srs_proxy_core::rtc::RtcHub;
use srs_proxy_core::rtmp::RtmpSession;
use srs_proxy_core::srt::SrtHub;
use srs_proxy_runtime_mio::{
    Accepted, BoxMachine, Class, HUB_BUFFER, Listener, NewMachine, bind_tcp, bind_udp,
    keep_networks_together, receive_buffer,
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
    let mut bound = Bound { workers: settings.workers, servers: Vec::new() };
    let rtc = bound.udp("webrtc", "PROXY_WEBRTC_SERVER", &settings.rtc)?;
    // A client's port may change within its session, and the session is at one worker.
    let together = rtc.iter().try_for_each(|sockets| keep_networks_together(sockets));
    let srt = bound.udp("srt", "PROXY_SRT_SERVER", &settings.srt)?;
    let config = Arc::new(HttpConfig {
        pid: std::process::id().to_string(),
        signature: SIGNATURE.into(),
        version: version(),
        token: settings.token.as_ref().map(|token| token.0.clone()),
        origin_timeout: settings.origin_timeout,
        // As it is bound: the system may have chosen it.
        rtc_port: bound.port("webrtc"),
        candidates: settings.candidates.clone(),
        files: match &settings.static_files {
            Some(_) => Files::Directory,
            None => Files::Pages(pages::pages()),
        },
    });
    let http = |server: Server| -> NewMachine {
        let config = Arc::clone(&config);
        Arc::new(move |accepted: Accepted| {
            let Accepted { now, peer, .. } = accepted;
            Box::new(Connection::new(Arc::clone(&config), server, peer, now)) as BoxMachine
        })
    };
    let rtmp: NewMachine =
        Arc::new(|accepted: Accepted| Box::new(RtmpSession::new(accepted.now)) as BoxMachine);
    let mut tcp = |name, class, variable, address, new| bound.tcp(name, class, variable, address, new);
    let mut listeners = vec![
        tcp("rtmp", Class::Session, "PROXY_RTMP_SERVER", settings.rtmp, rtmp)?,
        tcp("http", Class::Session, "PROXY_HTTP_SERVER", settings.http, http(Server::Http))?,
        tcp("http-api", Class::Session, "PROXY_HTTP_API", settings.api, http(Server::HttpApi))?,
        tcp("system-api", Class::Control, "PROXY_SYSTEM_API", settings.system, http(Server::System))?,
    ];
    for (name, address) in &bound.servers {
        log::info!("{name} listens on {address}");
    }
    if let Err(error) = together {
        log::warn!("webrtc: clients that change their port may come to another worker: {error}");
    }
    if let Some(buffer) = rtc.iter().flatten().next().and_then(|socket| receive_buffer(socket).ok())
        && buffer < HUB_BUFFER
    {
        log::info!(
            "webrtc, srt: the system holds {} KiB of what comes at once, of {} KiB asked for (net.core.rmem_max)",
            buffer / 1024,
            HUB_BUFFER / 1024
        );
    }
    let limits = |idle, addresses: &[_]| {
        let mut limits = Limits::new(idle);
        if let Some(sessions) = settings.sessions_per_network {
            limits.max_sessions_per_network = sessions;
        }
        limits.divided_by(settings.workers * addresses.len())
    };
    let (of_rtc, of_srt) = (limits(settings.rtc_timeout, &rtc), limits(settings.srt_timeout, &srt));
    let new_rtc: NewMachine =
        Arc::new(move |hub: Accepted| Box::new(RtcHub::new(of_rtc, hub.key)) as BoxMachine);
    let new_srt: NewMachine =
        Arc::new(move |hub: Accepted| Box::new(SrtHub::new(of_srt, hub.key)) as BoxMachine);
    listeners.extend(rtc.into_iter().map(|sockets| Listener::Udp("webrtc", sockets, Arc::clone(&new_rtc))));
    listeners.extend(srt.into_iter().map(|sockets| Listener::Udp("srt", sockets, Arc::clone(&new_srt))));
    Ok(listeners)
}

/// Servers that are bound, and where.
struct Bound {
    workers: usize,
    servers: Vec<(&'static str, SocketAddr)>,
}

impl Bound {
    /// Each address has sockets of its own, and hubs: what is asked of one is answered from there.
    fn udp(
        &mut self,
        name: &'static str,
        variable: &str,
        addresses: &[SocketAddr],
    ) -> Result<Vec<Vec<UdpSocket>>, String> {
        let mut groups = Vec::new();
        for &address in addresses {
            let cannot_listen = |error: io::Error| format!("{variable}: cannot listen on {address}: {error}");
            let sockets = bind_udp(address, self.workers).map_err(cannot_listen)?;
            let local = sockets.first().map_or(Ok(address), UdpSocket::local_addr).map_err(cannot_listen)?;
            self.servers.push((name, local));
            groups.push(sockets);
        }
        Ok(groups)
    }

    fn tcp(
        &mut self,
        name: &'static str,
        class: Class,
        variable: &str,
        address: SocketAddr,
        new: NewMachine,
    ) -> Result<Listener, String> {
        let cannot_listen = |error: io::Error| format!("{variable}: cannot listen on {address}: {error}");
        let sockets = bind_tcp(address, self.workers).map_err(cannot_listen)?;
        let local = sockets.first().map_or(Ok(address), TcpListener::local_addr).map_err(cannot_listen)?;
        self.servers.push((name, local));
        Ok(Listener::Tcp(name, class, sockets, new))
    }

    fn port(&self, name: &str) -> u16 {
        self.servers.iter().find(|(known, _)| *known == name).map_or(0, |(_, address)| address.port())
    }
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
