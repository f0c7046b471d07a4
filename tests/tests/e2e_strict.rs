//! Players and publishers that are less forgiving than ffmpeg, through the proxy to a real origin.

use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::process::{Process, command, run};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use std::fs;
use std::path::Path;

/// A recording of some seconds is longer than this, bytes: more than two key frames.
const ENOUGH: u64 = 300_000;

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Publishes with GStreamer's rtmp2sink, which checks message stream ids and sends its own chunk size.
fn gst_publish(url: &str) -> Process {
    let mut publish = command("gst-launch-1.0");
    publish
        .args([
            "-q",
            "videotestsrc",
            "is-live=true",
            "!",
            "video/x-raw,width=320,height=180,framerate=25/1",
            "!",
        ])
        .args(["x264enc", "speed-preset=ultrafast", "tune=zerolatency", "key-int-max=25", "bitrate=800", "!"])
        .args(["h264parse", "!", "flvmux", "name=mux", "streamable=true", "!", "rtmp2sink"])
        .arg(format!("location={url}"))
        .args(["audiotestsrc", "is-live=true", "!", "avenc_aac", "!", "aacparse", "!", "mux."]);
    Process::start("rtmp2sink", &mut publish)
}

/// Plays with GStreamer's rtmp2src, which drops messages of a stream id that is not its own.
fn gst_play(url: &str, to: &Path) {
    let mut play = command("gst-launch-1.0");
    play.args(["-q", "-e", "rtmp2src", "num-buffers=200"])
        .arg(format!("location={url}"))
        .args(["!", "filesink", "buffer-mode=2"])
        .arg(format!("location={}", to.display()));
    run("rtmp2src", &mut play, PATIENCE).success();
}

#[test]
fn gstreamer_publishes_and_plays() {
    let origin = Nginx::start();
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let dir = TempDir::new("gst");
    let publisher = gst_publish(&proxy.url("live/gst"));
    wait_until("the origin has the stream", PATIENCE, || origin.has_publisher("gst"));
    let film = dir.path().join("gst.flv");
    gst_play(&proxy.url("live/gst"), &film);
    let packets = ffmpeg::file_packets(&film);
    for kind in ["audio", "video"] {
        assert!(packets.iter().any(|packet| packet.kind == kind), "{kind} in {} packets", packets.len());
    }
    assert_eq!(ffmpeg::codecs(&proxy.url("live/gst")), ["aac", "h264"]);
    drop(publisher);
}

#[test]
fn gstreamer_plays_what_ffmpeg_publishes() {
    let origin = Nginx::start();
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let dir = TempDir::new("gst");
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    let film = dir.path().join("x.flv");
    gst_play(&proxy.url("live/x"), &film);
    assert!(ffmpeg::file_packets(&film).len() > 100);
    drop(publisher);
}

#[test]
fn rtmpdump_plays() {
    let origin = Nginx::start();
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let dir = TempDir::new("rtmpdump");
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    let film = dir.path().join("x.flv");
    let mut dump = command("rtmpdump");
    dump.args(["-q", "--live", "-r", &proxy.url("live/x"), "-o"]).arg(&film);
    let player = Process::start("rtmpdump", &mut dump);
    wait_until("rtmpdump has received some seconds", PATIENCE, || size(&film) > ENOUGH);
    drop(player);
    assert!(ffmpeg::file_packets(&film).len() > 20);
    drop(publisher);
}
