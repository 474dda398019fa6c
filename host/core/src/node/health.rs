//! Whether the container runtime can be worked with (the kubelet contract, node C2 rules 55-57).

use jiff::Timestamp;

/// One condition that the runtime reports of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuntimeCondition {
    pub name: String,
    pub status: bool,
    pub reason: String,
    pub message: String,
}

/// The last good word of the runtime is older: it is down.
const DOWN_AFTER_SECONDS: i64 = 30;

/// What the runtime's status calls have shown so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeHealth {
    /// When the runtime last said that it is ready.
    ready_at: Option<Timestamp>,
    runtime: Option<String>,
    network: Option<String>,
}

impl Default for RuntimeHealth {
    fn default() -> Self {
        Self {
            ready_at: None,
            runtime: None,
            network: Some("network state unknown".into()),
        }
    }
}

impl RuntimeHealth {
    /// Takes in an answer. A failed call is not taken in: silence is judged by its length.
    pub fn observe(&mut self, conditions: &[RuntimeCondition], now: Timestamp) {
        let not = |name: &str, what: &str| match conditions.iter().find(|c| c.name == name) {
            Some(c) if c.status => None,
            Some(c) => Some(format!(
                "{what} not ready: {name}=false reason:{} message:{}",
                c.reason, c.message
            )),
            None => Some(format!(
                "{what} not ready: {name}=false reason:Unknown message:the runtime does not report it"
            )),
        };
        self.network = not("NetworkReady", "container runtime network");
        self.runtime = not("RuntimeReady", "container runtime");
        if self.runtime.is_none() {
            self.ready_at = Some(now);
        }
    }

    /// What a pod that needs a network of its own waits for: `NetworkReady=false …`, or none.
    pub fn network_error(&self) -> Option<&str> {
        self.network
            .as_deref()
            .map(|e| e.strip_prefix("container runtime network not ready: ").unwrap_or(e))
    }

    /// The runtime was ready once.
    pub fn was_ready(&self) -> bool {
        self.ready_at.is_some()
    }

    /// What keeps the node from being ready, in the kubelet's order. `pleg` is why the list of pods is stale, if it is.
    pub fn errors(&self, pleg: Option<&str>, now: Timestamp) -> Vec<String> {
        let silence = match self.ready_at {
            None => Some("container runtime status check may not have completed yet"),
            Some(at) if now.as_second().saturating_sub(at.as_second()) > DOWN_AFTER_SECONDS => {
                Some("container runtime is down")
            }
            Some(_) => None,
        };
        let pleg = pleg.map(|why| format!("PLEG is not healthy: {why}"));
        silence
            .map(str::to_owned)
            .into_iter()
            .chain(pleg)
            .chain(self.runtime.clone())
            .chain(self.network.clone())
            .collect()
    }
}
