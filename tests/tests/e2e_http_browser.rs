//! Players of web pages, in Chromium, through the proxy: from a page of another origin, and from the proxy's own.

use srs_proxy_tests::peers::browser::{Played, Player, play};
use srs_proxy_tests::peers::ffmpeg::Publisher;
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::nms::NodeMediaServer;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::ts_origin::TsOrigin;
use srs_proxy_tests::peers::{PATIENCE, http, wait_until};

/// Frames to be decoded: three seconds of the film.
const FRAMES: u64 = 75;

/// Plays without a complaint of the page or the player.
#[track_caller]
fn plays(player: Player, url: &str) {
    let played: Played = play(player, url, FRAMES);
    assert!(played.errors.is_empty() && played.console.is_empty(), "{played:?}");
    assert!(played.audio_bytes > 0 && played.size.0 > 0, "{played:?}");
}

/// A live stream by HLS, at an origin that the proxy knows.
fn hls() -> (Nginx, Proxy, Publisher) {
    let nginx = Nginx::start();
    let proxy = Proxy::with(&[("PROXY_WORKERS", "2")]);
    proxy.register_serving("nginx", "1", nginx.rtmp(), &[("http", nginx.http())]);
    let publisher = Publisher::start(&proxy.url("hls/x"));
    wait_until("there is a playlist with three segments", PATIENCE, || {
        let answer = http::get(proxy.http(), "/hls/x.m3u8").expect("an answer");
        answer.status == 200 && answer.body.text().matches("#EXTINF").count() >= 3
    });
    (nginx, proxy, publisher)
}

/// A live stream by HTTP-FLV.
fn flv() -> (NodeMediaServer, Proxy, Publisher) {
    let server = NodeMediaServer::start();
    let proxy = Proxy::start();
    proxy.register_serving("nms", "1", server.rtmp(), &[("http", server.http())]);
    let mut publisher = Publisher::start(&proxy.url("live/x"));
    publisher.wait_flowing();
    (server, proxy, publisher)
}

#[test]
fn hls_js_plays_from_a_page_of_another_origin() {
    let (_nginx, proxy, _publisher) = hls();
    plays(Player::Hls, &proxy.http_url("hls/x.m3u8"));
}

#[test]
fn mpegts_js_plays_flv_from_a_page_of_another_origin() {
    let (_server, proxy, _publisher) = flv();
    plays(Player::Mpegts, &proxy.http_url("live/x.flv"));
}

#[test]
fn mpegts_js_plays_ts_from_a_page_of_another_origin() {
    let origin = TsOrigin::start();
    let proxy = Proxy::before(origin.http(), &[]);
    plays(Player::Mpegts, &proxy.http_url("live/x.ts"));
}

#[test]
fn the_built_in_page_plays_flv() {
    let (_server, proxy, _publisher) = flv();
    plays(Player::Page, &proxy.http_url("?stream=live/x&type=flv"));
}

#[test]
fn the_built_in_page_plays_hls() {
    let (_nginx, proxy, _publisher) = hls();
    plays(Player::Page, &proxy.http_url("?stream=hls/x&type=hls"));
}
