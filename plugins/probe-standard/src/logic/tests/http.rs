#![allow(clippy::unwrap_used)]

use super::*;

fn reply(status: u16, location: Option<&str>, body: &str) -> Result<HttpReply> {
    let headers = location
        .map(|l| ("location".to_owned(), l.to_owned()))
        .into_iter()
        .collect();
    Ok(HttpReply {
        status,
        headers,
        body: body.into(),
    })
}

fn checked(
    answers: impl IntoIterator<Item = Result<HttpReply>>,
    action: &serde_json::Value,
) -> (Result<Outcome>, Vec<HttpRequest>) {
    let net = FakePodNet {
        http: Script::new(answers),
        ..FakePodNet::default()
    };
    let outcome = run(&net, &FakeExec::default(), &json!({"httpGet": action}));
    (outcome, net.http.asked())
}

fn headers(request: &HttpRequest) -> Vec<String> {
    request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

#[test]
fn asks_as_the_kubelet_does() {
    let (outcome, asked) = checked(
        [reply(200, None, "ok")],
        &json!({"path": "/healthz?full=1", "port": "web", "scheme": "HTTP"}),
    );
    assert_eq!(outcome, Ok(Outcome::pass("ok")));
    let request = &asked[0];
    assert_eq!(
        (request.scheme, &request.host, request.port),
        (Scheme::Http, &None, 8080)
    );
    assert_eq!(
        (request.path.as_str(), request.timeout_ms, request.body_limit),
        ("/healthz?full=1", 1000, 10240)
    );
    let expected = [
        "Host: 10.0.0.1:8080",
        "User-Agent: kube-probe/1.36",
        "Accept: */*",
        "Connection: close",
    ];
    assert_eq!(headers(request), expected);
}

#[test]
fn headers_are_given_as_go_writes_them() {
    let given = json!([
        {"name": "x-b", "value": "2"}, {"name": "X-a", "value": "1"}, {"name": "x-B", "value": "3"},
        {"name": "host", "value": "shop.example"}, {"name": "user-agent", "value": "me"}, {"name": "accept", "value": "a/b"},
    ]);
    let (_, asked) = checked(
        [reply(200, None, "")],
        &json!({"path": "/", "port": 80, "httpHeaders": given}),
    );
    let expected = [
        "Host: shop.example",
        "User-Agent: me",
        "Accept: a/b",
        "X-A: 1",
        "X-B: 2",
        "X-B: 3",
        "Connection: close",
    ];
    assert_eq!(headers(&asked[0]), expected);

    let given = json!([{"name": "Accept"}, {"name": "User-Agent", "value": ""}]);
    let (_, asked) = checked(
        [reply(200, None, "")],
        &json!({"path": "/", "port": 80, "httpHeaders": given}),
    );
    assert_eq!(
        headers(&asked[0]),
        ["Host: 10.0.0.1:80", "Connection: close"],
        "empty values are not sent"
    );
}

#[test]
fn paths_become_valid() {
    for (path, target, shown) in [
        ("", "/", "http://10.0.0.1:80"),
        ("health", "/health", "http://10.0.0.1:80/health"),
        ("/a b/é", "/a%20b/%C3%A9", "http://10.0.0.1:80/a%20b/%C3%A9"),
        ("/a%20b", "/a%20b", "http://10.0.0.1:80/a%20b"),
        ("/50%?x", "/50%25%3Fx", "http://10.0.0.1:80/50%25%3Fx"),
        ("/x#part", "/x", "http://10.0.0.1:80/x#part"),
    ] {
        let (outcome, asked) = checked([Err(Error::Failed("EOF".into()))], &json!({"path": path, "port": 80}));
        assert_eq!(asked[0].path, target);
        assert_eq!(outcome, Ok(Outcome::fail(format!("Get \"{shown}\": EOF"))));
    }
}

#[test]
fn the_status_decides() {
    for (status, expected) in [
        (200, Outcome::pass("body")),
        (299, Outcome::pass("body")),
        (304, Outcome::warn("Probe terminated redirects, Response body: body")),
        (399, Outcome::warn("Probe terminated redirects, Response body: body")),
        (302, Outcome::warn("Probe terminated redirects, Response body: body")),
        (400, Outcome::fail("HTTP probe failed with statuscode: 400")),
        (503, Outcome::fail("HTTP probe failed with statuscode: 503")),
        (101, Outcome::fail("HTTP probe failed with statuscode: 101")),
    ] {
        assert_eq!(
            checked([reply(status, None, "body")], &json!({"port": 80})).0,
            Ok(expected)
        );
    }
}

#[test]
fn connection_errors_are_failures() {
    for (error, message) in [
        (
            Error::Unavailable("Connection refused (os error 111)".into()),
            "dial tcp 10.0.0.1:80: connect: connection refused",
        ),
        (
            Error::Timeout("t".into()),
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        ),
        (
            Error::Unavailable("dial tcp 10.0.0.1:80: connect: no route to host".into()),
            "dial tcp 10.0.0.1:80: connect: no route to host",
        ),
        (Error::Failed("EOF".into()), "EOF"),
        (
            Error::Failed("connection closed before message completed".into()),
            "EOF",
        ),
        (
            Error::Failed("connection error: Connection reset by peer (os error 104)".into()),
            "read: connection reset by peer",
        ),
    ] {
        let (outcome, _) = checked([Err(error)], &json!({"path": "/", "port": 80}));
        assert_eq!(
            outcome,
            Ok(Outcome::fail(format!("Get \"http://10.0.0.1:80/\": {message}")))
        );
    }
    let denied = Error::Denied("port 80".to_owned());
    assert_eq!(checked([Err(denied.clone())], &json!({"port": 80})).0, Err(denied));
}

#[test]
fn redirects_are_followed_on_the_same_host() {
    for (location, port, path, host) in [
        ("/b", 80, "/b", "shop.example"),
        ("b?x=1", 80, "/dir/b?x=1", "shop.example"),
        ("../b", 80, "/b", "shop.example"),
        ("?x", 80, "/dir/a?x", "shop.example"),
        ("//10.0.0.1:81/b", 81, "/b", "shop.example"),
        ("http://10.0.0.1:9/./b/../c", 9, "/c", "10.0.0.1:9"),
        ("HTTP://10.0.0.1", 80, "/", "10.0.0.1"),
    ] {
        let action = json!({"path": "/dir/a", "port": 80, "httpHeaders": [{"name": "Host", "value": "shop.example"}]});
        let (outcome, asked) = checked([reply(302, Some(location), ""), reply(200, None, "")], &action);
        assert_eq!(outcome, Ok(Outcome::pass("")), "{location}");
        assert_eq!((asked[1].port, asked[1].path.as_str()), (port, path), "{location}");
        assert!(
            headers(&asked[1]).contains(&format!("Host: {host}")),
            "{location}: {:?}",
            headers(&asked[1])
        );
        assert!(
            headers(&asked[1]).contains(&"Referer: http://10.0.0.1:80/dir/a".to_owned()),
            "{location}"
        );
    }
}

#[test]
fn a_redirect_may_change_the_scheme() {
    let (_, asked) = checked(
        [reply(301, Some("https://10.0.0.1/"), ""), reply(200, None, "")],
        &json!({"port": 80}),
    );
    assert_eq!((asked[1].scheme, asked[1].port), (Scheme::Https, 443));
}

#[test]
fn a_redirect_to_another_host_is_a_warning() {
    let (outcome, asked) = checked([reply(302, Some("http://example.com/"), "moved")], &json!({"port": 80}));
    assert_eq!(
        outcome,
        Ok(Outcome::warn("Probe terminated redirects, Response body: moved"))
    );
    assert_eq!(asked.len(), 1);
}

#[test]
fn redirects_end() {
    let (outcome, asked) = checked((0..11).map(|_| reply(302, Some("/again"), "")), &json!({"port": 80}));
    assert_eq!(outcome, Ok(Outcome::fail("Get \"/again\": stopped after 10 redirects")));
    assert_eq!(asked.len(), 10);
}

#[test]
fn a_broken_redirect_is_a_failure() {
    let (outcome, _) = checked([reply(302, Some("/%zz"), "")], &json!({"path": "/", "port": 80}));
    let message =
        r#"Get "http://10.0.0.1:80/": failed to parse Location header "/%zz": parse "/%zz": invalid URL escape"#;
    assert_eq!(outcome, Ok(Outcome::fail(message)));
}

#[test]
fn all_requests_share_one_deadline() {
    thread_local!(static NOW: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) });
    let net = FakePodNet {
        http: Script::new([reply(302, Some("/b"), ""), reply(302, Some("/c"), "")]),
        ..FakePodNet::default()
    };
    let exec = FakeExec::default();
    let target = Target {
        net: &net,
        exec: &exec,
        pod_ip: Some("10.0.0.1".to_owned()),
        container: &|| CONTAINER.to_owned(),
        // 400 ms pass between any two looks at the clock.
        clock: || NOW.replace(NOW.get() + Duration::from_millis(400)),
    };
    let outcome = check(
        &target,
        r#"{"httpGet": {"path": "/", "port": 80}}"#,
        Duration::from_secs(1),
    )
    .unwrap();
    assert_eq!(outcome.verdict, Verdict::Fail);
    assert_eq!(
        outcome.message,
        r#"Get "http://10.0.0.1:80/c": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"#
    );
    assert_eq!(
        net.http.asked().iter().map(|r| r.timeout_ms).collect::<Vec<_>>(),
        [600, 200]
    );
}

#[test]
fn another_host_is_connected_to() {
    let (_, asked) = checked([reply(200, None, "")], &json!({"host": "fd00::2", "port": 80}));
    assert_eq!(asked[0].host.as_deref(), Some("fd00::2"));
    assert_eq!(headers(&asked[0])[0], "Host: [fd00::2]:80");
}
