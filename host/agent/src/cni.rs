//! The network of pods, as the container runtime asks for it: the other end of the CNI program `witlet-cni`.
//!
//! The runtime calls CNI while it runs a sandbox; `witlet-cni` hands each call over a unix socket to here, where the pod is
//! known and the network plugin runs. One request is a JSON object up to the end of the stream, and so is the answer.
//!
//! Tasks: one that accepts (in: connections, shutdown), one per request (in: the request; out: the answer). Requests for the
//! same attachment wait for each other, since a runtime that gave up an ADD sends the DEL while the ADD still runs.

mod records;
mod told;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use witlet_core::network_status;
use witlet_ports::api::Pods;
use witlet_ports::network::{Attachment, Network, Sandbox};
use witlet_ports::{Class, Error};

use records::{Record, Records};
use told::Told;

const MAX_REQUEST: u64 = 1 << 20;
/// For the request to come in and the answer to go out; both are there at once.
const TRANSFER: Duration = Duration::from_secs(10);
/// For the plugin; `witlet-cni` waits a little longer.
const PLUGIN: Duration = Duration::from_secs(120);
/// Attachments of which it is remembered that they are gone.
const REMEMBERED: usize = 1024;
/// For requests under way at shutdown.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where `witlet-cni` finds the agent; only this user may open it.
    pub socket: PathBuf,
    /// Records are kept in `attachments` below.
    pub state_dir: PathBuf,
}

/// Finds a pod by UID, namespace and name; the UID may be empty.
pub type FindPod = Arc<dyn Fn(&str, &str, &str) -> Option<Arc<Pod>> + Send + Sync>;

/// Listens already; `run` answers.
pub struct CniServer {
    listener: UnixListener,
    socket: PathBuf,
    /// Device and inode of the socket, to know it again.
    identity: (u64, u64),
    records: Records,
}

/// Binds and answers until shutdown.
pub async fn serve(
    config: Config,
    network: Arc<dyn Network>,
    pods: FindPod,
    shutdown: CancellationToken,
) -> io::Result<()> {
    CniServer::bind(&config)?.run(network, pods, None, shutdown).await;
    Ok(())
}

impl CniServer {
    /// Must be called within a tokio runtime. Takes over the socket that an agent left behind, but not that of one that runs.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let records = Records::open(&config.state_dir)?;
        let listener = listen(&config.socket).map_err(|e| at(&config.socket, &e))?;
        let identity = identity(&config.socket)?;
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            socket: config.socket.clone(),
            identity,
            records,
        })
    }

    /// Answers until shutdown, and then finishes what it has begun.
    pub async fn run(
        self,
        network: Arc<dyn Network>,
        pods: FindPod,
        api: Option<Arc<dyn Pods>>,
        shutdown: CancellationToken,
    ) {
        let told = api.map(|pods| Told {
            pods,
            shutdown: shutdown.clone(),
        });
        let handler = Arc::new(Handler {
            network,
            pods,
            told,
            records: self.records,
            locks: Mutex::default(),
            detached: Mutex::default(),
        });
        handler.tell_again().await;
        let mut requests = JoinSet::new();
        loop {
            // Nothing is lost when an arm is dropped: a connection that was not accepted stays in the backlog, and a task
            // that ended stays in the set.
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let handler = handler.clone();
                        requests.spawn(async move { handler.connection(stream).await });
                    }
                    Err(e) => {
                        // Out of files, most likely: there is no point in trying again at once.
                        tracing::warn!(error = %e, "cannot accept a request of witlet-cni");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(ended) = requests.join_next() => report(ended),
            }
        }
        // From now on `witlet-cni` helps itself.
        drop(self.listener);
        if identity(&self.socket).ok() == Some(self.identity) {
            let _ = fs::remove_file(&self.socket);
        }
        let drained = timeout(DRAIN, async {
            while let Some(ended) = requests.join_next().await {
                report(ended);
            }
        });
        if drained.await.is_err() {
            tracing::warn!(requests = requests.len(), "requests for pod networks are abandoned");
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended {
        tracing::error!(error = %e, "a request for a pod's network died");
    }
}

/// The socket appears at its place with its permissions: nobody else can open it at any moment.
fn listen(socket: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let parent = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    match fs::symlink_metadata(socket) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something that is not a socket",
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(socket).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there"));
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let private = parent.join(format!(".cni-{}", std::process::id()));
    // Left by an agent of the same process id that was killed just here.
    let _ = fs::remove_dir_all(&private);
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let bound = (|| {
        let hidden = private.join("s");
        let listener = std::os::unix::net::UnixListener::bind(&hidden)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
        fs::rename(&hidden, socket)?;
        Ok(listener)
    })();
    let _ = fs::remove_dir_all(&private);
    bound
}

fn identity(socket: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(socket).map(|meta| (meta.dev(), meta.ino()))
}

/// The same error, with the path.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

#[derive(Debug, Deserialize)]
struct Request {
    command: Command,
    sandbox: Sandbox,
}

/// What goes back, as `witlet-cni` reads it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// What is to be printed; nothing if none.
    Result(Option<String>),
    Error(CniError),
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct CniError {
    code: u32,
    msg: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    details: String,
}

/// Codes of the CNI specification; from 100 on they are the plugin's own.
mod code {
    pub(super) const UNKNOWN_CONTAINER: u32 = 3;
    pub(super) const INVALID_ENVIRONMENT: u32 = 4;
    pub(super) const IO: u32 = 5;
    pub(super) const DECODE: u32 = 6;
    pub(super) const INVALID_CONFIG: u32 = 7;
    pub(super) const TRY_AGAIN_LATER: u32 = 11;
    pub(super) const NOT_AVAILABLE: u32 = 50;
    pub(super) const FAILED: u32 = 100;
}

impl CniError {
    fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }
}

impl From<Error> for CniError {
    fn from(error: Error) -> Self {
        let code = match error.class {
            Class::Retry | Class::Timeout | Class::Conflict | Class::Exhausted => code::TRY_AGAIN_LATER,
            Class::NotFound => code::UNKNOWN_CONTAINER,
            Class::Terminal | Class::Denied | Class::Unimplemented | Class::Bug => code::FAILED,
        };
        let mut details = String::new();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            if !details.is_empty() {
                details.push_str(": ");
            }
            details.push_str(&cause.to_string());
            source = cause.source();
        }
        Self {
            code,
            msg: error.message,
            details,
        }
    }
}

type Outcome = Result<Option<String>, CniError>;

struct Handler {
    network: Arc<dyn Network>,
    pods: FindPod,
    /// None: nobody is told.
    told: Option<Told>,
    records: Records,
    /// One per attachment that a request is at.
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// The last that were detached. Runtimes send a second DEL when they remove a sandbox that was stopped before, and the
    /// whole chain would run for nothing.
    detached: Mutex<VecDeque<String>>,
}

impl Handler {
    async fn connection(&self, mut stream: UnixStream) {
        let answer = match self.request(&mut stream).await {
            Ok(request) => {
                let Request { command, ref sandbox } = request;
                let span = tracing::debug_span!("cni", ?command, sandbox = sandbox.id, ifname = sandbox.ifname);
                match self.call(&request).instrument(span.clone()).await {
                    Ok(result) => Answer::Result(result),
                    Err(e) => {
                        span.in_scope(|| {
                            tracing::warn!(code = e.code, details = e.details, "pod network: {}", e.msg);
                        });
                        Answer::Error(e)
                    }
                }
            }
            Err(e) => Answer::Error(e),
        };
        // A struct of strings and a number always becomes JSON. Who went away does not get it; the record has what it needs.
        let answer = serde_json::to_vec(&answer).unwrap_or_default();
        let sent = timeout(TRANSFER, async {
            stream.write_all(&answer).await?;
            stream.shutdown().await
        });
        if !matches!(sent.await, Ok(Ok(()))) {
            tracing::debug!("witlet-cni did not wait for the answer");
        }
    }

    async fn request(&self, stream: &mut UnixStream) -> Result<Request, CniError> {
        let peer = stream
            .peer_cred()
            .map_err(|e| CniError::new(code::IO, format!("who are you? {e}")))?;
        if peer.uid() != rustix::process::geteuid().as_raw() && peer.uid() != 0 {
            return Err(CniError::new(
                code::INVALID_ENVIRONMENT,
                "only root may ask for pod networks",
            ));
        }
        let mut text = Vec::new();
        match timeout(TRANSFER, stream.take(MAX_REQUEST + 1).read_to_end(&mut text)).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(CniError::new(code::IO, format!("the request cannot be read: {e}"))),
            Err(_) => return Err(CniError::new(code::IO, "the request did not end in time")),
        }
        if text.len() as u64 > MAX_REQUEST {
            return Err(CniError::new(
                code::DECODE,
                format!("the request has more than {MAX_REQUEST} bytes"),
            ));
        }
        serde_json::from_slice(&text)
            .map_err(|e| CniError::new(code::DECODE, format!("the request cannot be understood: {e}")))
    }

    async fn call(&self, Request { command, sandbox }: &Request) -> Outcome {
        match command {
            Command::Add => self.add(sandbox).await,
            Command::Del => self.del(sandbox).await,
            Command::Check => self.check(sandbox).await,
            Command::Status => match within(self.network.status()).await {
                Ok(()) => Ok(None),
                Err(e) => Err(CniError {
                    code: code::NOT_AVAILABLE,
                    ..e.into()
                }),
            },
            Command::Gc => self.gc(sandbox).await,
            // `witlet-cni` knows it by itself.
            Command::Version => Ok(None),
        }
    }

    async fn add(&self, sandbox: &Sandbox) -> Outcome {
        let name = records::name(sandbox)?;
        let lock = self.lock(&name);
        let _guard = lock.lock().await;
        self.detached().retain(|gone| *gone != name);
        let pod = self.pod(sandbox);
        let mut attachment = within(self.network.setup(pod.as_ref(), sandbox)).await?;
        let told = network_status::split(&attachment.cni_result).and_then(|(rest, told)| {
            attachment.cni_result = rest;
            told
        });
        // Before the runtime learns of it: whatever happens from now on, the DEL finds the record.
        match self.keep(&name, sandbox, attachment.clone(), told.clone()).await {
            Ok(()) => {
                self.tell(sandbox, told);
                Ok(Some(attachment.cni_result))
            }
            Err(e) => {
                // The runtime gets an error and may never send a DEL.
                if let Err(undo) = within(self.network.teardown(sandbox, Some(&attachment.state))).await {
                    tracing::warn!(error = %undo, "the network of a pod that could not be attached is left behind");
                }
                Err(e)
            }
        }
    }

    fn tell(&self, sandbox: &Sandbox, status: Option<String>) {
        let (Some(told), Some(status)) = (&self.told, status) else {
            return;
        };
        let (pods, sandbox) = (self.pods.clone(), sandbox.clone());
        told.tell(move || find(&pods, &sandbox), status);
    }

    /// What the agent before this one may not have told.
    async fn tell_again(&self) {
        for name in self.records.names().await.unwrap_or_default() {
            if let Ok(Some(record)) = self.records.load(&name).await {
                self.tell(&record.sandbox, record.network_status);
            }
        }
    }

    async fn keep(
        &self,
        name: &str,
        sandbox: &Sandbox,
        attachment: Attachment,
        network_status: Option<String>,
    ) -> Result<(), CniError> {
        if serde_json::from_str::<serde_json::Map<_, _>>(&attachment.cni_result).is_err() {
            return Err(CniError::new(
                code::FAILED,
                "the network plugin's result is not a JSON object",
            ));
        }
        let record = Record {
            sandbox: sandbox.clone(),
            attachment,
            network_status,
        };
        self.records
            .store(name, record)
            .await
            .map_err(|e| CniError::new(code::IO, format!("the attachment cannot be recorded: {e}")))
    }

    async fn del(&self, sandbox: &Sandbox) -> Outcome {
        let name = records::name(sandbox)?;
        let lock = self.lock(&name);
        let _guard = lock.lock().await;
        let record = self.record(&name).await?;
        if record.is_none() && self.detached().contains(&name) {
            return Ok(None);
        }
        self.detach(&name, sandbox, record.as_ref()).await?;
        let mut detached = self.detached();
        if detached.len() == REMEMBERED {
            detached.pop_front();
        }
        detached.push_back(name);
        Ok(None)
    }

    fn detached(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.detached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the attachment's lock.
    async fn detach(&self, name: &str, sandbox: &Sandbox, record: Option<&Record>) -> Result<(), CniError> {
        match within(
            self.network
                .teardown(sandbox, record.map(|r| r.attachment.state.as_str())),
        )
        .await
        {
            Ok(()) => {}
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
        self.records
            .remove(name)
            .await
            .map_err(|e| CniError::new(code::IO, format!("the record of the attachment cannot be removed: {e}")))
    }

    async fn check(&self, sandbox: &Sandbox) -> Outcome {
        let name = records::name(sandbox)?;
        let lock = self.lock(&name);
        let _guard = lock.lock().await;
        let record = self.record(&name).await?;
        within(
            self.network
                .check(sandbox, record.as_ref().map(|r| r.attachment.state.as_str())),
        )
        .await?;
        Ok(None)
    }

    /// Detaches what the runtime does not list, of the same network.
    async fn gc(&self, sandbox: &Sandbox) -> Outcome {
        #[derive(Deserialize)]
        struct Valid {
            #[serde(rename = "containerID")]
            container_id: String,
            ifname: String,
        }
        #[derive(Deserialize)]
        struct Config {
            name: String,
            #[serde(rename = "cni.dev/valid-attachments")]
            valid: Vec<Valid>,
        }
        let config: Config = serde_json::from_str(&sandbox.config)
            .map_err(|e| CniError::new(code::INVALID_CONFIG, format!("the configuration of GC: {e}")))?;
        let names = self
            .records
            .names()
            .await
            .map_err(|e| CniError::new(code::IO, e.to_string()))?;
        let mut failures = Vec::new();
        for name in names {
            let lock = self.lock(&name);
            let _guard = lock.lock().await;
            // Gone in the meantime, or set aside just now.
            let Some(record) = self.record(&name).await? else {
                continue;
            };
            let owner = &record.sandbox;
            let valid = config
                .valid
                .iter()
                .any(|v| v.container_id == owner.id && v.ifname == owner.ifname);
            if valid || network_name(&owner.config).as_ref() != Some(&config.name) {
                continue;
            }
            tracing::info!(
                sandbox = owner.id,
                ifname = owner.ifname,
                "the runtime no longer knows this attachment"
            );
            if let Err(e) = self.detach(&name, owner, Some(&record)).await {
                failures.push(format!("{name}: {}", e.msg));
            }
        }
        if failures.is_empty() {
            return Ok(None);
        }
        let msg = format!("{} attachments could not be removed", failures.len());
        Err(CniError {
            details: failures.join("; "),
            ..CniError::new(code::TRY_AGAIN_LATER, msg)
        })
    }

    async fn record(&self, name: &str) -> Result<Option<Record>, CniError> {
        self.records
            .load(name)
            .await
            .map_err(|e| CniError::new(code::IO, format!("the record of the attachment: {e}")))
    }

    /// The runtime says in CNI_ARGS whose sandbox it is.
    fn pod(&self, sandbox: &Sandbox) -> Option<Arc<Pod>> {
        find(&self.pods, sandbox)
    }

    fn lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// Whose sandbox it is, as the runtime says.
fn find(pods: &FindPod, sandbox: &Sandbox) -> Option<Arc<Pod>> {
    let arg = |key| {
        let found = sandbox.args.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let name = arg("K8S_POD_NAME");
    if name.is_empty() {
        return None;
    }
    pods(arg("K8S_POD_UID"), arg("K8S_POD_NAMESPACE"), name)
}

fn network_name(config: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str(config).ok().map(|named: Named| named.name)
}

async fn within<T>(call: impl Future<Output = witlet_ports::Result<T>>) -> witlet_ports::Result<T> {
    match timeout(PLUGIN, call).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(Class::Timeout, "the network plugin did not answer in time")),
    }
}

#[cfg(test)]
mod tests;
