//! Volumes: make a pod's volume appear under the node's directory for it, and vanish again.

pub use witlet_sdk_macros::volume_plugin as plugin;

use self::bindings::exports::witlet::volume::driver::Guest;
pub use self::bindings::exports::witlet::volume::driver::Published;
pub use self::bindings::witlet::volume::files::{Entry, Kind, Metadata, VolumeDir};
use self::bindings::witlet::volume::{downward, host_path, mount, pod_objects};
pub use crate::Pod;
use crate::registration::{Exported, Registered, enter};
use crate::{Error, Result};

#[doc(hidden)]
pub mod expansion;
#[doc(hidden)]
pub mod staging;
#[doc(hidden)]
pub mod statistics;
pub mod steps;

pub trait Volume {
    /// Makes the volume ready. Called again at any time and must then change nothing that is as it should be.
    /// `volume` is the v1 Volume as JSON. Where the pod names a claim, it is the volume behind it, with the whole v1
    /// PersistentVolume as the member `persistentVolume`. On an error nothing that containers already use may be lost.
    fn publish(&self, pod: &Pod, volume: &str, target: &VolumeDir) -> Result<Published>;

    /// Undoes `publish`, from what is on disk alone: the pod object and the agent's memory may be gone.
    fn unpublish(&self, target: &VolumeDir) -> Result<()>;
}

/// Capability `files`: the directory of one volume of one pod. Paths are relative to it and cannot leave it.
pub trait Dir {
    /// The volume's name.
    fn name(&self) -> String;
    /// Does the directory itself exist?
    fn exists(&self) -> bool;
    /// Creates the directory itself, with exactly this mode. No error if it exists; the mode is set either way.
    fn create(&self, mode: u32) -> Result<()>;
    /// Removes the directory itself and its content, without crossing into another filesystem.
    fn destroy(&self) -> Result<()>;
    /// `tmpfs`, `hugetlbfs` or another name, if the directory is a mount point.
    fn mounted(&self) -> Result<Option<String>>;
    /// The mark that set-up was completed once; it lives outside the directory.
    fn ready(&self) -> bool;
    fn set_ready(&self, ready: bool) -> Result<()>;
    fn make_dir(&self, path: &str, mode: u32) -> Result<()>;
    /// Creates the file, or replaces its content. The mode is exact.
    fn write(&self, path: &str, data: &[u8], mode: u32) -> Result<()>;
    /// Adds to the end of a file that exists.
    fn append(&self, path: &str, data: &[u8]) -> Result<()>;
    fn read(&self, path: &str) -> Result<Vec<u8>>;
    fn symlink(&self, target: &str, path: &str) -> Result<()>;
    fn read_link(&self, path: &str) -> Result<String>;
    fn rename(&self, source: &str, target: &str) -> Result<()>;
    /// Removes a file or a symlink.
    fn remove(&self, path: &str) -> Result<()>;
    fn remove_tree(&self, path: &str) -> Result<()>;
    /// The entries of a directory, by name. The directory itself is `.`.
    fn list(&self, path: &str) -> Result<Vec<Entry>>;
    /// Does not follow a symlink.
    fn stat(&self, path: &str) -> Result<Metadata>;
    /// Does not follow a symlink.
    fn chown(&self, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<()>;
    fn chmod(&self, path: &str, mode: u32) -> Result<()>;
    /// Gives the whole content to a group as a pod's fsGroup demands.
    fn apply_fs_group(&self, gid: u32, read_only: bool) -> Result<()>;
}

/// Capability `mount`: mount something over a volume's directory.
pub trait Mount {
    /// Memory, at most so many bytes (the node's allocatable memory and the pod's limit also cap it).
    fn tmpfs(&self, size: Option<u64>) -> Result<()>;
    /// Huge pages of this size, in bytes.
    fn hugetlbfs(&self, page_size: u64) -> Result<()>;
    /// What an NFS server exports, as `server:/path`.
    fn nfs(&self, source: &str, options: &[String]) -> Result<()>;
    fn unmount(&self) -> Result<()>;
}

/// Capability `host-path`: look at, and create, paths of the node.
pub trait HostPaths {
    /// What is there, following symlinks; none if nothing.
    fn kind_of(&self, path: &str) -> Result<Option<Kind>>;
    /// Creates the directory and its parents.
    fn make_dirs(&self, path: &str, mode: u32) -> Result<()>;
    /// Creates an empty file; its parent must exist.
    fn create_file(&self, path: &str, mode: u32) -> Result<()>;
}

/// Capability `pod-objects`: API objects that the pod names in its spec, in its own namespace.
pub trait PodObjects {
    /// The v1 ConfigMap as JSON. `NotFound` if there is none.
    fn config_map(&self, name: &str) -> Result<String>;
    /// The v1 Secret as JSON. `NotFound` if there is none.
    fn secret(&self, name: &str) -> Result<String>;
    /// A token of the pod's service account, bound to the pod. The host caches and refreshes it.
    fn service_account_token(&self, audience: Option<&str>, expiration_seconds: Option<i64>) -> Result<String>;
}

/// Capability `downward`: the node's view of a pod's fields and resources, as environment variables see them.
pub trait Downward {
    /// The text of a `fieldRef`, such as `metadata.labels['app']`.
    fn field(&self, path: &str) -> Result<String>;
    /// The text of a `resourceFieldRef`, such as `limits.cpu`; the divisor is a quantity, empty for 1.
    fn resource(&self, container: &str, name: &str, divisor: &str) -> Result<String>;
}

impl Dir for VolumeDir {
    fn name(&self) -> String {
        VolumeDir::name(self)
    }

    fn exists(&self) -> bool {
        VolumeDir::exists(self)
    }

    fn create(&self, mode: u32) -> Result<()> {
        VolumeDir::create(self, mode)
    }

    fn destroy(&self) -> Result<()> {
        VolumeDir::destroy(self)
    }

    fn mounted(&self) -> Result<Option<String>> {
        VolumeDir::mounted(self)
    }

    fn ready(&self) -> bool {
        VolumeDir::ready(self)
    }

    fn set_ready(&self, ready: bool) -> Result<()> {
        VolumeDir::set_ready(self, ready)
    }

    fn make_dir(&self, path: &str, mode: u32) -> Result<()> {
        VolumeDir::make_dir(self, path, mode)
    }

    fn write(&self, path: &str, data: &[u8], mode: u32) -> Result<()> {
        VolumeDir::write(self, path, data, mode)
    }

    fn append(&self, path: &str, data: &[u8]) -> Result<()> {
        VolumeDir::append(self, path, data)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        VolumeDir::read(self, path)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        VolumeDir::symlink(self, target, path)
    }

    fn read_link(&self, path: &str) -> Result<String> {
        VolumeDir::read_link(self, path)
    }

    fn rename(&self, source: &str, target: &str) -> Result<()> {
        VolumeDir::rename(self, source, target)
    }

    fn remove(&self, path: &str) -> Result<()> {
        VolumeDir::remove(self, path)
    }

    fn remove_tree(&self, path: &str) -> Result<()> {
        VolumeDir::remove_tree(self, path)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        VolumeDir::list(self, path)
    }

    fn stat(&self, path: &str) -> Result<Metadata> {
        VolumeDir::stat(self, path)
    }

    fn chown(&self, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        VolumeDir::chown(self, path, uid, gid)
    }

    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        VolumeDir::chmod(self, path, mode)
    }

    fn apply_fs_group(&self, gid: u32, read_only: bool) -> Result<()> {
        VolumeDir::apply_fs_group(self, gid, read_only)
    }
}

impl Mount for VolumeDir {
    fn tmpfs(&self, size: Option<u64>) -> Result<()> {
        mount::tmpfs(self, size)
    }

    fn hugetlbfs(&self, page_size: u64) -> Result<()> {
        mount::hugetlbfs(self, page_size)
    }

    fn nfs(&self, source: &str, options: &[String]) -> Result<()> {
        mount::nfs(self, source, options)
    }

    fn unmount(&self) -> Result<()> {
        mount::unmount(self)
    }
}

/// The node itself. Works only in a component.
#[derive(Clone, Copy, Debug)]
pub struct Node;

impl HostPaths for Node {
    fn kind_of(&self, path: &str) -> Result<Option<Kind>> {
        host_path::kind_of(path)
    }

    fn make_dirs(&self, path: &str, mode: u32) -> Result<()> {
        host_path::make_dirs(path, mode)
    }

    fn create_file(&self, path: &str, mode: u32) -> Result<()> {
        host_path::create_file(path, mode)
    }
}

impl PodObjects for Pod {
    fn config_map(&self, name: &str) -> Result<String> {
        pod_objects::config_map(self, name)
    }

    fn secret(&self, name: &str) -> Result<String> {
        pod_objects::secret(self, name)
    }

    fn service_account_token(&self, audience: Option<&str>, expiration_seconds: Option<i64>) -> Result<String> {
        pod_objects::service_account_token(self, audience, expiration_seconds)
    }
}

impl Downward for Pod {
    fn field(&self, path: &str) -> Result<String> {
        downward::field(self, path)
    }

    fn resource(&self, container: &str, name: &str, divisor: &str) -> Result<String> {
        downward::resource(self, container, name, divisor)
    }
}

impl<T: Volume + Registered> Guest for Exported<T> {
    fn publish(pod: &Pod, volume: String, target: &VolumeDir) -> Result<Published, Error> {
        enter();
        T::get().publish(pod, &volume, target)
    }

    fn unpublish(target: &VolumeDir) -> Result<(), Error> {
        enter();
        T::get().unpublish(target)
    }
}

#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/base/0.1", "../../wit/volume/0.1"],
        world: "witlet:volume/volume-plugin@0.1.0",
        with: {
            "witlet:base/types@0.1.0": crate::base::bindings::witlet::base::types,
            "witlet:base/objects@0.1.0": crate::base::bindings::witlet::base::objects,
            "witlet:base/log@0.1.0": crate::base::bindings::witlet::base::log,
            "witlet:base/clock@0.1.0": crate::base::bindings::witlet::base::clock,
            "witlet:base/random@0.1.0": crate::base::bindings::witlet::base::random,
            "witlet:base/config@0.1.0": crate::base::bindings::witlet::base::config,
            "witlet:base/kv@0.1.0": crate::base::bindings::witlet::base::kv,
            "witlet:base/egress-http@0.1.0": crate::base::bindings::witlet::base::egress_http,
        },
        generate_all,
        additional_derives: [PartialEq, Clone],
        pub_export_macro: true,
        default_bindings_module: "::witlet_sdk::volume::bindings",
    });
}
