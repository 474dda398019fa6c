#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use http_body_util::BodyExt;
use witlet_ports::Error;

use super::*;

/// Knows the tokens `good` of `ann` and `weak` of `wolf`; ann may do what `allowed` lists.
#[derive(Default)]
struct Api {
    allowed: Vec<Attributes>,
    failures: AtomicUsize,
    tokens_asked: AtomicUsize,
    asked: Mutex<Vec<Attributes>>,
}

fn user(name: &str) -> User {
    User {
        name: name.into(),
        groups: vec![format!("{name}s")],
        ..User::default()
    }
}

impl Api {
    fn fail(&self) -> Result<()> {
        match self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        {
            Ok(_) => Err(Error::retry("the API is away")),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Access for Api {
    async fn identify(&self, token: &str) -> Result<Option<User>> {
        self.tokens_asked.fetch_add(1, Ordering::SeqCst);
        self.fail()?;
        Ok(match token {
            "good" => Some(user("ann")),
            "weak" => Some(user("wolf")),
            _ => None,
        })
    }

    async fn may(&self, user: &User, attributes: Attributes) -> Result<bool> {
        self.fail()?;
        self.asked.lock().unwrap().push(attributes);
        assert!(user.name == "system:anonymous" || user.groups.iter().any(|g| g == "system:authenticated"));
        Ok(user.name == "ann" && self.allowed.contains(&attributes))
    }
}

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    headers
}

fn guard(api: Arc<Api>, anonymous: bool) -> Guard {
    let authentication = Authentication {
        anonymous,
        ..Authentication::default()
    };
    Guard::new(api, authentication, Authorization::default())
}

/// Status and text, or whose request it is.
async fn check(guard: &Guard, request: &str, headers: &HeaderMap, presented: &Presented) -> (u16, String) {
    let (method, path) = request.split_once(' ').unwrap();
    match guard.check(&method.parse().unwrap(), path, headers, presented).await {
        Ok(user) => (200, user.name),
        Err(reply) => {
            let status = reply.status().as_u16();
            let bytes = reply.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(bytes.to_vec()).unwrap())
        }
    }
}

/// Every endpoint with its verb and the subresources that are tried.
const ENDPOINTS: &[(&str, &str, &[&str])] = &[
    ("GET /healthz", "get", &["healthz", "proxy"]),
    ("HEAD /healthz", "", &["healthz", "proxy"]),
    ("GET /healthz/syncloop", "get", &["healthz", "proxy"]),
    ("GET /pods", "get", &["pods", "proxy"]),
    ("GET /pods/", "get", &["pods", "proxy"]),
    ("GET /podsx", "get", &["proxy"]),
    ("GET /runningpods/", "get", &["pods", "proxy"]),
    ("GET /configz", "get", &["configz", "proxy"]),
    ("GET /stats/summary", "get", &["stats"]),
    ("POST /stats/summary", "create", &["stats"]),
    ("GET /metrics", "get", &["metrics"]),
    ("GET /metrics/slis", "get", &["metrics"]),
    ("DELETE /metrics/slis", "delete", &["metrics"]),
    ("GET /metrics/cadvisor", "get", &["metrics"]),
    ("GET /metrics/resource", "get", &["metrics"]),
    ("GET /metrics/probes", "get", &["metrics"]),
    ("GET /%6detrics", "get", &["metrics"]),
    ("GET /logs/syslog", "get", &["log"]),
    ("GET /logsx", "get", &["proxy"]),
    ("POST /checkpoint/ns/p/c", "create", &["checkpoint"]),
    ("GET /flagz", "get", &["configz"]),
    ("GET /statusz", "get", &["statusz"]),
    ("POST /run/ns/p/c", "create", &["proxy"]),
    ("GET /exec/ns/p/c", "get", &["proxy"]),
    ("POST /exec/ns/p/c", "create", &["proxy"]),
    ("POST /attach/ns/p/c", "create", &["proxy"]),
    ("POST /portForward/ns/p", "create", &["proxy"]),
    ("GET /containerLogs/ns/p/c", "get", &["proxy"]),
    ("GET /debug/pprof/heap", "get", &["proxy"]),
    ("PUT /debug/flags/v", "update", &["proxy"]),
    ("PATCH /nothing", "patch", &["proxy"]),
    ("GET /", "get", &["proxy"]),
];

#[tokio::test]
async fn every_endpoint_for_everybody() {
    for (request, verb, subresources) in ENDPOINTS {
        let all: Vec<Attributes> = subresources
            .iter()
            .map(|subresource| Attributes { verb, subresource })
            .collect();
        let forbidden = |user: &str| {
            let list = subresources.join(" ");
            (
                403,
                format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n"),
            )
        };
        let unauthorized = (401, "Unauthorized".to_owned());
        // The last subresource alone is enough, which is `proxy` for the fine-grained ones.
        let last = all.last().copied().unwrap();
        let api = Arc::new(Api {
            allowed: vec![last],
            ..Api::default()
        });
        let (strict, open) = (guard(api.clone(), false), guard(api.clone(), true));
        let of = |name: &str| Presented::User(user(name));
        let table = [
            (&strict, "", Presented::Nothing, unauthorized.clone()),
            (&open, "", Presented::Nothing, forbidden("system:anonymous")),
            (&strict, "bad", Presented::Nothing, unauthorized.clone()),
            // A wrong credential is not none.
            (&open, "bad", Presented::Nothing, unauthorized.clone()),
            (&open, "", Presented::Invalid, unauthorized.clone()),
            (&strict, "weak", Presented::Nothing, forbidden("wolf")),
            (&strict, "good", Presented::Nothing, (200, "ann".to_owned())),
            // A good token heals a bad certificate; a good certificate needs no token.
            (&strict, "good", Presented::Invalid, (200, "ann".to_owned())),
            (&strict, "", of("ann"), (200, "ann".to_owned())),
            (&strict, "bad", of("ann"), (200, "ann".to_owned())),
            (&strict, "", of("wolf"), forbidden("wolf")),
        ];
        for (guard, token, presented, expected) in table {
            let got = check(guard, request, &bearer(token), &presented).await;
            assert_eq!(got, expected, "{request} {token:?} {presented:?}");
        }
        let asked = api.asked.lock().unwrap().clone();
        assert!(asked.starts_with(&all), "{request}: {asked:?}");

        let allow = Guard::new(api, Authentication::default(), Authorization::AlwaysAllow);
        assert_eq!(
            check(&allow, request, &bearer("weak"), &Presented::Nothing).await.0,
            200
        );
        assert_eq!(
            check(&allow, request, &bearer(""), &Presented::Nothing).await,
            unauthorized
        );
    }
}

#[tokio::test]
async fn answers_are_remembered_for_a_while() {
    let api = Arc::new(Api::default());
    let mut guard = guard(api.clone(), false);
    let (start, passed) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let clock = passed.clone();
    guard.now = Box::new(move || start + Duration::from_secs(clock.load(Ordering::SeqCst)));
    let ask = async |token: &str| {
        check(&guard, "GET /metrics", &bearer(token), &Presented::Nothing)
            .await
            .0
    };
    let counts = || (api.tokens_asked.load(Ordering::SeqCst), api.asked.lock().unwrap().len());
    for _ in 0..3 {
        assert_eq!((ask("good").await, ask("bad").await), (403, 401));
    }
    assert_eq!(counts(), (2, 1));
    passed.store(31, Ordering::SeqCst);
    ask("good").await;
    assert_eq!(counts(), (2, 2), "a denial holds 30 seconds");
    passed.store(121, Ordering::SeqCst);
    ask("bad").await;
    assert_eq!(counts(), (3, 2), "a token two minutes");
}

#[tokio::test]
async fn an_api_that_is_away_is_asked_again() {
    let api = Arc::new(Api {
        failures: AtomicUsize::new(4),
        ..Api::default()
    });
    let mut guard = guard(api.clone(), false);
    guard.first_pause = Duration::from_millis(1);
    assert_eq!(
        check(&guard, "GET /metrics", &bearer("good"), &Presented::Nothing)
            .await
            .0,
        403
    );
    api.failures.store(100, Ordering::SeqCst);
    let (status, text) = check(&guard, "GET /pods", &bearer("good"), &Presented::Nothing).await;
    assert_eq!(status, 500);
    assert_eq!(
        text,
        "Authorization error (user=ann, verb=get, resource=nodes, subresource=pods)"
    );
    assert_eq!(
        check(&guard, "GET /pods", &bearer("new"), &Presented::Nothing).await.0,
        401
    );
}

#[test]
fn tokens_are_found() {
    let of = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        token(&headers)
    };
    assert_eq!(of(&[("authorization", "Bearer abc")]).as_deref(), Some("abc"));
    assert_eq!(of(&[("authorization", "bearer abc")]).as_deref(), Some("abc"));
    assert_eq!(of(&[("authorization", "Basic abc")]), None);
    assert_eq!(of(&[("authorization", "Bearer ")]), None);
    let protocols = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
    assert_eq!(of(&[("sec-websocket-protocol", protocols)]), None);
    let headers = [("sec-websocket-protocol", protocols), ("upgrade", "websocket")];
    assert_eq!(of(&headers).as_deref(), Some("abc"));
}

#[tokio::test]
async fn what_the_api_is_asked_is_counted() {
    let api = Arc::new(Api {
        failures: AtomicUsize::new(1),
        ..Api::default()
    });
    let requests = Arc::new(Requests::default());
    let mut guard = guard(api, false).counting(requests.clone());
    guard.first_pause = Duration::ZERO;
    for _ in 0..2 {
        let token = bearer("good");
        let check = guard.check(&Method::GET, "/metrics", &token, &Presented::Nothing);
        assert!(check.await.is_err(), "ann may do nothing");
    }
    let value = |name: &str, label: &str| {
        let families = requests.families();
        let samples = families.into_iter().flat_map(|f| f.samples);
        let mut mine = samples.filter(|s| s.name == name && s.labels.iter().any(|(_, v)| v == label));
        mine.next().map(|s| s.value)
    };
    for (name, label, expected) in [
        ("apiserver_delegated_authn_request_total", "<error>", Some(1.0)),
        ("apiserver_delegated_authn_request_total", "201", Some(1.0)),
        (
            "apiserver_delegated_authn_request_duration_seconds_count",
            "201",
            Some(1.0),
        ),
        ("apiserver_delegated_authz_request_total", "201", Some(1.0)),
        ("authentication_token_cache_request_total", "miss", Some(1.0)),
        ("authentication_token_cache_request_total", "hit", Some(1.0)),
        ("authentication_token_cache_active_fetch_count", "in_flight", Some(0.0)),
    ] {
        assert_eq!(value(name, label), expected, "{name} {label}");
    }
}
