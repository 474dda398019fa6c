//! What a provider of a resource says it could do.

use std::collections::BTreeMap;

use super::NumaMask;

/// On these nodes it could be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Hint {
    /// None: it does not matter.
    pub mask: Option<NumaMask>,
    /// It could not be on fewer nodes, however empty the machine was.
    pub preferred: bool,
}

/// By resource. A resource without a list can be anywhere, and so can all of a provider that names no resource; one with an
/// empty list can be nowhere.
pub type ProviderHints = BTreeMap<String, Option<Vec<Hint>>>;

impl Hint {
    pub fn new(mask: NumaMask, preferred: bool) -> Self {
        Self {
            mask: Some(mask),
            preferred,
        }
    }
}

/// The hints of one resource: all sets of nodes that have enough of it now. Preferred are the smallest that would have
/// enough if nothing was in use.
pub fn enumerate(nodes: NumaMask, would: impl Fn(NumaMask) -> bool, does: impl Fn(NumaMask) -> bool) -> Vec<Hint> {
    let mut least = nodes.count();
    let mut found = Vec::new();
    for mask in nodes.subsets() {
        if mask.count() < least && would(mask) {
            least = mask.count();
        }
        if does(mask) {
            found.push(mask);
        }
    }
    let hint = |mask: NumaMask| Hint::new(mask, mask.count() == least);
    found.into_iter().map(hint).collect()
}

/// One list for each resource of each provider, with hints where the provider had none.
pub(super) fn lists<'a>(providers: impl IntoIterator<Item = &'a ProviderHints>) -> Vec<Vec<Hint>> {
    let anywhere = |preferred| vec![Hint { mask: None, preferred }];
    let mut lists = Vec::new();
    for hints in providers {
        if hints.is_empty() {
            lists.push(anywhere(true));
        }
        lists.extend(hints.values().map(|list| match list {
            None => anywhere(true),
            Some(list) if list.is_empty() => anywhere(false),
            Some(list) => list.clone(),
        }));
    }
    lists
}
