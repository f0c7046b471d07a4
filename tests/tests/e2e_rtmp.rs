//! Real publishers and players through the proxy, against real origins: nothing is changed on the way.

use srs_proxy_tests::peers::film::film;
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::nms::NodeMediaServer;
use srs_proxy_tests::peers::packets::compare;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use std::net::SocketAddr;

/// Packets a player takes: some seconds of the film, key frames larger than any chunk among them.
const PACKETS: usize = 300;

/// How many of them must be shared by two players that start at nearly the same time.
const SHARED: usize = 150;

/// Publishes through the proxy, then compares three views of the stream packet by packet: the film itself,
/// the origin's own player, and a player through the proxy.
fn the_film_passes_unchanged(rtmp: SocketAddr) {
    let proxy = Proxy::start();
    proxy.register("origin", "1", rtmp);
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x?token=t"));

    let direct = ffmpeg::PacketPlayer::start(&format!("rtmp://{rtmp}/live/x"), PACKETS);
    let proxied = ffmpeg::packets(&proxy.url("live/x"), PACKETS);
    let direct = direct.finish();
    let played = compare(&direct, &proxied).expect("the origin's packets through the proxy");
    assert!(played.packets >= SHARED, "only {played:?} to compare");
    assert_eq!(played.shift, 0, "timestamps are the origin's own");

    let film = ffmpeg::file_packets(&film());
    let published = compare(&film, &direct).expect("the film's packets at the origin");
    assert!(published.packets >= PACKETS - 2, "only {published:?} to compare");
    drop(publisher);
}

#[test]
fn a_stream_through_nginx_is_unchanged_at_its_usual_chunk_size() {
    let origin = Nginx::start();
    the_film_passes_unchanged(origin.rtmp());
}

#[test]
fn a_stream_through_nginx_is_unchanged_at_the_smallest_usual_chunk_size() {
    let origin = Nginx::with_chunk_size(128);
    the_film_passes_unchanged(origin.rtmp());
}

#[test]
fn a_stream_through_nginx_is_unchanged_at_a_large_chunk_size() {
    let origin = Nginx::with_chunk_size(60_000);
    the_film_passes_unchanged(origin.rtmp());
}

#[test]
fn a_stream_through_node_media_server_is_unchanged() {
    let origin = NodeMediaServer::start();
    the_film_passes_unchanged(origin.rtmp());
}

#[test]
fn ffmpeg_decodes_through_the_proxy_without_an_error() {
    let origin = NodeMediaServer::start();
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x?token=t"));
    assert_eq!(ffmpeg::codecs(&proxy.url("live/x")), ["aac", "h264"]);
    let ended = ffmpeg::decode_for(&proxy.url("live/x"), 3, PATIENCE).success();
    assert_eq!(ended.stderr, "");
    assert!(ffmpeg::frames(&ended.stdout) >= 50, "{}", ended.stdout);
    drop(publisher);
}

#[test]
fn an_origins_hook_sees_the_clients_own_query() {
    let origin = Nginx::start();
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let publisher = ffmpeg::Publisher::start(&proxy.url("guarded/x?token=t&user=a%26b"));
    wait_until("the origin has the stream", PATIENCE, || origin.has_publisher("x"));
    let calls = origin.hook_calls();
    for part in ["call=publish", "name=x", "token=t", "user=a%26b", "flashver=FMLE"] {
        assert!(calls[0].contains(part), "{part} in {calls:?}");
    }
    let tc_url = format!("tcurl={}&", proxy.url("guarded"));
    assert!(calls[0].contains(&tc_url), "{tc_url} in {calls:?}");
    drop(publisher);
    wait_until("the origin has lost the stream", PATIENCE, || !origin.has_publisher("x"));
}

#[test]
fn an_origins_refusal_ends_the_publisher_and_the_player() {
    let origin = Nginx::start();
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let publisher = ffmpeg::Publisher::try_start(&proxy.url("guarded/x?token=wrong")).wait_end(PATIENCE);
    assert!(!publisher.status.success(), "{}", publisher.stderr);
    let player = ffmpeg::decode_for(&proxy.url("guarded/x?token=wrong"), 1, PATIENCE);
    assert!(!player.status.success(), "{}", player.stderr);
    assert_eq!(origin.streams(), []);
}
