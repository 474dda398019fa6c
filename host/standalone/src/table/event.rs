//! The event row.

use jiff::Timestamp;
use serde_json::Value;

use super::{NAME, Printer, column, or_none, since, wide};
use crate::meta::{self, int, text};

pub(crate) static EVENT: Printer = Printer {
    columns: &[
        column("Last Seen"),
        column("Type"),
        column("Reason"),
        column("Object"),
        wide("Subobject"),
        wide("Source"),
        column("Message"),
        wide("First Seen"),
        wide("Count"),
        super::Column { wide: true, ..NAME },
    ],
    cells,
};

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |pointers: &[&str]| {
        pointers
            .iter()
            .map(|p| text(event, p))
            .find(|t| !t.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let first = first_of(&["/firstTimestamp", "/eventTime"]);
    let last = first_of(&["/series/lastObservedTime", "/lastTimestamp", "/eventTime"]);
    let last = if last.is_empty() { first.clone() } else { last };
    let count = int(event, "/series/count")
        .or_else(|| int(event, "/count").filter(|c| *c != 0))
        .unwrap_or(1);
    let object = format!(
        "{}/{}",
        text(event, "/involvedObject/kind").to_lowercase(),
        text(event, "/involvedObject/name")
    );
    let component = first_of(&["/source/component", "/reportingComponent"]);
    let host = first_of(&["/source/host", "/reportingInstance"]);
    let source = if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    };
    vec![
        since(&last, now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        or_none(text(event, "/involvedObject/fieldPath")),
        source.into(),
        text(event, "/message").trim().into(),
        since(&first, now).into(),
        count.into(),
        meta::name(event).into(),
    ]
}
