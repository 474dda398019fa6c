//! Peers that want too much, or nothing at all.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witlet_server::{Handlers, Limits, Side};

use crate::fakes::{Server, ask, serve_within};
use crate::tls::{Tls, connect};

const LIMITS: Limits = Limits {
    answer: Duration::from_secs(60),
    connections: 2,
    handshake: Duration::from_millis(200),
    idle: Duration::from_millis(400),
};

/// Until the other side closes the connection.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(reading.is_ok(), "the connection stays open");
}

async fn read_only() -> Server {
    serve_within(LIMITS, Side::ReadOnly, Handlers::default(), String::new()).await
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let server = read_only().await;
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    // Half a request, and a request followed by nothing.
    for text in ["GET /pods HTTP/1.1\r\nHo", "GET /pods HTTP/1.1\r\nHost: n\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        closed(stream).await;
    }
    // The beginning of HTTP/2, and then only what it needs to stay.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    closed(stream).await;

    let tls = Tls::new();
    let server = serve_within(LIMITS, tls.side(), Handlers::default(), String::new()).await;
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    let quiet = connect(&server, &tls.client(None)).await.unwrap();
    closed(quiet).await;
}

#[tokio::test]
async fn pings_do_not_keep_a_connection() {
    let server = read_only().await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let pings = tokio::spawn(async move {
        while writer.write_all(b"\0\0\x08\x06\0\0\0\0\x0001234567").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut rest = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut rest)).await;
    assert!(reading.is_ok(), "pings keep the connection open");
    pings.abort();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let server = read_only().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // Ten pairs that say nothing go first, each in its time.
    let began = Instant::now();
    let (status, _) = ask(TcpStream::connect(server.address).await.unwrap(), "GET /pods", "").await;
    assert_eq!(status, 200);
    assert!(began.elapsed() >= LIMITS.idle, "there was no limit");
}

#[tokio::test]
async fn heads_have_a_limit() {
    let server = read_only().await;
    let long = format!("X-Long: {}\r\n", "x".repeat(2 << 20));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let text = format!("GET /pods HTTP/1.1\r\nHost: n\r\n{long}\r\n");
    // The other side may close before it has read all of it.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "it was answered");
}

/// No endpoint takes a body: one without end is not read, and the answer does not wait for it.
#[tokio::test]
async fn bodies_without_end_are_not_read() {
    let server = read_only().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "GET /pods HTTP/1.1\r\nHost: n\r\nContent-Length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let flood = tokio::spawn(async move {
        let mut sent: u64 = 0;
        while writer.write_all(&[0; 65536]).await.is_ok() {
            sent += 65536;
        }
        sent
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", answer.get(..50));
    let sent = tokio::time::timeout(Duration::from_secs(20), flood)
        .await
        .unwrap()
        .unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were taken");
}
