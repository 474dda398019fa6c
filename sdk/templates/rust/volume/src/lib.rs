//! Volumes that hold what the pod's spec says, one file for each attribute:
//!
//! ```yaml
//! volumes:
//!   - name: greeting
//!     csi: { driver: {{name}}, volumeAttributes: { hello.txt: "hello" } }
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use witlet_sdk::volume::{self, Dir, Pod, Published, Volume, VolumeDir};
use witlet_sdk::{Error, Result};

#[derive(Default)]
struct {{Type}};

#[volume::plugin(name = "{{name}}", capabilities = ["files"], drivers = ["{{name}}"])]
impl Volume for {{Type}} {
    fn publish(&self, _: &Pod, volume: &str, target: &VolumeDir) -> Result<Published> {
        publish(volume, target)
    }

    fn unpublish(&self, target: &VolumeDir) -> Result<()> {
        unpublish(target)
    }
}

/// As much of the v1 Volume as is needed.
#[derive(Deserialize)]
struct Spec {
    csi: Csi,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Csi {
    #[serde(default)]
    volume_attributes: BTreeMap<String, String>,
}

/// Called again at any time: it writes only what is not as it should be.
pub fn publish(volume: &str, target: &impl Dir) -> Result<Published> {
    let spec: Spec = serde_json::from_str(volume).map_err(|e| Error::Invalid(format!("the volume: {e}")))?;
    if !target.exists() {
        target.create(0o755)?;
    }
    for (name, content) in &spec.csi.volume_attributes {
        if name.contains('/') {
            return Err(Error::Invalid(format!("{name:?} is no name of a file")));
        }
        if target.read(name).ok().as_deref() != Some(content.as_bytes()) {
            target.write(name, content.as_bytes(), 0o644)?;
        }
    }
    target.set_ready(true)?;
    Ok(Published {
        host_path: None,
        read_only: false,
        follows_source: false,
    })
}

/// From what is on disk alone.
pub fn unpublish(target: &impl Dir) -> Result<()> {
    target.set_ready(false)?;
    if target.exists() {
        target.destroy()?;
    }
    Ok(())
}
