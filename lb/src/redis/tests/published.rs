//! Streams that are published: what moves them and what does not, and where they count.

use super::*;

#[test]
fn a_dead_origin_is_replaced_once_and_all_proxies_know() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let origins = ["a", "b", "c"].map(origin);
    a.register(&origins);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let home = a.publish("x");
    assert_eq!(b.pick("x"), Ok(home.clone()));
    let dead = OriginId::from_text(home.as_str());
    a.report(Report::Unreachable(dead.clone(), Protocol::Rtmp));
    assert_eq!(a.pick("x"), Err(Refusal::NoOrigin), "its publisher is still there");
    let next = a.pick_to_publish("x").unwrap();
    assert_ne!(next, home);
    // The other one tries it too, at the same moment.
    b.report(Report::Unreachable(dead.clone(), Protocol::Rtmp));
    assert_eq!(b.pick("x"), Ok(next.clone()));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let mut third = Proxy::new(&store, 3);
    let gone = origins.iter().find(|origin| origin.id() == dead).unwrap();
    assert_eq!(third.health(gone), Some(Health::Quarantined));
    assert_eq!(third.pick("x"), Ok(next.clone()));
    // It is published there, and nobody asks where it was.
    b.report(Report::Publishing(key("x"), OriginId::from_text(next.as_str())));
    pass(&store, &mut [&mut a, &mut b, &mut third], QUARANTINE * 2);
    assert_eq!([a.pick("x"), b.pick("x"), third.pick("x")], [Ok(next.clone()), Ok(next.clone()), Ok(next)]);
}

#[test]
fn a_proxy_without_a_way_to_an_origin_moves_nothing_that_is_published_there() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&["a", "b", "c"].map(origin));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let home = b.publish("x");
    let at = OriginId::from_text(home.as_str());
    for _ in 0..10 {
        // It has not heard yet that the stream is published, and is told so.
        a.report(Report::Unreachable(at.clone(), Protocol::Rtmp));
        assert_eq!(a.pick("x"), Err(Refusal::NoOrigin));
        pass(&store, &mut [&mut a, &mut b], SECOND * 10);
        b.report(Report::Publishing(key("x"), at.clone()));
        assert_eq!(b.pick("x"), Ok(home.clone()), "what another says moves nothing");
        assert_ne!(b.pick("new"), Ok(home.clone()), "but new streams avoid it");
        pass(&store, &mut [&mut a, &mut b], SECOND * 10);
    }
    a.report(Report::Unreachable(at.clone(), Protocol::Rtmp));
    let next = a.pick_to_publish("x").unwrap();
    assert_ne!(next, home);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!([a.pick("x"), b.pick("x")], [Ok(next.clone()), Ok(next)], "and players follow");
}

#[test]
fn players_of_a_stream_that_has_ended_and_its_next_publisher_find_each_other() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&["a", "b"].map(origin));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let home = a.publish("x");
    let at = OriginId::from_text(home.as_str());
    b.report(Report::Unreachable(at.clone(), Protocol::Rtmp));
    assert_eq!(b.pick("x"), Err(Refusal::NoOrigin));
    // A renewal that waits is told before the end.
    pass(&store, &mut [&mut a, &mut b], SECOND * 20);
    b.report(Report::Unreachable(at.clone(), Protocol::Rtmp));
    a.report(Report::Publishing(key("x"), at.clone()));
    a.report(Report::Ended(key("x"), at.clone()));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!(store.get("srs-proxy-publisher:__defaultVhost__/live/x"), None);
    let next = b.pick("x").unwrap();
    assert_ne!(next, home);
    assert_eq!(a.pick_to_publish("x"), Ok(next));
}

#[test]
fn a_publisher_and_players_that_wait_together_are_not_told_the_same() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&["a", "b"].map(origin));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let home = b.publish("x");
    assert_eq!(a.pick("x"), Ok(home.clone()));
    pass(&store, &mut [&mut a, &mut b], SECOND * 2);
    a.report(Report::Unreachable(OriginId::from_text(home.as_str()), Protocol::Rtmp));
    a.ask("x");
    a.send();
    a.ask_for("x", Need::to_publish(Protocol::Rtmp));
    a.hear();
    assert_eq!(a.answers(), [Err(Refusal::NoOrigin)], "it was too early for the player");
    a.exchange();
    assert!(matches!(&a.answers()[..], [Ok(next)] if *next != home));
}

#[test]
fn a_stream_counts_at_the_proxy_through_which_it_came_and_at_no_other() {
    let store = store();
    let mut proxies = [1, 2, 3].map(|seed| Proxy::with(&store, seed, Policy::LeastStreams, Mappings::End));
    let origins = ["a", "b"].map(origin);
    proxies[0].register(&origins);
    let [a, b, c] = &mut proxies;
    pass(&store, &mut [&mut *a, &mut *b, &mut *c], SECOND);
    let counted = |proxy: &Proxy| {
        let loads = proxy.rig.look(proxy.now, |view| view.fleet.loads());
        loads.iter().map(|(_, streams)| streams).sum::<u32>()
    };
    // One publishes some, another one is asked for others, and all of all.
    for n in 0..10 {
        let home = b.pick_to_publish(&n.to_string()).unwrap();
        b.report(Report::Publishing(key(&n.to_string()), OriginId::from_text(home.as_str())));
        a.pick(&format!("asked-{n}")).unwrap();
    }
    for n in 0..10 {
        for proxy in [&mut *a, &mut *b, &mut *c] {
            proxy.pick(&n.to_string()).unwrap();
            proxy.pick(&format!("asked-{n}")).unwrap();
            proxy.report(Report::Playing(key(&n.to_string())));
        }
    }
    assert_eq!([counted(a), counted(b), counted(c)], [10, 10, 0]);
    // One moves away with its next publisher.
    let home = b.rig.look(b.now, |view| {
        let home = view.home(b.now, &key("0"))?;
        view.fleet.id(home).cloned()
    });
    let home = home.unwrap();
    c.report(Report::Unreachable(home.clone(), Protocol::Rtmp));
    assert_ne!(c.pick_to_publish("0").unwrap(), home.as_str());
    pass(&store, &mut [&mut *a, &mut *b, &mut *c], SECOND * 2);
    b.pick("0").unwrap();
    assert_eq!([counted(a), counted(b), counted(c)], [10, 9, 1]);
}
