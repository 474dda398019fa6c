//! Where images come from.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use witlet_lab::BUSYBOX;

use crate::spec::pod;
use crate::world::{Ctx, SOON, See, eventually, same};

fn with_image(name: &str, image: &str, policy: &str) -> Value {
    let container = json!({ "name": "main", "image": image, "imagePullPolicy": policy, "command": ["true"] });
    pod(name, &json!({ "restartPolicy": "Never", "containers": [container] }))
}

pub(super) async fn never_pulled_images_are_reported(ctx: Ctx) -> Result<()> {
    ctx.create(&with_image("p", "witlet.dev/none:1", "Never")).await?;
    let waiting = ctx
        .wait("p", "waiting", SOON, |p| {
            p.status_of("main")?
                .state
                .as_ref()?
                .waiting
                .clone()
                .filter(|w| w.reason.as_deref() == Some("ErrImageNeverPull"))
        })
        .await?;
    let expected = r#"Container image "witlet.dev/none:1" is not present with pull policy of Never"#;
    same("message", waiting.message.as_deref(), Some(expected))?;
    same(
        "event",
        ctx.wait_event("p", "ErrImageNeverPull").await?.as_str(),
        expected,
    )?;
    same(
        "Failed says",
        ctx.wait_event("p", "Failed").await?.as_str(),
        "Error: ErrImageNeverPull",
    )
}

pub(super) async fn unreachable_registries_back_off(ctx: Ctx) -> Result<()> {
    // Nobody listens on port 1.
    let image = "127.0.0.1:1/none:1";
    ctx.create(&with_image("p", image, "IfNotPresent")).await?;
    let waiting = ctx
        .wait("p", "ImagePullBackOff", SOON, |p| {
            p.status_of("main")?
                .state
                .as_ref()?
                .waiting
                .clone()
                .filter(|w| w.reason.as_deref() == Some("ImagePullBackOff"))
        })
        .await?;
    let message = waiting.message.unwrap_or_default();
    let start = format!("Back-off pulling image \"{image}\": ErrImagePull: ");
    ensure!(
        message.starts_with(&start) && message.contains("connection refused"),
        "the message is {message:?}"
    );
    same(
        "Pulling says",
        ctx.wait_event("p", "Pulling").await?.as_str(),
        format!("Pulling image \"{image}\"").as_str(),
    )?;
    ctx.wait_event("p", "BackOff").await?;
    same("phase", ctx.wait_phase("p", "Pending").await?.phase(), "Pending")
}

/// A registry of the scenario's own, with busybox in it as `app:1`. It ends with the scenario, however that ends.
struct Registry {
    child: Child,
    authority: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Users of a registry, with the bcrypt hashes of their passwords: `alice:right` and `bob:other`.
const USERS: &str = "\
alice:$2b$05$mFycJOecPJwVf.1gyXWOheUO0xOhw5DwAGZnped6MYFBnjVLRV7LG
bob:$2b$05$9bie8AnywNgmv1pfj2N2.enFpN4zM.U7Gji/Ygle16hCzBL2szy1i
";

impl Registry {
    /// With `users`, only they may pull and push.
    async fn start(ctx: &Ctx, users: bool) -> Result<Self> {
        ensure!(
            witlet_lab::has_program("docker-registry"),
            "docker-registry is not installed; run `cargo xtask setup`"
        );
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let authority = format!("127.0.0.1:{port}");
        let dir = ctx.scratch();
        let (config, storage, passwords) = (dir.join("registry.yml"), dir.join("registry"), dir.join("htpasswd"));
        fs::write(&passwords, USERS)?;
        let auth = if users {
            format!(
                "auth:\n  htpasswd:\n    realm: lab\n    path: {}\n",
                passwords.display()
            )
        } else {
            String::new()
        };
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {authority}\n{auth}",
            storage.display()
        );
        fs::write(&config, text)?;
        let log = fs::File::create(dir.join("registry.log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start docker-registry")?;
        let this = Self { child, authority };
        eventually("the registry", SOON, || async {
            let answer = witlet_lab::http_get(&this.authority, "/v2/");
            Ok(answer
                .is_ok_and(|(status, _)| [200, 401].contains(&status))
                .then_some(()))
        })
        .await?;
        let image = this.image();
        ctx.world.containerd(|containerd| {
            for args in [
                vec!["images", "tag", BUSYBOX, &image],
                vec!["images", "push", "--plain-http", "--user", "alice:right", &image],
                vec!["images", "remove", &image],
            ] {
                witlet_lab::output(containerd.ctr().args(args))?;
            }
            Ok(())
        })?;
        Ok(this)
    }

    fn image(&self) -> String {
        format!("{}/app:1", self.authority)
    }
}

/// A pull secret for the registry.
async fn pull_secret(ctx: &Ctx, name: &str, registry: &Registry, user: &str, password: &str) -> Result<()> {
    let config = json!({ "auths": { &registry.authority: { "username": user, "password": password } } });
    let secret = json!({
        "metadata": { "name": name },
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": config.to_string() },
    });
    let api: Api<Secret> = Api::namespaced(ctx.world.client().await?, &ctx.ns);
    api.create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await
        .context("create the pull secret")?;
    Ok(())
}

fn with_secret(name: &str, image: &str, policy: &str, secret: &str) -> Value {
    let mut pod = with_image(name, image, policy);
    pod["spec"]["imagePullSecrets"] = json!([{ "name": secret }]);
    pod
}

/// Until the pod waits for its image for this reason; the message.
async fn wait_waiting(ctx: &Ctx, pod: &str, reason: &str) -> Result<String> {
    let see = |p: &Pod| {
        let waiting = p.status_of("main")?.state.as_ref()?.waiting.clone()?;
        (waiting.reason.as_deref() == Some(reason)).then(|| waiting.message.unwrap_or_default())
    };
    ctx.wait(pod, reason, SOON, see).await
}

pub(super) async fn an_image_is_pulled_from_a_registry(ctx: Ctx) -> Result<()> {
    let registry = Registry::start(&ctx, false).await?;
    let image = registry.image();
    ctx.create(&with_image("p", &image, "Always")).await?;
    let pod = ctx.wait_phase("p", "Succeeded").await?;
    let status = pod.status_of("main").context("no status")?;
    same("image", status.image.as_str(), image.as_str())?;
    ensure!(
        status.image_id.contains("@sha256:") || status.image_id.starts_with("sha256:"),
        "imageID is {:?}",
        status.image_id
    );
    let message = ctx.wait_event("p", "Pulled").await?;
    ensure!(
        message.starts_with(&format!("Successfully pulled image \"{image}\" in ")),
        "Pulled says {message:?}"
    );
    // What was pulled without credentials is for everybody.
    ctx.create(&with_image("again", &image, "IfNotPresent")).await?;
    ctx.wait_event_that(
        "again",
        "Pulled",
        "already present on machine and can be accessed by the pod",
    )
    .await?;
    if let Some((_, digest)) = status.image_id.split_once('@') {
        let by_digest = format!("{}/app@{digest}", registry.authority);
        ctx.create(&with_image("digest", &by_digest, "Always")).await?;
        ctx.wait_phase("digest", "Succeeded").await?;
    }
    ctx.create(&with_image(
        "gone",
        &format!("{}/none:1", registry.authority),
        "IfNotPresent",
    ))
    .await?;
    let message = wait_waiting(&ctx, "gone", "ImagePullBackOff").await?;
    ensure!(message.contains("not found"), "the message is {message:?}");
    Ok(())
}

pub(super) async fn private_images_need_credentials(ctx: Ctx) -> Result<()> {
    let registry = Registry::start(&ctx, true).await?;
    let image = registry.image();
    let other = Ctx::new(ctx.world.clone(), "private-images-elsewhere").await?;
    let result = async {
        pull_secret(&ctx, "right", &registry, "alice", "right").await?;
        pull_secret(&ctx, "wrong", &registry, "alice", "wrong").await?;
        pull_secret(&other, "same", &registry, "alice", "right").await?;
        pull_secret(&other, "different", &registry, "bob", "other").await?;
        pull_secret(&other, "wrong", &registry, "bob", "wrong").await?;

        ctx.create(&with_secret("wrong", &image, "IfNotPresent", "wrong"))
            .await?;
        wait_waiting(&ctx, "wrong", "ImagePullBackOff").await?;
        ctx.create(&with_secret("missing", &image, "IfNotPresent", "missing"))
            .await?;
        let warning = ctx.wait_event("missing", "FailedToRetrieveImagePullSecret").await?;
        same(
            "the warning",
            warning.as_str(),
            "Unable to retrieve some image pull secrets (missing); attempting to pull the image may not succeed.",
        )?;
        wait_waiting(&ctx, "missing", "ImagePullBackOff").await?;
        ctx.create(&with_secret("right", &image, "IfNotPresent", "right"))
            .await?;
        ctx.wait_phase("right", "Succeeded").await?;
        ctx.wait_event_that("right", "Pulled", "Successfully pulled image")
            .await?;

        // The image is on the node now, but not for everybody (the kubelet contract, pod 14.8).
        let present = "already present on machine and can be accessed by the pod";
        other
            .create(&with_secret("same", &image, "IfNotPresent", "same"))
            .await?;
        other.wait_phase("same", "Succeeded").await?;
        other.wait_event_that("same", "Pulled", present).await?;
        other
            .create(&with_secret("different", &image, "IfNotPresent", "different"))
            .await?;
        other.wait_phase("different", "Succeeded").await?;
        other
            .wait_event_that("different", "Pulled", "Successfully pulled image")
            .await?;
        other
            .create(&with_secret("wrong", &image, "IfNotPresent", "wrong"))
            .await?;
        wait_waiting(&other, "wrong", "ImagePullBackOff").await?;
        other.create(&with_image("never", &image, "Never")).await?;
        wait_waiting(&other, "never", "ErrImageNeverPull").await?;
        other.create(&with_secret("may", &image, "Never", "same")).await?;
        other.wait_phase("may", "Succeeded").await.map(drop)
    }
    .await;
    let cleaned = other.clean_up().await;
    result.and(cleaned)
}

/// This containerd cannot mount images; that it is asked to is seen by its refusal.
pub(super) async fn image_volumes_are_pulled_and_left_to_the_runtime(ctx: Ctx) -> Result<()> {
    let with_volume = |name: &str, image: &str, policy: &str| {
        let container = json!({
            "name": "main", "image": BUSYBOX, "command": ["true"],
            "volumeMounts": [{ "name": "tools", "mountPath": "/tools" }],
        });
        let volume = json!({ "name": "tools", "image": { "reference": image, "pullPolicy": policy } });
        let spec = json!({ "restartPolicy": "Never", "containers": [container], "volumes": [volume] });
        pod(name, &spec)
    };
    ctx.create(&with_volume("none", "witlet.dev/none:1", "Never")).await?;
    let message = wait_waiting(&ctx, "none", "ErrImageNeverPull").await?;
    same(
        "message",
        message.as_str(),
        r#"Container image "witlet.dev/none:1" is not present with pull policy of Never"#,
    )?;
    ctx.wait_event_that("none", "Failed", "Error: ErrImageNeverPull")
        .await?;
    ctx.create(&with_volume("there", BUSYBOX, "IfNotPresent")).await?;
    let message = wait_waiting(&ctx, "there", "CreateContainerError").await?;
    ensure!(!message.is_empty(), "the runtime's refusal is not shown");
    Ok(())
}
