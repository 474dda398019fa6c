//! One container's exit that begins the whole pod anew.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, SOON, See, same};

pub(super) async fn one_exit_begins_the_whole_pod_anew(ctx: Ctx) -> Result<()> {
    let out = ctx.scratch();
    let mount = json!({ "volumeMounts": [{ "name": "o", "mountPath": "/out" }] });
    let rules = json!([{ "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } }]);
    let mut asks = mount.clone();
    asks["restartPolicy"] = json!("Never");
    asks["restartPolicyRules"] = rules;
    ctx.create(&pod(
        "p",
        &json!({
            "restartPolicy": "Never",
            "initContainers": [shell("init", "echo init >> /out/init", &mount)],
            "containers": [
                shell("asks", &format!("echo asks >> /out/asks; if [ $(wc -l < /out/asks) = 1 ]; then sleep 1; exit 42; fi; {STAY}"), &asks),
                shell("other", &format!("echo other >> /out/other; {STAY}"), &mount),
            ],
            "volumes": [{ "name": "o", "hostPath": { "path": out } }],
        }),
    ))
    .await?;
    let first = ctx.wait_ready("p").await?;
    let again = ctx
        .wait("p", "all containers anew", SOON, |pod| {
            let restarts = |name: &str| pod.status_of(name).map(|s| s.restart_count);
            let all = ["asks", "other"].iter().all(|name| restarts(name) == Some(1));
            (all && pod.condition("Ready")).then(|| pod.clone())
        })
        .await?;
    for name in ["init", "asks", "other"] {
        let starts = fs::read_to_string(out.join(name))?.lines().count();
        same(&format!("starts of {name}"), starts, 2)?;
    }
    same("address", again.ip()?, first.ip()?)?;
    ensure!(
        !again.condition("AllContainersRestarting"),
        "it still says that it restarts"
    );
    let last = again
        .status_of("other")
        .and_then(|s| s.last_state.as_ref()?.terminated.clone());
    let reason = last.and_then(|t| t.reason);
    same("reason", reason.as_deref(), Some("RestartingAllContainers"))?;
    // Their logs are kept.
    same("log", ctx.log(&again, "asks")?.as_str(), "")?;
    Ok(())
}
