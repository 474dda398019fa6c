//! Who asks, and what they get.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use witlet_core::x509;

use crate::{Asked, BOOTSTRAP_TOKEN, Inner, Mode, OPERATOR_TOKEN, Seen, VIEWER_TOKEN};

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

const SIGNING_REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

impl Inner {
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: Option<Vec<u8>>, connection: u64) -> Answer {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return failure(400, "BadRequest");
        };
        let body = body.to_bytes();
        let token = parts
            .headers
            .get("authorization")
            .map(|v| v.to_str().unwrap().replace("Bearer ", "token "));
        let named = peer.as_deref().and_then(x509::read).map(|c| c.common_name);
        let user = named.or(token).unwrap_or_else(|| "anonymous".into());
        let query = parts.uri.query().unwrap_or_default();
        let watch = query.contains("watch=true");
        let path = parts.uri.path().to_owned();
        self.seen.lock().unwrap().push(Seen {
            user: user.clone(),
            method: parts.method.to_string(),
            path: path.clone(),
            watch,
            connection,
            certificate: peer.unwrap_or_default(),
        });
        if *self.mode.borrow() == Mode::Down {
            return failure(503, "ServiceUnavailable");
        }
        let bootstrapping = user == format!("token {BOOTSTRAP_TOKEN}");
        if !bootstrapping && !user.starts_with("system:node:") {
            return failure(401, "Unauthorized");
        }
        if path == "/healthz" {
            return Response::new(Full::new(Bytes::from("ok")).boxed_unsync());
        }
        if !path.starts_with(SIGNING_REQUESTS) {
            return match (&self.objects, path.as_str()) {
                (Some(_), _) if bootstrapping => failure(403, "Forbidden"),
                (Some(_), "/apis/authentication.k8s.io/v1/tokenreviews") => token_review(&body),
                (Some(_), "/apis/authorization.k8s.io/v1/subjectaccessreviews") => access_review(&body),
                (Some(objects), _) => self.until_down(objects.forward(parts, body).await),
                (None, _) if watch => stream(futures::stream::pending().boxed()),
                (None, path) if path.ends_with("/nodes") => json_answer(200, &list(&[])),
                (None, _) => failure(404, "NotFound"),
            };
        }
        if parts.method == "POST" {
            return self.create(serde_json::from_slice(&body).unwrap(), user);
        }
        let name = query.split('&').find_map(|p| {
            p.strip_prefix("fieldSelector=metadata.name%3D")
                .or(p.strip_prefix("fieldSelector=metadata.name="))
        });
        let name = name.unwrap_or_else(|| path.rsplit('/').next().unwrap()).to_owned();
        if watch {
            return self.watch(name);
        }
        let found = self.requests.lock().unwrap().get(&name).cloned();
        match (found, path.ends_with("certificatesigningrequests")) {
            (found, true) => json_answer(200, &list(&found.into_iter().collect::<Vec<_>>())),
            (Some(found), false) => json_answer(200, &found),
            (None, false) => failure(404, "NotFound"),
        }
    }

    /// A watch that is open when the server goes down ends with it.
    fn until_down(&self, answer: Answer) -> Answer {
        let mut mode = self.mode.subscribe();
        answer.map(|body| {
            let down = async move { drop(mode.wait_for(|mode| *mode == Mode::Down).await) };
            StreamBody::new(BodyStream::new(body).take_until(Box::pin(down))).boxed_unsync()
        })
    }

    fn create(&self, mut request: Value, user: String) -> Answer {
        let prefix = request["metadata"]["generateName"].as_str().map(str::to_owned);
        let count = self.order.lock().unwrap().len();
        let name = match request["metadata"]["name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("{}{count}", prefix.unwrap()),
        };
        if self.requests.lock().unwrap().contains_key(&name) {
            return failure(409, "AlreadyExists");
        }
        let metadata = &mut request["metadata"];
        metadata["name"] = json!(name);
        metadata["uid"] = json!(format!("uid-{name}"));
        metadata["resourceVersion"] = json!("1");
        self.order.lock().unwrap().push(Asked {
            name: name.clone(),
            signer: request["spec"]["signerName"].as_str().unwrap().into(),
            user,
        });
        self.requests.lock().unwrap().insert(name.clone(), request.clone());
        self.decide(&name);
        json_answer(201, &request)
    }

    pub(crate) fn decide(&self, name: &str) {
        let mode = *self.mode.borrow();
        let mut requests = self.requests.lock().unwrap();
        let request = requests.get_mut(name).unwrap();
        let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "Test", "message": "so be it"}]);
        request["status"] = match mode {
            Mode::Hold | Mode::Down => return,
            Mode::Deny => json!({"conditions": condition("Denied")}),
            Mode::Sign => {
                json!({"conditions": condition("Approved"), "certificate": STANDARD.encode(self.sign(request))})
            }
        };
        request["metadata"]["resourceVersion"] = json!("2");
        drop(requests);
        self.changed.send_modify(|n| *n += 1);
    }

    fn sign(&self, request: &Value) -> String {
        let pem = STANDARD.decode(request["spec"]["request"].as_str().unwrap()).unwrap();
        let lifetime = *self.lifetime.lock().unwrap();
        self.authority
            .sign(&pem, &format!("system:node:{}", self.node), lifetime)
    }

    /// The request as it is, and whenever one was decided.
    fn watch(&self, name: String) -> Answer {
        let (mut changed, requests) = (self.changed.subscribe(), self.requests.clone());
        changed.mark_changed();
        let lines = futures::stream::unfold(changed, move |mut changed| {
            let (requests, name) = (requests.clone(), name.clone());
            async move {
                changed.changed().await.ok()?;
                let object = requests.lock().unwrap().get(&name).cloned()?;
                Some((format!("{}\n", json!({"type": "MODIFIED", "object": object})), changed))
            }
        });
        stream(lines.boxed())
    }
}

fn token_review(body: &[u8]) -> Answer {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    review["status"] = if [OPERATOR_TOKEN, VIEWER_TOKEN].contains(&token) {
        json!({"authenticated": true, "user": {"username": token, "groups": ["system:authenticated"]}})
    } else {
        json!({"authenticated": false, "error": "invalid bearer token"})
    };
    json_answer(201, &review)
}

fn access_review(body: &[u8]) -> Answer {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    let spec = &review["spec"];
    let metrics = spec["resourceAttributes"]["subresource"] == "metrics";
    let allowed = spec["user"] == OPERATOR_TOKEN || (spec["user"] == VIEWER_TOKEN && metrics);
    review["status"] = json!({"allowed": allowed});
    json_answer(201, &review)
}

fn stream(lines: futures::stream::BoxStream<'static, String>) -> Answer {
    let frames = lines.map(|line| Ok(Frame::data(Bytes::from(line))));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    let answer = Response::builder()
        .status(code)
        .header("content-type", "application/json");
    answer.body(body).unwrap()
}

pub(crate) fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": reason});
    json_answer(code, &status)
}
