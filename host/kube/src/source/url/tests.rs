#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: x}]}\n";

fn list(names: &[&str]) -> String {
    let items: String = names
        .iter()
        .map(|name| format!("- metadata: {{name: {name}}}\n  spec: {{containers: [{{name: c, image: x}}]}}\n"))
        .collect();
    format!("apiVersion: v1\nkind: PodList\nitems:\n{items}")
}

/// A server that answers each request by what it is told at the moment, and remembers the requests.
struct Server {
    url: String,
    answer: Arc<Mutex<String>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pods?x=1", listener.local_addr().unwrap());
        let (answer, seen) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(Vec::new())));
        let (answers, requests) = (answer.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                requests.lock().unwrap().push(request);
                let reply = answers.lock().unwrap().clone();
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        Self { url, answer, seen }
    }

    fn say(&self, status: &str, more: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}");
    }

    fn place(&self) -> StaticUrl {
        StaticUrl::new(
            &self.url,
            [("X-Token", "t"), ("Authorization", "s")],
            Duration::from_millis(20),
        )
        .unwrap()
    }
}

fn names(set: &PodSet) -> Vec<String> {
    let mut names: Vec<_> = set.pods.values().map(|p| key(p).name).collect();
    names.sort();
    names
}

async fn until(receiver: &mut watch::Receiver<PodSet>, wanted: &[&str]) {
    let waiting = receiver.wait_for(|set| set.synced && names(set) == wanted);
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_url_is_followed_and_keeps_what_it_had_through_errors() {
    let server = Server::start().await;
    server.say("503 Service Unavailable", "", POD);
    let shutdown = CancellationToken::new();
    let mut pods = watch_url(server.place(), "n1".into(), false, shutdown.clone());
    while server.seen.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!pods.borrow().synced, "an error says nothing of the pods");
    let request = server.seen.lock().unwrap()[0].to_lowercase();
    assert!(
        request.starts_with("get /pods?x=1 http/1.1") && request.contains("x-token: t"),
        "{request}"
    );

    server.say("200 OK", "", POD);
    until(&mut pods, &["a-n1"]).await;
    server.say("200 OK", "", &list(&["a", "b"]));
    until(&mut pods, &["a-n1", "b-n1"]).await;
    for broken in ["a: [", &list(&["c", "_"])] {
        server.say("200 OK", "", broken);
        let so_far = server.seen.lock().unwrap().len();
        while server.seen.lock().unwrap().len() < so_far + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(names(&pods.borrow()), ["a-n1", "b-n1"]);
    }
    server.say("200 OK", "", "");
    until(&mut pods, &[]).await;
    shutdown.cancel();
}

#[tokio::test]
async fn redirections_are_followed_without_secrets_to_others() {
    let (first, second) = (Server::start().await, Server::start().await);
    let elsewhere = second.url.replace("127.0.0.1", "localhost");
    first.say("302 Found", &format!("location: {elsewhere}\r\n"), "");
    second.say("200 OK", "", POD);
    assert_eq!(fetch(&first.place()).await.unwrap(), POD.as_bytes());
    let request = second.seen.lock().unwrap()[0].to_lowercase();
    assert!(
        request.contains("x-token: t") && !request.contains("authorization"),
        "{request}"
    );

    first.say("302 Found", "location: /pods?x=1\r\n", "");
    assert!(fetch(&first.place()).await.unwrap_err().contains("10 redirects"));
    first.say("302 Found", "location: file:///etc/passwd\r\n", "");
    assert!(fetch(&first.place()).await.unwrap_err().contains("malformed"));
}

/// The kubelet contract, pod 1.2.
#[tokio::test]
async fn the_identity_is_that_of_the_url() {
    let document = |url: &str, node: &str| Document::new(url.into(), node.into(), true);
    let mut one = document("http://h/1", "n");
    assert!(one.take(POD.into()).await.unwrap());
    assert!(!one.take(POD.into()).await.unwrap(), "the same again");
    let pod = one.pods.values().next().unwrap().clone();
    let annotations = pod.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["kubernetes.io/config.source"], "http");
    assert_eq!(annotations["kubernetes.io/config.hash"], uid(&pod).as_str());
    assert!(annotations.contains_key("kubernetes.io/config.seen"));
    assert_eq!(pod.spec.as_ref().unwrap().tolerations, None);
    for (url, node, same) in [("http://h/2", "n", false), ("http://h/1", "m", true)] {
        let mut other = document(url, node);
        other.take(POD.into()).await.unwrap();
        assert_eq!(other.pods.contains_key(&uid(&pod)), same, "{url} {node}");
    }
    let mut bad = document("u", "n");
    let secret = POD.replace("spec: {", "spec: {serviceAccountName: x, ");
    assert!(bad.take(secret.clone().into()).await.unwrap_err().contains("pod a"));
    assert!(!bad.synced);
    let mut own = Document::new("u".into(), "n".into(), false);
    assert!(own.take(secret.into()).await.unwrap());
}

#[test]
fn places_are_checked() {
    let of = |url: &str, name: &str, value: &str| StaticUrl::new(url, [(name, value)], TIMEOUT).map(|_| ());
    assert_eq!(of("https://h:1/x", "a", "b"), Ok(()));
    for (url, name, value) in [
        ("ftp://h/", "a", "b"),
        ("/x", "a", "b"),
        ("http://", "a", "b"),
        ("http://h", "a b", "c"),
        ("http://h", "a", "b\n"),
    ] {
        assert!(of(url, name, value).is_err(), "{url} {name}");
    }
}

#[tokio::test]
async fn files_go_before_the_url_and_both_must_have_been_read() {
    let pod = |source: Source, place: &str, name: &str| {
        let text = POD.replace("name: a", &format!("name: {name}"));
        let pod = manifest::parse(text.as_bytes(), place).unwrap();
        Arc::new(manifest::adopt(pod, source, "n", place))
    };
    let set = |pods: &[Arc<Pod>], synced| PodSet {
        pods: Arc::new(pods.iter().map(|p| (uid(p), p.clone())).collect()),
        synced,
    };
    let file = pod(Source::File, "/f", "a");
    let url = [pod(Source::Http, "u", "a"), pod(Source::Http, "u", "b")];
    let (files_out, files) = watch::channel(set(std::slice::from_ref(&file), true));
    let (url_out, from_url) = watch::channel(PodSet::default());
    let mut both = super::super::together(files, from_url, CancellationToken::new());
    assert!(!both.borrow().synced);
    assert_eq!(names(&both.borrow()), ["a-n"]);
    url_out.send_replace(set(&url, true));
    until(&mut both, &["a-n", "b-n"]).await;
    assert!(both.borrow().pods.contains_key(&uid(&file)));
    files_out.send_replace(set(&[], true));
    let waiting = both.wait_for(|set| set.pods.contains_key(&uid(&url[0])));
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap()
        .unwrap();
}
