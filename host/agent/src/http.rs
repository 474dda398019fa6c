//! `/healthz`, `/readyz`, `/metrics` and what pods use, on a local port, without authentication.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use witlet_ports::sink::Family;

use crate::metrics;
use crate::stats::Stats;

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the endpoints answer from.
pub struct Health {
    /// None when healthy, else what is wrong.
    pub problem: Box<dyn Fn() -> Option<String> + Send + Sync>,
    pub families: Box<dyn Fn() -> Vec<Family> + Send + Sync>,
    pub stats: Stats,
}

pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until shutdown. Connections beyond the limit wait.
pub async fn serve(listener: TcpListener, health: Arc<Health>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors or the like: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let health = health.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let health = health.clone();
                async move { Ok::<_, Infallible>(answer(&request, &health).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "health connection");
            }
            drop(slot);
        });
    }
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn answer(request: &Request<Incoming>, health: &Health) -> Response<Full<Bytes>> {
    let stats = &health.stats;
    let (status, kind, body) = match request.uri().path() {
        "/healthz" | "/livez" | "/readyz" => match (health.problem)() {
            None => (StatusCode::OK, TEXT, "ok".into()),
            Some(problem) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, problem),
        },
        "/metrics" => {
            stats.refresh().await;
            (StatusCode::OK, TEXT, metrics::text(&(health.families)()))
        }
        "/metrics/resource" => (StatusCode::OK, TEXT, stats.resource_metrics().await),
        "/metrics/cadvisor" => (StatusCode::OK, TEXT, stats.cadvisor_metrics().await),
        "/metrics/probes" => (StatusCode::OK, TEXT, stats.probe_metrics().await),
        "/stats/summary" => match stats.summary(only_cpu_and_memory(request.uri().query())).await {
            Ok(summary) => (StatusCode::OK, "application/json", summary.to_json()),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.message),
        },
        _ => (StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn only_cpu_and_memory(query: Option<&str>) -> bool {
    query.is_some_and(|q| q.split('&').any(|part| part == "only_cpu_and_memory=true"))
}
