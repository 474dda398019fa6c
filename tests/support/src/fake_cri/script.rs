//! What a test wants to go wrong, and what was called.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::Status;

/// One call, in the order in which they arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// As in the interface: `RunPodSandbox`.
    pub method: &'static str,
    /// What it is about: a container's or sandbox's id, an image's reference, `namespace/name` of a new sandbox, the name of a
    /// new container. Empty for calls about nothing in particular.
    pub subject: String,
}

/// Calls wait behind it until it is opened or dropped.
pub struct Gate {
    open: watch::Sender<bool>,
}

impl Gate {
    pub fn open(self) {
        self.open.send_replace(true);
    }
}

#[derive(Clone)]
enum Fault {
    /// Nothing is done.
    Refused(Status),
    /// It is done, but the caller is told that it failed, as with an answer that got lost.
    Lost(Status),
}

struct Planned {
    method: String,
    /// Any if none.
    subject: Option<String>,
    /// For ever if none.
    left: Option<usize>,
    fault: Fault,
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) calls: Vec<Call>,
    faults: Vec<Planned>,
    delays: HashMap<String, Duration>,
    gates: HashMap<String, watch::Receiver<bool>>,
    deadlines: HashMap<String, Option<Duration>>,
}

/// What is planned for one call.
pub(super) struct Fate {
    delay: Option<Duration>,
    gate: Option<watch::Receiver<bool>>,
    fault: Option<Fault>,
}

impl Fate {
    /// Before anything is done.
    pub(super) async fn before(&mut self) -> Result<(), Status> {
        if let Some(delay) = self.delay {
            tokio::time::sleep(delay).await;
        }
        if let Some(gate) = &mut self.gate {
            // A dropped gate is an open one.
            let _ = gate.wait_for(|open| *open).await;
        }
        match &self.fault {
            Some(Fault::Refused(status)) => Err(status.clone()),
            _ => Ok(()),
        }
    }

    /// After it was done.
    pub(super) fn after(self) -> Result<(), Status> {
        match self.fault {
            Some(Fault::Lost(status)) => Err(status),
            _ => Ok(()),
        }
    }
}

impl Script {
    pub(super) fn begin(&mut self, method: &'static str, subject: &str) -> Fate {
        self.calls.push(Call {
            method,
            subject: subject.to_owned(),
        });
        let hit = self
            .faults
            .iter()
            .position(|f| f.method == method && f.subject.as_deref().is_none_or(|s| s == subject));
        let fault = hit.map(|at| {
            let planned = &mut self.faults[at];
            let fault = planned.fault.clone();
            if let Some(left) = &mut planned.left {
                *left -= 1;
                if *left == 0 {
                    self.faults.remove(at);
                }
            }
            fault
        });
        Fate {
            delay: self.delays.get(method).copied(),
            gate: self.gates.get(method).cloned(),
            fault,
        }
    }

    /// What the caller says about its patience, in gRPC's header.
    pub(super) fn saw_deadline(&mut self, method: &str, header: Option<&str>) {
        let deadline = header.map(|text| {
            let (number, unit) = text.split_at(text.len().saturating_sub(1));
            let number = number.parse().expect("a number and a unit");
            match unit {
                "H" => Duration::from_secs(number * 3600),
                "M" => Duration::from_secs(number * 60),
                "S" => Duration::from_secs(number),
                "m" => Duration::from_millis(number),
                "u" => Duration::from_micros(number),
                "n" => Duration::from_nanos(number),
                _ => panic!("grpc-timeout has the unit {unit:?}"),
            }
        });
        self.deadlines.insert(method.to_owned(), deadline);
    }

    fn plan(&mut self, method: &str, subject: Option<&str>, left: Option<usize>, fault: Fault) {
        if left == Some(0) {
            return;
        }
        self.faults.push(Planned {
            method: method.to_owned(),
            subject: subject.map(str::to_owned),
            left,
            fault,
        });
    }
}

/// Faults are used up in the order in which they were planned.
impl super::FakeCri {
    /// The next call of this method fails, without doing anything.
    pub fn fail(&self, method: &str, status: Status) {
        self.shared.script().plan(method, None, Some(1), Fault::Refused(status));
    }

    pub fn fail_times(&self, method: &str, times: usize, status: Status) {
        self.shared
            .script()
            .plan(method, None, Some(times), Fault::Refused(status));
    }

    /// Until [`Self::heal`].
    pub fn fail_always(&self, method: &str, status: Status) {
        self.shared.script().plan(method, None, None, Fault::Refused(status));
    }

    /// Only the next call about this subject (see [`Call::subject`]).
    pub fn fail_for(&self, method: &str, subject: &str, status: Status) {
        self.shared
            .script()
            .plan(method, Some(subject), Some(1), Fault::Refused(status));
    }

    /// The next call of this method does what it should and then says that it failed.
    pub fn lose_answer(&self, method: &str, status: Status) {
        self.shared.script().plan(method, None, Some(1), Fault::Lost(status));
    }

    /// Every call of this method takes this long.
    pub fn delay(&self, method: &str, delay: Duration) {
        self.shared.script().delays.insert(method.to_owned(), delay);
    }

    /// Calls of this method that arrive from now on wait at the gate.
    pub fn hold(&self, method: &str) -> Gate {
        let (open, gate) = watch::channel(false);
        self.shared.script().gates.insert(method.to_owned(), gate);
        Gate { open }
    }

    /// Forgets everything that was planned for this method.
    pub fn heal(&self, method: &str) {
        let mut script = self.shared.script();
        script.faults.retain(|f| f.method != method);
        script.delays.remove(method);
        script.gates.remove(method);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.script().calls.clone()
    }

    /// How often this method was called.
    pub fn count(&self, method: &str) -> usize {
        self.shared.script().calls.iter().filter(|c| c.method == method).count()
    }

    /// The deadline of the last call of this method. None if it had none. Panics if it was not called.
    pub fn deadline(&self, method: &str) -> Option<Duration> {
        *self
            .shared
            .script()
            .deadlines
            .get(method)
            .unwrap_or_else(|| panic!("{method} was not called"))
    }

    /// The calls that change something, as text: `StopContainer c1`. The usual thing to compare.
    pub fn changes(&self) -> Vec<String> {
        let reads = [
            "Version",
            "Status",
            "RuntimeConfig",
            "ImageFsInfo",
            "GetContainerEvents",
            "Subscribe",
        ];
        let script = self.shared.script();
        let changes = script
            .calls
            .iter()
            .filter(|c| !reads.contains(&c.method) && !c.method.starts_with("List") && !c.method.ends_with("Status"));
        changes.map(|c| format!("{} {}", c.method, c.subject)).collect()
    }

    pub fn forget_calls(&self) {
        self.shared.script().calls.clear();
    }

    /// Waits until this method was called so often, in all. Panics if that does not happen.
    pub async fn wait_for(&self, method: &str, times: usize) {
        self.wait_until(&format!("{times} calls of {method}"), |fake| {
            fake.count(method) >= times
        })
        .await;
    }

    /// Waits for a condition; it is looked at after every call and change. Panics, with what was called, if it does not come.
    pub async fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let shared = Arc::clone(&self.shared);
        let waiting = async {
            loop {
                let changed = shared.changed.notified();
                tokio::pin!(changed);
                // From here on no change is missed.
                changed.as_mut().enable();
                if condition(self) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(super::PATIENCE, waiting).await.is_err() {
            panic!("waited in vain for {what}; called were {:#?}", self.calls());
        }
    }
}
