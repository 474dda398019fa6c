//! Which images nobody needs any more (the kubelet contract, pod 6.5 rule 23, node E4 rule 99).
//!
//! What was seen of images lives in a [`Table`], which starts anew with the agent: how long an image has been unused is known
//! only from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::desired;
use crate::image::{Reference, normalise};
use crate::observed::Container;
use crate::runtime::Image;

#[cfg(test)]
mod tests;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Percent of the filesystem in use from which on images go, and down to which.
    pub high: u8,
    pub low: u8,
    /// Younger images stay: a pod may be about to use them.
    pub min_age: Duration,
    /// Images unused for longer go in any case. None: never.
    pub max_age: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            high: 85,
            low: 80,
            min_age: Duration::from_secs(120),
            max_age: None,
        }
    }
}

impl Policy {
    /// It never removes anything.
    pub fn is_off(&self) -> bool {
        self.high == 100 && self.max_age.is_none()
    }

    /// What is wrong with it, by the names of its parts.
    pub fn problems(&self) -> Vec<&'static str> {
        let checks = [
            (self.high <= 100, "gc_high must be between 0 and 100"),
            (self.low < self.high, "gc_low must be less than gc_high"),
            (
                self.max_age.is_none_or(|age| age > self.min_age),
                "gc_max_age must be longer than gc_min_age, or \"0s\" for never",
            ),
        ];
        let wrong = checks.into_iter().filter(|(good, _)| !good);
        wrong.map(|(_, why)| why).collect()
    }
}

/// What images are known by, as containers and pods write them: id, tag, digest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InUse(BTreeSet<String>);

impl InUse {
    /// Images of all containers that the runtime has, dead ones too, and of all pods that are not over.
    pub fn of<'a>(containers: &[Container], pods: impl IntoIterator<Item = &'a Pod>) -> Self {
        let mut names = BTreeSet::new();
        for container in containers {
            let own = [&container.image, &container.image_ref, &container.image_id];
            let mounted = container.mounts.iter().filter_map(|m| m.image.as_ref().map(|i| &i.id));
            for name in own.into_iter().chain(mounted) {
                add(&mut names, name);
            }
        }
        for pod in pods {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            let Some(spec) = pod
                .spec
                .as_ref()
                .filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))
            else {
                continue;
            };
            for (_, container) in desired::containers(spec) {
                add(&mut names, container.image.as_deref().unwrap_or_default());
            }
            let volumes = spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref());
            for image in volumes {
                add(&mut names, image.reference.as_deref().unwrap_or_default());
            }
        }
        Self(names)
    }

    fn has(&self, image: &Image) -> bool {
        let mut names = image.repo_tags.iter().chain(&image.repo_digests);
        self.0.contains(&image.id) || names.any(|name| self.0.contains(&canonical(name)))
    }
}

fn add(names: &mut BTreeSet<String>, name: &str) {
    if !name.is_empty() {
        names.insert(name.to_owned());
        names.insert(canonical(name));
    }
}

/// One way to write a reference; the text itself if it is none.
fn canonical(name: &str) -> String {
    let reference = normalise(name).ok().and_then(|full| Reference::parse(&full).ok());
    reference.map_or_else(
        || name.to_owned(),
        |r| match (&r.digest, &r.tag) {
            (Some(digest), _) => format!("{}@{digest}", r.repository()),
            (None, tag) => format!("{}:{}", r.repository(), tag.as_deref().unwrap_or_default()),
        },
    )
}

/// What was seen of images since the agent started.
#[derive(Clone, Debug, Default)]
pub struct Table {
    records: BTreeMap<String, Record>,
    /// When images were looked at for the first time.
    began: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Record {
    /// Of those that were there at first nobody knows, so they count as old.
    first_seen: Timestamp,
    /// Since when it is known whether it is used.
    known_since: Timestamp,
    last_used: Option<Timestamp>,
    used: bool,
    size: u64,
    pinned: bool,
}

/// An image that may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unused {
    pub id: String,
    pub size: u64,
    first_seen: Timestamp,
    last_used: Option<Timestamp>,
    unused_since: Timestamp,
}

impl Table {
    /// Takes in what the runtime has.
    pub fn look(&mut self, images: &[Image], in_use: &InUse, now: Timestamp) {
        let first = self.began.is_none();
        self.began.get_or_insert(now);
        let ids: BTreeSet<&str> = images.iter().map(|i| i.id.as_str()).collect();
        self.records.retain(|id, _| ids.contains(id.as_str()));
        for image in images {
            let used = in_use.has(image);
            let record = self.records.entry(image.id.clone()).or_insert_with(|| Record {
                first_seen: if first { Timestamp::MIN } else { now },
                known_since: now,
                last_used: None,
                used,
                size: 0,
                pinned: false,
            });
            if used {
                record.last_used = Some(now);
            }
            record.used = used;
            record.size = image.size;
            record.pinned = image.pinned;
        }
    }

    /// It was removed.
    pub fn forget(&mut self, id: &str) {
        self.records.remove(id);
    }

    /// Those that may go: those that were never used first, then longest unused first, then those that are here for longest.
    pub fn unused(&self) -> Vec<Unused> {
        let free = self.records.iter().filter(|(_, r)| !r.used && !r.pinned);
        let mut unused: Vec<_> = free
            .map(|(id, r)| Unused {
                id: id.clone(),
                size: r.size,
                first_seen: r.first_seen,
                last_used: r.last_used,
                unused_since: r.last_used.unwrap_or(r.known_since),
            })
            .collect();
        unused.sort_by(|a, b| (a.last_used, a.first_seen, &a.id).cmp(&(b.last_used, b.first_seen, &b.id)));
        unused
    }

    /// Whether the image was unused for longer than images may be. Not before the agent itself is that old: what was used
    /// before is not known.
    pub fn is_too_old(&self, image: &Unused, policy: &Policy, now: Timestamp) -> bool {
        let older = |since: Timestamp, age: Duration| elapsed(since, now) > age;
        policy
            .max_age
            .is_some_and(|age| self.began.is_some_and(|began| older(began, age)) && older(image.unused_since, age))
    }
}

impl Unused {
    /// Whether it may go for want of space: it was not just pulled, for a pod that is about to use it.
    pub fn is_old_enough(&self, policy: &Policy, now: Timestamp) -> bool {
        elapsed(self.first_seen, now) >= policy.min_age
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// How much has to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortage {
    pub bytes: u64,
    /// Of the filesystem, in use.
    pub percent: u64,
    capacity: u64,
}

/// None while there is room enough. The error's text is an event's.
pub fn shortage(policy: &Policy, capacity: u64, available: u64) -> Result<Option<Shortage>, &'static str> {
    if capacity == 0 {
        return Err("invalid capacity 0 on image filesystem");
    }
    let available = available.min(capacity);
    let share = |bytes: u64, of: u64| u128::from(bytes) * 100 / u128::from(of);
    let percent = 100 - u64::try_from(share(available, capacity)).unwrap_or(100);
    if percent < u64::from(policy.high) {
        return Ok(None);
    }
    let wanted = u128::from(capacity) * u128::from(100 - policy.low.min(100)) / 100;
    let bytes = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(available);
    Ok(Some(Shortage {
        bytes,
        percent,
        capacity,
    }))
}

impl Shortage {
    /// What is told when unused images are not enough.
    pub fn message(&self, freed: u64) -> String {
        format!(
            "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient space by \
             deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, \
             volumes, or other data.",
            self.percent,
            human(self.capacity)
        )
    }
}

/// `19.2 GiB`
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
