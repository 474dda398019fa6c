//! Connections to the API.
//!
//! In: the socket, the shutdown token, renewed TLS settings. Out: requests to [`Api`]. At shutdown watches end at once.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use witlet_net::Http;

use crate::auth::Identity;
use crate::rest::Api;

const MAX_CONNECTIONS: usize = 2048;
const HANDSHAKE: Duration = Duration::from_secs(10);
const DRAIN: Duration = Duration::from_secs(5);
const HTTP: Http = Http {
    // Longer than clients keep theirs, so that they are the ones to close.
    head: Duration::from_secs(150),
    head_bytes: None,
    streams: 1000,
};

pub(crate) async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    api: Arc<Api>,
    shutdown: CancellationToken,
) {
    let stop = shutdown.clone();
    let connection = move |stream, peer| {
        let (tls, api, stop) = (tls.borrow().clone(), api.clone(), stop.clone());
        async move {
            let Some(stream) = witlet_net::shake_hands(stream, peer, tls, HANDSHAKE).await else {
                return;
            };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let identity = certificate.and_then(|der| Identity::of_certificate(der));
            let answer = move |request| {
                let (api, identity) = (api.clone(), identity.clone());
                async move { api.answer(request, identity).await }
            };
            witlet_net::serve(stream, peer, HTTP, answer, std::future::pending(), stop).await;
        }
    };
    witlet_net::accept(
        listener,
        "the standalone API",
        MAX_CONNECTIONS,
        DRAIN,
        shutdown,
        connection,
    )
    .await;
}
