//! Pods as people write them: reading a manifest, the API's defaults and checks, and what makes a manifest's pod a static
//! pod of this node (the kubelet contract, pod 1.1 and 1.2).
//!
//! - [`parse`] reads one document and tells every mistake at once, with its line; [`parse_all`] takes a list too;
//! - [`default_pod`] and [`validate_pod`] are what the API server does when a pod is created;
//! - [`adopt`] gives a static pod its identity, [`mirror_of`] makes the object that shows it in the API.

use std::fmt;

use k8s_openapi::api::core::v1::{Pod, Volume};

mod decode;
mod default;
mod identity;
mod references;
mod tree;
mod validate;

#[cfg(test)]
mod tests;

pub use default::default_pod;
pub use identity::{adopt, mirror_of};
pub use references::refuse_api_references;
pub use validate::validate_pod;

/// Larger documents are refused unread.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;

/// What is wrong with a manifest: everything, in the order of its lines.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ManifestErrors {
    /// As the caller named it.
    pub file: String,
    pub problems: Vec<Problem>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// None where it is not known, or the problem has no place.
    pub line: Option<u64>,
    /// `spec.containers[0].image: Required value`
    pub message: String,
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [] => write!(f, "{}: not a pod", self.file),
            [only] => line(f, &self.file, only),
            many => {
                write!(f, "{}: {} errors", self.file, many.len())?;
                for problem in many {
                    f.write_str("\n  ")?;
                    line(f, &self.file, problem)?;
                }
                Ok(())
            }
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, file: &str, problem: &Problem) -> fmt::Result {
    match problem.line {
        Some(line) => write!(f, "{file}:{line}: {}", problem.message),
        None => write!(f, "{file}: {}", problem.message),
    }
}

/// Reading is recursive, with large frames in debug builds: too much for a thread of a runtime at a hostile depth.
const STACK_BYTES: usize = 16 << 20;

/// Reads a pod from YAML or JSON, gives it the API's defaults (and the namespace `default`) and checks it.
///
/// Works on a short-lived thread of its own; takes milliseconds for usual manifests.
pub fn parse(bytes: &[u8], file: &str) -> Result<Pod, ManifestErrors> {
    let mut pods = read(bytes, file, Lists::Refused)?;
    pods.pop().ok_or_else(|| ManifestErrors {
        file: file.to_owned(),
        problems: Vec::new(),
    })
}

/// The same for what may be a list of pods too: one that is not right condemns the whole list.
pub fn parse_all(bytes: &[u8], file: &str) -> Result<Vec<Pod>, ManifestErrors> {
    read(bytes, file, Lists::Allowed)
}

/// Whether a `PodList` may stand where a pod may: behind a URL, but not in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    Allowed,
    Refused,
}

fn read(bytes: &[u8], file: &str, lists: Lists) -> Result<Vec<Pod>, ManifestErrors> {
    let failed = |message: &str| ManifestErrors {
        file: file.to_owned(),
        problems: vec![Problem {
            line: None,
            message: message.to_owned(),
        }],
    };
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("manifest".into())
            .stack_size(STACK_BYTES);
        match reader
            .spawn_scoped(scope, || parse_here(bytes, file, lists))
            .map(|thread| thread.join())
        {
            Ok(Ok(result)) => result,
            // A bug of a parser must not take the node down.
            Ok(Err(_)) => Err(failed("the parser failed")),
            Err(error) => Err(failed(&format!("no thread to read it: {error}"))),
        }
    })
}

fn parse_here(bytes: &[u8], file: &str, lists: Lists) -> Result<Vec<Pod>, ManifestErrors> {
    let failed = |problems| ManifestErrors {
        file: file.to_owned(),
        problems,
    };
    let only = |line, message| failed(vec![Problem { line, message }]);
    if bytes.len() > MAX_BYTES {
        return Err(only(None, format!("larger than {} MiB", MAX_BYTES >> 20)));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let good = &bytes[..e.valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() as u64 + 1;
        only(Some(line), "not UTF-8 text".into())
    })?;
    let root = tree::read(text).map_err(|e| only(e.line, e.message))?;
    let tree::Value::Map(entries) = &root.value else {
        return Err(only(
            root.line,
            "not a pod: expected a map with apiVersion, kind, metadata and spec".into(),
        ));
    };

    // Of another kind nothing else is worth saying.
    let text_of = |key: &str| match entries.iter().find(|(k, _)| k == key).map(|(_, n)| &n.value) {
        Some(tree::Value::Str(s)) => Some(s.as_str()),
        _ => None,
    };
    match (text_of("apiVersion"), text_of("kind")) {
        (Some("v1"), Some("Pod")) => {
            let (pod, problems) = pod_of(&root, "");
            return match pod {
                Some(pod) if problems.is_empty() => Ok(vec![pod]),
                _ => Err(failed(problems)),
            };
        }
        (Some("v1"), Some("PodList")) if lists == Lists::Allowed => {}
        (Some("v1"), Some(kind @ ("PodList" | "List"))) => {
            return Err(only(
                root.line_of("kind"),
                format!("kind: a {kind} where one Pod is expected"),
            ));
        }
        (version, kind) => {
            let show = |what: Option<&str>| what.unwrap_or("nothing").to_owned();
            let message = format!(
                "expected apiVersion v1 and kind Pod, found {} and {}",
                show(version),
                show(kind)
            );
            return Err(only(
                root.line_of(if version == Some("v1") { "kind" } else { "apiVersion" }),
                message,
            ));
        }
    }

    let items = entries.iter().find(|(key, _)| key == "items").map(|(_, node)| node);
    let items: &[tree::Node] = match items.map(|node| &node.value) {
        Some(tree::Value::Seq(items)) => items,
        None | Some(tree::Value::Null) => &[],
        Some(_) => return Err(only(root.line_of("items"), "items: expected a list".into())),
    };
    let (mut pods, mut problems) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let (pod, wrong) = pod_of(item, &format!("items[{index}]"));
        pods.extend(pod);
        problems.extend(wrong);
    }
    if problems.is_empty() {
        Ok(pods)
    } else {
        Err(failed(problems))
    }
}

/// A pod, as far as it can be read, and all that is wrong with it in the order of its lines. `place` is where the pod stands
/// in the document.
fn pod_of(root: &tree::Node, place: &str) -> (Option<Pod>, Vec<Problem>) {
    let (mut pod, mistakes) = decode::decode::<Pod>(root.clone());
    let mut problems: Vec<_> = mistakes.into_iter().map(|m| (m.path, m.message)).collect();
    if let Some(pod) = &mut pod {
        // The embedded object may be anything; what is checked is what will run.
        default_pod(pod);
        let namespace = pod.metadata.namespace.get_or_insert_default();
        if namespace.is_empty() {
            "default".clone_into(namespace);
        }
        // A value that could not be read was told already; that it is missing is no news.
        let told: Vec<String> = problems.iter().map(|(path, _)| path.clone()).collect();
        let known = |path: &str| told.iter().any(|t| path == t || path.starts_with(&format!("{t}.")));
        problems.extend(validate::validate(pod).into_iter().filter(|(path, _)| !known(path)));
    }
    let dot = if place.is_empty() { "" } else { "." };
    let mut problems: Vec<_> = problems
        .into_iter()
        .map(|(path, message)| Problem {
            line: root.line_of(&path),
            message: match (path.as_str(), place) {
                ("", "") => message,
                ("", place) => format!("{place}: {message}"),
                (path, place) => format!("{place}{dot}{path}: {message}"),
            },
        })
        .collect();
    if pod.is_none() && problems.is_empty() {
        problems.push(Problem {
            line: root.line,
            message: "not a pod".into(),
        });
    }
    problems.sort_by_key(|p| p.line);
    (pod, problems)
}

/// The names of the sources that a volume has set: one, for every valid volume.
pub(crate) fn volume_sources(volume: &Volume) -> Vec<&'static str> {
    // Without `..`: a source that a newer API brings must be thought about here.
    let Volume {
        name: _,
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        config_map,
        csi,
        downward_api,
        empty_dir,
        ephemeral,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path,
        image,
        iscsi,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        projected,
        quobyte,
        rbd,
        scale_io,
        secret,
        storageos,
        vsphere_volume,
    } = volume;
    [
        ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
        ("azureDisk", azure_disk.is_some()),
        ("azureFile", azure_file.is_some()),
        ("cephfs", cephfs.is_some()),
        ("cinder", cinder.is_some()),
        ("configMap", config_map.is_some()),
        ("csi", csi.is_some()),
        ("downwardAPI", downward_api.is_some()),
        ("emptyDir", empty_dir.is_some()),
        ("ephemeral", ephemeral.is_some()),
        ("fc", fc.is_some()),
        ("flexVolume", flex_volume.is_some()),
        ("flocker", flocker.is_some()),
        ("gcePersistentDisk", gce_persistent_disk.is_some()),
        ("gitRepo", git_repo.is_some()),
        ("glusterfs", glusterfs.is_some()),
        ("hostPath", host_path.is_some()),
        ("image", image.is_some()),
        ("iscsi", iscsi.is_some()),
        ("nfs", nfs.is_some()),
        ("persistentVolumeClaim", persistent_volume_claim.is_some()),
        ("photonPersistentDisk", photon_persistent_disk.is_some()),
        ("portworxVolume", portworx_volume.is_some()),
        ("projected", projected.is_some()),
        ("quobyte", quobyte.is_some()),
        ("rbd", rbd.is_some()),
        ("scaleIO", scale_io.is_some()),
        ("secret", secret.is_some()),
        ("storageos", storageos.is_some()),
        ("vsphereVolume", vsphere_volume.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect()
}
