//! Where device plugins register.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use witlet_core::devices::{check_endpoint, check_resource, check_version};

use crate::plugins::Plugins;
use crate::proto::device_plugin::registration_server::{Registration, RegistrationServer};
use crate::proto::device_plugin::{Empty, RegisterRequest};
use crate::{METERS, socket};

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("kubelet.sock")
}

/// Plugins see that the agent began anew by its new socket, and come again. Theirs are removed, so that none is taken for one
/// that is there.
pub(crate) fn start(plugins: Plugins, shutdown: CancellationToken) -> io::Result<()> {
    let dir = plugins.dir().to_owned();
    fs::DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_socket())
            && let Err(error) = fs::remove_file(entry.path())
        {
            warn!(%error, socket = %entry.path().display(), "cannot remove the socket of an earlier device plugin");
        }
    }
    let listener = socket::listen(&path(&dir))?;
    info!(socket = %path(&dir).display(), "device plugins may register");
    tokio::spawn(async move {
        let service = RegistrationServer::new(Service(plugins.clone()));
        let ended = tonic::transport::Server::builder()
            .serve_with_incoming_shutdown(
                service,
                UnixListenerStream::new(listener),
                shutdown.clone().cancelled_owned(),
            )
            .await;
        if shutdown.is_cancelled() {
            return;
        }
        let why = ended.map_or_else(|e| e.to_string(), |()| "it ended".into());
        warn!(why, "device plugins cannot register any more");
        plugins.set_problem(Some(
            "device plugin registration gRPC server failed and no device plugins can register".into(),
        ));
    });
    Ok(())
}

struct Service(Plugins);

#[tonic::async_trait]
impl Registration for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let checked = check_version(&request.version)
            .and_then(|()| check_resource(&request.resource_name))
            .and_then(|()| check_endpoint(&request.endpoint));
        let result = match checked {
            Ok(()) => {
                METERS.registrations.add(&[&request.resource_name]);
                let path = self.0.dir().join(&request.endpoint);
                self.0.connect(&request.resource_name, &path).await
            }
            Err(why) => Err(socket::harmless(&why)),
        };
        match result {
            Ok(()) => Ok(Response::new(Empty {})),
            Err(why) => {
                warn!(
                    why,
                    resource = socket::harmless(&request.resource_name),
                    "a device plugin could not register"
                );
                Err(Status::unknown(why))
            }
        }
    }
}
