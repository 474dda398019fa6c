//! The few kinds of tar entries that an image needs (POSIX ustar), always the same bytes for the same content.

use std::io::{Error, ErrorKind, Result};

const BLOCK: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(super) fn dir(&mut self, path: &str) -> Result<()> {
        // Writable by all with the sticky bit where programs expect it.
        let mode = if path == "tmp" { 0o1777 } else { 0o755 };
        self.entry(&format!("{path}/"), mode, b'5', "", &[])
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(path, mode, b'0', "", content)
    }

    pub(super) fn symlink(&mut self, path: &str, to: &str) -> Result<()> {
        self.entry(path, 0o777, b'2', to, &[])
    }

    fn entry(&mut self, path: &str, mode: u32, kind: u8, link: &str, content: &[u8]) -> Result<()> {
        if path.len() >= 100 || link.len() >= 100 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("path too long for a plain tar header: {path}"),
            ));
        }
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        // The checksum counts itself as spaces.
        put(148, "        ");
        put(157, link);
        put(257, "ustar");
        put(263, "00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// With the two empty blocks that end an archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_tar_program_reads_it() {
        let mut tar = Tar::default();
        tar.dir("tmp").unwrap();
        tar.file("etc/hello", 0o640, b"hi\n").unwrap();
        tar.symlink("bin/sh", "busybox").unwrap();
        let mut child = Command::new("tar")
            .args(["-tvf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&tar.finish()).unwrap();
        let out = child.wait_with_output().unwrap();
        let listing = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success());
        let lines: Vec<&str> = listing.lines().collect();
        assert!(
            lines[0].starts_with("drwxrwxrwt") && lines[0].ends_with("tmp/"),
            "{listing}"
        );
        assert!(
            lines[1].starts_with("-rw-r-----") && lines[1].ends_with("etc/hello"),
            "{listing}"
        );
        assert!(
            lines[2].starts_with("lrwxrwxrwx") && lines[2].ends_with("bin/sh -> busybox"),
            "{listing}"
        );
    }

    #[test]
    fn long_paths_are_refused() {
        assert!(Tar::default().file(&"x".repeat(100), 0o644, b"").is_err());
    }
}
