//! Volumes by drivers that plugins serve, named in pods and behind claims.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::plugins::{Stanza, described, write};
use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, LATE, SOON, See, eventually, same};

const DRIVER: &str = "archive.http.example";

/// Serves one file to everybody until the process ends.
fn serve(content: Vec<u8>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                content.len()
            );
            // A client that went away is its own affair.
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&content));
        }
    });
    Ok(address)
}

/// An archive with one file, and its digest.
fn archive(dir: &Path) -> Result<(Vec<u8>, String)> {
    fs::create_dir_all(dir.join("in/deep"))?;
    fs::write(dir.join("in/deep/file"), "from the archive")?;
    let file = dir.join("a.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&file).arg("-C").arg(dir.join("in")).arg(".");
    ensure!(tar.status()?.success(), "tar");
    let sum = Command::new("sha256sum").arg(&file).output()?.stdout;
    let sum = String::from_utf8(sum)?;
    let sum = sum.split_whitespace().next().context("sha256sum says nothing")?;
    Ok((fs::read(file)?, sum.to_owned()))
}

fn reader(name: &str, source: &Value) -> Value {
    let script = format!("cat /data/deep/file; echo; {STAY}");
    let mount = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
    let mut volume = source.clone();
    volume["name"] = json!("data");
    pod(
        name,
        &json!({ "containers": [shell("main", &script, &mount)], "volumes": [volume] }),
    )
}

async fn shows_the_file(ctx: &Ctx, name: &str) -> Result<String> {
    let pod = ctx
        .wait(name, "Ready", LATE, |p| p.condition("Ready").then(|| p.clone()))
        .await?;
    eventually("the file's content", SOON, || async {
        Ok((ctx.log(&pod, "main")? == "from the archive\n").then_some(()))
    })
    .await?;
    pod.metadata.uid.context("a pod without UID")
}

pub(super) async fn a_driver_is_a_plugin(ctx: Ctx) -> Result<()> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/examples/volume-http-archive.wasm");
    let component = fs::read(&built).with_context(|| format!("{}: run `cargo xtask plugins`", built.display()))?;
    let (content, sha256) = archive(&ctx.scratch())?;
    let address = serve(content)?;
    let attributes = json!({ "url": format!("http://{address}/a.tar.gz"), "sha256": sha256 });
    let inline = json!({ "csi": { "driver": DRIVER, "volumeAttributes": attributes } });

    // Before anybody serves the driver, pods wait for it and are told so.
    ctx.create(&reader("inline", &inline)).await?;
    let text = ctx.wait_event("inline", "FailedMount").await?;
    let words = format!("driver name {DRIVER} not found in the list of registered CSI drivers");
    ensure!(
        text.starts_with("MountVolume.SetUp failed for volume \"data\" : ") && text.ends_with(&words),
        "{text}"
    );

    let dir = ctx.world.lab.dir();
    let file = dir.join("archive.wasm");
    write(&file, &component)?;
    let stanza = Stanza(dir.join("plugins.d/archive.toml"));
    let text = format!(
        "[plugin.archive]\nkind = \"volume\"\nsource = \"file:{}\"\ndrivers = [\"{DRIVER}\"]\n\
         grants = {{ files = {{}}, egress-http = {{ hosts = [\"{address}\"] }} }}\nlimits = {{ cpu_per_call = \"10s\" }}\n",
        file.display()
    );
    write(&stanza.0, text.as_bytes())?;
    let inline_uid = shows_the_file(&ctx, "inline").await?;

    // Behind a claim, which is not bound at first.
    let client = ctx.world.client().await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &ctx.ns);
    let volumes: Api<PersistentVolume> = Api::all(client);
    let name = format!("pv-{}", ctx.ns);
    let claim = json!({
        "metadata": { "name": "c" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeName": name, "volumeMode": "Filesystem",
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    let claim = claims
        .create(&PostParams::default(), &serde_json::from_value(claim)?)
        .await?;
    ctx.create(&reader(
        "claims",
        &json!({ "persistentVolumeClaim": { "claimName": "c" } }),
    ))
    .await?;
    let text = ctx.wait_event("claims", "FailedMount").await?;
    let expected = format!(
        "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], \
         failed to process volumes=[data]: error processing PVC {}/c: PVC is not bound",
        ctx.ns
    );
    same("the event", text.as_str(), expected.as_str())?;
    let volume = json!({
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "volumeMode": "Filesystem",
            "claimRef": { "namespace": ctx.ns, "name": "c", "uid": claim.metadata.uid },
            "csi": { "driver": DRIVER, "volumeHandle": "h", "volumeAttributes": attributes },
        },
    });
    volumes
        .create(&PostParams::default(), &serde_json::from_value(volume)?)
        .await?;
    let bound = json!({ "status": { "phase": "Bound", "capacity": { "storage": "1Gi" } } });
    claims
        .patch_status("c", &PatchParams::default(), &Patch::Merge(&bound))
        .await?;
    let claims_uid = shows_the_file(&ctx, "claims").await?;
    let at = |uid: &str, name: &str| dir.join(format!("root/pods/{uid}/volumes/witlet.dev~{DRIVER}/{name}"));
    let places = [at(&inline_uid, "data"), at(&claims_uid, &name)];
    for place in &places {
        ensure!(place.join("deep/file").is_file(), "{} is not there", place.display());
    }

    // The next generation takes down what this one made.
    let generation = described(&ctx, "archive")?["generation"].clone();
    // A custom section without a meaning.
    let next = [&component[..], b"\0\x06\x04next!"].concat();
    write(&file, &next)?;
    eventually("the next generation", SOON, || async {
        Ok((described(&ctx, "archive")?["generation"] != generation).then_some(()))
    })
    .await?;
    for pod in ["inline", "claims"] {
        ctx.delete(pod).await?;
        ctx.wait_gone(pod).await?;
    }
    for place in &places {
        ensure!(!place.exists(), "{} stayed", place.display());
    }
    claims.delete("c", &DeleteParams::default()).await?;
    volumes.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}
