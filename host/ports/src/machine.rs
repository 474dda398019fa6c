//! What the machine says of its use. The calls are quick but block: they belong on a thread that may.

use std::io;
use std::path::Path;

use witlet_core::stats::reading::{Detail, Filesystem, Node, PodCgroups, Usage};

pub trait Machine: Send + Sync + 'static {
    /// The machine as a whole. The filesystems and the name are others' to fill in.
    fn node(&self, detail: Detail) -> Node;
    /// Every pod that has a cgroup.
    fn pods(&self, detail: Detail) -> PodCgroups;
    /// The filesystem that holds the path; everything on it counts as used.
    fn filesystem(&self, path: &Path) -> io::Result<Filesystem>;
    /// What the files below take up, on the filesystem of the path itself. A file with several names counts once; what
    /// vanishes meanwhile does not count.
    fn usage(&self, path: &Path) -> io::Result<Usage>;
}

/// A machine of which nothing is known.
impl Machine for () {
    fn node(&self, _: Detail) -> Node {
        Node::default()
    }

    fn pods(&self, _: Detail) -> PodCgroups {
        PodCgroups::new()
    }

    fn filesystem(&self, _: &Path) -> io::Result<Filesystem> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn usage(&self, _: &Path) -> io::Result<Usage> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
