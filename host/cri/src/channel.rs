//! The connection to a runtime's socket: made when it is first needed and again whenever it broke, so that a restart of the
//! runtime heals by itself.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use witlet_ports::{Class, Error, Result};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long not to try again after failures. Calls in between fail at once with the last error: their callers have
/// back-offs of their own, and a call that waited here would use up its deadline.
#[derive(Default)]
struct BackOff {
    delay: Duration,
    failed: Option<(Instant, io::ErrorKind, String)>,
}

impl BackOff {
    fn closed(&self, now: Instant) -> Option<io::Error> {
        let (since, kind, message) = self.failed.as_ref()?;
        (now < *since + self.delay).then(|| io::Error::new(*kind, message.clone()))
    }

    fn failed(&mut self, now: Instant, error: &io::Error) {
        self.delay = (self.delay * 2).clamp(FIRST_DELAY, LAST_DELAY);
        self.failed = Some((now, error.kind(), error.to_string()));
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }
}

/// The socket of an endpoint as configurations write it.
pub(crate) fn socket(endpoint: &str) -> Result<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if path.starts_with('/') {
        return Ok(path.into());
    }
    Err(Error::terminal(format!(
        "{endpoint:?} is not an endpoint of a container runtime: it must be the path of a unix socket, such as \
         unix:///run/containerd/containerd.sock"
    )))
}

/// Must be called within a tokio runtime.
pub(crate) fn open(socket: &Path) -> Channel {
    let socket: Arc<Path> = socket.into();
    let back_off = Arc::new(Mutex::new(BackOff::default()));
    // The name only becomes the `:authority` of requests; the connector knows where to go.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_| {
        let (socket, back_off) = (socket.clone(), back_off.clone());
        async move {
            let lock = || back_off.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = lock().closed(Instant::now()) {
                return Err(error);
            }
            let connected = match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&socket)).await {
                Ok(result) => result,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nobody accepts the connection")),
            };
            match &connected {
                Ok(_) => lock().succeeded(),
                Err(e) => lock().failed(Instant::now(), e),
            }
            connected.map(TokioIo::new)
        }
    }))
}

/// Looks at the socket the way a person would: the error says what to do.
pub(crate) async fn inspect(socket: &Path, which: &str) -> Result<()> {
    let at = socket.display();
    match tokio::fs::metadata(socket).await {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(Error::terminal(format!(
                "{at} is not a socket: set {which} to the socket of the container runtime"
            )));
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::retry(format!(
                "there is no socket at {at}: start the container runtime, or set {which} to where its socket is \
                 (containerd: unix:///run/containerd/containerd.sock, CRI-O: unix:///run/crio/crio.sock)"
            ))
            .with_source(e));
        }
        Err(e) => return Err(unreachable(socket, which, e)),
    }
    match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(unreachable(socket, which, e)),
        Err(_) => Err(Error::new(
            Class::Timeout,
            format!("nobody accepts a connection at {at}: the container runtime hangs; look at its log"),
        )),
    }
}

fn unreachable(socket: &Path, which: &str, e: io::Error) -> Error {
    let at = socket.display();
    match e.kind() {
        io::ErrorKind::PermissionDenied => Error::denied(format!("no permission to open {at}: run witlet as root")),
        io::ErrorKind::ConnectionRefused => Error::retry(format!(
            "nobody listens at {at}: the container runtime left its socket behind; start it (again), or correct {which}"
        )),
        _ => Error::retry(format!("cannot open {at}: {e}")),
    }
    .with_source(e)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!(
            socket("unix:///run/containerd/containerd.sock").unwrap(),
            Path::new("/run/containerd/containerd.sock")
        );
        assert_eq!(socket("/run/crio/crio.sock").unwrap(), Path::new("/run/crio/crio.sock"));
        for bad in ["", "unix://", "tcp://127.0.0.1:1", "run/x.sock", "npipe:////./pipe/x"] {
            let error = socket(bad).unwrap_err();
            assert_eq!(error.class, Class::Terminal);
            assert!(
                error.message.contains("unix:///run/containerd/containerd.sock"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_back_off_grows_up_to_its_end_and_is_forgotten() {
        let start = Instant::now();
        let error = io::Error::from(io::ErrorKind::NotFound);
        let mut back_off = BackOff::default();
        assert!(back_off.closed(start).is_none());
        for expected in [100, 200, 400, 800, 1600, 3000, 3000] {
            back_off.failed(start, &error);
            let expected = Duration::from_millis(expected);
            let again = back_off.closed(start + expected - Duration::from_millis(1)).unwrap();
            assert_eq!(again.kind(), io::ErrorKind::NotFound);
            assert!(back_off.closed(start + expected).is_none());
        }
        back_off.succeeded();
        assert!(back_off.closed(start).is_none());
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_socket_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let missing = inspect(&path, "runtime endpoint").await.unwrap_err();
        assert_eq!(missing.class, Class::Retry);
        assert!(missing.message.starts_with("there is no socket at "), "{missing}");
        assert!(missing.message.contains("runtime endpoint"), "{missing}");

        std::fs::write(&path, "").unwrap();
        let file = inspect(&path, "runtime endpoint").await.unwrap_err();
        assert_eq!(file.class, Class::Terminal);
        assert!(file.message.contains("is not a socket"), "{file}");

        std::fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let stale = inspect(&path, "runtime endpoint").await.unwrap_err();
        assert_eq!(stale.class, Class::Retry);
        assert!(stale.message.starts_with("nobody listens at "), "{stale}");

        let denied = unreachable(&path, "runtime endpoint", io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.class, Class::Denied);
        assert!(denied.message.contains("as root"), "{denied}");
    }
}
