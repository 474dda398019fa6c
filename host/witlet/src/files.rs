//! The files that the agent leaves for others: the runtime's CNI configuration, and the addresses it serves on.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

/// Points the runtime's CNI at the agent.
pub(crate) fn write_cni_config(conf_dir: &Path, socket: &Path, state_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(conf_dir)?;
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "witlet",
        "plugins": [{
            "type": "witlet-cni",
            "socket": socket,
            "stateDir": state_dir,
            "capabilities": { "portMappings": true, "bandwidth": true, "dns": true },
        }],
    });
    replace(&conf_dir.join("10-witlet.conflist"), &format!("{config:#}\n"))
}

/// Where the agent is reached, for scripts and tests.
pub(crate) fn write_endpoints(
    state_dir: &Path,
    api: Option<&str>,
    kubeconfig: &Path,
    healthz: Option<&str>,
    server: Option<&str>,
) -> io::Result<()> {
    let dir = state_dir.join("run");
    fs::create_dir_all(&dir)?;
    let endpoints = json!({ "api": api, "kubeconfig": kubeconfig, "healthz": healthz, "server": server });
    replace(&dir.join("endpoints.json"), &format!("{endpoints:#}\n"))
}

/// A reader sees the old file or the new one. An equal one is left alone, so that nobody is woken by it.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}
