//! Lifecycle hooks: postStart and preStop (the kubelet contract, pod section 7).

mod http;
mod tls;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use witlet_core::observed::ObservedPod;
use witlet_ports::meter::Counter;
use witlet_ports::{Error, Result};

use crate::context::Context;

/// What a hook is run for.
pub(super) struct Target<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    /// The container's id in the runtime.
    pub(super) id: &'a str,
    /// Where the pod is reached, if the handler does not say.
    pub(super) address: Option<IpAddr>,
}

/// Where hooks reach a pod: at its sandbox, which has no address of its own on the node's network.
pub(super) fn address(context: &Context, have: &ObservedPod) -> Option<IpAddr> {
    let of_node = || context.settings().node_ips.first().copied();
    have.ips().first().copied().or_else(of_node)
}

/// Runs one handler to its end. It has no time limit of its own.
pub(super) async fn run(context: &Context, target: &Target<'_>, handler: &LifecycleHandler) -> Result<()> {
    if let Some(exec) = &handler.exec {
        let argv = exec.command.clone().unwrap_or_default();
        let output = context.ports.runtime.exec_sync(target.id, &argv, None).await?;
        if output.exit_code != 0 {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            return Err(Error::terminal(format!(
                "command '{}' exited with {}: {text}",
                argv.join(" "),
                output.exit_code
            )));
        }
        Ok(())
    } else if let Some(get) = &handler.http_get {
        // Rare, and large with its TLS state: not a part of every pod's task.
        let fell_back = Box::pin(http::run(target, get)).await?;
        if let Some(authority) = fell_back {
            context.metrics.kubelet.hook_fallbacks.add(&[]);
            let text =
                format!("request to HTTPS lifecycle hook {authority} got HTTP response, retry with HTTP succeeded");
            context.event(target.pod, true, "LifecycleHTTPFallback", text);
        }
        Ok(())
    } else if let Some(sleep) = &handler.sleep {
        let time = Duration::from_secs(sleep.seconds.try_into().unwrap_or(0));
        counted_sleep(time, &context.metrics.kubelet.sleeps_cut_short).await;
        Ok(())
    } else {
        Err(Error::terminal(format!(
            "Cannot run handler: invalid handler: {handler:?}"
        )))
    }
}

/// Whoever waits for a hook that sleeps may go before it ends; that counts.
async fn counted_sleep(time: Duration, cut_short: &Counter) {
    struct Unless<'a>(Option<&'a Counter>);
    impl Drop for Unless<'_> {
        fn drop(&mut self) {
            self.0.inspect(|counter| counter.add(&[]));
        }
    }
    let mut unless = Unless(Some(cut_short));
    tokio::time::sleep(time).await;
    unless.0 = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_that_is_cut_short_is_counted() {
        let counter = crate::metrics::Kubelet::default().sleeps_cut_short;
        let count = || counter.family().samples[0].value;
        let second = Duration::from_secs(1);
        counted_sleep(second, &counter).await;
        assert_eq!(count(), 0.0);
        assert!(
            tokio::time::timeout(second, counted_sleep(second * 2, &counter))
                .await
                .is_err()
        );
        assert_eq!(count(), 1.0);
    }
}
