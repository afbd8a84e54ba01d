use std::sync::atomic::Ordering;

use server::Limits;
use world::clock::Clock;

use crate::script::*;

/// ```text
///   sent      P1 P2 P3 M4 M5
///   handled   P1 P2 P3 M4         M5 waits for M4's answer, M4 runs when P3's answer has left
///   answered  P1 P2 P3 M4 M5
/// ```
#[tokio::test]
async fn produce_requests_wait_together_and_answers_keep_the_order() {
    let (server, script) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    let mut wire = Vec::new();
    for (api, correlation, what) in [
        (PRODUCE, 1, WHEN_COMMITTED),
        (PRODUCE, 2, NOW),
        (PRODUCE, 3, WHEN_COMMITTED),
        (METADATA, 4, NOW),
        (METADATA, 5, NOW),
    ] {
        wire.extend(request(api, correlation, &[what]));
    }
    peer.send(&wire).await;
    until(|| script.handled.load(Ordering::SeqCst) == 4).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(script.handled.load(Ordering::SeqCst), 4, "nothing is handled behind a request that blocks");
    assert!(script.started.load(Ordering::SeqCst) <= 1, "a blocking request must not run before its turn");
    script.commit.send_replace(true);
    for correlation in 1..=5 {
        assert_eq!(peer.answer().await, (correlation, 0));
    }
    until(|| server.counters().requests_under_way.load(Ordering::Relaxed) == 0).await;
    assert_eq!(server.request_memory().used(), 0);
}

/// ```text
///   sent      P1 P2 P3 M4          long work is done on P2
///   handled   P1 P2       P3 M4    so that nothing overtakes it
///   answered  P1          P2 P3 M4
/// ```
#[tokio::test]
async fn what_is_prepared_is_not_overtaken_and_keeps_nobody_before_it() {
    let (server, script) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    let mut wire = Vec::new();
    for (api, correlation, what) in
        [(PRODUCE, 1, NOW), (PRODUCE, 2, PREPARED), (PRODUCE, 3, NOW), (METADATA, 4, NOW)]
    {
        wire.extend(request(api, correlation, &[what]));
    }
    peer.send(&wire).await;
    assert_eq!(peer.answer().await, (1, 0));
    until(|| script.handled.load(Ordering::SeqCst) == 2).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(script.handled.load(Ordering::SeqCst), 2, "nothing is handled behind what is prepared");
    script.commit.send_replace(true);
    for correlation in 2..=4 {
        assert_eq!(peer.answer().await, (correlation, 0));
    }
    until(|| server.counters().requests_under_way.load(Ordering::Relaxed) == 0).await;
    assert_eq!(server.request_memory().used(), 0);
}

/// What is prepared is in no queue yet: it is given up, as what waits for room.
#[tokio::test]
async fn a_server_stops_while_something_is_prepared() {
    let (server, script) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(&request(PRODUCE, 1, &[PREPARED])).await;
    until(|| script.handled.load(Ordering::SeqCst) == 1).await;
    server.shutdown().await;
    assert_eq!(server.counters().requests_under_way.load(Ordering::Relaxed), 0);
    assert_eq!(server.request_memory().used(), 0);
}

#[tokio::test]
async fn the_number_of_pipelined_requests_is_bounded() {
    let (server, script) = serve(Limits { pipelined_requests_max: 10, ..Limits::default() }).await;
    let mut peer = Peer::connect(&server).await;
    for correlation in 0..100 {
        peer.send(&request(PRODUCE, correlation, &[WHEN_COMMITTED])).await;
    }
    until(|| script.handled.load(Ordering::SeqCst) == 10).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(script.handled.load(Ordering::SeqCst), 10);
    script.commit.send_replace(true);
    for correlation in 0..100 {
        assert_eq!(peer.answer().await, (correlation, 0));
    }
}

/// On one thread, so that whoever is polled keeps it until he lets others come.
#[tokio::test]
async fn who_sends_many_requests_at_once_lets_others_come_in_between() {
    let (server, script) = serve(Limits::default()).await;
    let (mut many, mut one) = (Peer::connect(&server).await, Peer::connect(&server).await);
    for peer in [&mut many, &mut one] {
        peer.send(&request(PRODUCE, -1, &[NOW])).await;
        peer.answer().await;
    }
    let flood: Vec<u8> = (0..100).flat_map(|correlation| request(PRODUCE, correlation, &[NOW])).collect();
    assert_eq!(many.0.try_write(&flood).unwrap(), flood.len());
    let alone = request(PRODUCE, 1000, &[NOW]);
    assert_eq!(one.0.try_write(&alone).unwrap(), alone.len());
    for correlation in 0..100 {
        assert_eq!(many.answer().await.0, correlation);
    }
    assert_eq!(one.answer().await.0, 1000);
    let order = script.order.lock().unwrap().clone();
    let place = order.iter().position(|correlation| *correlation == 1000).unwrap();
    assert!(place < 40, "{place} of {order:?}");
}

#[tokio::test]
async fn acks_0_gets_no_answer_and_keeps_its_place() {
    let (server, _) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(&request(PRODUCE, 1, &[SILENT])).await;
    peer.send(&request(PRODUCE, 2, &[NOW])).await;
    assert_eq!(peer.answer().await, (2, 0));
}

#[tokio::test]
async fn a_request_that_closes_does_so_after_the_answers_before_it() {
    let (server, _) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    let mut wire = request(PRODUCE, 1, &[NOW]);
    wire.extend(request(PRODUCE, 2, &[CLOSE]));
    wire.extend(request(PRODUCE, 3, &[NOW]));
    peer.send(&wire).await;
    assert_eq!(peer.answer().await, (1, 0));
    assert!(peer.closed().await.is_empty());
}

#[tokio::test]
async fn a_long_poll_ends_when_its_client_leaves() {
    let (server, script) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(&request(FETCH, 1, &[NEVER])).await;
    until(|| script.started.load(Ordering::SeqCst) == 1).await;
    drop(peer);
    until(|| script.dropped_waits.load(Ordering::SeqCst) == 1 && server.connections_open() == 0).await;
}

#[tokio::test]
async fn large_answers_arrive_whole() {
    let (server, _) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    let mut body = vec![LARGE];
    body.extend(50_000_000u32.to_be_bytes());
    peer.send(&request(METADATA, 1, &body)).await;
    assert_eq!(peer.answer().await, (1, 50_000_000));
    until(|| server.answer_memory().used() == 0).await;
}

/// ```text
///   sent      M1 P2 P3
///   answered  M1 ······ P2 P3     its client has used more than its quota
/// ```
#[tokio::test]
async fn a_muted_connection_is_answered_and_then_not_heard_for_a_while() {
    for api in [METADATA, PRODUCE] {
        let (server, script) = serve(Limits::default()).await;
        let mut peer = Peer::connect(&server).await;
        let mut wire = request(api, 1, &[MUTE]);
        wire.extend(request(PRODUCE, 2, &[NOW]));
        wire.extend(request(PRODUCE, 3, &[NOW]));
        peer.send(&wire).await;
        for correlation in 1..=3 {
            assert_eq!(peer.answer().await, (correlation, 0));
        }
        let muted_until = *script.muted_until.lock().unwrap();
        assert!(script.clock.monotonic() >= muted_until, "it was heard before its time");
    }
}
