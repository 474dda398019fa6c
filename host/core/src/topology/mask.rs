//! Sets of NUMA nodes.

use std::fmt;

/// Node ids from 0 to 63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NumaMask(u64);

impl NumaMask {
    pub const EMPTY: Self = Self(0);

    /// Ids beyond 63 are left out.
    pub fn of(ids: impl IntoIterator<Item = u32>) -> Self {
        Self(ids.into_iter().fold(0, |bits, id| bits | bit(id)))
    }

    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, id: u32) -> bool {
        self.0 & bit(id) != 0
    }

    /// At least one of the nodes is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Upwards.
    pub fn ids(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |id| self.contains(*id))
    }

    /// Fewer nodes, or as many with lower ids.
    pub fn is_narrower_than(self, other: Self) -> bool {
        (self.count(), self.0) < (other.count(), other.0)
    }

    /// Everything but the empty set: small ones first, and of one size those with lower ids first.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        let ids: Vec<u32> = self.ids().collect();
        (1..=ids.len()).flat_map(move |size| combinations(&ids, size).into_iter().map(Self::of))
    }
}

fn bit(id: u32) -> u64 {
    1_u64.checked_shl(id).unwrap_or(0)
}

/// Those with the first items first.
pub(crate) fn combinations<T: Copy>(items: &[T], size: usize) -> Vec<Vec<T>> {
    let mut found = Vec::new();
    let mut chosen = Vec::with_capacity(size);
    choose(items, size, &mut chosen, &mut found);
    found
}

fn choose<T: Copy>(items: &[T], size: usize, chosen: &mut Vec<T>, found: &mut Vec<Vec<T>>) {
    if size == 0 {
        found.push(chosen.clone());
        return;
    }
    for (i, item) in items.iter().enumerate() {
        if items.len() - i < size {
            return;
        }
        chosen.push(*item);
        choose(&items[i + 1..], size - 1, chosen, found);
        chosen.pop();
    }
}

impl fmt::Debug for NumaMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ids()).finish()
    }
}
