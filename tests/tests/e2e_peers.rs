//! The harness itself, with no proxy between: what it measures through the proxy must hold without it.

use srs_proxy_tests::peers::film::film;
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::nms::NodeMediaServer;
use srs_proxy_tests::peers::packets::compare;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::session::Session;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use srs_proxy_tests::rtmp::{ClientScript, OriginScript, Refuse, kind};
use std::net::SocketAddr;

/// Packets a player takes: some seconds of the film.
const PACKETS: usize = 300;

/// How many of them must be shared by two players that start at nearly the same time.
const SHARED: usize = 150;

fn two_players_receive_the_film(rtmp: SocketAddr) {
    let url = format!("rtmp://{rtmp}/live/film");
    let publisher = ffmpeg::Publisher::start(&url);
    let first = ffmpeg::PacketPlayer::start(&url, PACKETS);
    let second = ffmpeg::packets(&url, PACKETS);
    let first = first.finish();
    assert!(compare(&first, &second).expect("the same packets").packets >= SHARED);
    let film = ffmpeg::file_packets(&film());
    assert!(compare(&film, &second).expect("the film's packets").packets >= PACKETS - 2);
    drop(publisher);
}

#[test]
fn nginx_serves_the_film_unchanged() {
    let origin = Nginx::start();
    two_players_receive_the_film(origin.rtmp());
}

#[test]
fn node_media_server_serves_the_film_unchanged() {
    let origin = NodeMediaServer::start();
    two_players_receive_the_film(origin.rtmp());
}

#[test]
fn nginx_tells_who_publishes_and_asks_its_hook() {
    let origin = Nginx::start();
    assert_eq!(origin.streams(), []);
    let publisher = ffmpeg::Publisher::start(&format!("rtmp://{}/guarded/x?token=t", origin.rtmp()));
    wait_until("the stream is listed", PATIENCE, || origin.has_publisher("x"));
    let calls = origin.hook_calls();
    assert!(calls[0].contains("call=publish") && calls[0].contains("token=t"), "{calls:?}");
    drop(publisher);
    wait_until("the stream is gone", PATIENCE, || !origin.has_publisher("x"));
    let refused = ffmpeg::Publisher::try_start(&format!("rtmp://{}/guarded/x?token=wrong", origin.rtmp()))
        .wait_end(PATIENCE);
    assert!(!refused.status.success());
}

#[test]
fn a_killed_origin_is_gone_at_once() {
    let mut origin = Nginx::start();
    let publisher = ffmpeg::Publisher::start(&format!("rtmp://{}/live/x", origin.rtmp()));
    origin.kill();
    assert!(!publisher.wait_end(PATIENCE).status.success());
}

#[test]
fn scripted_clients_publish_to_and_play_from_nginx() {
    let origin = Nginx::start();
    let mut publisher = Session::start(origin.rtmp(), ClientScript::publish("live", "x?token=t"));
    publisher.wait_started(PATIENCE);
    wait_until("the stream is listed", PATIENCE, || origin.has_publisher("x"));
    let mut player = Session::start(origin.rtmp(), ClientScript::play("live", "x"));
    player.wait_started(PATIENCE);
    // A key frame of a codec that needs no header before.
    let frame = &b"\x12 a key frame"[..];
    publisher.client().send_media(kind::VIDEO, 40, frame);
    publisher.turn();
    player.wait("the frame has come", PATIENCE, |player| {
        player.messages().any(|message| (message.timestamp, &message.payload[..]) == (40, frame))
    });
    origin.stream("x").filter(|stream| stream.clients == 2).expect("publisher and player are listed");
}

#[test]
fn the_recorder_writes_down_refuses_and_keeps_silent() {
    let answering = Recorder::start(Behaviour::Answer(OriginScript::default()));
    let mut publisher = Session::start(answering.rtmp(), ClientScript::publish("live", "x?token=t"));
    publisher.wait_started(PATIENCE);
    let record = answering.wait_record("the stream", PATIENCE, |record| record.stream() == Some("x?token=t"));
    assert!(record.command("connect").is_some() && record.command("play").is_none());
    drop(publisher);
    answering.wait_record("the end", PATIENCE, |record| record.ended);

    let refuse = Refuse::Play("NetStream.Play.Failed".into(), "not today".into());
    let script = OriginScript { refuse: Some(refuse), ..OriginScript::default() };
    let refusing = Recorder::start(Behaviour::Answer(script));
    let mut player = Session::start(refusing.rtmp(), ClientScript::play("live", "x"));
    player.wait("the refusal", PATIENCE, |player| {
        player.refusal() == Some(("NetStream.Play.Failed", "not today"))
    });

    let mute = Recorder::start(Behaviour::Mute);
    let mut player = Session::start(mute.rtmp(), ClientScript::play("live", "x"));
    mute.wait_record("a connection", PATIENCE, |record| !record.ended);
    player.turn();
    assert_eq!((player.received(), player.ended()), (0, None));
}
