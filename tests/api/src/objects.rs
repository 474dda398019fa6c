//! Everything that a cluster keeps beside certificates: the embedded API, behind the server.

use bytes::Bytes;
use http::header;
use http::request::Parts;
use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::answer::Answer;

pub(crate) struct Objects {
    pub(crate) client: kube::Client,
    _stop: DropGuard,
    /// Removed with the server.
    _dir: tempfile::TempDir,
}

impl Objects {
    pub(crate) async fn start(node: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let config = witlet_standalone::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: dir.path().join("data"),
            kubeconfig: dir.path().join("kubeconfig"),
            node_name: node.to_owned(),
        };
        let server = witlet_standalone::start(config, stop.clone()).await.unwrap();
        let kubeconfig = Kubeconfig::read_from(&server.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Self {
            client: config.try_into().unwrap(),
            _stop: stop.drop_guard(),
            _dir: dir,
        }
    }

    /// The same request in the administrator's name.
    pub(crate) async fn forward(&self, mut parts: Parts, body: Bytes) -> Answer {
        for own in [header::AUTHORIZATION, header::HOST, header::CONTENT_LENGTH] {
            parts.headers.remove(own);
        }
        parts.version = http::Version::default();
        parts.extensions = http::Extensions::new();
        let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
        match self.client.send(request).await {
            // A body that breaks off ends here.
            Ok(answer) => answer.map(|body| {
                let frames = futures::StreamExt::take_while(http_body_util::BodyStream::new(body), |frame| {
                    std::future::ready(frame.is_ok())
                });
                let frames = futures::StreamExt::map(frames, |frame| Ok(frame.unwrap()));
                http_body_util::StreamBody::new(frames).boxed_unsync()
            }),
            Err(error) => crate::answer::failure(503, &error.to_string()),
        }
    }
}
