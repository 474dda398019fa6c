#![allow(clippy::unwrap_used)]
// Methods of an interface own what they are given.
#![allow(clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::sync::Arc;

use zbus::{DBusError, OwnedVariant, interface};

use super::*;

// === Properties ===

fn told(values: &Values, version: Version, release: u32) -> Vec<String> {
    let all = properties(values, version, release);
    let names: Vec<_> = all.iter().take(4).map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"]
    );
    let rest = all.into_iter().skip(4).map(|(name, value)| match value {
        Variant::U64(u64::MAX) => format!("{name}=infinity"),
        Variant::U64(number) => format!("{name}={number}"),
        other => panic!("{name} is {other:?}"),
    });
    rest.collect()
}

#[test]
fn limits_are_told_in_the_words_of_each_version() {
    let values = Values {
        cpu_shares: Some(1024),
        cpu_period: Some(50_000),
        cpu_quota: Some(Some(25_000)),
        memory_limit: Some(Some(4096)),
        pids_limit: Some(100),
        hugepages: vec![("2MB".into(), 4096)],
    };
    assert_eq!(
        told(&values, Version::V2, 252),
        [
            "CPUWeight=39",
            "CPUQuotaPeriodUSec=50000",
            "CPUQuotaPerSecUSec=500000",
            "MemoryMax=4096",
            "TasksMax=100"
        ]
    );
    assert_eq!(
        told(&values, Version::V1, 241),
        [
            "CPUShares=1024",
            "CPUQuotaPerSecUSec=500000",
            "MemoryLimit=4096",
            "TasksMax=100"
        ]
    );
    assert_eq!(
        told(&Values::default(), Version::V2, 252),
        [""; 0],
        "what is not said stays"
    );
    let lifted = Values {
        cpu_quota: Some(None),
        memory_limit: Some(None),
        ..Values::default()
    };
    assert_eq!(
        told(&lifted, Version::V2, 0),
        ["CPUQuotaPerSecUSec=infinity", "MemoryMax=infinity"]
    );
}

#[test]
fn a_quota_is_rounded_up_to_whole_percents() {
    for (quota, period, expected) in [
        (20_000, 100_000, "200000"),
        (1_000, 100_000, "10000"),
        (1, 100_000, "10000"),
        (12_345, 100_000, "130000"),
        (150_000, 100_000, "1500000"),
        (1_000, 3_000, "340000"),
        (-1, 100_000, "infinity"),
        (0, 100_000, "infinity"),
    ] {
        let values = Values {
            cpu_quota: Some(Some(quota)),
            cpu_period: Some(period),
            ..Values::default()
        };
        let expected = format!("CPUQuotaPerSecUSec={expected}");
        assert_eq!(told(&values, Version::V2, 0), [expected], "{quota}/{period}");
    }
}

#[test]
fn versions_are_read_in_every_distribution_s_form() {
    for (text, expected) in [
        ("252.22-1~deb12u1", 252),
        ("v249.11-0ubuntu3", 249),
        ("systemd 257", 257),
        ("", 0),
        ("next", 0),
    ] {
        assert_eq!(release(&Variant::from(text)), expected, "{text}");
    }
}

// === A systemd of our own ===

#[derive(Debug, DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    UnitExists(String),
    NoSuchUnit(String),
    BadUnitSetting(String),
}

#[derive(Clone, Default, Debug)]
struct Slice {
    state: &'static str,
    /// How often it must be looked at until its job is done, and then its state.
    job: u32,
    then: &'static str,
    properties: BTreeMap<String, String>,
}

#[derive(Default)]
struct Inner {
    units: BTreeMap<String, Slice>,
    calls: Vec<String>,
    /// Says no, with this text.
    refuse: Option<&'static str>,
    /// The state a start leads to.
    starts: Option<&'static str>,
}

type Machine = Arc<Mutex<Inner>>;

struct Manager(Machine);

type Given = Vec<(String, OwnedVariant)>;

/// The one unit that a test has.
const OBJECT_OF_UNIT: &str = "/org/freedesktop/systemd1/unit/the_one";

/// Without the type that `Display` adds.
fn plain(value: &Variant<'_>) -> String {
    match value {
        Variant::U64(number) => number.to_string(),
        Variant::Bool(bool) => bool.to_string(),
        Variant::Str(text) => text.to_string(),
        other => panic!("no property is {other:?}"),
    }
}

impl Inner {
    fn set(&mut self, name: &str, given: Given) {
        let unit = self.units.entry(name.to_owned()).or_default();
        for (key, value) in given {
            unit.properties.insert(key, plain(&value));
        }
    }

    fn open_job(&mut self, name: &str, then: &'static str) {
        let unit = self.units.get_mut(name).unwrap();
        (unit.job, unit.then) = (2, then);
    }

    fn check(&self) -> std::result::Result<(), Refusal> {
        match self.refuse {
            Some(text) => Err(Refusal::BadUnitSetting(text.into())),
            None => Ok(()),
        }
    }
}

fn job() -> OwnedObjectPath {
    OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap()
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[zbus(property)]
    fn version(&self) -> String {
        "252.1-test".into()
    }

    fn get_unit(&self, name: &str) -> std::result::Result<OwnedObjectPath, Refusal> {
        if self.0.lock().unwrap().units.contains_key(name) {
            Ok(OwnedObjectPath::try_from(OBJECT_OF_UNIT).unwrap())
        } else {
            Err(Refusal::NoSuchUnit(format!("Unit {name} not loaded.")))
        }
    }

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: Given,
        aux: Vec<(String, Given)>,
    ) -> std::result::Result<OwnedObjectPath, Refusal> {
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("StartTransientUnit {mode}"));
        assert!(aux.is_empty());
        state.check()?;
        if state.units.contains_key(name) {
            return Err(Refusal::UnitExists(format!("Unit {name} was already loaded.")));
        }
        state.set(name, properties);
        state.units.get_mut(name).unwrap().state = "inactive";
        let then = state.starts.unwrap_or("active");
        state.open_job(name, then);
        Ok(job())
    }

    fn set_unit_properties(&self, name: &str, runtime: bool, properties: Given) -> std::result::Result<(), Refusal> {
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("SetUnitProperties {runtime}"));
        state.check()?;
        state.set(name, properties);
        Ok(())
    }

    fn start_unit(&self, name: &str, mode: &str) -> std::result::Result<OwnedObjectPath, Refusal> {
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("StartUnit {mode}"));
        state.open_job(name, "active");
        Ok(job())
    }

    fn stop_unit(&self, name: &str, mode: &str) -> std::result::Result<OwnedObjectPath, Refusal> {
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("StopUnit {mode}"));
        state.check()?;
        let then = if state.units[name].state == "failed" {
            "failed"
        } else {
            "gone"
        };
        state.open_job(name, then);
        Ok(job())
    }

    fn reset_failed_unit(&self, name: &str) -> std::result::Result<(), Refusal> {
        let mut state = self.0.lock().unwrap();
        state.calls.push("ResetFailedUnit".into());
        state.units.get_mut(name).unwrap().state = "inactive";
        Ok(())
    }
}

struct TheUnit(Machine);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl TheUnit {
    #[zbus(property)]
    fn job(&self) -> (u32, OwnedObjectPath) {
        let mut state = self.0.lock().unwrap();
        let (name, unit) = state.units.iter_mut().next().unwrap();
        let name = name.clone();
        if unit.job > 0 {
            unit.job -= 1;
            if unit.job > 0 {
                return (7, job());
            }
            unit.state = unit.then;
        }
        if unit.state == "gone" {
            state.units.remove(&name);
        }
        (0, OwnedObjectPath::try_from("/").unwrap())
    }

    #[zbus(property)]
    fn active_state(&self) -> std::result::Result<String, fdo::Error> {
        let state = self.0.lock().unwrap();
        match state.units.values().next() {
            Some(unit) => Ok(unit.state.into()),
            None => Err(fdo::Error::UnknownObject("Unknown object.".into())),
        }
    }
}

struct Fake {
    machine: Machine,
    bus: Bus,
    /// Open connections, to be broken.
    links: Arc<Mutex<Vec<Connection>>>,
    server: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("private");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (machine, links) = (Machine::default(), Arc::<Mutex<Vec<Connection>>>::default());
        let (units, open) = (machine.clone(), links.clone());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = Builder::unix_stream(stream.into_std().unwrap())
                    .server(zbus::Guid::generate())
                    .p2p()
                    .serve_at(OBJECT, Manager(units.clone()))
                    .serve_at(OBJECT_OF_UNIT, TheUnit(units.clone()))
                    .build()
                    .await
                    .unwrap();
                open.lock().unwrap().push(connection);
            }
        });
        Self {
            machine,
            bus: Bus::at(&socket),
            links,
            server,
            _dir: dir,
        }
    }

    fn known(name: &str, state: &'static str) -> Self {
        let fake = Self::new();
        let slice = Slice {
            state,
            ..Slice::default()
        };
        fake.machine.lock().unwrap().units.insert(name.into(), slice);
        fake
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.machine.lock().unwrap().calls)
    }

    fn property(&self, slice: &str, name: &str) -> Option<String> {
        let state = self.machine.lock().unwrap();
        state.units.get(slice)?.properties.get(name).cloned()
    }
}

const SLICE: &str = "kubepods-podu_1.slice";

fn limit(bytes: u64) -> Properties {
    let values = Values {
        memory_limit: Some(Some(bytes)),
        ..Values::default()
    };
    properties(&values, Version::V2, 252)
}

#[tokio::test]
async fn a_slice_is_made_changed_and_removed() {
    let fake = Fake::new();
    assert_eq!(fake.bus.release().await.unwrap(), 252);
    fake.bus.apply(SLICE, &limit(4096)).await.unwrap();
    assert_eq!(fake.calls(), ["StartTransientUnit replace"]);
    assert_eq!(
        fake.machine.lock().unwrap().units[SLICE].state,
        "active",
        "it was waited for"
    );
    assert_eq!(fake.property(SLICE, "MemoryMax").as_deref(), Some("4096"));
    assert_eq!(fake.property(SLICE, "DefaultDependencies").as_deref(), Some("false"));
    assert_eq!(fake.property(SLICE, "TasksAccounting").as_deref(), Some("true"));
    assert!(fake.property(SLICE, "Description").unwrap().contains(SLICE));

    fake.bus.apply(SLICE, &limit(8192)).await.unwrap();
    assert_eq!(fake.calls(), ["StartTransientUnit replace", "SetUnitProperties true"]);
    assert_eq!(fake.property(SLICE, "MemoryMax").as_deref(), Some("8192"));

    fake.bus.stop(SLICE).await.unwrap();
    assert_eq!(fake.calls(), ["StopUnit replace"]);
    assert!(fake.machine.lock().unwrap().units.is_empty(), "it was waited for");
    fake.bus.stop(SLICE).await.unwrap();
    assert_eq!(fake.calls(), [""; 0], "there is nothing to stop");
    assert_eq!(fake.links.lock().unwrap().len(), 1, "one connection serves all");
}

#[tokio::test]
async fn a_known_slice_that_does_not_run_is_started() {
    for state in ["inactive", "failed"] {
        let fake = Fake::known(SLICE, state);
        fake.bus.apply(SLICE, &limit(4096)).await.unwrap();
        assert_eq!(
            fake.calls(),
            [
                "StartTransientUnit replace",
                "SetUnitProperties true",
                "ResetFailedUnit",
                "StartUnit replace"
            ]
        );
        assert_eq!(fake.machine.lock().unwrap().units[SLICE].state, "active");
    }
}

#[tokio::test]
async fn a_failed_slice_does_not_keep_its_name() {
    let fake = Fake::known(SLICE, "failed");
    fake.bus.stop(SLICE).await.unwrap();
    assert_eq!(fake.calls(), ["StopUnit replace", "ResetFailedUnit"]);
}

#[tokio::test]
async fn a_start_that_fails_is_told() {
    let fake = Fake::new();
    fake.machine.lock().unwrap().starts = Some("failed");
    let error = fake.bus.apply(SLICE, &limit(4096)).await.unwrap_err();
    assert!(error.message.contains("Failed"), "{error}");
}

#[tokio::test]
async fn a_refusal_says_what_was_tried_and_why_not() {
    let fake = Fake::known(SLICE, "active");
    fake.machine.lock().unwrap().refuse = Some("Value specified in MemoryMax is out of range");
    let error = fake.bus.apply(SLICE, &limit(1)).await.unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "cannot make or change the slice {SLICE} through systemd: Value specified in MemoryMax is out of range \
             (org.freedesktop.systemd1.BadUnitSetting)"
        )
    );
    let error = fake.bus.stop(SLICE).await.unwrap_err();
    assert!(error.message.starts_with("cannot remove the slice"), "{error}");
}

#[tokio::test]
async fn a_broken_connection_is_made_again() {
    let fake = Fake::new();
    fake.bus.apply(SLICE, &limit(4096)).await.unwrap();
    // As systemd does when it re-executes itself.
    let links = std::mem::take(&mut *fake.links.lock().unwrap());
    for link in links {
        link.close().await.unwrap();
    }
    fake.bus.apply(SLICE, &limit(8192)).await.unwrap();
    assert_eq!(fake.property(SLICE, "MemoryMax").as_deref(), Some("8192"));
}

#[tokio::test]
async fn a_systemd_that_cannot_be_reached_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::at(&dir.path().join("nobody"));
    let error = bus.apply(SLICE, &limit(1)).await.unwrap_err();
    assert!(error.message.starts_with("cannot connect to systemd: "), "{error}");
    assert_eq!(error.class, Class::Retry);
}
