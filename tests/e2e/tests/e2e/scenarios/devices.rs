//! Devices of a plugin: given to pods, counted, and kept through whatever happens to plugin and agent.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use witlet_devices::proto::device_plugin::{Device, DevicePluginOptions};
use witlet_devices::proto::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use witlet_devices::proto::pod_resources::{AllocatableResourcesRequest, ListPodResourcesRequest};
use witlet_test_support::fake_device_plugin::{Answer, ENV, FakeDevicePlugin, MOUNT, NODE, connect, device};

use crate::spec::{STAY, pod, shell, web};
use crate::world::{Ctx, SOON, See, eventually, same};

type Amounts = Option<BTreeMap<String, Quantity>>;

const RESOURCE: &str = "example.com/thing";

/// A pod that tells what it was given, and stays.
fn wanting(name: &str, count: usize) -> Value {
    let script = format!("echo env ${ENV}; cat {MOUNT}/hello; echo; test -c {NODE} && echo node; {STAY}");
    let more = json!({ "resources": { "limits": { RESOURCE: count.to_string() } } });
    pod(name, &json!({ "containers": [shell("main", &script, &more)] }))
}

fn two() -> Vec<Device> {
    vec![device("t0", true), device("t1", true)]
}

/// A plugin that is registered with the agent that runs now.
async fn plugin(ctx: &Ctx, devices: Vec<Device>) -> Result<FakeDevicePlugin> {
    let options = DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: false,
    };
    let dir = ctx.world.lab.dir().join("device-plugins");
    let plugin = FakeDevicePlugin::start(&dir, "thing.sock", options, devices)?;
    plugin.register(RESOURCE).await.context("register")?;
    Ok(plugin)
}

/// Until the node's object shows so many.
async fn until_offered(ctx: &Ctx, capacity: &str, allocatable: &str) -> Result<()> {
    let what = format!("capacity {capacity} and allocatable {allocatable}");
    eventually(&what, SOON, || async {
        let nodes: Api<Node> = Api::all(ctx.world.client().await?);
        let node = nodes
            .list(&ListParams::default())
            .await?
            .items
            .pop()
            .context("no node")?;
        let status = node.status.context("no status")?;
        let shows = |list: &Amounts, wanted: &str| {
            let mut all = list.iter().flatten();
            all.any(|(name, amount)| name == RESOURCE && amount.0 == wanted)
        };
        Ok((shows(&status.capacity, capacity) && shows(&status.allocatable, allocatable)).then_some(()))
    })
    .await
}

/// Until the pod told which device it has.
async fn given(ctx: &Ctx, pod: &Pod) -> Result<String> {
    eventually("what the container was given", SOON, || async {
        let log = ctx.log(pod, "main")?;
        Ok(log.contains("node\n").then_some(log))
    })
    .await
}

async fn rejected(ctx: &Ctx, name: &str, why: &str) -> Result<()> {
    let refused = ctx.wait_phase(name, "Failed").await?;
    let status = refused.status.context("no status")?;
    same("reason", status.reason.as_deref(), Some("UnexpectedAdmissionError"))?;
    let expected = format!("Pod was rejected: Allocate failed due to {why}, which is unexpected");
    same("message", status.message, Some(expected))
}

pub(super) async fn a_plugins_devices_go_to_pods_and_stay_there(ctx: Ctx) -> Result<()> {
    let first_plugin = plugin(&ctx, two()).await?;
    until_offered(&ctx, "2", "2").await?;

    // What an init container had goes to the next.
    let mut with_init = wanting("first", 1);
    let limits = json!({ "resources": { "limits": { RESOURCE: "1" } } });
    with_init["spec"]["initContainers"] = json!([shell("init", &format!("test ${ENV} = t0"), &limits)]);
    ctx.create(&with_init).await?;
    let first = ctx.wait_ready("first").await?;
    same(
        "what it was given",
        given(&ctx, &first).await?,
        "env t0\nfrom the plugin\nnode\n".to_owned(),
    )?;
    same(
        "calls",
        first_plugin.calls(),
        ["allocate t0", "allocate t0", "pre-start t0", "pre-start t0"]
            .map(str::to_owned)
            .to_vec(),
    )?;
    ctx.create(&wanting("second", 1)).await?;
    let second = ctx.wait_ready("second").await?;
    ensure!(
        given(&ctx, &second).await?.starts_with("env t1\n"),
        "the second has no other device"
    );
    ctx.create(&wanting("third", 1)).await?;
    let none_left = "requested number of devices unavailable for example.com/thing. Requested: 1, Available: 0";
    rejected(&ctx, "third", none_left).await?;
    ctx.wait_event("third", "UnexpectedAdmissionError").await?;

    who_has_what(&ctx).await?;
    their_health_is_shown(&ctx, &first_plugin).await?;

    // The plugin dies: what it offered is of no use, and who has it goes on.
    first_plugin.stop();
    until_offered(&ctx, "2", "0").await?;
    ctx.create(&wanting("fourth", 1)).await?;
    let none = "no healthy devices present; cannot allocate unhealthy devices example.com/thing";
    rejected(&ctx, "fourth", none).await?;

    // And so does the agent.
    ctx.world.agent(|agent| agent.kill())?;
    ctx.world.agent(|agent| agent.start_again())?;
    until_offered(&ctx, "0", "0").await?;
    // Its init container, too, has had what it needs.
    same_as(&ctx, &first).await?;
    let second_plugin = plugin(&ctx, two()).await?;
    until_offered(&ctx, "2", "2").await?;
    same_as(&ctx, &first).await?;
    ctx.delete("second").await?;
    ctx.wait_gone("second").await?;
    ctx.create(&wanting("fifth", 1)).await?;
    let fifth = ctx.wait_ready("fifth").await?;
    ensure!(
        given(&ctx, &fifth).await?.starts_with("env t1\n"),
        "what the second had is free, and nothing else"
    );
    ctx.create(&wanting("sixth", 1)).await?;
    rejected(&ctx, "sixth", none_left).await?;
    same_as(&ctx, &first).await?;
    let allocated = second_plugin
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("allocate"));
    same(
        "calls after the restart",
        allocated.collect(),
        vec!["allocate t1".to_owned()],
    )?;
    a_plugin_that_hangs_holds_up_nobody_else(&ctx, &second_plugin).await
}

/// A pod waits for its plugin for as long as it wants, other pods do not, and who goes meanwhile sets its place free.
async fn a_plugin_that_hangs_holds_up_nobody_else(ctx: &Ctx, plugin: &FakeDevicePlugin) -> Result<()> {
    ctx.delete("fifth").await?;
    ctx.wait_gone("fifth").await?;
    plugin.answer_with(Some(Answer::Never));
    let before = plugin.calls().len();
    ctx.create(&wanting("hangs", 1)).await?;
    eventually("the plugin to be asked", SOON, || async {
        Ok((plugin.calls().len() > before).then_some(()))
    })
    .await?;
    ctx.create(&web("plain")).await?;
    ctx.wait_ready("plain").await?;
    ctx.wait("hangs", "waiting", SOON, |pod| (pod.phase() == "Pending").then_some(()))
        .await?;
    ctx.delete("hangs").await?;
    ctx.wait_gone("hangs").await?;
    plugin.answer_with(None);
    ctx.create(&wanting("last", 1)).await?;
    ctx.wait_ready("last").await.map(drop)
}

/// Nothing of the pod was started again.
async fn same_as(ctx: &Ctx, before: &Pod) -> Result<()> {
    let now = ctx.wait_ready("first").await?;
    same("container", now.container_ids(), before.container_ids())?;
    same("restarts", now.restarts(), 0)
}

/// As watchers of devices see it.
async fn who_has_what(ctx: &Ctx) -> Result<()> {
    let socket = ctx.world.lab.dir().join("root/pod-resources/kubelet.sock");
    let mut client = PodResourcesListerClient::new(connect(&socket).await?);
    let list = client
        .list(ListPodResourcesRequest {})
        .await?
        .into_inner()
        .pod_resources;
    let mut seen = Vec::new();
    for pod in list.iter().filter(|pod| pod.namespace == ctx.ns) {
        let devices = pod
            .containers
            .iter()
            .flat_map(|c| &c.devices)
            .flat_map(|d| &d.device_ids);
        seen.push((pod.name.clone(), devices.cloned().collect::<Vec<_>>()));
    }
    seen.sort();
    let one = |pod: &str, id: &str| (pod.to_owned(), vec![id.to_owned()]);
    same("who has what", seen, vec![one("first", "t0"), one("second", "t1")])?;
    let all = client
        .get_allocatable_resources(AllocatableResourcesRequest {})
        .await?
        .into_inner();
    let ids: Vec<_> = all.devices.into_iter().flat_map(|d| d.device_ids).collect();
    same("what is offered", ids, vec!["t0".to_owned(), "t1".to_owned()])
}

async fn their_health_is_shown(ctx: &Ctx, plugin: &FakeDevicePlugin) -> Result<()> {
    for (healthy, word, allocatable) in [(false, "Unhealthy", "1"), (true, "Healthy", "2")] {
        plugin.set_devices(vec![device("t0", healthy), device("t1", true)]);
        until_offered(ctx, "2", allocatable).await?;
        ctx.wait("first", word, SOON, |pod| {
            let status = pod.status_of("main")?.allocated_resources_status.as_ref()?;
            let health = status.first()?.resources.as_ref()?.first()?.health.clone()?;
            (health == word).then_some(())
        })
        .await?;
    }
    Ok(())
}
