//! Slices, asked of systemd over D-Bus.
//!
//! Where systemd runs, it owns the cgroup tree: a directory made behind its back has no unit, and values it does not know of
//! it may overwrite. So it is told every limit that it has a property for; what it has none for, the caller writes himself.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::debug;
use witlet_ports::{Class, Error, Result};
use zbus::connection::Builder;
use zbus::{Connection, DynamicType, Message, OwnedObjectPath, Variant, fdo};

use super::Version;
use super::values::{PERIOD, Values, weight};

#[cfg(test)]
mod tests;

pub(super) type Properties = Vec<(&'static str, Variant<'static>)>;

/// What the tree asks of systemd. Each call may be repeated.
#[async_trait]
pub(super) trait Slices: Send + Sync {
    /// systemd's version.
    async fn release(&self) -> Result<u32>;
    /// Afterwards the slice is active and has these properties, whether it was there before or not.
    async fn apply(&self, slice: &str, properties: &Properties) -> Result<()>;
    /// Afterwards there is no such slice. Everything in it is ended.
    async fn stop(&self, slice: &str) -> Result<()>;
}

/// The unit that a cgroup belongs to.
pub(super) fn unit(cgroup: &str) -> &str {
    cgroup.rsplit('/').next().unwrap_or(cgroup)
}

/// From this version on the period of a quota can be told.
const PERIOD_SINCE: u32 = 242;
/// systemd thinks in whole percents of a processor: anything finer is rounded up here, and written exactly to the file.
const QUOTA_STEP: u64 = 10_000;
const SECOND: u64 = 1_000_000;
const INFINITY: u64 = u64::MAX;

pub(super) fn properties(values: &Values, version: Version, release: u32) -> Properties {
    // Else systemd gives the slice no cgroup of these kinds at all.
    let mut all: Properties = ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"]
        .map(|name| (name, Variant::from(true)))
        .into();
    let mut add = |name, value: u64| all.push((name, Variant::from(value)));
    if let Some(shares) = values.cpu_shares {
        match version {
            Version::V1 => add("CPUShares", shares.clamp(2, 262_144)),
            Version::V2 => add("CPUWeight", weight(shares)),
        }
    }
    if let Some(quota) = values.cpu_quota {
        let period = values.cpu_period.unwrap_or(PERIOD).max(1);
        if release >= PERIOD_SINCE {
            add("CPUQuotaPeriodUSec", period);
        }
        let per_second = quota.and_then(|q| u64::try_from(q).ok()).filter(|q| *q > 0);
        let per_second = per_second.map_or(INFINITY, |quota| {
            let exact = quota.saturating_mul(SECOND).div_ceil(period);
            exact.div_ceil(QUOTA_STEP).saturating_mul(QUOTA_STEP)
        });
        add("CPUQuotaPerSecUSec", per_second);
    }
    if let Some(limit) = values.memory_limit {
        let name = match version {
            Version::V1 => "MemoryLimit",
            Version::V2 => "MemoryMax",
        };
        add(name, limit.unwrap_or(INFINITY));
    }
    if let Some(limit) = values.pids_limit {
        add("TasksMax", u64::try_from(limit).unwrap_or(INFINITY));
    }
    all
}

// === The bus ===

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// systemd itself, without a bus between. For root only.
const PRIVATE: &str = "/run/systemd/private";
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Ending a slice ends what is in it, which systemd gives 90 seconds before it kills. We killed it already.
const JOB_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_LATER: Duration = Duration::from_millis(200);

/// systemd, reached when first needed, and again where the connection broke (systemd re-executes itself on upgrades).
pub(super) struct Bus {
    socket: PathBuf,
    /// Used where the socket of its own does not answer.
    system_bus: bool,
    link: Mutex<Option<Link>>,
}

#[derive(Clone)]
struct Link {
    connection: Connection,
    /// None where systemd is the other end itself.
    destination: Option<&'static str>,
    release: u32,
}

/// What became of a unit when no job of it was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Gone,
    Inactive,
    Failed,
    Active,
}

impl Bus {
    pub(super) fn machine() -> Self {
        Self {
            socket: PRIVATE.into(),
            system_bus: true,
            link: Mutex::new(None),
        }
    }

    #[cfg(test)]
    fn at(socket: &Path) -> Self {
        Self {
            socket: socket.into(),
            system_bus: false,
            link: Mutex::new(None),
        }
    }

    async fn link(&self) -> zbus::Result<Link> {
        let known = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(link) = known.filter(|link| !link.connection.is_closed()) {
            return Ok(link);
        }
        let (connection, destination) = match direct(&self.socket).await {
            Ok(connection) => (connection, None),
            Err(error) if self.system_bus => {
                debug!(%error, socket = PRIVATE, "systemd is asked over the system bus");
                let bus = Builder::system().method_timeout(CALL_TIMEOUT).build().await?;
                (bus, Some(NAME))
            }
            Err(error) => return Err(error),
        };
        let mut link = Link {
            connection,
            destination,
            release: 0,
        };
        link.release = release(&link.property(OBJECT, MANAGER, "Version").await?);
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
        Ok(link)
    }

    fn forget(&self) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Once more over a new connection where the old one turns out broken: all that is asked may be repeated.
    async fn ask(&self, what: Ask<'_>) -> Result<u32> {
        let mut fresh = false;
        loop {
            let link = self.link().await.map_err(|e| explain("connect to systemd", &e))?;
            let result = match what {
                Ask::Release => Ok(()),
                Ask::Apply(slice, properties) => link.apply(slice, properties).await,
                Ask::Stop(slice) => link.stop(slice).await,
            };
            let Err(error) = result else { return Ok(link.release) };
            let broken = link.connection.is_closed() || matches!(&error, zbus::Error::InputOutput(_));
            if broken {
                self.forget();
            }
            if !broken || fresh || timed_out(&error) {
                return Err(explain(&what.to_string(), &error));
            }
            fresh = true;
        }
    }
}

#[derive(Clone, Copy)]
enum Ask<'a> {
    Release,
    Apply(&'a str, &'a Properties),
    Stop(&'a str),
}

impl fmt::Display for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release => write!(f, "ask systemd its version"),
            Self::Apply(slice, _) => write!(f, "make or change the slice {slice} through systemd"),
            Self::Stop(slice) => write!(f, "remove the slice {slice} through systemd"),
        }
    }
}

async fn direct(socket: &Path) -> zbus::Result<Connection> {
    let stream = tokio::net::UnixStream::connect(socket).await?.into_std()?;
    let builder = Builder::unix_stream(stream).p2p().method_timeout(CALL_TIMEOUT);
    // systemd that is stopping accepts and says nothing.
    match tokio::time::timeout(CALL_TIMEOUT, builder.build()).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

impl Link {
    async fn call<B: serde::Serialize + DynamicType>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> zbus::Result<Message> {
        let connection = &self.connection;
        connection
            .call_method(self.destination, path, Some(interface), method, body)
            .await
    }

    async fn property(&self, path: &str, interface: &str, name: &str) -> zbus::Result<Variant<'static>> {
        let reply = self.call(path, PROPERTIES, "Get", &(interface, name)).await?;
        let value: Variant<'_> = reply.body().deserialize::<Variant<'_>>()?.try_into_owned()?.into();
        Ok(value)
    }

    /// Waits until nothing is to be done with a unit any more. Asked rather than told: signals reach only who subscribed,
    /// and are lost with a connection.
    async fn settled(&self, unit: &str) -> zbus::Result<State> {
        let deadline = Instant::now() + JOB_TIMEOUT;
        let mut pause = LOOK_FIRST;
        loop {
            let path: OwnedObjectPath = match self.call(OBJECT, MANAGER, "GetUnit", &(unit,)).await {
                Ok(reply) => reply.body().deserialize()?,
                Err(error) if is(&error, "NoSuchUnit") => return Ok(State::Gone),
                Err(error) => return Err(error),
            };
            // The job first: a state read after its end is the last word.
            match self.look(path.as_str()).await {
                Ok(Some(state)) => return Ok(state),
                Ok(None) => {}
                // The object left between two questions: GetUnit says so in the next round.
                Err(error) if vanished(&error) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(zbus::Error::Failure(format!(
                    "its job did not end within {} seconds",
                    JOB_TIMEOUT.as_secs()
                )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_LATER);
        }
    }

    /// None while a job is open.
    async fn look(&self, path: &str) -> zbus::Result<Option<State>> {
        let job = self.property(path, UNIT, "Job").await?;
        let idle = match &job {
            Variant::Structure(job) => matches!(job.fields().first(), Some(Variant::U32(0))),
            _ => return Err(zbus::Error::IncorrectType),
        };
        let state = self.property(path, UNIT, "ActiveState").await?;
        let Variant::Str(state) = &state else {
            return Err(zbus::Error::IncorrectType);
        };
        Ok(match state.as_str() {
            _ if !idle => None,
            "active" => Some(State::Active),
            "inactive" => Some(State::Inactive),
            "failed" => Some(State::Failed),
            _ => None,
        })
    }

    async fn apply(&self, slice: &str, properties: &Properties) -> zbus::Result<()> {
        let mut first: Properties = vec![
            ("Description", Variant::from(format!("witlet pods: {slice}"))),
            // Else it would wait for, and be stopped with, what it has nothing to do with.
            ("DefaultDependencies", Variant::from(false)),
        ];
        first.extend(properties.iter().cloned());
        let others: Vec<(&str, Properties)> = Vec::new();
        let body = (slice, "replace", first, others);
        match self.call(OBJECT, MANAGER, "StartTransientUnit", &body).await {
            Ok(_) => {}
            Err(error) if is(&error, "UnitExists") => {
                // For this boot only, as the slice itself.
                let body = (slice, true, properties);
                self.call(OBJECT, MANAGER, "SetUnitProperties", &body).await?;
                // Known is not active: a unit file of this name, or one that failed.
                if self.settled(slice).await? != State::Active {
                    self.reset(slice).await?;
                    self.call(OBJECT, MANAGER, "StartUnit", &(slice, "replace")).await?;
                }
            }
            Err(error) => return Err(error),
        }
        match self.settled(slice).await? {
            State::Active => Ok(()),
            state => Err(zbus::Error::Failure(format!("it was started and is {state:?}"))),
        }
    }

    async fn stop(&self, slice: &str) -> zbus::Result<()> {
        // Asking to stop a slice that is not there would load it.
        match self.call(OBJECT, MANAGER, "GetUnit", &(slice,)).await {
            Err(error) if is(&error, "NoSuchUnit") => return Ok(()),
            result => result?,
        };
        match self.call(OBJECT, MANAGER, "StopUnit", &(slice, "replace")).await {
            Err(error) if is(&error, "NoSuchUnit") => return Ok(()),
            result => result?,
        };
        match self.settled(slice).await? {
            State::Gone | State::Inactive => Ok(()),
            State::Failed => self.reset(slice).await,
            State::Active => Err(zbus::Error::Failure("it was stopped and is active".into())),
        }
    }

    /// A failed unit stays known, and its name taken.
    async fn reset(&self, slice: &str) -> zbus::Result<()> {
        match self.call(OBJECT, MANAGER, "ResetFailedUnit", &(slice,)).await {
            Err(error) if !is(&error, "NoSuchUnit") => Err(error),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Slices for Bus {
    async fn release(&self) -> Result<u32> {
        self.ask(Ask::Release).await
    }

    async fn apply(&self, slice: &str, properties: &Properties) -> Result<()> {
        self.ask(Ask::Apply(slice, properties)).await.map(|_| ())
    }

    async fn stop(&self, slice: &str) -> Result<()> {
        self.ask(Ask::Stop(slice)).await.map(|_| ())
    }
}

/// `252.22-1~deb12u1`, `v249.11-0ubuntu3`, `257`. Zero, the oldest, where there is no number.
fn release(version: &Variant<'_>) -> u32 {
    let Variant::Str(text) = version else { return 0 };
    let digits = text.as_str().trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

/// One of systemd's own errors.
fn is(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(full, _, _) if full.as_str().strip_prefix(NAME).and_then(|n| n.strip_prefix('.')) == Some(name))
}

fn vanished(error: &zbus::Error) -> bool {
    let gone = matches!(error, zbus::Error::FDO(error) if matches!(**error, fdo::Error::UnknownObject(_)));
    gone || is(error, "NoSuchUnit")
}

fn timed_out(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::InputOutput(e) if e.kind() == io::ErrorKind::TimedOut)
}

fn explain(doing: &str, error: &zbus::Error) -> Error {
    let why = match error {
        zbus::Error::MethodError(name, Some(text), _) => format!("{text} ({name})"),
        zbus::Error::MethodError(name, None, _) => name.to_string(),
        other => other.to_string(),
    };
    let class = match error {
        zbus::Error::FDO(e) if matches!(**e, fdo::Error::AccessDenied(_) | fdo::Error::AuthFailed(_)) => Class::Denied,
        e if timed_out(e) => Class::Timeout,
        _ => Class::Retry,
    };
    Error::new(class, format!("cannot {doing}: {why}")).with_source(error.clone())
}
