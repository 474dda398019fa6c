//! What a lab calls the things it makes. All of it follows from the directory's name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const PREFIX: &str = "wl-";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// `wl-3fa9`
    pub name: String,
    /// In `/tmp`, because the sockets in it must keep to 107 bytes.
    pub dir: PathBuf,
    /// `wl3fa9`: an interface name has at most 15 bytes.
    pub bridge: String,
    /// `10.163.169.`
    pub subnet_prefix: String,
}

impl Names {
    /// A name that nobody uses, with its directory made.
    pub(crate) fn pick() -> Result<Self> {
        let mut seed =
            std::process::id() as u16 ^ std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.subsec_nanos() as u16);
        for _ in 0..64 {
            seed = seed.wrapping_mul(25173).wrapping_add(13849);
            let names = Self::of(Path::new(&format!("/tmp/{PREFIX}{seed:04x}")))?;
            if names.subnet_in_use()? {
                continue;
            }
            match fs::create_dir(&names.dir) {
                Ok(()) => return Ok(names),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e).with_context(|| format!("cannot create {}", names.dir.display())),
            }
        }
        bail!("no free name for a lab in /tmp: are there many of /tmp/{PREFIX}* that nobody uses?")
    }

    /// Of a lab in that directory.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let digits = name
            .strip_prefix(PREFIX)
            .filter(|d| d.len() == 4 && dir.parent() == Some(Path::new("/tmp")));
        let Some(number) = digits.and_then(|d| u16::from_str_radix(d, 16).ok()) else {
            bail!("{} is not the directory of a lab", dir.display());
        };
        let [high, low] = number.to_be_bytes();
        Ok(Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            bridge: name.replace('-', ""),
            subnet_prefix: format!("10.{}.{low}.", 128 + high % 100),
        })
    }

    /// `10.163.169.0/24`
    pub fn subnet(&self) -> String {
        format!("{}0/24", self.subnet_prefix)
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// As in the agent's configuration.
    pub fn runtime_endpoint(&self) -> String {
        format!("unix://{}", self.containerd_socket().display())
    }

    fn subnet_in_use(&self) -> Result<bool> {
        // Hexadecimal and little endian, as the kernel shows it.
        let octets: Vec<u8> = self
            .subnet_prefix
            .trim_end_matches('.')
            .split('.')
            .filter_map(|o| o.parse().ok())
            .collect();
        let wanted = format!("00{:02X}{:02X}{:02X}", octets[2], octets[1], octets[0]);
        let routes = fs::read_to_string("/proc/net/route").context("cannot read /proc/net/route")?;
        Ok(routes
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some(wanted.as_str())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_follows_from_the_directory() {
        let names = Names::of(Path::new("/tmp/wl-3fa9")).unwrap();
        assert_eq!(names.bridge, "wl3fa9");
        assert_eq!(names.subnet(), "10.191.169.0/24");
        assert_eq!(names.runtime_endpoint(), "unix:///tmp/wl-3fa9/containerd.sock");
    }

    #[test]
    fn other_directories_are_refused() {
        for dir in [
            "/",
            "/tmp",
            "/tmp/wl-",
            "/tmp/wl-3fa9x",
            "/home/wl-3fa9",
            "/tmp/wl-zzzz",
            "/tmp/x/wl-3fa9",
        ] {
            assert!(Names::of(Path::new(dir)).is_err(), "{dir}");
        }
    }
}
