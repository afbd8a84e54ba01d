use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use server::{BoundAdmin, MetricsText, Readiness, Report, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use world::net::Net;

use crate::script::*;

struct Page {
    readiness: Mutex<Readiness>,
    server: Arc<Server>,
}

impl Report for Page {
    fn readiness(&self) -> Readiness {
        self.readiness.lock().clone()
    }

    fn metrics(&self, text: &mut MetricsText) {
        server::write_server_metrics(text, &self.server, Duration::from_secs(1));
    }
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: ottla\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn an_operator_sees_health_and_metrics() {
    let (server, _) = serve(Default::default()).await;
    let mut peer = Peer::connect(&server).await;
    peer.send(&request(METADATA, 1, &[NOW])).await;
    peer.answer().await;
    peer.send(&request(PRODUCE, 1, &[NOW])).await;
    peer.answer().await;

    let page =
        Arc::new(Page { readiness: Mutex::new(Readiness::NotReady("recovering the log".into())), server });
    let admin = BoundAdmin::bind(&Net::tcp(), "127.0.0.1:0", false).await.unwrap().serve(page.clone());
    assert!(get(admin.address(), "/health/live").await.starts_with("HTTP/1.1 200"));
    let not_ready = get(admin.address(), "/health/ready").await;
    assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("recovering the log"), "{not_ready}");
    *page.readiness.lock() = Readiness::Ready;
    assert!(get(admin.address(), "/health/ready").await.starts_with("HTTP/1.1 200"));
    let metrics = get(admin.address(), "/metrics").await;
    for line in [
        "ottla_connections 1\n",
        "kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"0\"} 1\n",
        "kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 1\n",
        "ottla_request_seconds_count{request=\"Produce\"} 1\n",
    ] {
        assert!(metrics.contains(line), "no {line:?} in {metrics}");
    }
    assert!(get(admin.address(), "/").await.starts_with("HTTP/1.1 404"));
    admin.stop();
}

#[tokio::test]
async fn a_large_http_request_is_cut_off() {
    let (server, _) = serve(Default::default()).await;
    let page = Arc::new(Page { readiness: Mutex::new(Readiness::Ready), server });
    let admin = BoundAdmin::bind(&Net::tcp(), "127.0.0.1:0", false).await.unwrap().serve(page);
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    let flood = async {
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ottla\r\n").await;
        loop {
            if stream.write_all(&[b'x'; 1024]).await.is_err() {
                break;
            }
        }
    };
    within(flood).await;
    assert!(get(admin.address(), "/health/live").await.starts_with("HTTP/1.1 200"));
    admin.stop();
}
