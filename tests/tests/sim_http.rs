//! The HTTP connection in the simulated world: what is answered, whatever client, origin and network are like.

use srs_proxy_core::http::Server;
use srs_proxy_core::query::{Refusal, Report};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::http::Chunking;
use srs_proxy_tests::sim::http::plan::SHRINKING;
use srs_proxy_tests::sim::http::{
    Body, ClientPlan, Exchange, Kind, Leave, Request, Response, Rest, Scene, Trouble,
};
use srs_proxy_tests::sim::{Dice, End, Fate, Fates, Manner, Weather, seeds};

/// Longer than any scripted session lasts.
const LONG: Duration = Duration::from_secs(3000);

/// Some requests with good answers, in weather in which nobody should lose patience.
fn any(seed: u64) -> (Dice, Scene) {
    let mut dice = Dice::new(seed);
    let count = dice.size(1..=6);
    let exchanges = (0..count)
        .map(|n| {
            let is_file = dice.chance(100);
            let request = if is_file { Request::file(&mut dice, n) } else { Request::random(&mut dice, n) };
            let response = Response::random(&mut dice, &request);
            Exchange { request, response }
        })
        .collect();
    let mut scene = Scene::plain(exchanges);
    scene.weather = Weather::random(&mut dice);
    scene.weather.stall = scene.weather.stall.min(Duration::from_millis(200));
    if dice.chance(400) {
        scene.manner = Manner::Late(Duration::from_millis(500));
    }
    let cut = dice.size(0..=count);
    let (first, second): (Vec<_>, Vec<_>) = (0..count).partition(|n| *n < cut);
    scene.clients = [first, second]
        .into_iter()
        .map(|requests| ClientPlan {
            pipelines: dice.chance(400),
            slow: dice.chance(200).then(|| Duration::from_millis(dice.range(1..=50))),
            leave: if dice.chance(800) { Leave::Done } else { Leave::Never },
            ..ClientPlan::asking(requests)
        })
        .filter(|plan| !plan.requests.is_empty())
        .collect();
    (dice, scene)
}

#[test]
fn every_request_has_its_own_answer() {
    seeds::run("http", 300, |seed| {
        let (_, scene) = any(seed);
        let played = scene.play(seed, LONG);
        played.assert_sound();
        played.assert_served();
    });
}

#[test]
fn a_body_that_only_the_connection_ends_is_not_whole_if_that_breaks() {
    seeds::run("http_broken", 200, |seed| {
        let (mut dice, mut scene) = any(seed);
        for exchange in &mut scene.exchanges {
            let length = dice.size(1..=20_000);
            exchange.response.body = Body::Close(vec![7; length]);
            exchange.response.trouble = Trouble::Stops(dice.size(0..=length - 1), End::Reset);
        }
        scene.play(seed, LONG).assert_sound();
    });
}

#[test]
fn whatever_goes_wrong_with_an_answer_is_seen_by_its_client_only() {
    seeds::run("http_trouble", 300, |seed| {
        let (mut dice, mut scene) = any(seed);
        let troubled = dice.size(0..=scene.exchanges.len() - 1);
        let end = *dice.pick(&[End::Fin, End::Reset]);
        let response = &mut scene.exchanges[troubled].response;
        let at = dice.size(0..=response.body.encode().len());
        response.trouble = *dice.pick(&[
            Trouble::Silent,
            Trouble::Leaves(end),
            Trouble::HalfHead,
            Trouble::Garbage,
            Trouble::Oversize,
            Trouble::Stops(at, end),
            Trouble::Freezes(at),
            Trouble::BrokenChunk,
        ]);
        let trouble = response.trouble;
        if let Trouble::Leaves(_) = trouble {
            response.delay = Duration::from_millis(*dice.pick(&[0, 100, 6000]));
        }
        if let Trouble::Freezes(_) = trouble {
            // Whoever has asked for much more is not read, and not seen to leave.
            scene.clients.iter_mut().for_each(|plan| plan.pipelines = false);
        }
        let played = scene.play(seed, LONG);
        played.assert_sound();
        let status = match trouble {
            Trouble::Silent => 504,
            Trouble::Leaves(_) | Trouble::HalfHead | Trouble::Garbage | Trouble::Oversize => 502,
            _ => return,
        };
        for answer in played.answers_to(troubled) {
            let is_file = played.table.borrow()[troubled].request.is_for_file();
            assert!(
                is_file || answer.status() == status,
                "{trouble:?} of request {troubled}\n{}",
                played.world.tail()
            );
        }
    });
}

#[test]
fn nothing_stays_of_a_client_that_leaves() {
    seeds::run("http_leave", 200, |seed| {
        let (mut dice, mut scene) = any(seed);
        for plan in &mut scene.clients {
            let end = *dice.pick(&[End::Fin, End::Reset]);
            plan.leave = match dice.chance(500) {
                true => Leave::AfterBytes(dice.any_size(60_000), end),
                false => Leave::AfterTime(Duration::from_micros(dice.range(0..=1_000_000)), end),
            };
        }
        let played = scene.play(seed, LONG);
        played.assert_sound();
    });
}

#[test]
fn an_upload_reaches_its_origin_though_its_client_reads_no_answer() {
    seeds::run("http_upload", 200, |seed| {
        let (mut dice, mut scene) = any(seed);
        for plan in &mut scene.clients {
            plan.leave = Leave::AfterSending;
            plan.pipelines = false;
            let last = plan.requests.last().copied().expect("a request");
            let Exchange { request, response } = &mut scene.exchanges[last];
            let size = *dice.pick(&[300, 20_000, 200_000]);
            request.method = *dice.pick(&["POST", "PUT"]);
            request.target = format!("/live/s.{}?n={last}", dice.pick(&["m3u8", "ts", "m4s", "flv"]));
            request.body = match dice.bytes(size) {
                bytes if request.old || dice.chance(500) => Body::Length(bytes),
                bytes => Body::Chunked(bytes, Chunking { sizes: vec![1000], ..Chunking::default() }),
            };
            // One that answers before it has read all may not want it.
            response.early = false;
        }
        if dice.chance(300) {
            // Nobody reads the body before there is someone to take it, also if its client has left.
            scene.origins.insert(0, *dice.pick(&[Kind::Refuses, Kind::Silent]));
        }
        let lasts: Vec<_> = scene.clients.iter().filter_map(|plan| plan.requests.last().copied()).collect();
        let played = scene.play(seed, LONG);
        played.assert_sound();
        for (client, last) in played.clients.iter().zip(lasts) {
            if !client.borrow().sent.contains(&last) {
                continue;
            }
            let origins = played.origins.borrow();
            let whole = origins.receipts.iter().any(|receipt| receipt.n == last && receipt.message.complete);
            assert!(whole, "the body of request {last} was cut\n{}", played.world.tail());
        }
    });
}

#[test]
fn a_viewer_who_has_asked_for_more_is_seen_to_leave() {
    seeds::run("http_pipelined_viewer", 20, |seed| {
        let mut dice = Dice::new(seed);
        let live = Request::get("/live/s.flv?n=0".into());
        let response =
            Response { trouble: Trouble::Freezes(1000), ..Response::ok(Body::Close(vec![7; 2000])) };
        let more =
            Request { body: Body::Length(dice.bytes(40_000)), ..Request::get("/live/s.m4s?n=1".into()) };
        let never = Response::ok(Body::None);
        let mut scene = Scene::plain(vec![
            Exchange { request: live, response },
            Exchange { request: Request { method: "POST", ..more }, response: never },
        ]);
        scene.weather = Weather { window: 256 * 1024, ..Weather::random(&mut dice) };
        scene.clients[0].pipelines = true;
        scene.clients[0].leave = Leave::AfterTime(Duration::from_secs(20), End::Fin);
        let played = scene.play(seed, LONG);
        played.assert_sound();
    });
}

#[test]
fn a_connection_with_half_a_request_on_it_serves_nobody_else() {
    seeds::run("http_early", 60, |seed| {
        let mut dice = Dice::new(seed);
        let body = Body::Length(dice.bytes(100_000));
        let upload = Request { method: "POST", body, ..Request::get("/live/s.m4s?n=0".into()) };
        let early = Response { early: true, ..Response::ok(Body::Length(b"no".to_vec())) };
        let fine = Response::ok(Body::Length(b"yes".to_vec()));
        let mut scene = Scene::plain(vec![
            Exchange { request: upload, response: early },
            Exchange { request: Request::get("/live/s.m4s?n=1".into()), response: fine },
        ]);
        scene.weather = Weather { keep: Duration::from_secs(60), ..Weather::random(&mut dice) };
        scene.weather.stall = scene.weather.stall.min(Duration::from_millis(200));
        scene.clients = [0, 1].map(|n| ClientPlan::asking(vec![n])).to_vec();
        let played = scene.play(seed, LONG);
        played.assert_sound();
        assert_eq!(played.answers_to(1)[0].status(), 200);
    });
}

#[test]
fn a_slow_load_balancer_costs_no_origin_its_name() {
    seeds::run("http_hurried", 60, |seed| {
        let (_, mut scene) = any(seed);
        scene.weather.delay = Duration::from_millis(400);
        scene.manner = Manner::Late(Duration::from_secs(5));
        let played = scene.play(seed, LONG);
        played.assert_sound();
    });
}

#[test]
fn surplus_bytes_behind_an_answer_reach_nobody() {
    seeds::run("http_surplus", 100, |seed| {
        let (_, mut scene) = any(seed);
        let last = scene.exchanges.last_mut().expect("an exchange");
        last.response.trouble = Trouble::Surplus;
        last.response.rest = Rest::Keeps;
        let played = scene.play(seed, LONG);
        played.assert_sound();
    });
}

/// A playlist that names what `rest` answers.
fn playlist(dice: &mut Dice, first: usize, count: usize) -> Vec<u8> {
    let mut text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:4\n".to_owned();
    for n in first..first + count {
        let query = if dice.chance(500) { format!("?n={n}") } else { format!("?a=b&n={n}&c=") };
        let uri = match dice.size(0..=2) {
            0 => format!("/live/seg-{n}.ts{query}"),
            1 => format!("seg-{n}.m4s{query}"),
            _ => format!("sub/seg-{n}.ts{query}"),
        };
        text.push_str(&format!("#EXTINF:4.000,\n{uri}\n"));
    }
    if dice.chance(300) {
        text.push_str("#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:4,\nhttp://cdn.other.net/x.ts\n");
    }
    text.into_bytes()
}

/// A manifest that names them.
fn manifest(first: usize, count: usize) -> Vec<u8> {
    let lists: String = (first..first + count)
        .map(|n| format!("<SegmentList><SegmentURL media=\"seg-{n}.m4s?n={n}\"/></SegmentList>"))
        .collect();
    format!(
        "<MPD><Period><AdaptationSet><Representation>{lists}</Representation></AdaptationSet></Period></MPD>"
    )
    .into_bytes()
}

/// A playlist, perhaps some of its others, and what they name; asked by a client that follows them.
fn hls(seed: u64) -> (Dice, Scene) {
    let mut dice = Dice::new(seed);
    let is_dash = dice.chance(300);
    let (lists, segments) = (dice.size(1..=3), dice.size(0..=4));
    let mut exchanges = Vec::new();
    for n in 0..lists {
        let extension = if is_dash { "mpd" } else { "m3u8" };
        let mut request = Request::get(format!("/live/s.{extension}?n={n}&token=x"));
        for (name, value) in [("Range", "bytes=0-1"), ("Accept-Encoding", "gzip"), ("If-None-Match", "\"x\"")]
        {
            if dice.chance(300) {
                request.fields.push((name.into(), value.into()));
            }
        }
        let mut response = Response::random(&mut dice, &request);
        response.status = 200;
        let count = if n == 0 { segments } else { 0 };
        let bytes = if is_dash { manifest(lists, count) } else { playlist(&mut dice, lists, count) };
        response.body = match dice.size(0..=2) {
            0 if !response.old => {
                Body::Chunked(bytes, Chunking { sizes: vec![7, 100], ..Chunking::default() })
            }
            1 => Body::Close(bytes),
            _ => Body::Length(bytes),
        };
        response.fields.retain(|(name, _)| name != "ETag");
        exchanges.push(Exchange { request, response });
    }
    for n in lists..lists + segments {
        let request = Request::get(format!("/live/unknown?n={n}"));
        let mut response = Response::random(&mut dice, &request);
        response.rest = *dice.pick(&[Rest::Keeps, Rest::ClosesAtNext(End::Fin, Duration::ZERO)]);
        exchanges.push(Exchange { request, response });
    }
    let mut scene = Scene::plain(exchanges);
    scene.weather = Weather::random(&mut dice);
    scene.weather.stall = scene.weather.stall.min(Duration::from_millis(200));
    scene.clients = vec![ClientPlan { follows: true, ..ClientPlan::asking((0..lists).collect()) }];
    (dice, scene)
}

#[test]
fn what_a_playlist_names_is_found_by_its_session() {
    seeds::run("http_hls", 200, |seed| {
        let (_, scene) = hls(seed);
        let played = scene.play(seed, LONG);
        played.assert_sound();
        played.assert_served();
        assert_eq!(played.sessions.borrow().len(), 1, "one stream has one session");
    });
}

#[test]
fn a_client_is_told_when_its_origin_is_not_there() {
    for (index, (kind, status)) in
        [(Kind::Refuses, 502), (Kind::Silent, 502), (Kind::Exhausted, 503)].into_iter().enumerate()
    {
        seeds::run(&format!("http_away_{index}"), 30, |seed| {
            let (_, mut scene) = any(seed);
            scene.origins = vec![kind];
            let played = scene.play(seed, LONG);
            played.assert_sound();
            for n in 0..played.table.borrow().len() {
                for answer in played.answers_to(n) {
                    let is_file = played.table.borrow()[n].request.is_for_file();
                    assert!(is_file || answer.status() == status, "{}", played.world.tail());
                }
            }
        });
    }
}

#[test]
fn another_origin_serves_when_the_first_cannot_be_reached() {
    seeds::run("http_failover", 60, |seed| {
        let (mut dice, mut scene) = any(seed);
        scene.manner = Manner::Prompt;
        scene.origins = vec![*dice.pick(&[Kind::Refuses, Kind::Silent]), Kind::Serves];
        let played = scene.play(seed, LONG);
        played.assert_sound();
        played.assert_served();
        let asked = !played.origins.borrow().receipts.is_empty();
        let told = played.unreachable.borrow().len();
        assert_eq!(told, usize::from(asked), "the load balancer was not told");
    });
}

#[test]
fn a_client_is_told_when_the_load_balancer_has_no_answer() {
    let manners = [
        Manner::Silent,
        Manner::Refuses(Refusal::NoOrigin),
        Manner::Refuses(Refusal::Unavailable),
        Manner::Refuses(Refusal::Full),
        Manner::Late(Duration::from_secs(20)),
        Manner::Moody,
    ];
    for (index, manner) in manners.into_iter().enumerate() {
        seeds::run(&format!("http_unbalanced_{index}"), 30, |seed| {
            let (_, mut scene) = if seed % 2 == 0 { any(seed) } else { hls(seed) };
            scene.manner = manner;
            let played = scene.play(seed, LONG);
            played.assert_sound();
            for n in 0..played.table.borrow().len() {
                let is_file = played.table.borrow()[n].request.is_for_file();
                let answers = played.answers_to(n);
                for answer in answers.iter().filter(|answer| !is_file && answer.value("x-n").is_none()) {
                    // An answer may come so late that there is no time left for the origin.
                    let known = answer.status() == 503 || answer.status() == 502 && index == 4;
                    assert!(known, "{}: {}", answer.start, played.world.tail());
                }
            }
        });
    }
}

#[test]
fn connections_that_break_at_any_byte_cut_answers_and_nothing_else() {
    seeds::run("http_breaks", 300, |seed| {
        let (mut dice, mut scene) = if seed % 3 == 0 { hls(seed) } else { any(seed) };
        let fate = (dice.any_size(30_000) as u64, *dice.pick(&[Fate::Reset, Fate::End, Fate::Reset]));
        let fates = match dice.chance(500) {
            true => Fates { from_peer: Some(fate), to_peer: None },
            false => Fates { from_peer: None, to_peer: Some((fate.0, Fate::Reset)) },
        };
        if dice.chance(500) {
            scene.fates = fates;
        } else {
            scene.origin_fates = fates;
        }
        let played = scene.play(seed, LONG);
        played.assert_sound();
    });
}

#[test]
fn a_drain_ends_idle_connections_and_lets_answers_finish() {
    seeds::run("http_drain", 200, |seed| {
        let (mut dice, mut scene) = any(seed);
        scene.clients.truncate(1);
        scene.clients[0].leave = Leave::Never;
        let drain = Duration::from_millis(dice.range(0..=2000));
        scene.drain = Some(drain);
        let played = scene.play(seed, LONG);
        played.assert_sound();
        // Long before it would have to end for its idleness.
        let log = played.clients[0].borrow();
        let rested = log.ended_at.since(log.heard_at.max(Time::ZERO + drain));
        assert!(rested < Duration::from_secs(30), "rested {rested:?}\n{}", played.world.tail());
        drop(log);
        for (answer, n) in played.clients[0].borrow().answers().zip(&played.clients[0].borrow().sent) {
            assert!(answer.complete, "request {n} was cut off\n{}", played.world.tail());
        }
    });
}

#[test]
fn malformed_heads_are_refused_and_nothing_behind_them_is_read() {
    let long = format!("GET /live/a.flv HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(17_000));
    let many = format!("GET /live/a.flv HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(65));
    let fields = |fields: &str| format!("POST /live/a.m4s HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let heads = [
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("GET /live/a.flv HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /live/a.flv HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET /live/a.flv HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        (fields("Content-Length: 1\r\nContent-Length: 1"), 400),
        (fields("Content-Length: 1\r\nTransfer-Encoding: chunked"), 400),
        (fields("Transfer-Encoding: gzip, chunked"), 501),
        (fields("Content-Length: 0x1"), 400),
        (fields("Host: b"), 400),
        (fields("A : b"), 400),
        (fields("A: b\r\n c: d"), 400),
        (fields("Expect: a pony"), 417),
        (long, 431),
        (many, 431),
    ];
    for (index, (raw, status)) in heads.into_iter().enumerate() {
        seeds::run(&format!("http_malformed_{index}"), 8, |seed| {
            let (_, mut scene) = any(seed);
            for exchange in &mut scene.exchanges {
                exchange.request.connection = None;
                exchange.request.old = false;
                exchange.response = Response::ok(Body::Length(b"fine".to_vec()));
            }
            for exchange in &mut scene.exchanges {
                exchange.request.target =
                    exchange.request.target.replace(".flv", ".m4s").replace(".ts", ".m4s");
            }
            scene.clients.truncate(1);
            // What stands behind it would be a request by itself.
            let bytes: Vec<u8> = raw.chars().map(|letter| letter as u8).collect();
            let behind = b"GET /live/b.m4s?n=0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
            let plan = &mut scene.clients[0];
            let asked = plan.requests.len();
            plan.raw = Some(([bytes, behind].concat(), Duration::ZERO));
            plan.leave = Leave::Never;
            let played = scene.play(seed, LONG);
            played.world.assert_ended();
            let log = played.clients[0].borrow();
            let answers: Vec<_> = log.answers().collect();
            assert_eq!(answers.len(), asked + 1, "{}", played.world.tail());
            assert_eq!(answers[asked].status(), status, "{}", played.world.tail());
            assert!(!answers[asked].persists() && log.end == Some(End::Fin), "{}", played.world.tail());
            let table = played.table.borrow();
            let files = log.sent.iter().filter(|n| table[**n].request.is_for_file()).count();
            assert_eq!(played.origins.borrow().receipts.len(), asked - files);
        });
    }
}

#[test]
fn a_file_that_becomes_shorter_does_not_look_whole() {
    for old in [false, true] {
        let request = Request { old, ..Request::get(format!("/{SHRINKING}?n=0")) };
        let mut scene = Scene::plain(vec![Exchange { request, response: Response::ok(Body::None) }]);
        scene.clients[0].leave = Leave::Never;
        let played = scene.play(1, LONG);
        played.assert_sound();
        assert_eq!(played.answers_to(0)[0].body.len(), 10_000);
    }
}

#[test]
fn a_head_that_takes_for_ever_is_refused() {
    let mut scene = Scene::plain(Vec::new());
    let raw = b"GET /live/a.flv HTTP/1.1\r\nHost: example.com\r\n\r\n".to_vec();
    scene.clients[0].raw = Some((raw, Duration::from_secs(1)));
    let played = scene.play(1, LONG);
    played.world.assert_ended();
    let log = played.clients[0].borrow();
    assert_eq!(log.answers().map(|answer| answer.status()).collect::<Vec<_>>(), [408]);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let hash = |_| any(seed).1.play(seed, LONG).runs.iter().map(|run| run.hash).collect::<Vec<_>>();
        assert_eq!(hash(0), hash(1), "seed {seed}");
    }
}

#[test]
fn offers_are_answered_when_their_sessions_are_stored_and_goodbyes_end_them() {
    let (mut answered, mut left) = (0, 0);
    seeds::run("http_whip", 300, |seed| {
        let mut dice = Dice::new(seed);
        let mut exchanges = Vec::new();
        for offer in (0..2 * dice.size(1..=3)).step_by(2) {
            let request = Request::offer(&mut dice, offer);
            let mut response = Response::answer(&mut dice, offer);
            response.delay = Duration::from_millis(*dice.pick(&[0, 1, 50, 1500]));
            response.trouble = match dice.size(0..=9) {
                0 => Trouble::Silent,
                1 => Trouble::Stops(dice.size(0..=300), *dice.pick(&[End::Fin, End::Reset])),
                2 => Trouble::BrokenChunk,
                _ => Trouble::None,
            };
            exchanges.push(Exchange { request, response });
            let goodbye =
                Response { status: *dice.pick(&[200, 200, 204, 401, 404]), ..Response::ok(Body::None) };
            exchanges.push(Exchange { request: Request::goodbye(offer, offer + 1), response: goodbye });
        }
        let mut scene = Scene { server: Server::HttpApi, ..Scene::plain(exchanges) };
        scene.weather = Weather::random(&mut dice);
        scene.weather.stall = scene.weather.stall.min(Duration::from_millis(200));
        scene.manner = *dice.pick(&[
            Manner::Prompt,
            Manner::Late(Duration::from_millis(500)),
            Manner::Late(Duration::from_secs(8)),
            Manner::Moody,
        ]);
        if dice.chance(200) {
            scene.drain = Some(Duration::from_millis(dice.range(0..=2000)));
        }
        if dice.chance(200) {
            let end = *dice.pick(&[End::Fin, End::Reset]);
            scene.clients[0].leave = Leave::AfterTime(Duration::from_micros(dice.range(0..=2_000_000)), end);
        }
        let played = scene.play(seed, LONG);
        played.assert_sound();
        played.assert_left();
        answered += played.clients[0].borrow().answers().filter(|answer| answer.status() == 201).count();
        left += played.told.borrow().iter().filter(|report| matches!(report, Report::Left(..))).count();
    });
    assert!(answered > 100 && left > 100, "{answered} offers were answered, {left} sessions left");
}
