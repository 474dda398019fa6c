//! What the machine's kernel must allow.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Settings a node needs, with the least value that does. They stay as they are afterwards: other programs may have come to rely
/// on them in the meantime.
const SETTINGS: &[(&str, u64)] = &[
    ("net/ipv4/ip_forward", 1),
    // Without it, packets between two pods of one bridge bypass iptables, and with it port mappings to the pod itself work.
    ("net/bridge/bridge-nf-call-iptables", 1),
    // One per log follower and file watch; 128 is soon used up.
    ("fs/inotify/max_user_instances", 1024),
];

pub(crate) fn is_root() -> bool {
    // SAFETY: cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

pub(crate) fn prepare() -> Result<()> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        // Built in or not available is both fine: then the setting below is skipped.
        let _ = Command::new("modprobe").arg("br_netfilter").output();
    }
    for (key, least) in SETTINGS {
        let path = Path::new("/proc/sys").join(key);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if text.trim().parse::<u64>().unwrap_or(0) < *least {
            fs::write(&path, least.to_string()).with_context(|| format!("cannot set {key} to {least}"))?;
        }
    }
    Ok(())
}

/// overlayfs where it can be mounted on this directory (not when that is an overlay itself), else copies.
pub(crate) fn snapshotter(dir: &Path) -> Result<&'static str> {
    let at = dir.join("try-overlay");
    for sub in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(at.join(sub))?;
    }
    let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", at.display());
    let mounted = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(at.join("merged"))
        .output();
    let works = mounted.is_ok_and(|out| out.status.success());
    if works {
        crate::output(Command::new("umount").arg(at.join("merged")))?;
    }
    fs::remove_dir_all(&at)?;
    Ok(if works { "overlayfs" } else { "native" })
}
