//! What is answered, over plain connections where who asks does not matter.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use witlet_server::{Handlers, Side};

use crate::fakes::{ask, serve};
use crate::tls::{Tls, connect};

async fn answers(handlers: Handlers, requests: &[(&str, u16, &str)]) {
    let tls = Tls::new();
    let server = serve(tls.side(), handlers, String::new()).await;
    for (request, status, part) in requests {
        let stream = connect(&server, &tls.client(None)).await.unwrap();
        let (got, body) = ask(stream, request, "Authorization: Bearer good\r\n").await;
        assert_eq!(got, *status, "{request}: {body}");
        assert!(body.contains(part), "{request}: {body}");
    }
}

#[tokio::test]
async fn errors_have_the_kubelets_codes() {
    answers(
        Handlers::default(),
        &[
            ("GET /pods", 200, r#""kind":"PodList""#),
            ("POST /pods", 405, ""),
            ("GET /metrics/resource", 200, "Resource 1"),
            ("GET /containerLogs/ns/web/app", 200, "two\n"),
            ("GET /containerLogs/ns/web/missing", 404, "no such container"),
            ("GET /containerLogs/ns/web/broken", 400, "cannot be read"),
            (
                "GET /containerLogs/ns/web/app?tailLines=x",
                400,
                "Unable to decode query.",
            ),
            ("GET /containerLogs/ns/web/app?tailLines=-1", 422, "Invalid request."),
            ("GET /containerLogs/ns/web/app?stream=Stdout", 400, "split_log_streams"),
            ("POST /run/ns/web/app?cmd=a+b", 200, "a|b"),
            ("GET /run/ns/web/app?cmd=a", 405, ""),
            (
                "POST /exec/ns/web/app?command=a",
                400,
                "at least 1 of stdin, stdout, stderr",
            ),
            (
                "POST /exec/ns/web/app?command=a&output=1",
                500,
                "Upgrade request required",
            ),
            ("POST /portForward/ns/nobody", 404, "pod does not exist"),
            ("POST /portForward/ns/web/other", 404, "pod not found"),
            (
                "POST /checkpoint/ns/web/app",
                200,
                r#"{"items":["/checkpoints/a.tar"]}"#,
            ),
            (
                "POST /checkpoint/ns/web/app?timeout=x",
                404,
                "cannot parse value of timeout parameter",
            ),
            ("GET /statusz", 200, "kubelet statusz"),
            ("GET /flagz", 200, "kubelet flags"),
            ("POST /flagz", 405, ""),
            ("GET /debug/pprof/heap", 405, "profiling endpoint is disabled."),
            ("GET /nothing", 404, "404 page not found"),
        ],
    )
    .await;
    // With an upgrade, so that the agent is asked.
    let tls = Tls::new();
    let server = serve(tls.side(), Handlers::default(), String::new()).await;
    for (container, status) in [("missing", 404), ("busy", 429), ("broken", 500)] {
        let stream = connect(&server, &tls.client(None)).await.unwrap();
        let request = format!("POST /exec/ns/web/{container}?output=1");
        let headers = "Authorization: Bearer good\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
        assert_eq!(ask(stream, &request, headers).await.0, status, "{container}");
    }
}

#[tokio::test]
async fn debugging_may_be_switched_off() {
    let handlers = Handlers {
        debugging: false,
        ..Handlers::default()
    };
    let off = "Debug endpoints are disabled.";
    answers(
        handlers,
        &[
            ("GET /pods", 200, "PodList"),
            ("GET /metrics", 200, "Agent 1"),
            ("GET /stats/summary", 200, "node"),
            ("GET /configz", 404, ""),
            ("POST /checkpoint/ns/web/app", 404, ""),
            ("POST /exec/ns/web/app?output=1", 405, off),
            ("POST /attach/ns/web/app?output=1", 405, off),
            ("POST /portForward/ns/web", 405, off),
            ("POST /run/ns/web/app?cmd=a", 405, off),
            ("GET /containerLogs/ns/web/app", 405, off),
            ("GET /runningpods/", 405, off),
            ("GET /logs/", 405, off),
            ("GET /debug/pprof/heap", 405, off),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_read_only_port_shows_little() {
    let server = serve(Side::ReadOnly, Handlers::default(), String::new()).await;
    for (request, status) in [
        ("GET /healthz", 200),
        ("GET /pods", 200),
        ("GET /metrics/cadvisor", 200),
        ("GET /stats/summary", 200),
        ("GET /metrics/slis", 200),
        ("DELETE /metrics/slis", 405),
        ("GET /configz", 404),
        ("POST /checkpoint/ns/web/app", 404),
        ("POST /exec/ns/web/app?output=1", 405),
        ("GET /containerLogs/ns/web/app", 405),
        ("GET /logs/", 405),
        ("POST /run/ns/web/app?cmd=a", 405),
    ] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(ask(stream, request, "").await.0, status, "{request}");
    }
}

#[tokio::test]
async fn upgrades_are_passed_on() {
    let runtime = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let streaming = format!("http://{}/exec/token", runtime.local_addr().unwrap());
    let far = tokio::spawn(async move {
        let (mut stream, _) = runtime.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(&said).await.unwrap();
        drop(stream);
        String::from_utf8(head).unwrap().to_lowercase()
    });
    let tls = Tls::new();
    let server = serve(tls.side(), Handlers::default(), streaming).await;
    let mut stream = connect(&server, &tls.client(None)).await.unwrap();
    let request = "POST /exec/ns/web/app?output=1 HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer good\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nping";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("v4.channel.k8s.io"),
        "{head}"
    );
    assert_eq!(body, "ping");
    let asked = far.await.unwrap();
    assert!(
        asked.starts_with("post /exec/token http/1.1") && asked.contains("upgrade: spdy/3.1"),
        "{asked}"
    );
    assert!(!asked.contains("authorization"), "{asked}");
}
