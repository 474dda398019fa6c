//! Volumes by drivers that plugins serve, named in pods and behind claims.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::plugins::{Stanza, described, write};
use crate::spec::{STAY, pod, shell};
use crate::world::{Ctx, LATE, SOON, See, eventually, same};

const DRIVER: &str = "archive.http.example";

/// Serves one file to everybody until the process ends; the `Authorization` of each who asked.
fn serve(content: Vec<u8>) -> Result<(SocketAddr, Arc<Mutex<Vec<String>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut authorization = String::new();
            for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(": ")
                    && name.eq_ignore_ascii_case("authorization")
                {
                    value.clone_into(&mut authorization);
                }
            }
            theirs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(authorization);
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
    Ok((address, asked))
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
    let (address, _) = serve(content)?;
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
         grants = {{ files = {{}}, mount = {{}}, volume-secrets = {{}}, egress-http = {{ hosts = [\"{address}\"] }} }}\n\
         limits = {{ cpu_per_call = \"10s\" }}\n",
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

/// A claim that is bound to a volume of the plugin's; their names.
async fn bound(ctx: &Ctx, attributes: &Value) -> Result<(String, Api<PersistentVolumeClaim>, Api<PersistentVolume>)> {
    let client = ctx.world.client().await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &ctx.ns);
    let volumes: Api<PersistentVolume> = Api::all(client);
    let name = format!("pv-{}", ctx.ns);
    let claim = json!({
        "metadata": { "name": "c" },
        "spec": {
            "accessModes": ["ReadWriteMany"], "volumeName": name, "volumeMode": "Filesystem",
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    let claim = claims
        .create(&PostParams::default(), &serde_json::from_value(claim)?)
        .await?;
    let volume = json!({
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteMany"], "capacity": { "storage": "1Gi" }, "volumeMode": "Filesystem",
            "claimRef": { "namespace": ctx.ns, "name": "c", "uid": claim.metadata.uid },
            "csi": {
                "driver": DRIVER, "volumeHandle": "shared", "volumeAttributes": attributes,
                "nodeStageSecretRef": { "namespace": ctx.ns, "name": "server" },
            },
        },
    });
    volumes
        .create(&PostParams::default(), &serde_json::from_value(volume)?)
        .await?;
    let bound = json!({ "status": { "phase": "Bound", "capacity": { "storage": "1Gi" } } });
    claims
        .patch_status("c", &PatchParams::default(), &Patch::Merge(&bound))
        .await?;
    Ok((name, claims, volumes))
}

pub(super) async fn pods_share_what_is_staged(ctx: Ctx) -> Result<()> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/examples/volume-http-archive.wasm");
    let component = fs::read(&built).with_context(|| format!("{}: run `cargo xtask plugins`", built.display()))?;
    let (content, sha256) = archive(&ctx.scratch())?;
    let (address, asked) = serve(content)?;
    let asked = || asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let dir = ctx.world.lab.dir();
    let file = dir.join("shared.wasm");
    write(&file, &component)?;
    let stanza = Stanza(dir.join("plugins.d/shared.toml"));
    let text = format!(
        "[plugin.shared]\nkind = \"volume\"\nsource = \"file:{}\"\ndrivers = [\"{DRIVER}\"]\n\
         grants = {{ files = {{}}, mount = {{}}, volume-secrets = {{}}, egress-http = {{ hosts = [\"{address}\"] }} }}\n\
         limits = {{ cpu_per_call = \"10s\" }}\n",
        file.display()
    );
    write(&stanza.0, text.as_bytes())?;
    ctx.secret("server", &json!({ "authorization": "Bearer of-the-volume" }))
        .await?;
    let attributes = json!({ "url": format!("http://{address}/a.tar.gz"), "sha256": sha256 });
    let (name, claims, volumes) = bound(&ctx, &attributes).await?;
    let source = json!({ "persistentVolumeClaim": { "claimName": "c" } });
    let mut places = Vec::new();
    for pod in ["one", "two"] {
        ctx.create(&reader(pod, &source)).await?;
        let uid = shows_the_file(&ctx, pod).await?;
        places.push(dir.join(format!("root/pods/{uid}/volumes/witlet.dev~{DRIVER}/{name}")));
    }
    same("requests", asked(), vec!["Bearer of-the-volume".to_owned()])?;
    ensure!(
        !ctx.world.agent_log().contains("of-the-volume"),
        "a secret is in the log"
    );
    let home = dir.join(format!("root/plugins/witlet.dev/csi/{DRIVER}"));
    let staged = || Ok::<_, anyhow::Error>(fs::read_dir(&home)?.flatten().next().map(|e| e.path()));
    let place = staged()?.context("nothing is staged")?;
    ensure!(place.join("globalmount/deep/file").is_file(), "{}", place.display());

    // It grew: the plugin is told, and so are the claim and the pods.
    let grown = json!({ "spec": { "capacity": { "storage": "2Gi" } } });
    volumes
        .patch(&name, &PatchParams::default(), &Patch::Merge(&grown))
        .await?;
    // A changed pod is looked at now, and not within the minute.
    let touched = json!({ "metadata": { "labels": { "touched": "yes" } } });
    ctx.pods()
        .await?
        .patch("one", &PatchParams::default(), &Patch::Merge(&touched))
        .await?;
    let text = ctx.wait_event("one", "FileSystemResizeSuccessful").await?;
    ensure!(
        text.starts_with(&format!(
            "MountVolume.NodeExpandVolume succeeded for volume \"{name}\" "
        )),
        "{text}"
    );
    eventually("the claim's size", SOON, || async {
        let claim = claims.get("c").await?;
        let capacity = claim.status.and_then(|s| s.capacity).unwrap_or_default();
        Ok((capacity.get("storage").map(|q| q.0.as_str()) == Some("2Gi")).then_some(()))
    })
    .await?;

    // Another agent goes on from what is on disk.
    ctx.world.agent(|agent| agent.kill())?;
    ctx.world.agent(|agent| agent.start_again())?;
    ctx.delete("one").await?;
    ctx.wait_gone("one").await?;
    ensure!(!places[0].exists(), "{} stayed", places[0].display());
    ensure!(
        places[1].join("deep/file").is_file() && place.join("globalmount/deep/file").is_file(),
        "the other pod has lost it"
    );
    ctx.delete("two").await?;
    ctx.wait_gone("two").await?;
    eventually("the last pod's end", SOON, || async {
        Ok(staged()?.is_none().then_some(()))
    })
    .await?;
    ensure!(!places[1].exists(), "{} stayed", places[1].display());
    same("requests", asked().len(), 1)?;
    // It listens somewhere else.
    let client = ctx.world.client().await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &ctx.ns);
    let volumes: Api<PersistentVolume> = Api::all(client);
    claims.delete("c", &DeleteParams::default()).await?;
    volumes.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}
