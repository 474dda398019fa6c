//! Which events are news, which repeat others, and which are too many. Without a clock of its own.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

/// As something in the agent says it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) object: ObjectReference,
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) at: Timestamp,
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) enum Send {
    New(Box<Event>),
    /// A known event once more: only its count, last time and message change.
    Again {
        event: Box<Event>,
    },
}

impl Send {
    pub(super) fn event(&self) -> &Event {
        match self {
            Self::New(event) | Self::Again { event } => event,
        }
    }
}

/// Events of one object that may come at once, and how long it takes until one more may.
const SPAM_BURST: f64 = 25.0;
const SPAM_SECONDS: f64 = 300.0;
/// As many events that differ only in their message become one.
const SIMILAR: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
/// Kept of each kind; the oldest goes first.
const MEMORY: usize = 4096;

pub(super) struct Correlator {
    node_name: String,
    spam: Recent<Bucket>,
    similar: Recent<Similar>,
    known: Recent<Known>,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

struct Similar {
    messages: Vec<Box<str>>,
    at: Timestamp,
}

/// Of an event that was sent, what its next one cannot say itself. There are thousands of them.
struct Known {
    name: Box<str>,
    count: i32,
    first: Timestamp,
}

impl Correlator {
    pub(super) fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            spam: Recent::new(),
            similar: Recent::new(),
            known: Recent::new(),
        }
    }

    /// None for spam.
    pub(super) fn take(&mut self, told: &Told) -> Option<Send> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let object = &told.object;
        let object_key = key([
            &text(&object.kind),
            &text(&object.namespace),
            &text(&object.name),
            &text(&object.uid),
        ]);
        let level = if told.warning { "W" } else { "N" };
        let similar_key = key([&object_key, &text(&object.field_path), level, &told.reason]);

        // Too many different messages: they share one event, and its message is the latest.
        let similar = self.similar.entry(&similar_key, || Similar {
            messages: Vec::new(),
            at: told.at,
        });
        if seconds(similar.at, told.at) > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.at = told.at;
        if !similar.messages.iter().any(|m| **m == told.message) && similar.messages.len() < SIMILAR {
            similar.messages.push(told.message.as_str().into());
        }
        let combined = similar.messages.len() >= SIMILAR;
        let message = if combined {
            format!("(combined from similar events): {}", told.message)
        } else {
            told.message.clone()
        };
        let identity = if combined { "" } else { told.message.as_str() };
        let known_key = key([&similar_key, identity]);

        let bucket = self.spam.entry(&object_key, || Bucket {
            tokens: SPAM_BURST,
            at: told.at,
        });
        let gained = seconds(bucket.at, told.at).max(0) as f64 / SPAM_SECONDS;
        bucket.tokens = (bucket.tokens + gained).min(SPAM_BURST);
        bucket.at = told.at;
        if bucket.tokens < 1.0 {
            return None;
        }
        bucket.tokens -= 1.0;

        if let Some(known) = self.known.get(&known_key) {
            known.count = known.count.saturating_add(1);
            let event = event(&self.node_name, told, message, known);
            return Some(Send::Again { event: Box::new(event) });
        }
        let name = object.name.as_deref().unwrap_or_default();
        let known = Known {
            name: format!("{name}.{:x}", told.at.as_nanosecond().max(0)).into(),
            count: 1,
            first: told.at,
        };
        let event = event(&self.node_name, told, message, &known);
        self.known.insert(known_key, known);
        Some(Send::New(Box::new(event)))
    }
}

/// The shape that kubectl and everybody else knows of the kubelet's events.
fn event(node_name: &str, told: &Told, message: String, known: &Known) -> Event {
    let namespace = told.object.namespace.clone().filter(|n| !n.is_empty());
    Event {
        metadata: ObjectMeta {
            name: Some(known.name.to_string()),
            namespace: Some(namespace.unwrap_or_else(|| "default".into())),
            ..ObjectMeta::default()
        },
        involved_object: told.object.clone(),
        type_: Some(if told.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(told.reason.clone()),
        message: Some(message),
        count: Some(known.count),
        first_timestamp: Some(Time(known.first)),
        last_timestamp: Some(Time(told.at)),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node_name.to_owned()),
        source: Some(EventSource {
            component: Some("kubelet".into()),
            host: Some(node_name.to_owned()),
        }),
        ..Event::default()
    }
}

/// One text for several: none of them has a NUL in it, or the API had refused it.
fn key<const N: usize>(parts: [&str; N]) -> Box<str> {
    parts.join("\0").into()
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

/// A map that forgets what was not used for longest. Finding that is slow, and happens for a tenth of the map at once.
struct Recent<V> {
    entries: HashMap<Box<str>, (u64, V)>,
    clock: u64,
}

impl<V> Recent<V> {
    fn new() -> Self {
        Self {
            entries: HashMap::new(),
            clock: 0,
        }
    }

    fn get(&mut self, key: &str) -> Option<&mut V> {
        self.clock += 1;
        let clock = self.clock;
        self.entries.get_mut(key).map(|(used, value)| {
            *used = clock;
            value
        })
    }

    fn insert(&mut self, key: Box<str>, value: V) {
        self.make_room();
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }

    fn entry(&mut self, key: &str, new: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(key) {
            self.make_room();
        }
        self.clock += 1;
        let clock = self.clock;
        let (used, value) = self.entries.entry(key.into()).or_insert_with(|| (clock, new()));
        *used = clock;
        value
    }

    fn make_room(&mut self) {
        if self.entries.len() >= MEMORY {
            let mut ages: Vec<_> = self.entries.values().map(|(used, _)| *used).collect();
            ages.sort_unstable();
            let limit = ages[MEMORY / 10];
            self.entries.retain(|_, (used, _)| *used > limit);
        }
    }
}
