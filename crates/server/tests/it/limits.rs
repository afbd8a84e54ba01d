use std::sync::atomic::Ordering;
use std::time::Duration;

use server::{BindError, BoundListener, ConnectionLimits, Limits};
use tokio::net::TcpSocket;
use world::net::Net;

use crate::script::*;

#[tokio::test]
async fn a_client_that_does_not_read_is_held_back() {
    let (server, script) = serve(Limits::default()).await;
    let mut peer = Peer::connect(&server).await;
    let mut body = vec![LARGE];
    body.extend((8u32 << 20).to_be_bytes());
    let sending = async {
        for correlation in 0..50 {
            peer.send(&request(METADATA, correlation, &body)).await;
        }
        peer
    };
    let mut peer = within(sending).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let made = script.started.load(Ordering::SeqCst);
    assert!(made <= 3, "{made} answers of 8 MiB were made for a client that takes none");
    assert!(server.answer_memory().used() <= 16 << 20);
    for correlation in 0..50 {
        assert_eq!(peer.answer().await, (correlation, 8 << 20));
    }
}

/// Neither we nor the system take megabytes of answers from whoever reads none.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn of_small_answers_few_are_made_for_a_client_that_reads_none() {
    let (server, script) = serve(Limits { pipelined_requests_max: 100, ..Limits::default() }).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut peer = Peer(socket.connect(server.local_addresses()[0]).await.unwrap());
    let mut body = vec![LARGE];
    body.extend_from_slice(&1016u32.to_be_bytes());
    let flood: Vec<u8> = (0..5000).flat_map(|correlation| request(PRODUCE, correlation, &body)).collect();
    peer.send(&flood).await;
    until(|| script.handled.load(Ordering::SeqCst) >= 100).await;
    let (mut made, mut before) = (0, usize::MAX);
    while made != before {
        before = made;
        tokio::time::sleep(Duration::from_millis(100)).await;
        made = script.handled.load(Ordering::SeqCst);
    }
    // 64 KiB wait with us, as much with the system, which rounds up, and a hundred requests are under way.
    assert!(made < 600, "{made}");
    for correlation in 0..5000 {
        assert_eq!(peer.answer().await, (correlation, 1016));
    }
}

#[tokio::test]
async fn under_pressure_a_client_that_takes_nothing_is_disconnected() {
    let limits = Limits {
        answer_memory_bytes_max: 1 << 20,
        stall_under_pressure: Duration::from_millis(300),
        ..Limits::default()
    };
    let (server, _) = serve(limits).await;
    let mut peer = Peer::connect(&server).await;
    let mut body = vec![LARGE];
    body.extend((32u32 << 20).to_be_bytes());
    peer.send(&request(METADATA, 1, &body)).await;
    until(|| server.answer_memory().used() > 1 << 20).await;
    until(|| server.connections_open() == 0).await;
    assert_eq!(server.answer_memory().used(), 0);
    assert_eq!(server.counters().connections_closed_for_stall.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_room_in_the_log_produce_waits_and_others_do_not() {
    let (server, script) = serve(Limits::default()).await;
    script.room.send_replace(false);
    let (mut producer, mut other) = (Peer::connect(&server).await, Peer::connect(&server).await);
    producer.send(&request(PRODUCE, 1, &[NOW])).await;
    other.send(&request(METADATA, 2, &[NOW])).await;
    assert_eq!(other.answer().await, (2, 0));
    until(|| server.counters().waits_for_log_room.load(Ordering::Relaxed) == 1).await;
    assert_eq!(script.handled.load(Ordering::SeqCst), 1);
    script.room.send_replace(true);
    assert_eq!(producer.answer().await, (1, 0));
}

#[tokio::test]
async fn requests_share_one_memory_and_all_get_through() {
    let (server, script) = serve(Limits { request_memory_bytes_max: 1 << 20, ..Limits::default() }).await;
    let mut sending = Vec::new();
    for correlation in 0..40 {
        let mut peer = Peer::connect(&server).await;
        sending.push(tokio::spawn(async move {
            let mut body = vec![0; 400 << 10];
            body[0] = WHEN_COMMITTED;
            peer.send(&request(PRODUCE, correlation, &body)).await;
            peer.answer().await
        }));
    }
    until(|| server.request_memory().is_pressed()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(server.request_memory().used() <= (1 << 20) + (512 << 10), "{}", server.request_memory().used());
    script.commit.send_replace(true);
    for (correlation, peer) in sending.into_iter().enumerate() {
        assert_eq!(within(peer).await.unwrap(), (correlation as i32, 0));
    }
    until(|| server.request_memory().used() == 0).await;
}

#[tokio::test]
async fn half_requests_that_use_up_the_memory_keep_no_small_one_waiting_and_go() {
    let limits = Limits {
        request_memory_bytes_max: 1 << 20,
        stall_under_pressure: Duration::from_millis(300),
        ..Limits::default()
    };
    let (server, _) = serve(limits).await;
    let whole = request(METADATA, 1, &vec![NOW; 800 << 10]);
    let (mut first, mut second) = (Peer::connect(&server).await, Peer::connect(&server).await);
    first.send(&whole[..700 << 10]).await;
    until(|| server.request_memory().used() >= 800 << 10).await;
    second.send(&whole[..200 << 10]).await;
    until(|| server.request_memory().is_pressed()).await;
    let mut other = Peer::connect(&server).await;
    other.send(&request(METADATA, 2, &[NOW])).await;
    assert_eq!(other.answer().await, (2, 0));
    // One of them is enough: then nobody has to wait any more.
    until(|| server.counters().connections_closed_for_stall.load(Ordering::Relaxed) >= 1).await;
    until(|| !server.request_memory().is_pressed()).await;
    drop((first, second));
    until(|| server.request_memory().used() == 0).await;
}

#[tokio::test]
async fn a_long_request_that_waits_for_ever_goes_when_the_memory_is_used_up() {
    let limits = Limits {
        request_memory_bytes_max: 64 << 10,
        stall_under_pressure: Duration::from_millis(300),
        ..Limits::default()
    };
    let (server, script) = serve(limits).await;
    let mut waiting = Vec::new();
    for correlation in 0..2 {
        let mut peer = Peer::connect(&server).await;
        let mut body = vec![0; 30 << 10];
        body[0] = NEVER;
        peer.send(&request(FETCH, correlation, &body)).await;
        waiting.push(peer);
    }
    let mut short = Peer::connect(&server).await;
    short.send(&request(FETCH, 7, &[NEVER])).await;
    until(|| script.started.load(Ordering::SeqCst) == 3).await;
    until(|| server.counters().connections_closed_for_stall.load(Ordering::Relaxed) >= 1).await;
    until(|| !server.request_memory().is_pressed()).await;
    // A short one may wait as long as it likes.
    assert!((1..=2).contains(&script.dropped_waits.load(Ordering::SeqCst)));
    assert!(server.connections_open() >= 1);
}

#[tokio::test]
async fn with_the_memory_for_answers_used_up_only_those_who_take_theirs_get_long_ones() {
    const OFFSET_COMMIT: i16 = 8;
    let limits = Limits {
        answer_memory_bytes_max: 64 << 20,
        stall_under_pressure: Duration::from_secs(15),
        ..Limits::default()
    };
    let (server, script) = serve(limits).await;
    let mut good = Peer::connect(&server).await;
    good.send(&request(METADATA, 1, &[NOW])).await;
    assert_eq!(good.answer().await, (1, 0));
    let mut hostile = Peer::connect(&server).await;
    let mut body = vec![LARGE];
    // The kernel takes a little of it.
    body.extend((68u32 << 20).to_be_bytes());
    hostile.send(&request(METADATA, 2, &body)).await;
    until(|| server.answer_memory().is_pressed()).await;
    let waits = || server.counters().waits_for_answer_memory.load(Ordering::Relaxed);
    let mut stranger = Peer::connect(&server).await;
    stranger.send(&request(METADATA, 3, &[NOW])).await;
    until(|| waits() == 1).await;
    let mut member = Peer::connect(&server).await;
    member.send(&request(OFFSET_COMMIT, 4, &[NOW])).await;
    assert_eq!(member.answer().await, (4, 0));
    good.send(&request(METADATA, 5, &[NOW])).await;
    assert_eq!(good.answer().await, (5, 0));
    assert_eq!(script.started.load(Ordering::SeqCst), 4);
    drop(hostile);
    assert_eq!(stranger.answer().await, (3, 0));
}

/// Answers that disappear in the kernel's buffers make a client look as if it took them. The part for those who do may be used up too, and
/// consumers at the end of the log go on all the same, with little.
#[tokio::test]
async fn with_all_of_the_memory_for_answers_used_up_a_short_fetch_goes_on() {
    let limits = Limits {
        answer_memory_bytes_max: 8 << 20,
        stall_under_pressure: Duration::from_secs(15),
        ..Limits::default()
    };
    let (server, script) = serve(limits).await;
    let mut good = Peer::connect(&server).await;
    good.send(&request(METADATA, 1, &[NOW])).await;
    assert_eq!(good.answer().await, (1, 0));
    let mut hostile = Peer::connect(&server).await;
    hostile.send(&request(METADATA, 2, &[NOW])).await;
    assert_eq!(hostile.answer().await, (2, 0));
    let mut body = vec![LARGE];
    body.extend((64u32 << 20).to_be_bytes());
    hostile.send(&request(METADATA, 3, &body)).await;
    until(|| server.answer_memory().used() > 8 << 20).await;
    good.send(&request(FETCH, 4, &[NOW])).await;
    assert_eq!(good.answer().await, (4, 0));
    // What may be long waits.
    let waits = || server.counters().waits_for_answer_memory.load(Ordering::Relaxed);
    good.send(&request(METADATA, 5, &[NOW])).await;
    until(|| waits() == 1).await;
    assert_eq!(script.started.load(Ordering::SeqCst), 4);
    drop(hostile);
    assert_eq!(good.answer().await, (5, 0));
}

#[tokio::test]
async fn the_number_of_connections_is_bounded_and_places_come_free() {
    let (server, _) =
        serve(Limits { connections: ConnectionLimits { max: 2, ..Default::default() }, ..Limits::default() })
            .await;
    let first = Peer::connect(&server).await;
    let mut second = Peer::connect(&server).await;
    second.send(&request(METADATA, 1, &[NOW])).await;
    second.answer().await;
    let mut third = Peer::connect(&server).await;
    assert!(third.closed().await.is_empty());
    drop(first);
    until(|| server.connections_open() == 1).await;
    let mut fourth = Peer::connect(&server).await;
    fourth.send(&request(METADATA, 4, &[NOW])).await;
    assert_eq!(fourth.answer().await, (4, 0));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (server, _) =
        serve(Limits { connection_idle: Duration::from_millis(100), ..Limits::default() }).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(&request(METADATA, 1, &[NOW])).await;
    peer.answer().await;
    assert!(peer.closed().await.is_empty());
    assert_eq!(server.counters().connections_closed_idle.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn plain_tcp_on_an_address_that_others_reach_must_be_asked_for() {
    assert!(matches!(
        BoundListener::bind(&Net::tcp(), "PLAINTEXT", "0.0.0.0:0", false).await,
        Err(BindError::Insecure { .. })
    ));
    assert!(BoundListener::bind(&Net::tcp(), "PLAINTEXT", "0.0.0.0:0", true).await.is_ok());
    assert!(BoundListener::bind(&Net::tcp(), "PLAINTEXT", "localhost:0", false).await.is_ok());
}
