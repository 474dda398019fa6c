//! Where images come from.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
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

/// Ends the registry when the scenario ends, however it does.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) async fn an_image_is_pulled_from_a_registry(ctx: Ctx) -> Result<()> {
    ensure!(
        witlet_lab::has_program("docker-registry"),
        "docker-registry is not installed; run `cargo xtask setup`"
    );
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let dir = ctx.scratch();
    let config = dir.join("registry.yml");
    let storage = dir.join("registry");
    fs::write(
        &config,
        format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            storage.display()
        ),
    )?;
    let log = fs::File::create(dir.join("registry.log"))?;
    let _registry = Registry(
        Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start docker-registry")?,
    );
    let authority = format!("127.0.0.1:{port}");
    eventually("the registry", SOON, || async {
        Ok((witlet_lab::http_get(&authority, "/v2/").is_ok_and(|(status, _)| status == 200)).then_some(()))
    })
    .await?;
    let image = format!("{authority}/pulled:1");
    ctx.world.containerd(|containerd| {
        for args in [
            vec!["images", "tag", BUSYBOX, &image],
            vec!["images", "push", "--plain-http", &image],
            vec!["images", "remove", &image],
        ] {
            witlet_lab::output(containerd.ctr().args(args))?;
        }
        Ok(())
    })?;
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
    Ok(())
}
