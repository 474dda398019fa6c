//! A connection to the API that follows its kubeconfig.
//!
//! Certificates are renewed under a running node: by the embedded API, by whoever rotates a kubelet's. The files are looked
//! at again every few seconds while there are requests, and a change makes a new client; requests under way end on the old
//! one. A kubeconfig that is broken in between leaves the old client in place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tracing::{info, warn};

use crate::client::{ConnectError, chain};

const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Link {
    path: PathBuf,
    current: ArcSwap<kube::Client>,
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    stamp: Stamp,
}

/// Files with their times of change; none for one that is not there.
type Stamp = Vec<(PathBuf, Option<SystemTime>)>;

impl Link {
    pub(crate) async fn open(path: &Path) -> Result<Arc<Self>, ConnectError> {
        let (client, files) = build(path).await?;
        let looked = Mutex::new(Looked {
            at: Instant::now(),
            stamp: stamp(files),
        });
        Ok(Arc::new(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(client),
            looked,
        }))
    }

    /// A client that uses whatever the link stands for at the moment.
    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let link = self.clone();
        let service = tower::service_fn(move |request| {
            let link = link.clone();
            async move {
                link.look().await;
                let client = kube::Client::clone(&link.current.load());
                client.send(request).await
            }
        });
        kube::Client::new(service, "default")
    }

    /// Makes a new client if the files changed.
    async fn look(&self) {
        let changed = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.at.elapsed() < LOOK_EVERY {
                return;
            }
            looked.at = Instant::now();
            let now = stamp(looked.stamp.iter().map(|(path, _)| path.clone()));
            let changed = now != looked.stamp;
            looked.stamp = now;
            changed
        };
        if changed {
            self.reopen().await;
        }
    }

    /// Drops the connections and reads the kubeconfig anew.
    pub(crate) async fn reopen(&self) {
        match build(&self.path).await {
            Ok((client, files)) => {
                self.current.store(Arc::new(client));
                self.looked.lock().unwrap_or_else(PoisonError::into_inner).stamp = stamp(files);
                info!(kubeconfig = %self.path.display(), "connecting to the API anew");
            }
            Err(error) => warn!(%error, "the kubeconfig cannot be used any more; the old connection stays"),
        }
    }

    #[cfg(test)]
    fn look_now(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.at = Instant::now().checked_sub(LOOK_EVERY * 2).unwrap_or(looked.at);
    }
}

fn stamp(files: impl IntoIterator<Item = PathBuf>) -> Stamp {
    let time = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    files
        .into_iter()
        .map(|path| (time(&path), path))
        .map(|(time, path)| (path, time))
        .collect()
}

/// The client, and the files that it was made of.
async fn build(path: &Path) -> Result<(kube::Client, Vec<PathBuf>), ConnectError> {
    let invalid = |message: String| ConnectError::Invalid {
        path: path.to_owned(),
        message,
    };
    let file = Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(source, _) => ConnectError::Unreadable {
            path: path.to_owned(),
            source,
        },
        other => invalid(first_line(&other.to_string())),
    })?;
    if file.clusters.is_empty() && file.contexts.is_empty() {
        return Err(invalid("it names no cluster and no context".into()));
    }
    let mut files = vec![path.to_owned()];
    for user in file.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        let named = [&user.client_certificate, &user.client_key];
        files.extend(named.into_iter().flatten().map(PathBuf::from));
    }
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|e| invalid(explain(&e)))?;
    // Every caller retries by what it wants; retries below would only hide how the API is.
    config.default_retry = false;
    let client =
        kube::Client::try_from(config).map_err(|e| invalid(format!("no client can be made of it: {}", chain(&e))))?;
    Ok((client, files))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn explain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => "current-context is not set".into(),
        KubeconfigError::LoadContext(name) => format!("there is no context {name:?}, which current-context names"),
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("there is no cluster {name:?}, which the context names")
        }
        other => first_line(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn write(path: &Path, server: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
        );
        std::fs::write(path, text).unwrap();
    }

    /// An HTTP server that answers one request with a version of its own.
    async fn server(version: &'static str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await.unwrap();
            let body = format!(
                r#"{{"major":"1","minor":"{version}","gitVersion":"","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}}"#
            );
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ";
            stream
                .write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())
                .await
                .unwrap();
        });
        address
    }

    #[tokio::test]
    async fn a_changed_kubeconfig_is_followed_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        write(&path, &server("1").await);
        let link = Link::open(&path).await.unwrap();
        let client = link.client();
        assert_eq!(client.apiserver_version().await.unwrap().minor, "1");
        write(&path, &server("2").await);
        link.look_now();
        assert_eq!(client.apiserver_version().await.unwrap().minor, "2");
        let before = Arc::as_ptr(&link.current.load());
        std::fs::write(&path, "broken: [").unwrap();
        link.reopen().await;
        assert_eq!(Arc::as_ptr(&link.current.load()), before);
    }
}
