//! Properties of the RTMP machine and its parts: however bytes are split they mean the same, what is written can be read,
//! and the proxy's reader agrees with an independent one. Sessions of real clients and servers are replayed.

use proptest::prelude::*;
use srs_proxy_core::amf0::{Decoder, Encoder};
use srs_proxy_core::machine::{Action, Leg, Machine};
use srs_proxy_core::rtmp::RtmpSession;
use srs_proxy_core::rtmp::chunk::ChunkWriter;
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::fuzz::{self, ORIGIN, Outcome, Split, dechunk, plain, read_chunks, rtmp};
use srs_proxy_tests::rtmp::amf0::{self, Value};
use srs_proxy_tests::rtmp::{Command, Message, kind};
use srs_proxy_tests::sim::rtmp::{Leave, random_messages};
use srs_proxy_tests::sim::scene::Scene;
use srs_proxy_tests::sim::{Dice, Straight, seeds};
use std::fmt::Debug;

// Sessions.

#[track_caller]
fn assert_same(a: &Outcome, b: &Outcome, what: impl Debug) {
    // Not `assert_eq`: nobody reads a megabyte of numbers.
    assert!(a.client == b.client, "{what:?}: the client gets other bytes");
    assert!(a.origin == b.origin, "{what:?}: the origin gets other bytes");
    assert_eq!(a.over, b.over, "{what:?}");
    assert_eq!(a.deeds, b.deeds, "{what:?}");
}

#[test]
fn however_the_bytes_are_split_they_mean_the_same() {
    seeds::run("rtmp_splits", 60, |seed| {
        let mut dice = Dice::new(seed);
        let mut scene = Scene::new(&mut dice, seed % 2 == 0);
        scene.be_in_time();
        scene.client.1.leave = if seed % 3 == 0 { Leave::Politely } else { Leave::Never };
        scene.origins[0].2.leave = if seed % 3 == 0 { Leave::Never } else { Leave::Close };
        let played = scene.play(seed, Duration::from_secs(1200));
        let received: Vec<_> = played.world.received().collect();
        let &[(Leg::CLIENT, client), (_, origin)] = &received[..] else {
            return assert!(received.len() == 1, "one client, one origin");
        };
        let whole = rtmp(client, origin, Split::Whole, seed % 3 == 0);
        let mut splits = vec![Split::Every(1), Split::Every(7), Split::Every(1500)];
        splits.extend((0..5).map(|n| Split::Random(seed * 100 + n)));
        for split in splits {
            assert_same(&rtmp(client, origin, split, seed % 3 == 0), &whole, split);
        }
    });
}

// Recorded sessions.

/// C0, C1 and C2; S0, S1 and S2.
const HANDSHAKE: usize = 1 + 2 * 1536;

struct Recorded {
    name: &'static str,
    client: Vec<u8>,
    server: Vec<u8>,
}

fn recorded() -> impl Iterator<Item = Recorded> {
    let names = [
        "rtmp-publish-ffmpeg",
        "rtmp-publish-librtmp",
        "rtmp-publish-gst-rtmp2",
        "rtmp-play-ffmpeg",
        "rtmp-play-librtmp",
    ];
    let read = |name: &str, side| {
        let path = format!("{}/fixtures/rtmp/{name}.{side}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    names.into_iter().map(move |name| Recorded {
        name,
        client: read(name, "client"),
        server: read(name, "server"),
    })
}

fn dechunked(bytes: &[u8]) -> Vec<Message> {
    dechunk(bytes).expect("a chunk stream")
}

/// Everything above protocol control, as commands by name and messages by content.
fn heard(messages: &[Message]) -> (Vec<Command>, Vec<Message>) {
    let (mut commands, mut others) = (Vec::new(), Vec::new());
    for message in messages.iter().filter(|message| message.type_id >= kind::AUDIO) {
        match Command::decode(message).expect("a command") {
            Some(command) => commands.push(command),
            None => others.push(message.clone()),
        }
    }
    (commands, others)
}

#[test]
fn sessions_of_real_clients_go_through() {
    for Recorded { name, client, server } in recorded() {
        let (client, server) = (&client[..], &server[..]);
        let outcome = rtmp(client, server, Split::Whole, true);
        assert!(outcome.over, "{name}");
        // Both sides of real sessions come to know the same headers, so that nothing needs rewriting.
        for (from, to) in [(Leg::CLIENT, ORIGIN), (ORIGIN, Leg::CLIENT)] {
            assert!(
                outcome.deeds.contains(&Action::Splice { from, to, limit: None }),
                "{name}: {from:?} is not spliced"
            );
        }
        // The origin is sent what the client said, byte for byte.
        assert!(outcome.origin[HANDSHAKE..] == client[HANDSHAKE..], "{name}: the origin gets other bytes");
        // The client hears the same statuses and media, and gets an answer to what it asked before.
        let (commands, media) = heard(&dechunked(&outcome.client[HANDSHAKE..]));
        let (recorded_commands, recorded_media) = heard(&dechunked(&server[HANDSHAKE..]));
        assert!(media == recorded_media, "{name}: other media");
        assert!(name.contains("publish") || media.len() > 20, "{name}: {} messages", media.len());
        for recorded in recorded_commands {
            let found = commands.iter().any(|command| match &*recorded.name {
                "_result" => command.name == "_result" && command.transaction == recorded.transaction,
                _ => *command == recorded,
            });
            // What was said of `FCPublish` beside its answer, and bandwidth checks, are the setup's own.
            assert!(found || recorded.name.starts_with("on") && recorded.name != "onStatus", "{recorded:?}");
        }
        for split in [Split::Every(1), Split::Every(100), Split::Random(1), Split::Random(2)] {
            assert_same(&rtmp(client, server, split, true), &outcome, (name, split));
        }
    }
}

// Chunks.

#[test]
fn the_chunk_reader_agrees_with_an_independent_one() {
    seeds::run("chunks", 200, |seed| {
        let bytes = random_messages(&mut Dice::new(seed));
        let expected = plain(dechunked(&bytes));
        for split in [Split::Whole, Split::Every(1), Split::Every(13), Split::Random(seed)] {
            assert!(read_chunks(&bytes, split) == (expected.clone(), None), "{split:?}");
        }
    });
}

#[test]
fn damaged_chunks_are_read_as_an_independent_reader_does_or_refused() {
    seeds::run("damaged_chunks", 600, |seed| {
        let mut dice = Dice::new(seed);
        let mut bytes = random_messages(&mut dice);
        bytes.truncate(4000);
        for _ in 0..dice.size(1..=3) {
            let at = dice.size(0..=bytes.len().saturating_sub(1).min(300));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = dice.range(0..=255) as u8;
            }
        }
        fuzz::chunks(&bytes);
    });
}

proptest! {
    #[test]
    fn what_the_chunk_writer_writes_an_independent_reader_reads(
        messages in prop::collection::vec(
            (2..65_600u32, any::<u32>(), 8..23u8, any::<u32>(), prop::collection::vec(any::<u8>(), 0..700)),
            1..10,
        ),
        sizes in prop::collection::vec(1..400u32, 10),
    ) {
        let (mut writer, mut bytes, mut expected) = (ChunkWriter::default(), Vec::new(), Vec::new());
        for ((csid, timestamp, type_id, stream_id, payload), size) in messages.into_iter().zip(sizes) {
            writer.put(&mut bytes, csid, timestamp, type_id, stream_id, &payload);
            expected.push((csid, timestamp, type_id, stream_id, payload));
            writer.put(&mut bytes, 2, 0, kind::SET_CHUNK_SIZE, 0, &size.to_be_bytes());
            expected.push((2, 0, kind::SET_CHUNK_SIZE, 0, size.to_be_bytes().to_vec()));
        }
        prop_assert_eq!(plain(dechunked(&bytes)), expected);
    }
}

// AMF0.

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(|number| Value::Number(number.into())),
        any::<bool>().prop_map(Value::Boolean),
        "[a-z]{0,20}".prop_map(Value::string),
        Just(Value::Null),
        Just(Value::Undefined),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        let named = prop::collection::vec(("[a-z]{1,8}", inner.clone()), 0..5);
        prop_oneof![
            named.clone().prop_map(Value::Object),
            prop::collection::vec(inner, 0..5).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #[test]
    fn amf0_is_read_and_written_again_unchanged(values in prop::collection::vec(any_value(), 0..6)) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.encode(&mut bytes));
        let (mut decoder, mut encoder) = (Decoder::new(&bytes), Encoder::new());
        let mut count = 0;
        while let Some(value) = decoder.next_value().expect("what was written by the book") {
            encoder = encoder.value(&value);
            count += 1;
        }
        prop_assert_eq!(count, values.len());
        let again = encoder.into_bytes();
        prop_assert_eq!(amf0::decode_all(&again).expect("what was written"), values);
        prop_assert_eq!(again, bytes);
    }
}

#[test]
fn a_session_waits_only_as_long_as_it_says() {
    // Whatever has been said so far, silence ends the setup: each deadline is met, and there are not many.
    for Recorded { client, .. } in recorded() {
        for cut in [0, 1, 1537, HANDSHAKE, HANDSHAKE + 50, client.len().min(3400)] {
            let mut driver = Straight::new(1, RtmpSession::new(Time::ZERO));
            driver.bytes(Leg::CLIENT, &client[..cut]);
            for answered in 0..50 {
                let relays = driver.deeds.iter().any(|deed| matches!(deed, Action::Splice { .. }));
                if driver.is_over() || relays {
                    break;
                }
                assert!(answered < 10, "there is no end to it");
                driver.tick();
            }
        }
    }
    assert!(RtmpSession::new(Time::ZERO).deadline().is_some());
}

#[test]
fn a_drain_ends_who_has_named_no_stream_and_nobody_else() {
    for Recorded { client, .. } in recorded() {
        for cut in [0, 1, 1537, HANDSHAKE, HANDSHAKE + 50, client.len()] {
            let mut driver = Straight::new(1, RtmpSession::new(Time::ZERO));
            driver.bytes(Leg::CLIENT, &client[..cut]);
            let has_named_one = !driver.questions.is_empty();
            driver.drain();
            assert_eq!(driver.is_over(), !has_named_one, "after {cut} bytes");
        }
    }
}
