//! Label and field selectors.

use crate::registry::Resource;
use crate::status::{ApiError, ApiResult};
use crate::store::Entry;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    /// Also true where the key is missing.
    NotIn(Vec<String>),
    Exists,
    Missing,
    Above(i64),
    Below(i64),
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Name,
    Namespace,
    Indexed(usize),
}

/// What a list or a watch wants to see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: Vec<(String, Test)>,
    /// Field, whether it must be equal, value.
    fields: Vec<(Place, bool, String)>,
}

impl Selection {
    pub(crate) fn parse(resource: &Resource, labels: &str, fields: &str) -> ApiResult<Self> {
        let labels =
            parse_labels(labels).map_err(|e| ApiError::bad_request(format!("unable to parse requirement: {e}")))?;
        let fields = parse_fields(resource, fields)?;
        Ok(Self { labels, fields })
    }

    /// Only the object of this name.
    pub(crate) fn only(&mut self, name: &str) {
        self.fields.push((Place::Name, true, name.to_owned()));
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        let label = |key: &str| entry.labels.iter().find(|(k, _)| **k == *key).map(|(_, v)| &**v);
        self.labels.iter().all(|(key, test)| match (test, label(key)) {
            (Test::In(values), Some(v)) => values.iter().any(|x| x == v),
            (Test::NotIn(values), Some(v)) => !values.iter().any(|x| x == v),
            (Test::Above(n), Some(v)) => v.parse::<i64>().is_ok_and(|v| v > *n),
            (Test::Below(n), Some(v)) => v.parse::<i64>().is_ok_and(|v| v < *n),
            (Test::Exists, found) => found.is_some(),
            (Test::Missing, found) => found.is_none(),
            (Test::NotIn(_), None) => true,
            (Test::In(_) | Test::Above(_) | Test::Below(_), None) => false,
        }) && self.fields.iter().all(|(place, equal, want)| {
            let got = match place {
                Place::Name => entry.name(),
                Place::Namespace => entry.namespace(),
                Place::Indexed(i) => entry.fields.get(*i).map_or("", |f| f),
            };
            (got == want) == *equal
        })
    }
}

fn parse_fields(resource: &Resource, text: &str) -> ApiResult<Vec<(Place, bool, String)>> {
    let mut fields = Vec::new();
    for term in split_unescaped(text) {
        if term.is_empty() {
            continue;
        }
        let (key, equal, value) = if let Some((k, v)) = term.split_once("!=") {
            (k, false, v)
        } else if let Some((k, v)) = term.split_once("==") {
            (k, true, v)
        } else if let Some((k, v)) = term.split_once('=') {
            (k, true, v)
        } else {
            return Err(ApiError::bad_request(format!(
                "invalid field selector: {term:?}; can't understand it, expected key=value"
            )));
        };
        let place = match key.trim() {
            "metadata.name" => Place::Name,
            "metadata.namespace" => Place::Namespace,
            key => match resource.fields.iter().position(|(label, _)| *label == key) {
                Some(i) => Place::Indexed(i),
                None => return Err(ApiError::bad_request(format!("field label not supported: {key}"))),
            },
        };
        // A boolean field that is not set is false.
        let value = value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\");
        let unset = matches!(place, Place::Indexed(i) if matches!(resource.fields[i].0, "spec.unschedulable" | "spec.hostNetwork"))
            && value == "false";
        fields.push(if unset {
            (place, !equal, "true".to_owned())
        } else {
            (place, equal, value)
        });
    }
    Ok(fields)
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_labels(text: &str) -> Result<Vec<(String, Test)>, String> {
    let mut terms = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // Commas inside of parentheses separate values, not terms.
        let mut depth = 0;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                match c {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                *c == ',' && depth == 0
            })
            .map_or(rest.len(), |(i, _)| i);
        terms.push(parse_label(rest[..end].trim())?);
        rest = rest.get(end + 1..).unwrap_or_default().trim();
    }
    Ok(terms)
}

fn parse_label(term: &str) -> Result<(String, Test), String> {
    let (key, test) = if let Some(key) = term.strip_prefix('!') {
        (key, Test::Missing)
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Test::In(vec![value.trim().to_owned()]))
    } else if let Some((key, values)) = term.split_once(" notin ").or_else(|| term.split_once(" notin(")) {
        (key, Test::NotIn(value_set(values, term)?))
    } else if let Some((key, values)) = term.split_once(" in ").or_else(|| term.split_once(" in(")) {
        (key, Test::In(value_set(values, term)?))
    } else if let Some((key, value)) = term.split_once('>') {
        (key, Test::Above(number(value, term)?))
    } else if let Some((key, value)) = term.split_once('<') {
        (key, Test::Below(number(value, term)?))
    } else {
        (term, Test::Exists)
    };
    let key = key.trim();
    if let Some(problem) = crate::strategy::metadata::qualified_name_problem(key) {
        return Err(format!("key {key:?}: {problem}"));
    }
    if let Test::In(values) | Test::NotIn(values) = &test {
        for value in values {
            if let Some(problem) = crate::strategy::metadata::label_value_problem(value) {
                return Err(format!("value {value:?}: {problem}"));
            }
        }
    }
    Ok((key.to_owned(), test))
}

fn value_set(text: &str, term: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    let inner = text
        .strip_prefix('(')
        .unwrap_or(text)
        .strip_suffix(')')
        .ok_or_else(|| format!("{term:?}: expected values in parentheses"))?;
    Ok(inner.split(',').map(|v| v.trim().to_owned()).collect())
}

fn number(text: &str, term: &str) -> Result<i64, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{term:?}: for 'Gt', 'Lt' operators, the value must be an integer"))
}
