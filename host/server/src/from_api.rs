//! Requests as the API has them, for subresources of pods and of the node: what the API server does before it asks a node, for
//! an API that has the node in the same process.

use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use witlet_core::desired;
use witlet_core::ids::PodKey;
use witlet_core::proxied::Proxied;

use crate::pod_proxy;
use crate::query::{self, all, encode, get};
use crate::reply::{self, Reply};
use crate::service::Service;

/// The longest error text that is repeated to clients.
const LONGEST: usize = 64 * 1024;

/// What of the API is asked for; the caller has made sure that it may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiRequest {
    /// Namespace and name; none for the node itself.
    pub pod: Option<(String, String)>,
    /// `log`, `exec`, `attach`, `portforward` or `proxy`.
    pub subresource: String,
}

/// The answer while the agent still starts.
pub fn not_yet() -> Reply {
    status(
        StatusCode::SERVICE_UNAVAILABLE,
        "the node's agent is still starting; try again",
    )
}

impl Service {
    /// Answers as the API server would.
    pub async fn answer_api(&self, asked: ApiRequest, mut request: Request<Incoming>) -> Reply {
        if let (Some(pod), "proxy") = (&asked.pod, asked.subresource.as_str()) {
            return self.pod_proxy(pod, request).await;
        }
        let text = request.uri().query().unwrap_or_default();
        let target = match &asked.pod {
            None => Ok(below_proxy(request.uri().path(), text)),
            Some((namespace, name)) => {
                let key = PodKey {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                match self.pod(&key) {
                    None => Err((
                        StatusCode::BAD_REQUEST,
                        format!("pod {name} does not have a host assigned"),
                    )),
                    Some(pod) => of_pod(&pod, &asked.subresource, text),
                }
            }
        };
        let uri = target.and_then(|path| {
            path.parse::<Uri>()
                .map_err(|e| (StatusCode::BAD_REQUEST, format!("the request cannot be passed on: {e}")))
        });
        match uri {
            Err((code, message)) => status(code, &message),
            Ok(uri) => {
                *request.uri_mut() = uri;
                let reply = self.answer(request).await;
                // Those who ask for streams read the plain text.
                if asked.subresource == "log" && !reply.status().is_success() {
                    return explain(reply).await;
                }
                reply
            }
        }
    }
}

impl Service {
    async fn pod_proxy(&self, (namespace, name): &(String, String), request: Request<Incoming>) -> Reply {
        let path = request.uri().path().to_owned();
        let (written, rest) = pod_proxy::split(&path);
        let key = PodKey {
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let found = Proxied::parse(&query::decode(written, false)).and_then(|to| {
            let pod = self.pod(&key).ok_or_else(|| "address not allowed".to_owned())?;
            to.address(&pod).map(|address| (to, address))
        });
        match (found, self.hold()) {
            (Err(why), _) => status(StatusCode::BAD_REQUEST, &why),
            (_, Err(error)) => status(StatusCode::TOO_MANY_REQUESTS, &error.message),
            (Ok((to, address)), Ok(hold)) => pod_proxy::send(request, &to, address, rest, hold).await,
        }
    }
}

/// What stands behind `/api/v1/nodes/<name>/proxy`.
fn below_proxy(path: &str, query: &str) -> String {
    let rest = path.splitn(7, '/').nth(6).unwrap_or_default();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/{rest}{mark}{query}")
}

/// The node's path for a subresource of a pod.
fn of_pod(pod: &Pod, subresource: &str, text: &str) -> Result<String, (StatusCode, String)> {
    let parsed = query::parse(text);
    let on = |key: &str| get(&parsed, key).is_some_and(|v| !(v == "0" || v.eq_ignore_ascii_case("false")));
    let PodKey { namespace, name } = desired::key(pod);
    let place = format!("{}/{}", encode(&namespace), encode(&name));
    let streams = || -> Vec<String> {
        let names = [
            ("stdin", "input"),
            ("stdout", "output"),
            ("stderr", "error"),
            ("tty", "tty"),
        ];
        let wanted = names.into_iter().filter(|(api, _)| on(api));
        wanted.map(|(_, node)| format!("{node}=1")).collect()
    };
    match subresource {
        "log" => {
            let container = container(pod, get(&parsed, "container"))?;
            Ok(format!("/containerLogs/{place}/{container}?{text}"))
        }
        "exec" => {
            let container = container(pod, get(&parsed, "container"))?;
            let mut query = streams();
            query.extend(all(&parsed, "command").map(|word| format!("command={}", encode(word))));
            Ok(format!("/exec/{place}/{container}?{}", query.join("&")))
        }
        "attach" => {
            let container = container(pod, get(&parsed, "container"))?;
            Ok(format!("/attach/{place}/{container}?{}", streams().join("&")))
        }
        "portforward" => {
            let ports: Vec<String> = all(&parsed, "ports")
                .map(|port| format!("port={}", encode(port)))
                .collect();
            Ok(format!("/portForward/{place}?{}", ports.join("&")))
        }
        other => {
            let text = format!("pods/{other}: a node of its own does not have this");
            Err((StatusCode::NOT_IMPLEMENTED, text))
        }
    }
}

/// The container that is named, or the only one; in the API server's words where there is none.
fn container(pod: &Pod, named: Option<&str>) -> Result<String, (StatusCode, String)> {
    let bad = |text: String| Err((StatusCode::BAD_REQUEST, text));
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else {
        return bad(format!("a container name must be specified for pod {name}"));
    };
    match named.filter(|n| !n.is_empty()) {
        Some(wanted) if desired::containers(spec).any(|(_, c)| c.name == wanted) => Ok(encode(wanted)),
        Some(wanted) => bad(format!("container {wanted} is not valid for pod {name}")),
        None => match spec.containers.as_slice() {
            [only] => Ok(encode(&only.name)),
            several => {
                let list = |all: &[k8s_openapi::api::core::v1::Container]| {
                    all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(" ")
                };
                let mut text = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    list(several)
                );
                if let Some(init) = spec.init_containers.as_deref().filter(|i| !i.is_empty()) {
                    text.push_str(&format!(" or one of the init containers: [{}]", list(init)));
                }
                bad(text)
            }
        },
    }
}

/// The node's error as a `Status`.
async fn explain(reply: Reply) -> Reply {
    let code = reply.status();
    let body = http_body_util::Limited::new(reply.into_body(), LONGEST).collect().await;
    let text = body.map(|b| b.to_bytes()).unwrap_or_default();
    status(code, &String::from_utf8_lossy(&text))
}

pub(crate) fn status(code: StatusCode, message: &str) -> Reply {
    let reason = match code.as_u16() {
        400 => "BadRequest",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    reply::full(code, "application/json", body.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pod(containers: &[&str], init: &[&str]) -> Pod {
        let list = |names: &[&str]| names.iter().map(|n| json!({ "name": n })).collect::<Vec<_>>();
        let spec = json!({ "containers": list(containers), "initContainers": list(init) });
        serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "ns" }, "spec": spec })).unwrap()
    }

    #[test]
    fn the_nodes_paths() {
        let one = pod(&["app"], &[]);
        let two = pod(&["a", "b"], &["i"]);
        for (pod, subresource, query, expected) in [
            (
                &one,
                "log",
                "follow=true&tailLines=3",
                Ok("/containerLogs/ns/web/app?follow=true&tailLines=3"),
            ),
            (&two, "log", "container=i", Ok("/containerLogs/ns/web/i?container=i")),
            (
                &one,
                "exec",
                "command=sh&command=a+%26&stdin=true&stdout=true&stderr=false&tty=true",
                Ok("/exec/ns/web/app?input=1&output=1&tty=1&command=sh&command=a%20%26"),
            ),
            (&two, "attach", "container=b&stdout=1", Ok("/attach/ns/web/b?output=1")),
            (&one, "portforward", "ports=80", Ok("/portForward/ns/web?port=80")),
            (
                &two,
                "log",
                "",
                Err(
                    "a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [i]",
                ),
            ),
            (&one, "exec", "container=x", Err("container x is not valid for pod web")),
        ] {
            let got = of_pod(pod, subresource, query);
            assert_eq!(
                got.as_deref().map_err(|(_, text)| text.as_str()),
                expected,
                "{subresource} {query}"
            );
        }
    }

    #[test]
    fn the_nodes_proxy_is_stripped() {
        assert_eq!(
            below_proxy("/api/v1/nodes/n/proxy/stats/summary", "a=b"),
            "/stats/summary?a=b"
        );
        assert_eq!(below_proxy("/api/v1/nodes/n/proxy/", ""), "/");
        assert_eq!(below_proxy("/api/v1/nodes/n/proxy", ""), "/");
    }
}
