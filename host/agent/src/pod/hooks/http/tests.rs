#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers connections in turn: in TLS where there is an acceptor. What was asked comes out of the channel.
async fn serve(answers: Vec<(Option<TlsAcceptor>, String)>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for (tls, answer) in answers {
            let (stream, _) = listener.accept().await.unwrap();
            match tls {
                Some(tls) => talk(tls.accept(stream).await.unwrap(), &answer, &asked).await,
                None => talk(stream, &answer, &asked).await,
            }
        }
    });
    (port, requests)
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str, asked: &mpsc::UnboundedSender<String>) {
    let mut buffer = vec![0; 4096];
    let n = stream.read(&mut buffer).await.unwrap();
    let _ = asked.send(String::from_utf8_lossy(&buffer[..n]).into_owned());
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
}

fn acceptor() -> TlsAcceptor {
    let cert = rcgen::generate_simple_self_signed(vec!["somebody.else".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(cert.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

async fn get(action: Value) -> Result<Option<String>> {
    let container: Container =
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "hook", "containerPort": 8000}]})).unwrap();
    let target = Target {
        pod: &k8s_openapi::api::core::v1::Pod::default(),
        container: &container,
        id: "",
        address: Some("127.0.0.1".parse().unwrap()),
    };
    run(&target, &serde_json::from_value(action).unwrap()).await
}

#[tokio::test]
async fn a_request_is_made_as_the_handler_says() {
    let (port, mut requests) = serve(vec![(None, BROKEN.into())]).await;
    let headers = json!([{"name": "X-A", "value": "1"}, {"name": "Accept", "value": "text/plain"}]);
    let result = get(json!({"port": port, "path": "a?b=c", "httpHeaders": headers})).await;
    assert_eq!(result.unwrap(), None, "the status code does not count");
    let request = requests.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("get /a?b=c http/1.1\r\n"), "{request}");
    for line in [
        "x-a: 1".to_owned(),
        "accept: text/plain".into(),
        "user-agent: kube-lifecycle/1.36".into(),
        format!("host: 127.0.0.1:{port}"),
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
}

#[tokio::test]
async fn any_certificate_will_do() {
    let (port, mut requests) = serve(vec![(Some(acceptor()), OK.into())]).await;
    let headers = json!([{"name": "Authorization", "value": "secret"}]);
    assert_eq!(
        get(json!({"port": port, "scheme": "HTTPS", "httpHeaders": headers}))
            .await
            .unwrap(),
        None
    );
    assert!(requests.recv().await.unwrap().contains("secret"));
}

#[tokio::test]
async fn plain_answers_are_asked_for_again_without_secrets() {
    let refusal = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.";
    let (port, mut requests) = serve(vec![(None, refusal.into()), (None, OK.into())]).await;
    let headers = json!([{"name": "Authorization", "value": "secret"}, {"name": "X-A", "value": "1"}]);
    let fell_back = get(json!({"port": port, "scheme": "HTTPS", "httpHeaders": headers}))
        .await
        .unwrap();
    assert_eq!(fell_back, Some(format!("127.0.0.1:{port}")));
    requests.recv().await.unwrap();
    let second = requests.recv().await.unwrap();
    assert!(second.contains("x-a: 1") && !second.contains("secret"), "{second}");
}

#[tokio::test]
async fn what_is_no_http_at_all_fails() {
    let (port, _requests) = serve(vec![(None, "SSH-2.0-x\r\n".into())]).await;
    assert!(get(json!({"port": port, "scheme": "HTTPS"})).await.is_err());
    let (port, _requests) = serve(vec![(None, "SSH-2.0-x\r\n".into())]).await;
    assert!(get(json!({"port": port})).await.is_err());
}

#[tokio::test]
async fn redirections_are_followed_on_the_same_host_only() {
    let to = |location: &str| format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let (port, mut requests) = serve(vec![(None, to("/next")), (None, to("http://elsewhere.example/"))]).await;
    assert_eq!(get(json!({"port": port})).await.unwrap(), None);
    requests.recv().await.unwrap();
    assert!(requests.recv().await.unwrap().starts_with("GET /next "));
    let (port, _requests) = serve(vec![(None, to("/again")); 20]).await;
    let error = get(json!({"port": port})).await.unwrap_err();
    assert_eq!(
        error.message,
        format!("Get \"http://127.0.0.1:{port}/\": stopped after 10 redirects")
    );
}

#[tokio::test]
async fn failures_name_the_url() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = get(json!({"port": port, "path": "/x"})).await.unwrap_err();
    let expected = format!("Get \"http://127.0.0.1:{port}/x\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(error.message, expected);
    for bad in [
        json!({"port": "nothing"}),
        json!({"port": 70000}),
        json!({"port": 1, "host": "a b"}),
        json!({"port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}),
    ] {
        assert!(get(bad.clone()).await.is_err(), "{bad}");
    }
}
