//! `mount.nfs`: what an NFS server exports, over a volume's directory (the kubelet contract, volumes 4.7 rule 89).
//!
//! The kernel needs help (it does not resolve names, nor agree on a version), so `mount(8)` is run, which takes its words from
//! the guest: nothing of them may be more than one word, and none an option of the program.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::mount::allowed;
use super::volume_dir::VolumeDir;
use crate::error::Fault;
use crate::grants::Mount;

/// A server that does not answer is tried this long.
pub(crate) const LONGEST: Duration = Duration::from_secs(110);
const MAX_OPTIONS: usize = 32;

pub(crate) async fn mount(
    grant: &Mount,
    program: &Path,
    dir: &VolumeDir,
    source: &str,
    options: &[String],
    timeout: Duration,
) -> Result<(), Fault> {
    allowed(grant, "nfs")?;
    permitted(grant, source)?;
    let options = joined(grant, options)?;
    let target = dir.path();
    let child = Command::new(program)
        .args(["-t", "nfs", "-o", &options, "--", source])
        .arg(target)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(timeout, child).await;
    let what = format!("mount nfs {source} on {}", target.display());
    match ended {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let text: String = String::from_utf8_lossy(&output.stderr)
                .trim()
                .chars()
                .take(1024)
                .collect();
            Err(Fault::unavailable(format!("{what}: {}: {text}", output.status)))
        }
        Ok(Err(error)) => Err(Fault::failed(format!("{what}: {}: {error}", program.display()))),
        Err(_) => Err(Fault::timeout(format!("{what}: it did not end within {timeout:?}"))),
    }
}

/// Is this `server:/path`, and may that server be used?
fn permitted(grant: &Mount, source: &str) -> Result<(), Fault> {
    let parsed = match source.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => source.split_once(':'),
    };
    let plain = |text: &str| !text.is_empty() && text.len() <= 4096 && !text.contains(|c: char| c.is_control());
    let good = |(server, path): &(&str, &str)| {
        plain(server)
            && !server.starts_with('-')
            && !server.contains(['/', ' ', ','])
            && plain(path)
            && path.starts_with('/')
    };
    let Some((server, _)) = parsed.filter(good) else {
        return Err(Fault::invalid(format!(
            "NFS source {source:?}: it must be \"server:/path\""
        )));
    };
    if grant.servers.is_empty() || grant.servers.iter().any(|s| s.eq_ignore_ascii_case(server)) {
        return Ok(());
    }
    Err(Fault::denied(format!(
        "the grant mount does not list {server:?} in servers"
    )))
}

/// Sorted and each once (rule 3), with what the grant demands; the kernel takes the last word on a matter.
fn joined(grant: &Mount, options: &[String]) -> Result<String, Fault> {
    if options.len() > MAX_OPTIONS {
        return Err(Fault::invalid(format!("more than {MAX_OPTIONS} mount options")));
    }
    let mut all: Vec<&str> = Vec::new();
    for option in options {
        let plain = |c: char| c.is_ascii_alphanumeric() || "=._-:/".contains(c);
        if option.is_empty() || option.len() > 256 || !option.chars().all(plain) {
            return Err(Fault::invalid(format!(
                "mount option {option:?}: letters, digits and =._-:/ only"
            )));
        }
        all.push(option);
    }
    all.sort_unstable();
    all.dedup();
    if !grant.suid {
        all.push("nosuid");
    }
    if !grant.dev {
        all.push("nodev");
    }
    if all.is_empty() {
        all.push("defaults");
    }
    Ok(all.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use witlet_core::ids::PodUid;

    use super::*;

    fn grant(change: &str) -> Mount {
        toml::from_str(&format!("types = [\"nfs\"]\n{change}")).unwrap()
    }

    #[test]
    fn sources() {
        let some = grant("servers = [\"nfs.example\", \"fd00::1\"]");
        for (source, words) in [
            ("nfs.example:/srv", ""),
            ("NFS.example:/srv a", ""),
            ("[fd00::1]:/srv", ""),
            ("other:/srv", "does not list \"other\""),
            ("nfs.example", "must be"),
            ("nfs.example:srv", "must be"),
            ("-o:/srv", "must be"),
            ("/dev/sda:/x", "must be"),
            ("a\n:/x", "must be"),
            ("nfs.example:/a\0b", "must be"),
        ] {
            let error = permitted(&some, source).map_err(|f| f.text).err().unwrap_or_default();
            assert!(
                error.contains(words) && error.is_empty() == words.is_empty(),
                "{source}: {error}"
            );
        }
        assert!(permitted(&grant(""), "any:/").is_ok());
    }

    #[test]
    fn options() {
        let own = |list: &[&str]| list.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
        let joined = |grant: &Mount, list: &[&str]| joined(grant, &own(list)).map_err(|f| f.text);
        let plain = grant("");
        assert_eq!(
            joined(&plain, &["vers=4.1", "ro", "vers=4.1"]).unwrap(),
            "ro,vers=4.1,nosuid,nodev"
        );
        assert_eq!(
            joined(&plain, &["suid"]).unwrap(),
            "suid,nosuid,nodev",
            "the last one counts"
        );
        assert_eq!(joined(&grant("suid = true\ndev = true"), &[]).unwrap(), "defaults");
        for bad in ["a,suid", "a b", "", "$(x)"] {
            assert!(joined(&plain, &[bad]).is_err(), "{bad}");
        }
    }

    /// A program in the place of `mount` that says what it was called with.
    #[tokio::test]
    async fn the_program_is_called_and_believed() {
        let root = tempfile::tempdir().unwrap();
        let dir = VolumeDir::new(root.path(), &PodUid::from("uid"), "d", "v", None).unwrap();
        dir.create(0o750).unwrap();
        let program = root.path().join("mount");
        let run = async |script: &str, grant: &Mount, timeout: u64| {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
            let options = ["ro".to_owned()];
            mount(grant, &program, &dir, "s:/x", &options, Duration::from_millis(timeout)).await
        };
        let said = root.path().join("said");
        let script = format!("echo \"$@\" > {}", said.display());
        run(&script, &grant(""), 10_000).await.unwrap();
        let expected = format!("-t nfs -o ro,nosuid,nodev -- s:/x {}\n", dir.path().display());
        assert_eq!(std::fs::read_to_string(&said).unwrap(), expected);
        let error = run("echo access denied by server >&2; exit 32", &grant(""), 10_000)
            .await
            .unwrap_err();
        assert!(
            error.text.contains("exit status: 32: access denied by server"),
            "{error}"
        );
        let error = run("exec sleep 60", &grant(""), 100).await.unwrap_err();
        assert_eq!(error.kind, crate::error::FaultKind::Timeout);
        let error = run("exit 0", &Mount::default(), 1000).await.unwrap_err();
        assert_eq!(error.text, "the grant mount does not list \"nfs\" in types");
    }
}
