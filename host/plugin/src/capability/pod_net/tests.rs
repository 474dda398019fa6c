#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::net::TcpListener;

use super::super::grpc::{self, GrpcRequest};
use super::*;
use crate::error::FaultKind;

const PATIENCE: Duration = Duration::from_secs(30);

fn pod(port: u16) -> Pod {
    serde_json::from_value(json!({
        "spec": {"containers": [{
            "name": "c",
            "ports": [{"containerPort": 8080, "name": "web"}],
            "livenessProbe": {"httpGet": {"port": port}},
            "readinessProbe": {"tcpSocket": {"port": "9090"}},
            "startupProbe": {"grpc": {"port": 7070}},
        }]},
        "status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}, {"ip": "::1"}]},
    }))
    .unwrap()
}

fn get(port: u16) -> HttpRequest {
    HttpRequest {
        tls: false,
        host: None,
        port,
        path: "/".into(),
        headers: Vec::new(),
        timeout: PATIENCE,
        body_limit: 1024,
    }
}

#[tokio::test]
async fn only_the_pod_and_only_its_ports() {
    let pod = pod(5000);
    let grant = PodNet::default();
    let try_port = async |grant: &PodNet, host: Option<&str>, port| {
        targets(grant, &pod, Protocol::Tcp, host, port)
            .await
            .map_err(|f| f.kind)
    };
    for port in [8080, 5000, 9090, 7070] {
        assert_eq!(
            try_port(&grant, None, port).await.unwrap(),
            [SocketAddr::new("127.0.0.1".parse().unwrap(), port)]
        );
    }
    assert_eq!(try_port(&grant, None, 22).await, Err(FaultKind::Denied));
    assert_eq!(try_port(&grant, None, 0).await, Err(FaultKind::Invalid));
    assert!(
        try_port(
            &PodNet {
                ports: vec![22],
                ..grant.clone()
            },
            None,
            22
        )
        .await
        .is_ok()
    );
    assert!(
        try_port(
            &PodNet {
                any_port: true,
                ..grant.clone()
            },
            None,
            22
        )
        .await
        .is_ok()
    );
    // The pod's own address is the pod, however it is written.
    assert!(try_port(&grant, Some("[::1]"), 8080).await.is_ok());
    assert_eq!(try_port(&grant, Some("[::1]"), 22).await, Err(FaultKind::Denied));
    assert_eq!(try_port(&grant, Some("127.0.0.2"), 8080).await, Err(FaultKind::Denied));
    assert!(
        try_port(
            &PodNet {
                any_host: true,
                ..grant.clone()
            },
            Some("127.0.0.2"),
            22
        )
        .await
        .is_ok()
    );
    let only_http = PodNet {
        protocols: vec![Protocol::Http],
        ..grant.clone()
    };
    assert_eq!(try_port(&only_http, None, 8080).await, Err(FaultKind::Denied));
    let nowhere = targets(&grant, &Pod::default(), Protocol::Tcp, None, 8080)
        .await
        .unwrap_err();
    assert_eq!(nowhere.text, "the pod has no address yet");
}

/// Answers every request with its own head and a long body.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let mut text = format!("{} {}\n", request.method(), request.uri());
                for (name, value) in request.headers() {
                    text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
                }
                text.push_str(&"x".repeat(100_000));
                Ok::<_, Infallible>(
                    http::Response::builder()
                        .status(418)
                        .header("x-answer", "yes")
                        .body(Full::new(Bytes::from(text)))
                        .unwrap(),
                )
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

#[tokio::test]
async fn one_get_exchange() {
    let port = echo().await;
    let mut request = get(port);
    request.path = "healthz?a=b".into();
    request.headers = vec![
        ("User-Agent".into(), "kube-probe/1.36".into()),
        ("X-Twice".into(), "1".into()),
        ("X-Twice".into(), "2".into()),
    ];
    let reply = http_get(&PodNet::default(), &pod(port), request).await.unwrap();
    assert_eq!(reply.status, 418);
    assert!(reply.headers.contains(&("x-answer".to_owned(), "yes".to_owned())));
    assert_eq!(reply.body.len(), 1024, "the rest is not waited for");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let head: Vec<_> = text
        .lines()
        .take_while(|l| !l.starts_with('x') || l.contains(':'))
        .collect();
    assert_eq!(
        head,
        [
            "GET /healthz?a=b",
            "user-agent: kube-probe/1.36",
            "x-twice: 1",
            "x-twice: 2",
            &format!("host: 127.0.0.1:{port}")
        ]
    );
    let mut request = get(port);
    request.headers = vec![("Host".into(), "example.com".into())];
    let reply = http_get(&PodNet::default(), &pod(port), request).await.unwrap();
    assert!(String::from_utf8_lossy(&reply.body).contains("host: example.com\n"));
    let mut request = get(port);
    request.headers = vec![("Bad Name".into(), String::new())];
    assert_eq!(
        http_get(&PodNet::default(), &pod(port), request)
            .await
            .err()
            .unwrap()
            .kind,
        FaultKind::Invalid
    );
}

#[tokio::test]
async fn servers_that_do_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut request = get(port);
    request.timeout = Duration::from_millis(500);
    let fault = http_get(&PodNet::default(), &pod(port), request).await.err().unwrap();
    assert_eq!(
        (fault.kind, fault.text.as_str()),
        (FaultKind::Timeout, "no answer within 500ms")
    );
    // It hangs up.
    let hang_up = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await;
    };
    // The first connection is the one that timed out.
    let (first, _) = listener.accept().await.unwrap();
    drop(first);
    let grant = PodNet::default();
    let pod = pod(port);
    let (fault, ()) = tokio::join!(http_get(&grant, &pod, get(port)), hang_up);
    let fault = fault.err().unwrap();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    drop(listener);
    let fault = http_get(&grant, &pod, get(port)).await.err().unwrap();
    assert_eq!(
        fault.text,
        format!("dial tcp 127.0.0.1:{port}: connect: connection refused")
    );
}

#[tokio::test]
async fn a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(&buffer).await.unwrap();
    };
    let client = async {
        let mut connection = tcp_connect(&PodNet::default(), &pod(port), None, port, PATIENCE)
            .await
            .unwrap();
        connection.write(b"ping", PATIENCE).await.unwrap();
        assert_eq!(connection.read(100, PATIENCE).await.unwrap(), b"ping");
        assert_eq!(connection.read(100, PATIENCE).await.unwrap(), b"", "the end");
    };
    tokio::join!(serve, client);
}

/// A gRPC server that says what it was asked, or fails if the method says so.
async fn grpc_server() -> u16 {
    use http_body_util::StreamBody;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let path = request.uri().path().to_owned();
                assert_eq!(request.headers()["te"], "trailers");
                assert_eq!(request.headers()["user-agent"], "kube-probe/1.36");
                let message = request.into_body().collect().await.unwrap().to_bytes();
                let mut trailers = http::HeaderMap::new();
                let code = if path == "/s/Fail" { "5" } else { "0" };
                trailers.insert("grpc-status", code.parse().unwrap());
                trailers.insert("grpc-message", "no%20such%20service".parse().unwrap());
                let frames = [
                    Ok::<_, Infallible>(hyper::body::Frame::data(message)),
                    Ok(hyper::body::Frame::trailers(trailers)),
                ];
                Ok::<_, Infallible>(http::Response::new(StreamBody::new(futures::stream::iter(frames))))
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    port
}

#[tokio::test]
async fn one_grpc_call() {
    let port = grpc_server().await;
    let call = |method: &str| {
        let request = GrpcRequest {
            port,
            method: method.into(),
            metadata: vec![("user-agent".into(), "kube-probe/1.36".into())],
            message: b"question".to_vec(),
            timeout: PATIENCE,
        };
        let pod = pod(port);
        async move { grpc::unary(&PodNet::default(), &pod, request).await }
    };
    let reply = call("/s/Check").await.unwrap();
    assert_eq!((reply.code, reply.message.as_slice()), (0, b"question".as_slice()));
    let reply = call("/s/Fail").await.unwrap();
    assert_eq!(
        (reply.code, reply.message_text.as_str(), reply.message.len()),
        (5, "no such service", 0)
    );
    assert_eq!(call("s/Check").await.unwrap_err().kind, FaultKind::Invalid);
}

#[tokio::test]
async fn https_is_not_verified() {
    use rustls_pki_types::PrivateKeyDer;
    // For another name, and signed by nobody.
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut buffer = [0; 1024];
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..n].starts_with(b"GET / HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    };
    let (grant, pod) = (PodNet::default(), pod(port));
    let request = HttpRequest { tls: true, ..get(port) };
    let (reply, ()) = tokio::join!(http_get(&grant, &pod, request), serve);
    assert_eq!(reply.unwrap().status, 204);
}
