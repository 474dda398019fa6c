//! Which user and group ids the administrator set aside for pods: those of the user `kubelet` (the kubelet contract, node D4).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const USER: &str = "kubelet";
const PROGRAM: &str = "getsubids";

/// Where to look; other places are for tests.
#[derive(Clone, Debug)]
pub struct Places {
    pub passwd: PathBuf,
    /// As in `PATH`.
    pub programs: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            passwd: "/etc/passwd".into(),
            programs: std::env::split_paths(&path).collect(),
        }
    }
}

/// What `getsubids` prints of the users' and of the groups' ids. None where nothing is set aside: there is no such user, or no
/// such program.
pub fn of_kubelet(places: &Places) -> io::Result<Option<(String, String)>> {
    if !has_user(&places.passwd)? {
        return Ok(None);
    }
    let found = places
        .programs
        .iter()
        .map(|dir| dir.join(PROGRAM))
        .find(|p| p.is_file());
    let Some(program) = found else {
        return Ok(None);
    };
    Ok(Some((print(&program, &[USER])?, print(&program, &["-g", USER])?)))
}

fn has_user(passwd: &Path) -> io::Result<bool> {
    match fs::read_to_string(passwd) {
        Ok(text) => Ok(text.lines().any(|l| l.split(':').next() == Some(USER))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn print(program: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "error retrieving additional ids for user {USER:?}: {}: {}",
            output.status,
            text.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn places(dir: &Path, script: Option<&str>) -> Places {
        fs::write(
            dir.join("passwd"),
            "root:x:0:0::/:/bin/sh\nkubelet:x:999:999::/:/sbin/nologin\n",
        )
        .unwrap();
        if let Some(script) = script {
            let program = dir.join(PROGRAM);
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Places {
            passwd: dir.join("passwd"),
            programs: vec![dir.join("none"), dir.to_owned()],
        }
    }

    #[test]
    fn what_was_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path(), Some("echo \"0: $# ${2:-$1} 65536 1\""));
        let expected = ("0: 1 kubelet 65536 1\n".to_owned(), "0: 2 kubelet 65536 1\n".to_owned());
        assert_eq!(of_kubelet(&places).unwrap(), Some(expected));
    }

    #[test]
    fn nothing_was_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut places = places(dir.path(), None);
        assert_eq!(of_kubelet(&places).unwrap(), None, "no program");
        places.passwd = dir.path().join("missing");
        assert_eq!(of_kubelet(&places).unwrap(), None, "no user");
    }

    #[test]
    fn a_failure_is_no_default() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path(), Some("echo broken >&2; exit 1"));
        let error = of_kubelet(&places).unwrap_err().to_string();
        assert!(error.contains("\"kubelet\"") && error.ends_with("broken"), "{error}");
    }
}
