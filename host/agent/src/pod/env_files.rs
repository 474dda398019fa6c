//! Files in volumes that variables are taken from (the kubelet contract, pod 5.5 rule 30).
//!
//! Containers write them and may plant links and pipes in the way, so the kernel resolves the path with the volume as its root,
//! and only a regular file of reasonable size is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

/// More cannot become an environment anyway, and the agent must not be filled up by a container.
const MAX_BYTES: u64 = 1 << 20;

/// The content of the file at `path`, which may begin with `/` or lead upwards: both end at the volume's root.
pub(super) fn read(volume: &Path, path: &str) -> io::Result<String> {
    let root = open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // A pipe without a writer would hold up its reader.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(&root, path, flags, Mode::empty(), resolve)?;
    let stat = fstat(&file)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = String::new();
    File::from(file).take(MAX_BYTES + 1).read_to_string(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_path_leads_out_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::write(volume.join("secret"), "inside").unwrap();
        symlink("../secret", volume.join("up")).unwrap();
        symlink("/secret", volume.join("absolute")).unwrap();
        symlink(dir.path().join("secret"), volume.join("host")).unwrap();
        for path in ["secret", "/secret", "../secret", "a/../../secret", "up", "absolute"] {
            let found = read(&volume, path);
            match path {
                "a/../../secret" => assert!(found.is_err(), "a is missing"),
                _ => assert_eq!(found.unwrap(), "inside", "{path}"),
            }
        }
        assert!(read(&volume, "host").is_err());
        assert!(read(&volume, "missing").is_err());
    }

    #[test]
    fn only_reasonable_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path();
        fs::write(volume.join("big"), vec![b'a'; (MAX_BYTES + 1) as usize]).unwrap();
        fs::write(volume.join("most"), vec![b'a'; MAX_BYTES as usize]).unwrap();
        fs::write(volume.join("binary"), [0xff, 0xfe]).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            volume.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(read(volume, "most").is_ok());
        for path in ["big", "binary", "pipe", ".", ""] {
            assert!(read(volume, path).is_err(), "{path}");
        }
    }
}
