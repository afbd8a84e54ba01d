use std::sync::atomic::Ordering;
use std::time::Duration;

use server::Limits;

use crate::script::*;

#[tokio::test]
async fn garbage_closes_the_connection_and_nothing_else() {
    let (server, script) = serve(Limits::default()).await;
    let mut good = Peer::connect(&server).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 252],
        &[0xff; 64],
        &[0; 64],
        &[0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7],
    ] {
        let mut peer = Peer::connect(&server).await;
        peer.send(garbage).await;
        assert!(peer.closed().await.is_empty());
    }
    assert_eq!(script.handled.load(Ordering::SeqCst), 0);
    assert_eq!(server.counters().connections_closed_for_garbage.load(Ordering::Relaxed), 5);
    good.send(&request(METADATA, 1, &[NOW])).await;
    assert_eq!(good.answer().await, (1, 0));
}

#[tokio::test]
async fn a_huge_promise_with_few_bytes_costs_few_bytes() {
    let (server, script) =
        serve(Limits { frame_stall: Duration::from_millis(300), ..Limits::default() }).await;
    let mut peers = Vec::new();
    for _ in 0..100 {
        let mut peer = Peer::connect(&server).await;
        peer.send(&(100i32 << 20).to_be_bytes()).await;
        peer.send(&[0, 3, 0, 1, 0, 0, 0, 1, 9, 9]).await;
        peers.push(peer);
    }
    until(|| server.counters().bytes_received.load(Ordering::Relaxed) == 1400).await;
    assert!(server.request_memory().used() <= 100 * (256 << 10));
    for peer in &mut peers {
        assert!(peer.closed().await.is_empty());
    }
    until(|| server.connections_open() == 0).await;
    assert_eq!(server.request_memory().used(), 0);
    assert_eq!(script.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_first_request_that_trickles_in_is_cut_off() {
    let (server, _) = serve(Limits { first_request: Duration::from_millis(200), ..Limits::default() }).await;
    let mut silent = Peer::connect(&server).await;
    let mut slow = Peer::connect(&server).await;
    let frame = request(METADATA, 1, &[0; 1000]);
    let trickle = async {
        use tokio::io::AsyncWriteExt;
        for byte in frame {
            if slow.0.write_all(&[byte]).await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    };
    assert!(within(trickle).await, "a thousand bytes at 5 ms each were taken");
    // Who has not begun is not late: some clients connect long before they ask.
    silent.send(&request(METADATA, 2, &[NOW])).await;
    assert_eq!(silent.answer().await, (2, 0));
}

#[tokio::test]
async fn half_a_frame_and_a_goodbye_leave_nothing() {
    let (server, script) = serve(Limits::default()).await;
    for length in [1, 4, 5, 11] {
        let mut peer = Peer::connect(&server).await;
        peer.send(&request(METADATA, 1, &[NOW])[..length]).await;
        drop(peer);
    }
    until(|| {
        server.counters().connections_accepted.load(Ordering::Relaxed) == 4 && server.connections_open() == 0
    })
    .await;
    assert_eq!((script.handled.load(Ordering::SeqCst), server.request_memory().used()), (0, 0));
}

#[tokio::test]
async fn frames_larger_than_the_limit_are_refused_and_those_at_it_are_not() {
    let (server, _) = serve(Limits { request_bytes_max: 1 << 20, ..Limits::default() }).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(&request(METADATA, 1, &vec![NOW; (1 << 20) - 8])).await;
    assert_eq!(peer.answer().await, (1, 0));
    peer.send(&((1i32 << 20) + 1).to_be_bytes()).await;
    assert!(peer.closed().await.is_empty());
}
