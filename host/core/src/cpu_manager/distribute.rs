//! Cpus taken evenly from several NUMA nodes, where one does not have enough.

use std::collections::BTreeMap;

use super::machine::NUMA;
use super::take::{Manner, Taking, packed};
use super::{AllocateError, CpuSet, Machine};
use crate::topology::combinations;

/// As few nodes as can be, with as many cpus of each, in groups of `group`. Where the request cannot be divided evenly, the
/// rest comes from those nodes that leave the machine in the best balance. What cannot be divided at all is packed.
pub(super) fn distributed(
    machine: &Machine,
    available: &CpuSet,
    wanted: usize,
    group: usize,
    manner: Manner,
) -> Result<CpuSet, AllocateError> {
    let group = group.max(1);
    if !wanted.is_multiple_of(group) {
        return packed(machine, available, wanted, manner);
    }
    let mut taking = Taking::new(machine, available, wanted);
    taking.check()?;
    if wanted == 0 {
        return Ok(CpuSet::default());
    }
    let nodes = taking.nodes();
    let free: Free = nodes.iter().map(|n| (*n, taking.free_of(NUMA, *n).len())).collect();
    let (least, most) = range(machine, nodes.len(), wanted, group);
    for size in least..=most {
        let Some(choice) = best(&nodes, &free, size, wanted, group) else {
            continue;
        };
        choice.carry_out(machine, &mut taking, group, manner)?;
        if taking.needed > 0 {
            return Err(AllocateError::Accounting(taking.needed));
        }
        return Ok(taking.taken);
    }
    packed(machine, available, wanted, manner)
}

/// Free cpus by node.
type Free = BTreeMap<u32, usize>;

/// How many nodes could do.
fn range(machine: &Machine, available: usize, wanted: usize, group: usize) -> (usize, usize) {
    let nodes = machine.all(NUMA).len().max(1);
    let groups = machine.len().div_ceil(group);
    let per_node = groups.div_ceil(nodes).max(1);
    let needed = wanted.div_ceil(group);
    (needed.div_ceil(per_node), needed.min(available))
}

#[derive(Clone)]
struct Choice {
    nodes: Vec<u32>,
    /// From each of them.
    each: usize,
    rest: usize,
    /// Where the rest comes from.
    rest_of: Vec<u32>,
}

fn best(nodes: &[u32], free: &Free, size: usize, wanted: usize, group: usize) -> Option<Choice> {
    let mut best: Option<(f64, Choice)> = None;
    for combination in combinations(nodes, size) {
        let Some((balance, choice)) = consider(&combination, free, wanted, group) else {
            continue;
        };
        if best.as_ref().is_none_or(|(least, _)| balance < *least) {
            let done = balance == 0.0;
            best = Some((balance, choice));
            if done {
                break;
            }
        }
    }
    best.map(|(_, choice)| choice)
}

/// How well the machine is balanced afterwards, if these nodes have enough.
fn consider(nodes: &[u32], free: &Free, wanted: usize, group: usize) -> Option<(f64, Choice)> {
    let of = |node: &u32| free.get(node).copied().unwrap_or(0);
    let whole_groups: usize = nodes.iter().map(|n| of(n) / group).sum();
    if nodes.iter().map(of).sum::<usize>() < wanted || whole_groups * group < wanted {
        return None;
    }
    let each = wanted / nodes.len() / group * group;
    if nodes.iter().any(|n| of(n) < each) {
        return None;
    }
    let mut left = free.clone();
    for node in nodes {
        lower(&mut left, *node, each);
    }
    let rest = wanted - each * nodes.len();
    let choice = |rest_of: Vec<u32>| Choice {
        nodes: nodes.to_vec(),
        each,
        rest,
        rest_of,
    };
    if rest == 0 {
        return Some((deviation(&left), choice(Vec::new())));
    }
    let with_more: Vec<u32> = nodes
        .iter()
        .copied()
        .filter(|n| left.get(n).is_some_and(|f| *f >= group))
        .collect();
    let mut best: Option<(f64, Vec<u32>)> = None;
    // From as many as can be.
    for size in (1..=with_more.len()).rev() {
        for subset in combinations(&with_more, size) {
            let Some(after) = spread(left.clone(), &subset, rest, group) else {
                continue;
            };
            let balance = deviation(&after);
            if best.as_ref().is_none_or(|(least, _)| balance < *least) {
                best = Some((balance, subset));
            }
        }
    }
    best.map(|(balance, rest_of)| (balance, choice(rest_of)))
}

/// What is left when the rest was taken in turns; none if that does not go.
fn spread(mut left: Free, subset: &[u32], mut rest: usize, group: usize) -> Option<Free> {
    while rest > 0 {
        let before = rest;
        for node in subset {
            if rest > 0 && left.get(node).is_some_and(|free| *free >= group) {
                lower(&mut left, *node, group);
                rest = rest.saturating_sub(group);
            }
        }
        if rest == before {
            return None;
        }
    }
    Some(left)
}

fn lower(free: &mut Free, node: u32, by: usize) {
    if let Some(free) = free.get_mut(&node) {
        *free = free.saturating_sub(by);
    }
}

/// To thousandths, so that what is nearly the same counts as the same.
fn deviation(free: &Free) -> f64 {
    let rounded = |x: f64| (x * 1000.0).round() / 1000.0;
    let count = free.len().max(1) as f64;
    let mean = rounded(free.values().map(|f| *f as f64).sum::<f64>() / count);
    let squares: f64 = free.values().map(|f| (*f as f64 - mean).powi(2)).sum();
    rounded((squares / count).sqrt())
}

impl Choice {
    fn carry_out(
        &self,
        machine: &Machine,
        taking: &mut Taking<'_>,
        group: usize,
        manner: Manner,
    ) -> Result<(), AllocateError> {
        let mut take = |node: u32, wanted: usize| {
            let cpus = packed(machine, &taking.free_of(NUMA, node), wanted, manner)?;
            taking.take(&cpus);
            Ok(cpus.len())
        };
        for node in &self.nodes {
            take(*node, self.each)?;
        }
        let mut rest = self.rest;
        while rest > 0 {
            let before = rest;
            for node in &self.rest_of {
                if rest > 0 {
                    // A node that has no group left is passed over.
                    rest = rest.saturating_sub(take(*node, group).unwrap_or(0));
                }
            }
            if rest == before {
                return Err(AllocateError::Accounting(rest));
            }
        }
        Ok(())
    }
}
