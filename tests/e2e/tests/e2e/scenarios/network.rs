//! Pods' networks.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use witlet_lab::SECOND_SUBNET;

use crate::spec::{STAY, once, pod, shell, web, web_container};
use crate::world::{Ctx, SOON, See, eventually, fetch, same};

pub(super) async fn pods_reach_each_other(ctx: Ctx) -> Result<()> {
    ctx.create(&web("server")).await?;
    let server = ctx.wait_ready("server").await?;
    let ip = server.ip()?;
    ensure!(
        ip.starts_with(&ctx.world.lab.names().subnet_prefix),
        "{ip} is not of the node's pod network"
    );
    same(
        "from the node",
        fetch(ip, 8080, "/healthz").await?,
        (200, "ok\n".to_owned()),
    )?;
    let script = format!("wget -q -O - http://{ip}:8080/healthz; hostname -i; hostname; grep -c localhost /etc/hosts");
    ctx.create(&once("client", &script, &json!({}))).await?;
    let client = ctx.wait_phase("client", "Succeeded").await?;
    let log = ctx.log(&client, "main")?;
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    same(
        "what the client saw",
        lines.get(..3),
        Some(["ok", client.ip()?, "client"].as_slice()),
    )?;
    ensure!(client.ip()? != ip, "both have the same IP");
    let all = client
        .status
        .as_ref()
        .and_then(|s| s.pod_ips.as_ref())
        .context("no podIPs")?;
    same(
        "podIPs",
        all.iter().map(|i| i.ip.as_str()).collect::<Vec<_>>(),
        vec![client.ip()?],
    )
}

pub(super) async fn host_ports_are_mapped(ctx: Ctx) -> Result<()> {
    let port = TcpListener::bind("0.0.0.0:0")?.local_addr()?.port();
    let mut container = web_container("web");
    container["ports"] = json!([{ "name": "http", "containerPort": 8080, "hostPort": port }]);
    ctx.create(&pod("p", &json!({ "containers": [container] }))).await?;
    ctx.wait_ready("p").await?;
    // The bridge's own address is one of the node's.
    let node = format!("{}1", ctx.world.lab.names().subnet_prefix);
    same(
        "through the node",
        fetch(&node, port, "/healthz").await?,
        (200, "ok\n".to_owned()),
    )?;
    ctx.delete("p").await?;
    ctx.wait_gone("p").await?;
    eventually("the mapping to be gone", SOON, || async {
        Ok(fetch(&node, port, "/healthz").await.is_err().then_some(()))
    })
    .await
}

pub(super) async fn a_second_interface_comes_and_goes(ctx: Ctx) -> Result<()> {
    let script = format!("ip -o -4 addr show net1 | tr -s ' ' | cut -d ' ' -f 4; echo end; {STAY}");
    let mut two = pod("two", &json!({ "containers": [shell("main", &script, &json!({}))] }));
    two["metadata"]["annotations"] = json!({ "k8s.v1.cni.cncf.io/networks": "second" });
    ctx.create(&two).await?;
    let two = ctx.wait_ready("two").await?;
    let log = eventually("its log", SOON, || async {
        Ok(Some(ctx.log(&two, "main")?).filter(|l| l.ends_with("end\n")))
    })
    .await?;
    let address = log.lines().next().unwrap_or_default();
    let ip = address.split('/').next().unwrap_or_default();
    ensure!(ip.starts_with(SECOND_SUBNET), "net1 has {address:?}");
    let lease = ctx.world.lab.dir().join("ipam/second").join(ip);
    ensure!(lease.exists(), "{} is not there", lease.display());
    // Everybody else finds it in the annotation.
    let status = ctx
        .wait("two", "the annotation", SOON, |pod| {
            let all = pod.metadata.annotations.as_ref()?;
            all.get("k8s.v1.cni.cncf.io/network-status").cloned()
        })
        .await?;
    let status: Value = serde_json::from_str(&status)?;
    same("networks in it", status.as_array().map(Vec::len), Some(2))?;
    ensure!(
        status[0]["interface"] == "eth0" && status[0]["default"] == true && status[0]["ips"] == json!([two.ip()?]),
        "{status}"
    );
    ensure!(
        status[1]["name"] == "second" && status[1]["interface"] == "net1" && status[1]["ips"] == json!([ip]),
        "{status}"
    );
    ensure!(status[1]["mac"].as_str().is_some_and(|mac| mac.len() == 17), "{status}");
    // The pod's own network is the first one.
    ensure!(
        two.ip()?.starts_with(&ctx.world.lab.names().subnet_prefix),
        "{}",
        two.ip()?
    );
    ctx.delete("two").await?;
    ctx.wait_gone("two").await?;
    ensure!(!lease.exists(), "{} is still there", lease.display());

    let mut lost = web("lost");
    lost["metadata"]["annotations"] = json!({ "k8s.v1.cni.cncf.io/networks": "nowhere" });
    ctx.create(&lost).await?;
    ctx.wait_event_that("lost", "FailedCreatePodSandBox", "nowhere").await?;
    ctx.delete("lost").await?;
    ctx.wait_gone("lost").await
}

pub(super) async fn host_network_pods_share_the_nodes(ctx: Ctx) -> Result<()> {
    let container = shell("main", &format!("ls /sys/class/net; echo end; {STAY}"), &json!({}));
    ctx.create(&pod("p", &json!({ "hostNetwork": true, "containers": [container] })))
        .await?;
    let pod = ctx.wait_ready("p").await?;
    let host = pod
        .status
        .as_ref()
        .and_then(|s| s.host_ip.clone())
        .context("no hostIP")?;
    same("podIP", pod.ip()?, host.as_str())?;
    let log = eventually("its log", SOON, || async {
        Ok(Some(ctx.log(&pod, "main")?).filter(|l| l.ends_with("end\n")))
    })
    .await?;
    ensure!(
        log.lines().any(|l| l == ctx.world.lab.names().bridge),
        "it does not see the node's bridge: {log:?}"
    );
    Ok(())
}
