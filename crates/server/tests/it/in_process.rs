//! A guest in the same process: the client's own transport over a network in memory, through the same listener, frames, limits and
//! dispatch as a socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use client::{TcpTransport, Transport};
use server::{BoundListener, Limits, Server};
use world::net::Net;

use crate::script::*;

#[tokio::test]
async fn a_guest_needs_no_socket() {
    let net = Net::memory();
    let script = Arc::new(Script::default());
    let listener = BoundListener::bind(&net, "GUESTS", "127.0.0.1:1", false).await.unwrap();
    let dispatch = Shared(script.clone());
    let server =
        Server::start(vec![listener], dispatch, Limits::default(), Arc::new(world::clock::RealClock::new()));

    let mut channel = TcpTransport::over(net).connect("127.0.0.1:1").await.unwrap();
    for (correlation, what) in [(1, WHEN_COMMITTED), (2, NOW)] {
        channel.sender.send(vec![Bytes::from(request(PRODUCE, correlation, &[what]))]).await.unwrap();
    }
    until(|| script.handled.load(Ordering::SeqCst) == 2).await;
    script.commit.send_replace(true);
    for correlation in [1i32, 2] {
        let answer = within(channel.receiver.receive()).await.unwrap().expect("an answer");
        assert_eq!(answer[..], correlation.to_be_bytes());
    }
    within(server.shutdown()).await;
    assert!(within(channel.receiver.receive()).await.unwrap().is_none());
}
