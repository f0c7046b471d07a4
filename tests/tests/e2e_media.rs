//! Scripted media through the proxy, message by message: what ordinary programs rarely send.

use srs_proxy_tests::peers::PATIENCE;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::session::Session;
use srs_proxy_tests::rtmp::command::control::set_chunk_size;
use srs_proxy_tests::rtmp::{ChunkSizeAt, ClientScript, Message, OriginScript, kind};

/// Chunk sizes in use: the protocol's default, nginx' and SRS' own, and more than any message here.
const CHUNK_SIZES: [u32; 4] = [128, 4096, 60_000, 1_000_000];

/// Chunk sizes that a side changes to in the middle of a stream.
const CHANGES: [u32; 5] = [1000, 1, 65_536, 128, 0x7FFF_FFFF];

/// Media of `count` messages: audio, video and data of sizes from nothing to more than a chunk, with timestamps
/// that grow unevenly, go back, and pass the 24 bits after which they are written differently.
fn film(count: u32, stream_id: u32) -> Vec<Message> {
    let sizes = [0, 1, 127, 128, 129, 4095, 4096, 4097, 60_001, 100_000, 10];
    let message = |n: u32| {
        let type_id = [kind::VIDEO, kind::AUDIO, kind::VIDEO, kind::DATA][n as usize % 4];
        let size = sizes[n as usize % sizes.len()];
        let payload: Vec<u8> = (0..size).map(|at: u32| (at.wrapping_mul(31) ^ n) as u8).collect();
        let timestamp = 0x00FF_FFF0 + n * 7 - (n % 3) * 5;
        Message { csid: 4 + u32::from(type_id), timestamp, type_id, stream_id, payload: payload.into() }
    };
    (0..count).map(message).collect()
}

/// What must not change: type, timestamp, payload.
fn essence<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<(u8, u32, &'a [u8])> {
    messages.into_iter().map(|message| (message.type_id, message.timestamp, &message.payload[..])).collect()
}

/// The messages with a new chunk size announced now and then.
fn with_changes(film: &[Message]) -> Vec<Message> {
    let mut changes = CHANGES.iter().cycle();
    let mut messages = Vec::new();
    for part in film.chunks(7) {
        messages.extend_from_slice(part);
        messages.extend(changes.next().map(|size| set_chunk_size(*size)));
    }
    messages
}

#[track_caller]
fn assert_published(client_chunk: u32, origin_chunk: u32, messages: &[Message]) {
    let script = OriginScript { chunk_size: origin_chunk, stream_id: 7, ..OriginScript::default() };
    let origin = Recorder::start(Behaviour::Answer(script));
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let chunk_size = Some((client_chunk, ChunkSizeAt::Start));
    let mut client =
        Session::start(proxy.rtmp(), ClientScript { chunk_size, ..ClientScript::publish("live", "x") });
    client.wait_started(PATIENCE);
    let stream_id = client.client().stream_id();
    let ours = |message: &Message| message.type_id >= kind::AUDIO;
    for message in messages {
        let stream_id = if ours(message) { stream_id } else { 0 };
        client.client().send(&Message { stream_id, ..message.clone() });
    }
    client.wait("all is sent", PATIENCE, |client| client.is_flushed());
    let sent: Vec<_> = messages.iter().filter(|message| ours(message)).collect();
    let record =
        origin.wait_record("all has arrived", PATIENCE, |record| record.media().count() >= sent.len());
    let what = format!("client chunks of {client_chunk}, origin's of {origin_chunk}");
    assert!(essence(record.media()) == essence(sent), "{what}");
    assert!(record.media().all(|message| message.stream_id == 7), "{what}: the origin's own stream id");
    assert_eq!(record.fault, None, "{what}");
}

#[track_caller]
fn assert_played(origin_chunk: u32, messages: Vec<Message>) {
    let sent: Vec<_> = messages.iter().filter(|message| message.type_id >= kind::AUDIO).cloned().collect();
    let script = OriginScript { chunk_size: origin_chunk, stream_id: 7, ..OriginScript::default() };
    let origin = Recorder::start(Behaviour::Play(script, messages));
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let mut client = Session::start(proxy.rtmp(), ClientScript::play("live", "x"));
    client.wait("all has arrived", PATIENCE, |client| client.messages().count() >= sent.len());
    let what = format!("origin's chunks of {origin_chunk}");
    assert!(essence(client.messages()) == essence(&sent), "{what}");
    let stream_id = client.client().stream_id();
    assert!(
        client.messages().all(|message| message.stream_id == stream_id),
        "{what}: the client's own stream id"
    );
}

#[test]
fn what_is_published_arrives_at_every_pair_of_chunk_sizes() {
    for client in CHUNK_SIZES {
        for origin in CHUNK_SIZES {
            assert_published(client, origin, &film(60, 0));
        }
    }
}

#[test]
fn what_is_played_arrives_at_every_chunk_size() {
    for origin in CHUNK_SIZES {
        assert_played(origin, film(60, 7));
    }
}

#[test]
fn a_publisher_may_change_its_chunk_size_at_any_time() {
    assert_published(4096, 60_000, &with_changes(&film(60, 0)));
}

#[test]
fn an_origin_may_change_its_chunk_size_at_any_time() {
    assert_played(4096, with_changes(&film(60, 7)));
}

#[test]
fn what_a_publisher_sent_last_is_delivered_before_the_origin_is_left() {
    let origin = Recorder::start(Behaviour::Answer(OriginScript::default()));
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    let mut client = Session::start(proxy.rtmp(), ClientScript::publish("live", "x"));
    client.wait_started(PATIENCE);
    let sent = film(60, client.client().stream_id());
    sent.iter().for_each(|message| client.client().send(message));
    client.client().leave();
    client.wait("all is sent", PATIENCE, |client| client.is_flushed());
    drop(client);
    let record = origin.wait_record("the end", PATIENCE, |record| record.ended);
    assert!(essence(record.media()) == essence(&sent));
    assert!(record.command("FCUnpublish").is_some() && record.command("deleteStream").is_some());
    assert_eq!(record.fault, None);
}
