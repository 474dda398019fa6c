//! Tables: the server decides what `kubectl get` shows, and computes words like `CrashLoopBackOff` from the state.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod event;
pub(crate) mod node;
pub(crate) mod pod;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::meta;
use crate::registry::Resource;
use crate::rest::respond::{Include, partial};
use crate::status::ApiResult;
use crate::store::Entry;

pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) format: &'static str,
    /// Shown only with `-o wide`.
    pub(crate) wide: bool,
}

pub(crate) const fn column(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        wide: false,
    }
}

pub(crate) const fn wide(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        wide: true,
    }
}

pub(crate) const fn number(name: &'static str) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        wide: false,
    }
}

pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    wide: false,
};

pub(crate) struct Printer {
    pub(crate) columns: &'static [Column],
    /// The cells of an object in the stored form, in the order of the columns.
    pub(crate) cells: fn(&Value, Timestamp) -> Vec<Value>,
}

pub(crate) static GENERIC: Printer = Printer {
    columns: &[NAME, column("Age")],
    cells: |object, now| vec![meta::name(object).into(), created(object, now).into()],
};

pub(crate) fn row(resource: &Resource, entry: &Entry, include: Include) -> ApiResult<Value> {
    let object = entry.value()?;
    let cells = (resource.printer.cells)(&object, meta::now());
    let mut row = json!({ "cells": cells });
    match include {
        Include::None => {}
        Include::Metadata => row["object"] = partial(&object),
        Include::Object => {
            row["object"] = match resource.view {
                Some(view) => (view.from_stored)(object),
                None => object,
            }
        }
    }
    Ok(row)
}

pub(crate) fn table(resource: &Resource, rows: &[Value], metadata: &Value, with_columns: bool) -> Value {
    let columns: Vec<Value> = if with_columns {
        let column = |c: &Column| json!({ "name": c.name, "type": c.kind, "format": c.format, "description": c.name, "priority": i32::from(c.wide) });
        resource.printer.columns.iter().map(column).collect()
    } else {
        Vec::new()
    };
    json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows })
}

/// How old the object is.
pub(crate) fn created(object: &Value, now: Timestamp) -> String {
    since(meta::text(object, "/metadata/creationTimestamp"), now)
}

/// The time since then in the short form; `<unknown>` where there is no time.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match meta::parse_time(time) {
        Some(then) => human(now.as_second().saturating_sub(then.as_second())),
        None => "<unknown>".into(),
    }
}

/// A duration as people want it: precise when short, coarse when long.
pub(crate) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// A cell's text, or what stands for nothing.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

pub(crate) fn joined<'a>(items: impl IntoIterator<Item = &'a str>) -> Value {
    let text = items
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect::<Vec<_>>()
        .join(",");
    or_none(&text)
}
