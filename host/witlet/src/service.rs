//! Telling systemd how the agent is: ready, alive, stopping (`sd_notify`).
//!
//! Nothing is said where nobody asks: without `NOTIFY_SOCKET` every call does nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A shorter time is a mistake: the agent would be killed for a pause of the machine.
const SHORTEST: Duration = Duration::from_secs(1);

pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment asks. An error is for the operator: the unit file is wrong.
    pub(crate) fn from_env() -> Result<Self, String> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let watchdog = watchdog(
            var("WATCHDOG_USEC").as_deref(),
            var("WATCHDOG_PID").as_deref(),
            std::process::id(),
        )?;
        Ok(Self::new(var("NOTIFY_SOCKET").as_deref(), watchdog))
    }

    fn new(socket: Option<&str>, watchdog: Option<Duration>) -> Self {
        let to = socket.and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(name),
            };
            match address.and_then(|address| Ok((UnixDatagram::unbound()?, address))) {
                Ok(to) => Some(to),
                Err(error) => {
                    warn!(%error, socket = name, "systemd cannot be told how the agent is");
                    None
                }
            }
        });
        Self { to, watchdog }
    }

    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            warn!(%error, text, "systemd cannot be told how the agent is");
        }
    }

    /// Says twice in its time that the agent is alive, while it is. Runs until shutdown.
    pub(crate) async fn watch(&self, problem: impl Fn() -> Option<String>, shutdown: CancellationToken) {
        let Some(time) = self.watchdog.filter(|_| self.to.is_some()) else {
            return shutdown.cancelled().await;
        };
        info!(seconds = time.as_secs(), "systemd is told that the agent is alive");
        loop {
            match problem() {
                None => self.send("WATCHDOG=1"),
                Some(problem) => warn!(problem, "not telling systemd that the agent is alive"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(time / 2) => {}
            }
        }
    }
}

/// How long the agent may be silent; none where that is no matter, or another process is meant.
fn watchdog(microseconds: Option<&str>, process: Option<&str>, own: u32) -> Result<Option<Duration>, String> {
    let Some(text) = microseconds else { return Ok(None) };
    if process.is_some_and(|process| process.parse() != Ok(own)) {
        return Ok(None);
    }
    let time = text.parse().map(Duration::from_micros);
    let time = time.map_err(|_| format!("WATCHDOG_USEC={text}: not a number of microseconds"))?;
    if time <= SHORTEST {
        return Err(format!(
            "configure watchdog timeout too small: {time:?}; write WatchdogSec=30s into the unit"
        ));
    }
    Ok(Some(time))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_watchdog_is_as_the_environment_says() {
        let of = |usec, pid| watchdog(usec, pid, 7);
        assert_eq!(of(None, None), Ok(None));
        assert_eq!(of(Some("30000000"), None), Ok(Some(Duration::from_secs(30))));
        assert_eq!(of(Some("30000000"), Some("7")), Ok(Some(Duration::from_secs(30))));
        assert_eq!(of(Some("30000000"), Some("8")), Ok(None));
        assert!(of(Some("1000000"), None).unwrap_err().contains("too small"));
        assert!(of(Some("soon"), None).is_err());
    }

    #[test]
    fn the_units_ask_for_what_the_agent_says() {
        for unit in [
            include_str!("../../../deploy/witlet.service"),
            include_str!("../../../deploy/kubelet.service.d/20-witlet.conf"),
        ] {
            for line in ["Type=notify", "KillMode=process", "Delegate=yes", "WatchdogSec=60s"] {
                assert!(unit.lines().any(|l| l == line), "{line}");
            }
        }
    }

    async fn heard(socket: &tokio::net::UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer));
        let count = received.await.unwrap().unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn systemd_hears_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = tokio::net::UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str(), Some(Duration::from_millis(20)));
        notifier.ready();
        assert_eq!(heard(&systemd).await, "READY=1");
        let stop = CancellationToken::new();
        let well = std::sync::atomic::AtomicBool::new(true);
        let problem = || (!well.load(std::sync::atomic::Ordering::Relaxed)).then(|| "stuck".to_owned());
        let listening = async {
            for _ in 0..3 {
                assert_eq!(heard(&systemd).await, "WATCHDOG=1");
            }
            well.store(false, std::sync::atomic::Ordering::Relaxed);
            // One may have been under way.
            while tokio::time::timeout(Duration::from_millis(200), systemd.recv(&mut [0; 64]))
                .await
                .is_ok()
            {}
            stop.cancel();
        };
        tokio::join!(notifier.watch(problem, stop.clone()), listening);
        notifier.stopping();
        assert_eq!(heard(&systemd).await, "STOPPING=1");
        // Nobody asks: nothing happens.
        Notifier::new(None, None).ready();
    }
}
