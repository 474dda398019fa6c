//! Static pods from a URL (the kubelet contract, pod 1.1 rules 4 to 6).
//!
//! The document is fetched at every tick and may hold a pod or a list of pods. What cannot be fetched or read changes
//! nothing: the pods of the last good document go on running. Only an empty document says that there are none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, LOCATION, WWW_AUTHENTICATE};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use witlet_core::desired::{Source, key, uid};
use witlet_core::ids::PodUid;
use witlet_core::manifest::{self, MAX_BYTES};
use witlet_ports::source::PodSet;

use super::Seen;
use crate::client::chain;

#[cfg(test)]
mod tests;

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 10;

/// Where the document is.
#[derive(Clone, Debug)]
pub struct StaticUrl {
    url: Uri,
    headers: HeaderMap,
    every: Duration,
}

impl StaticUrl {
    /// An error says which part is wrong.
    pub fn new<'a>(
        url: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        every: Duration,
    ) -> Result<Self, String> {
        let url: Uri = url.parse().map_err(|e| format!("{url:?} is not a URL: {e}"))?;
        let spoken = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&url.scheme());
        if !spoken || url.host().is_none_or(str::is_empty) {
            return Err(format!("{url} must begin with http:// or https:// and name a host"));
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name
                .parse()
                .map_err(|_| format!("{name:?} is not the name of a header"))?;
            let mut value =
                HeaderValue::from_str(value).map_err(|_| format!("the value of the header {name} cannot be sent"))?;
            // It may be a password: not for logs.
            value.set_sensitive(true);
            map.append(name, value);
        }
        Ok(Self {
            url,
            headers: map,
            every,
        })
    }
}

/// Fetches the document again and again.
///
/// `allow_api_references` is for a node that serves its own API: its static pods may refer to what that has.
pub fn watch_url(
    place: StaticUrl,
    node_name: String,
    allow_api_references: bool,
    shutdown: CancellationToken,
) -> watch::Receiver<PodSet> {
    let (sender, receiver) = watch::channel(PodSet::default());
    tokio::spawn(async move {
        let mut document = Document::new(place.url.to_string(), node_name, !allow_api_references);
        // What was told last: an outage fills no log.
        let mut told = String::new();
        let mut ticks = tokio::time::interval(place.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an interval keeps its tick, and a fetch that is cut off has changed nothing.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sender.closed() => return,
                _ = ticks.tick() => {}
            }
            let fetched = tokio::select! {
                () = shutdown.cancelled() => return,
                fetched = tokio::time::timeout(TIMEOUT, fetch(&place)) => fetched,
            };
            let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
            let changed = match fetched {
                Ok(bytes) => document.take(bytes).await,
                Err(error) => Err(error),
            };
            match changed {
                Ok(changed) => {
                    told.clear();
                    if changed {
                        sender.send_replace(document.set());
                    }
                }
                Err(error) if error == told => debug!(url = document.url, error, "still no static pods from the URL"),
                Err(error) => {
                    warn!(
                        url = document.url,
                        error, "cannot take static pods from the URL; those it had go on"
                    );
                    told = error;
                }
            }
        }
    });
    receiver
}

// === Reading ===

struct Document {
    url: String,
    node_name: String,
    enforce: bool,
    /// That was judged last, whatever became of it.
    bytes: Option<Vec<u8>>,
    pods: BTreeMap<PodUid, Arc<Pod>>,
    synced: bool,
    seen: Seen,
}

impl Document {
    fn new(url: String, node_name: String, enforce: bool) -> Self {
        Self {
            url,
            node_name,
            enforce,
            bytes: None,
            pods: BTreeMap::new(),
            synced: false,
            seen: Seen::default(),
        }
    }

    /// Whether the set is another one now, or the first.
    async fn take(&mut self, bytes: Vec<u8>) -> Result<bool, String> {
        if self.bytes.as_ref() == Some(&bytes) {
            return Ok(false);
        }
        let (url, node_name, enforce) = (self.url.clone(), self.node_name.clone(), self.enforce);
        let reading = tokio::task::spawn_blocking(move || (accept(&bytes, &url, &node_name, enforce), bytes));
        let (pods, bytes) = reading.await.map_err(|e| format!("reading it failed: {e}"))?;
        // The same mistake is not told again.
        self.bytes = Some(bytes);
        let pods = pods?;
        let mut set = BTreeMap::new();
        let mut names = BTreeMap::new();
        for mut pod in pods {
            let (id, name) = (uid(&pod), key(&pod));
            if names.insert(name.clone(), ()).is_some() || set.contains_key(&id) {
                warn!(url = self.url, pod = %name, "skipped: the document has such a pod already");
                continue;
            }
            self.seen.mark(&id, &mut pod);
            match self.pods.get(&id) {
                // An author's own UID may stay while the rest changes.
                Some(same) if **same == pod => drop(set.insert(id, same.clone())),
                _ => {
                    info!(url = self.url, pod = %name, uid = %id, "a static pod");
                    set.insert(id, Arc::new(pod));
                }
            }
        }
        for (_, gone) in self.pods.iter().filter(|(id, _)| !set.contains_key(*id)) {
            info!(url = self.url, pod = %key(gone), "a static pod is not in the document any more");
        }
        self.pods = set;
        self.synced = true;
        let known = &self.pods;
        self.seen.keep(|uid| known.contains_key(uid));
        Ok(true)
    }

    fn set(&self) -> PodSet {
        PodSet {
            pods: Arc::new(self.pods.clone()),
            synced: self.synced,
        }
    }
}

/// All pods of the document, or what is wrong with it.
fn accept(bytes: &[u8], url: &str, node_name: &str, enforce: bool) -> Result<Vec<Pod>, String> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let pods = manifest::parse_all(bytes, url).map_err(|e| e.to_string())?;
    let adopt = |pod: Pod| {
        if let Some(why) = manifest::refuse_api_references(&pod, enforce) {
            return Err(format!("{url}: pod {}: {why}", key(&pod).name));
        }
        let pod = manifest::adopt(pod, Source::Http, node_name, url);
        // The node's name became part of the pod's.
        match manifest::validate_pod(&pod).as_slice() {
            [] => Ok(pod),
            problems => Err(format!("{url}: pod {}: {}", key(&pod).name, problems.join("; "))),
        }
    };
    pods.into_iter().map(adopt).collect()
}

// === Fetching ===

async fn fetch(place: &StaticUrl) -> Result<Vec<u8>, String> {
    let (mut url, mut headers) = (place.url.clone(), place.headers.clone());
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&url, &headers).await?;
        let status = response.status();
        let Some(location) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) else {
            if status != http::StatusCode::OK {
                return Err(format!("{url}: {status}"));
            }
            let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
            let body = body.map_err(|e| format!("{url}: {e}; at most {} MiB are read", MAX_BYTES >> 20))?;
            return Ok(body.to_bytes().into());
        };
        let next = location.to_str().ok().and_then(|text| resolve(&url, text));
        let next = next.ok_or_else(|| format!("{url}: the redirection leads to a malformed URL"))?;
        if next.host() != url.host() {
            // What is for one host is not told to another.
            for name in [AUTHORIZATION, COOKIE, WWW_AUTHENTICATE] {
                headers.remove(name);
            }
        }
        url = next;
    }
    Err(format!("stopped after {MAX_REDIRECTS} redirects"))
}

/// A connection of its own each time: the next document is far away.
async fn get(url: &Uri, headers: &HeaderMap) -> Result<http::Response<Body>, String> {
    let base = Uri::builder()
        .scheme(url.scheme().cloned().unwrap_or(Scheme::HTTP))
        .authority(url.authority().map_or("", Authority::as_str))
        .path_and_query("/")
        .build()
        .map_err(|e| e.to_string())?;
    let mut config = kube::Config::new(base);
    config.default_retry = false;
    config.connect_timeout = Some(TIMEOUT);
    let client = kube::Client::try_from(config).map_err(|e| chain(&e))?;
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::get(path).body(Body::empty()).map_err(|e| e.to_string())?;
    *request.headers_mut() = headers.clone();
    client.send(request).await.map_err(|e| format!("{url}: {}", chain(&e)))
}

/// A location may leave out what stays the same.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let mut parts = location.parse::<Uri>().ok()?.into_parts();
    if parts.authority.is_none() {
        parts.authority = from.authority().cloned();
        parts.scheme = None;
    }
    if parts.scheme.is_none() {
        parts.scheme = from.scheme().cloned();
    }
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    let spoken = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&parts.scheme.as_ref());
    Uri::from_parts(parts).ok().filter(|_| spoken)
}
