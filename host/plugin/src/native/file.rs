//! May this file be loaded? Only if nobody but root, or the agent's own user, could have written it, and if it is the one that
//! the configuration pins.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::cache::check_parent;
use crate::capability::exec::hex;
use crate::error::LoadCause;

/// A plugin is glue to a library of somebody else, not that library.
const MOST: u64 = 256 << 20;

/// What decides over a file, apart from its content.
#[derive(Clone, Copy, Debug)]
struct Look {
    regular: bool,
    owner: u32,
    mode: u32,
    size: u64,
}

/// `own`: the agent's user, who can write to itself anyway.
fn judge(look: Look, own: u32) -> Result<(), String> {
    if !look.regular {
        return Err("it is not a regular file".to_owned());
    }
    if look.owner != 0 && look.owner != own {
        return Err(format!(
            "it belongs to user {}; native code must belong to root: chown root:root",
            look.owner
        ));
    }
    if look.mode & 0o022 != 0 {
        return Err(format!(
            "its mode is {:04o}, so others than root can write to it: chmod go-w",
            look.mode & 0o7777
        ));
    }
    if look.size > MOST {
        return Err(format!(
            "{} bytes are more than a native plugin may have ({MOST})",
            look.size
        ));
    }
    Ok(())
}

/// The file's content, if it may be loaded. `pin`: its SHA-256.
pub(super) fn read(path: &Path, pin: &str) -> Result<Vec<u8>, LoadCause> {
    let cannot = |e: std::io::Error| LoadCause::Read(format!("cannot read it: {e}"));
    let real = path.canonicalize().map_err(cannot)?;
    if real != path {
        return Err(LoadCause::Read(format!(
            "the path leads over a symbolic link; write source = \"native:{}\"",
            real.display()
        )));
    }
    for parent in real.ancestors().skip(1) {
        check_parent(parent).map_err(|e| LoadCause::Read(format!("where it lies is not safe: {e}")))?;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| cannot(e.into()))?;
    let file = File::from(file);
    let metadata: fs::Metadata = file.metadata().map_err(cannot)?;
    let look = Look {
        regular: metadata.is_file(),
        owner: metadata.uid(),
        mode: metadata.mode(),
        size: metadata.len(),
    };
    judge(look, rustix::process::geteuid().as_raw()).map_err(LoadCause::Read)?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    let found = hex(&Sha256::digest(&bytes));
    if found != pin {
        return Err(LoadCause::Pin {
            found,
            wanted: pin.to_owned(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_root_alone_can_write() {
        let good = Look {
            regular: true,
            owner: 0,
            mode: 0o100_755,
            size: 1,
        };
        assert_eq!(judge(good, 1000), Ok(()));
        assert_eq!(
            judge(Look { owner: 1000, ..good }, 1000),
            Ok(()),
            "the agent's own user"
        );
        for (look, words) in [
            (Look { regular: false, ..good }, "not a regular file"),
            (Look { owner: 33, ..good }, "belongs to user 33"),
            (
                Look {
                    mode: 0o100_775,
                    ..good
                },
                "its mode is 0775",
            ),
            (
                Look {
                    mode: 0o100_646,
                    ..good
                },
                "its mode is 0646",
            ),
            (Look { size: MOST + 1, ..good }, "more than a native plugin may have"),
        ] {
            let why = judge(look, 0).err().unwrap_or_default();
            assert!(why.contains(words), "{look:?}: {why:?}");
        }
    }
}
