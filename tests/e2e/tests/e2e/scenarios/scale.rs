//! Many pods.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use kube::api::{DeleteParams, ListParams};

use crate::spec::web;
use crate::world::{Ctx, LATE, See, eventually, fetch, same};

pub(super) async fn fifty_pods_at_once(ctx: Ctx) -> Result<()> {
    const COUNT: usize = 50;
    let ctx = &ctx;
    let made =
        futures::stream::iter(0..COUNT).map(|i| async move { ctx.create(&web(&format!("p{i}"))).await.map(drop) });
    made.buffer_unordered(COUNT).try_collect::<Vec<()>>().await?;
    let pods = ctx.pods().await?;
    let ready = eventually("all pods to be Ready", LATE, || async {
        let list = pods.list(&ListParams::default()).await?.items;
        let ready: Vec<_> = list.into_iter().filter(|p| p.condition("Ready")).collect();
        Ok((ready.len() == COUNT).then_some(ready))
    })
    .await?;
    let ips = ready
        .iter()
        .map(|p| p.ip().map(str::to_owned))
        .collect::<Result<BTreeSet<String>>>()?;
    same("different IPs", ips.len(), COUNT)?;
    same("restarts", ready.iter().map(See::restarts).sum::<i32>(), 0)?;
    for ip in &ips {
        same("its page", fetch(ip, 8080, "/healthz").await?.0, 200)?;
    }
    pods.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    eventually("all pods to be gone", LATE, || async {
        Ok(pods.list(&ListParams::default()).await?.items.is_empty().then_some(()))
    })
    .await
}
