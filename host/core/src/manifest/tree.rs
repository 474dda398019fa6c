//! A document as a tree that remembers its lines, so that an error can say where it is.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) value: Value,
    /// None where the parser does not tell (JSON that is not YAML).
    pub(super) line: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub(super) enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Str(String),
    Seq(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A document that is neither YAML nor JSON.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// Deeper than any pod (some fifteen levels), and shallow enough for the stack of the reading thread.
const MAX_DEPTH: usize = 64;

pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        // `defaultMode: 0644` is octal for Kubernetes, which reads YAML 1.1 …
        legacy_octal_numbers: true,
        // … but a bare `on` or `y` is too easily meant as text; the decoder takes `yes` where a boolean must stand.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).or_else(|yaml| {
        // Not every JSON document is YAML: tabs, for one.
        if text.trim_start().starts_with('{') {
            match serde_json::from_str::<serde_json::Value>(text) {
                Ok(json) if depth(&json) <= MAX_DEPTH => return Ok(Node::from(json)),
                Ok(_) => {
                    return Err(SyntaxError {
                        line: None,
                        message: "nested too deeply".into(),
                    });
                }
                Err(_) => {}
            }
        }
        let line = yaml.location().map(|l| l.line()).filter(|l| *l > 0);
        let message = yaml.without_snippet().to_string();
        Err(SyntaxError {
            line,
            message: message.lines().next().unwrap_or_default().to_owned(),
        })
    })
}

fn depth(value: &serde_json::Value) -> usize {
    // serde_json itself refuses what is deeper than 128.
    1 + match value {
        serde_json::Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(map) => map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

impl From<serde_json::Value> for Node {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Value::Int(i),
                (None, Some(u)) => Value::UInt(u),
                (None, None) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Value::Str(s),
            Json::Array(items) => Value::Seq(items.into_iter().map(Self::from).collect()),
            Json::Object(map) => Value::Map(map.into_iter().map(|(k, v)| (k, Self::from(v))).collect()),
        };
        Self { value, line: None }
    }
}

impl Node {
    /// The line of the deepest part of a path like `spec.containers[0].image` that the document has.
    pub(super) fn line_of(&self, path: &str) -> Option<u64> {
        let (mut node, mut line) = (self, self.line);
        for step in steps(path) {
            match node.child(&step) {
                Some(next) => {
                    node = next;
                    line = next.line.or(line);
                }
                None => break,
            }
        }
        line
    }

    fn child(&self, step: &Step<'_>) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Map(entries), Step::Key(key)) => entries.iter().find(|(k, _)| k == key).map(|(_, n)| n),
            (Value::Seq(items), Step::Index(index)) => items.get(*index),
            (Value::Map(entries), Step::Index(index)) => {
                let key = index.to_string();
                entries.iter().find(|(k, _)| *k == key).map(|(_, n)| n)
            }
            _ => None,
        }
    }

    /// Takes a map's entry out. False if the path does not end in one.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let steps: Vec<_> = steps(path).collect();
        let Some((Step::Key(last), parents)) = steps.split_last() else {
            return false;
        };
        let mut node = self;
        for step in parents {
            let next = match (&mut node.value, step) {
                (Value::Map(entries), Step::Key(key)) => entries.iter_mut().find(|(k, _)| k == key).map(|(_, n)| n),
                (Value::Seq(items), Step::Index(index)) => items.get_mut(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return false,
            }
        }
        let Value::Map(entries) = &mut node.value else {
            return false;
        };
        let before = entries.len();
        entries.retain(|(key, _)| key != last);
        entries.len() < before
    }
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// `a.b[1].c` and `a.labels[some.key]`.
fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').unwrap_or(inner.len());
            let (key, after) = inner.split_at(end);
            rest = after.strip_prefix(']').unwrap_or(after);
            return Some(key.parse().map_or(Step::Key(key), Step::Index));
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        rest = after;
        Some(Step::Key(key))
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let line = spanned.referenced.line();
        Ok(Self {
            value: spanned.value,
            line: (line > 0).then_some(line),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        Ok(i64::try_from(v).map_or(Value::UInt(v), Value::Int))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Str(v.to_owned()))
    }

    fn visit_string<E: de::Error>(self, v: String) -> Result<Value, E> {
        Ok(Value::Str(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<String, Node>()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}
