//! Lifecycle hooks: postStart and preStop (the kubelet contract, pod section 7).

use std::time::Duration;

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use witlet_ports::{Error, Result};

use crate::context::Context;

const USER_AGENT: &str = "kube-lifecycle/1.36";

/// Runs one handler to its end. It has no time limit of its own.
pub(super) async fn run(
    context: &Context,
    pod: &Pod,
    container: &Container,
    id: &str,
    handler: &LifecycleHandler,
) -> Result<()> {
    if let Some(exec) = &handler.exec {
        let argv = exec.command.clone().unwrap_or_default();
        let output = context.ports.runtime.exec_sync(id, &argv, None).await?;
        if output.exit_code != 0 {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            return Err(Error::terminal(format!(
                "command '{}' exited with {}: {text}",
                argv.join(" "),
                output.exit_code
            )));
        }
        Ok(())
    } else if let Some(http) = &handler.http_get {
        http_get(pod, container, http).await
    } else if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.try_into().unwrap_or(0))).await;
        Ok(())
    } else {
        Err(Error::terminal(format!(
            "Cannot run handler: invalid handler: {handler:?}"
        )))
    }
}

/// Only a failure to exchange counts; the status code does not.
async fn http_get(pod: &Pod, container: &Container, get: &HTTPGetAction) -> Result<()> {
    if get.scheme.as_deref() == Some("HTTPS") {
        return Err(Error::terminal(
            "HTTPS lifecycle hooks are not supported yet; use HTTP or exec",
        ));
    }
    let pod_ip = pod.status.as_ref().and_then(|s| s.pod_ip.clone());
    let host = get.host.clone().filter(|h| !h.is_empty()).or(pod_ip);
    let host = host.ok_or_else(|| Error::retry("the pod has no address yet"))?;
    let port = port(container, &get.port)?;
    let failed = |what: &str, e: &dyn std::fmt::Display| Error::retry(format!("{what} {host}:{port}: {e}"));

    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(|e| failed("cannot connect to", &e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed("no HTTP with", &e))?;
    let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let mut request = http::Request::get(path)
        .header("User-Agent", USER_AGENT)
        .header("Accept", "*/*");
    let headers = get.http_headers.as_deref().unwrap_or_default();
    if !headers.iter().any(|h| h.name.eq_ignore_ascii_case("host")) {
        request = request.header("Host", format!("{host}:{port}"));
    }
    for header in headers {
        request = request.header(&header.name, &header.value);
    }
    let request = request
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| Error::terminal(format!("invalid httpGet: {e}")))?;
    tokio::select! {
        reply = sender.send_request(request) => reply.map(|_| ()).map_err(|e| failed("no answer from", &e)),
        // The connection ends only by failing before the answer.
        ended = connection => Err(failed("connection lost to", &ended.err().map_or("closed".into(), |e| e.to_string()))),
    }
}

fn port(container: &Container, port: &IntOrString) -> Result<u16> {
    let number = match port {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| Error::terminal(format!("container {} has no port {port:?}", container.name)))
}
