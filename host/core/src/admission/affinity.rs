//! Node selectors and required node affinity.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

/// Does any of the terms choose the node?
pub(crate) fn selects(terms: &[NodeSelectorTerm], node: &Node) -> bool {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|l| l.get(key)).map(String::as_str)
    };
    terms.iter().any(|t| term(t, node, &label))
}

/// Does the node have what the pod requires? Preferences do not count here.
pub(super) fn matches(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(key))
            .map(String::as_str)
    };
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| label(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| selects(&r.node_selector_terms, node))
}

/// All of its requirements; a term without any matches nothing.
fn term<'a>(term: &NodeSelectorTerm, node: &'a Node, label: &impl Fn(&str) -> Option<&'a str>) -> bool {
    let name = node.metadata.name.as_deref();
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let field = |r: &NodeSelectorRequirement| {
        // Only the name can be asked for, and only one.
        let single = r.values.as_ref().is_some_and(|v| v.len() == 1) && matches!(r.operator.as_str(), "In" | "NotIn");
        single && r.key == "metadata.name" && requirement(r, name)
    };
    (expressions.clone().next().is_some() || fields.clone().next().is_some())
        && expressions.into_iter().all(|r| requirement(r, label(&r.key)))
        && fields.into_iter().all(field)
}

fn requirement(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |actual: &str| values.iter().any(|v| v == actual);
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(listed),
        "NotIn" => !actual.is_some_and(listed),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        operator @ ("Gt" | "Lt") => {
            let number = |text: &str| text.parse::<i64>().ok();
            let ([bound], Some(actual)) = (values, actual) else {
                return false;
            };
            match (number(actual), number(bound)) {
                (Some(actual), Some(bound)) => {
                    if operator == "Gt" {
                        actual > bound
                    } else {
                        actual < bound
                    }
                }
                _ => false,
            }
        }
        _ => false,
    }
}
