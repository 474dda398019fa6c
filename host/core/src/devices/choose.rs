//! Which devices a container gets (the kubelet contract, node 124).

use super::{Book, Ids};
use crate::ids::PodUid;
use crate::topology::NumaMask;

/// So many of one resource.
#[derive(Clone, Debug)]
pub struct Want<'a> {
    pub uid: &'a PodUid,
    pub container: &'a str,
    pub resource: &'a str,
    pub count: usize,
    /// Its pod runs since before the agent: it has what it needs, whoever remembers.
    pub runs: bool,
    pub reusable: &'a Ids,
    /// Where the topology manager wants them to be.
    pub affinity: Option<NumaMask>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// It has them.
    Nothing,
    Take(Ids),
    /// The plugin has an opinion: choose again with it.
    Ask(Question),
}

/// Which of these would you rather give?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub available: Ids,
    pub must_include: Ids,
    pub size: usize,
}

impl Book {
    /// `preferred` is the plugin's answer to [`Choice::Ask`]. Of devices that are equally good, those with lower ids.
    pub fn choose(&self, want: &Want<'_>, preferred: Option<&Ids>) -> Result<Choice, String> {
        let resource = want.resource;
        let has = self.of(want.uid, want.container).and_then(|owned| owned.get(resource));
        let has = has.map(super::Allocation::ids);
        if let Some(has) = has.as_ref().filter(|has| has.len() != want.count) {
            return Err(format!(
                "pod {:?} container {:?} changed request for resource {resource:?} from {} to {}",
                want.uid.as_str(),
                want.container,
                has.len(),
                want.count
            ));
        }
        if want.runs {
            return Ok(Choice::Nothing);
        }
        let Some(entry) = self.resources.get(resource) else {
            return Err(format!("cannot allocate unregistered device {resource}"));
        };
        let healthy: Ids = entry.healthy().map(|(id, _)| id.clone()).collect();
        if healthy.is_empty() {
            return Err(format!(
                "no healthy devices present; cannot allocate unhealthy devices {resource}"
            ));
        }
        if let Some(has) = &has {
            if !has.is_subset(&healthy) {
                return Err(format!(
                    "previously allocated devices are no longer healthy; cannot allocate unhealthy devices {resource}"
                ));
            }
            return Ok(Choice::Nothing);
        }
        let mut taken = Taken {
            ids: Ids::new(),
            count: want.count,
        };
        if taken.from(want.reusable) {
            return Ok(Choice::Take(taken.ids));
        }
        let in_use = self.in_use(resource);
        let free = healthy
            .into_iter()
            .filter(|id| !in_use.contains(id) && !taken.ids.contains(id));
        let available: Ids = free.collect();
        let needed = taken.missing();
        if available.len() < needed {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {needed}, Available: {}",
                available.len()
            ));
        }
        let sorted = self.sort(want, &available);
        let asks = self.options(resource).is_some_and(|options| options.preferred);
        // Only if there is a choice.
        let within = if needed < sorted.aligned.len() {
            &sorted.aligned
        } else {
            if taken.from(&sorted.aligned) {
                return Ok(Choice::Take(taken.ids));
            }
            &available
        };
        match preferred {
            Some(preferred) => drop(taken.from(&preferred.intersection(within).cloned().collect())),
            None if asks => {
                return Ok(Choice::Ask(Question {
                    available: within.union(&taken.ids).cloned().collect(),
                    must_include: taken.ids,
                    size: want.count,
                }));
            }
            None => {}
        }
        for rest in [&sorted.aligned, &sorted.unaligned, &sorted.anywhere] {
            taken.from(rest);
        }
        Ok(Choice::Take(taken.ids))
    }

    fn sort(&self, want: &Want<'_>, available: &Ids) -> Sorted {
        let mut sorted = Sorted::default();
        let mask = want.affinity.filter(|_| self.is_placed(want.resource));
        for id in available {
            let numa = self.numa(want.resource, id);
            let list = match mask {
                Some(mask) if numa.overlaps(mask) => &mut sorted.aligned,
                Some(_) if !numa.is_empty() => &mut sorted.unaligned,
                _ => &mut sorted.anywhere,
            };
            list.insert(id.clone());
        }
        sorted
    }

    /// It is known of a device of this resource where it is.
    pub(super) fn is_placed(&self, resource: &str) -> bool {
        let known = self.resources.get(resource).map(|entry| &entry.known);
        known.is_some_and(|known| known.values().any(|d| !d.numa.is_empty()))
    }

    pub(super) fn numa(&self, resource: &str, id: &str) -> NumaMask {
        let entry = self.resources.get(resource);
        entry
            .and_then(|entry| entry.known.get(id))
            .map_or(NumaMask::EMPTY, |d| d.numa)
    }
}

#[derive(Default)]
struct Sorted {
    aligned: Ids,
    unaligned: Ids,
    /// Nobody knows where they are, or it does not matter.
    anywhere: Ids,
}

struct Taken {
    ids: Ids,
    count: usize,
}

impl Taken {
    fn missing(&self) -> usize {
        self.count.saturating_sub(self.ids.len())
    }

    /// As many of these as are missing. True if none are, then.
    fn from(&mut self, ids: &Ids) -> bool {
        let missing = self.missing();
        let more: Vec<String> = ids.difference(&self.ids).take(missing).cloned().collect();
        self.ids.extend(more);
        self.missing() == 0
    }
}
