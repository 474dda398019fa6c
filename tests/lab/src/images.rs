//! The images of the demo and the tests, built on the spot: no registry is asked.

mod tar;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use tar::Tar;

/// The sandbox container's.
pub const PAUSE: &str = "witlet.dev/pause:1";
/// busybox and nothing else.
pub const BUSYBOX: &str = "witlet.dev/busybox:1";
/// A web server on port 8080: `/` is the file `/config/index.html`, `/healthz` says ok, `/notes/` is the directory `/notes`.
pub const DEMO_WEB: &str = "witlet.dev/demo-web:1";

/// As [`BUSYBOX`], but another image, which is not among the others: see [`build_spare_archive`].
pub const SPARE: &str = "witlet.dev/spare:1";

const DEMO_WEB_SCRIPT: &str = r#"#!/bin/sh
# busybox's httpd does not end on SIGTERM when it is process 1, so it is not.
trap 'echo "demo-web: ends"; kill "$!"; exit 0' TERM INT
echo "demo-web: serves on port 8080"
httpd -f -vv -p 8080 -h /srv &
wait
"#;

/// Writes one OCI archive with all three into `target/lab`.
pub fn build_archive(target: &Path) -> Result<PathBuf> {
    let dir = target.join("lab");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let pause = compile_pause(&dir)?;
    let busybox = fs::read("/bin/busybox").context("cannot read /bin/busybox (Debian's busybox-static)")?;
    ensure!(
        is_static(&busybox),
        "/bin/busybox is linked dynamically: Debian's busybox-static is needed"
    );

    let mut archive = Archive::default();
    let mut layer = Tar::default();
    layer.file("pause", 0o755, &pause)?;
    archive.image(PAUSE, &layer.finish(), &json!({ "Entrypoint": ["/pause"] }))?;

    let base = busybox_layer(&busybox)?;
    archive.image(
        BUSYBOX,
        &base.clone().finish(),
        &json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] }),
    )?;

    let mut web = base;
    web.file("bin/demo-web", 0o755, DEMO_WEB_SCRIPT.as_bytes())?;
    web.dir("srv")?;
    web.file("srv/healthz", 0o644, b"ok\n")?;
    web.symlink("srv/index.html", "/config/index.html")?;
    web.symlink("srv/notes", "/notes")?;
    archive.image(
        DEMO_WEB,
        &web.finish(),
        &json!({ "Entrypoint": ["/bin/demo-web"], "Env": ["PATH=/bin"], "ExposedPorts": { "8080/tcp": {} } }),
    )?;

    write(archive, &dir, "images")
}

/// Writes an OCI archive with an image that nobody needs.
pub fn build_spare_archive(target: &Path) -> Result<PathBuf> {
    let dir = target.join("lab");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let busybox = fs::read("/bin/busybox").context("cannot read /bin/busybox (Debian's busybox-static)")?;
    let mut archive = Archive::default();
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin", "SPARE=1"] });
    archive.image(SPARE, &busybox_layer(&busybox)?.finish(), &config)?;
    write(archive, &dir, "spare")
}

/// Two labs may write at once: each sees a whole file.
fn write(archive: Archive, dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(format!("{name}.tar"));
    let temporary = dir.join(format!("{name}.{}.tmp", std::process::id()));
    fs::File::create(&temporary)
        .and_then(|mut f| f.write_all(&archive.finish()?))
        .context("cannot write the images")?;
    fs::rename(&temporary, &path).context("cannot write the images")?;
    Ok(path)
}

fn busybox_layer(busybox: &[u8]) -> Result<Tar> {
    let mut layer = Tar::default();
    for dir in ["bin", "etc", "tmp", "root", "var"] {
        layer.dir(dir)?;
    }
    layer.file("bin/busybox", 0o755, busybox)?;
    let applets = crate::output(Command::new("/bin/busybox").arg("--list"))?;
    for applet in applets.lines().filter(|a| *a != "busybox" && !a.contains('/')) {
        layer.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    Ok(layer)
}

/// Once per version of its source.
fn compile_pause(dir: &Path) -> Result<Vec<u8>> {
    let source = include_str!("../pause/pause.rs");
    let program = dir.join(format!("pause-{}", &hex(source.as_bytes())[..12]));
    if !program.exists() {
        let file = dir.join("pause.rs");
        fs::write(&file, source)?;
        let temporary = dir.join(format!("pause.{}.tmp", std::process::id()));
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        crate::output(
            Command::new(rustc)
                .args([
                    "--edition",
                    "2024",
                    "--crate-name",
                    "pause",
                    "-C",
                    "opt-level=s",
                    "-C",
                    "panic=abort",
                ])
                .args(["-C", "strip=symbols", "-C", "target-feature=+crt-static", "-o"])
                .arg(&temporary)
                .arg(&file),
        )?;
        fs::rename(&temporary, &program)?;
    }
    fs::read(&program).context("cannot read the compiled pause program")
}

/// No program interpreter among the ELF program headers.
fn is_static(elf: &[u8]) -> bool {
    let half = |at: usize| elf.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]) as usize);
    let long = |at: usize| {
        elf.get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map(|b| u64::from_le_bytes(b) as usize)
    };
    let (Some(table), Some(size), Some(count)) = (long(32), half(54), half(56)) else {
        return false;
    };
    elf.starts_with(b"\x7fELF")
        && (0..count).all(|i| {
            elf.get(table + i * size..)
                .is_some_and(|h| !h.starts_with(&[3, 0, 0, 0]))
        })
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// An OCI image layout in a tar file, with the names containerd gives the images in the index.
#[derive(Default)]
struct Archive {
    tar: Tar,
    manifests: Vec<Value>,
    written: Vec<String>,
}

impl Archive {
    fn image(&mut self, name: &str, layer: &[u8], config: &Value) -> Result<()> {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let layer_digest = self.blob(layer)?;
        let config = json!({
            "architecture": arch, "os": "linux", "created": "1970-01-01T00:00:00Z", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer_digest] }, "history": [{ "created_by": name }],
        })
        .to_string();
        let config_digest = self.blob(config.as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len() }],
        })
        .to_string();
        let digest = self.blob(manifest.as_bytes())?;
        self.manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
            "platform": { "architecture": arch, "os": "linux" },
            "annotations": { "io.containerd.image.name": name },
        }));
        Ok(())
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<String> {
        let digest = hex(bytes);
        if !self.written.contains(&digest) {
            self.tar.file(&format!("blobs/sha256/{digest}"), 0o644, bytes)?;
            self.written.push(digest.clone());
        }
        Ok(format!("sha256:{digest}"))
    }

    fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.tar
            .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": self.manifests });
        self.tar.file("index.json", 0o644, index.to_string().as_bytes())?;
        Ok(self.tar.finish())
    }
}
