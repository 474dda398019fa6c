//! One hint out of those of all providers (the kubelet contract, node 118).
//!
//! Each combination of one hint of every resource is merged by taking the nodes common to all. Of what comes out, the best is
//! the answer; what "best" means is a total order, so that the combinations need not be gone through one by one: those that
//! merge to the same are looked at once, and the work stays small with many resources.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Hint, Numa, NumaMask};

/// What a combination has come to, as far as it goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Partial {
    mask: NumaMask,
    /// All hints are preferred, and all that name nodes name these; forgotten once that does not hold.
    common: Option<NumaMask>,
    preferred: bool,
}

pub(super) fn merge(lists: &[Vec<Hint>], numa: &Numa, closest: bool) -> Hint {
    let start = Partial {
        mask: numa.nodes,
        common: None,
        preferred: true,
    };
    let mut reached = BTreeSet::from([start]);
    for list in lists {
        reached = reached
            .iter()
            .flat_map(|partial| list.iter().map(|hint| add(*partial, *hint)))
            .filter(|partial| !partial.mask.is_empty())
            .collect();
    }
    let widest = most_needed(lists);
    let best = reached
        .into_iter()
        .min_by_key(|partial| rank(partial, widest, numa, closest));
    best.map_or(Hint::new(numa.nodes, false), |best| {
        Hint::new(best.mask, best.preferred)
    })
}

fn add(partial: Partial, hint: Hint) -> Partial {
    let equal = match (partial.common, hint.mask) {
        (Some(common), Some(mask)) => common == mask,
        _ => true,
    };
    let preferred = partial.preferred && hint.preferred && equal;
    Partial {
        mask: hint.mask.map_or(partial.mask, |mask| partial.mask.and(mask)),
        common: partial.common.or(hint.mask).filter(|_| preferred),
        preferred,
    }
}

/// How many nodes the resource needs that needs the most. A hint that is not preferred should have as many.
fn most_needed(lists: &[Vec<Hint>]) -> usize {
    let least = |list: &Vec<Hint>| list.iter().filter_map(|h| h.mask).map(NumaMask::count).min();
    lists.iter().filter_map(least).max().unwrap_or(0)
}

type Rank = (bool, u8, Reverse<usize>, usize, u64, NumaMask);

/// The least is the best.
fn rank(partial: &Partial, widest: usize, numa: &Numa, closest: bool) -> Rank {
    let count = partial.mask.count();
    // Just as many nodes as are needed; or else a few less than that, rather than more.
    let (group, below) = match count.cmp(&widest) {
        _ if partial.preferred => (0, 0),
        std::cmp::Ordering::Equal => (0, 0),
        std::cmp::Ordering::Less => (1, count),
        std::cmp::Ordering::Greater => (2, 0),
    };
    let distance = if closest { distance(partial.mask, numa) } else { 0 };
    (!partial.preferred, group, Reverse(below), count, distance, partial.mask)
}

/// Of masks with as many nodes, that with the smaller sum has the smaller average.
fn distance(mask: NumaMask, numa: &Numa) -> u64 {
    let between = |a: u32, b: u32| {
        let row = numa.distances.get(&a)?;
        row.get(usize::try_from(b).ok()?).copied()
    };
    let pairs = mask.ids().flat_map(|a| mask.ids().map(move |b| (a, b)));
    pairs.fold(0, |sum, (a, b)| sum.saturating_add(between(a, b).unwrap_or(0)))
}
