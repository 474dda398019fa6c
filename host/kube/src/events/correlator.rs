//! Which events are news, which repeat others, and which are too many. Without a clock of its own.

use std::collections::HashMap;
use std::hash::Hash;

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
    spam: Recent<ObjectKey, Bucket>,
    similar: Recent<SimilarKey, Similar>,
    known: Recent<EventKey, Event>,
}

type ObjectKey = (String, String, String, String);
/// Object, field, type, reason.
type SimilarKey = (ObjectKey, String, bool, String);
type EventKey = (SimilarKey, String);

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

struct Similar {
    messages: Vec<String>,
    at: Timestamp,
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
        let object_key = (
            text(&object.kind),
            text(&object.namespace),
            text(&object.name),
            text(&object.uid),
        );
        let similar_key = (
            object_key.clone(),
            text(&object.field_path),
            told.warning,
            told.reason.clone(),
        );

        // Too many different messages: they share one event, and its message is the latest.
        let similar = self.similar.entry(&similar_key, || Similar {
            messages: Vec::new(),
            at: told.at,
        });
        if seconds(similar.at, told.at) > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.at = told.at;
        if !similar.messages.contains(&told.message) && similar.messages.len() < SIMILAR {
            similar.messages.push(told.message.clone());
        }
        let combined = similar.messages.len() >= SIMILAR;
        let message = if combined {
            format!("(combined from similar events): {}", told.message)
        } else {
            told.message.clone()
        };
        let identity = if combined { String::new() } else { told.message.clone() };
        let key = (similar_key, identity);

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

        if let Some(event) = self.known.get(&key) {
            event.count = Some(event.count.unwrap_or(1).saturating_add(1));
            event.last_timestamp = Some(Time(told.at));
            event.message = Some(message);
            return Some(Send::Again {
                event: Box::new(event.clone()),
            });
        }
        let event = self.event(told, message);
        self.known.insert(key, event.clone());
        Some(Send::New(Box::new(event)))
    }

    /// The shape that kubectl and everybody else knows of the kubelet's events.
    fn event(&self, told: &Told, message: String) -> Event {
        let name = told.object.name.as_deref().unwrap_or_default();
        let namespace = told
            .object
            .namespace
            .clone()
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "default".into());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", told.at.as_nanosecond().max(0))),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: told.object.clone(),
            type_: Some(if told.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(told.reason.clone()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(Time(told.at)),
            last_timestamp: Some(Time(told.at)),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.node_name.clone()),
            source: Some(EventSource {
                component: Some("kubelet".into()),
                host: Some(self.node_name.clone()),
            }),
            ..Event::default()
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

/// A map that forgets what was not used for longest. Finding that is slow, and happens for a tenth of the map at once.
struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    clock: u64,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    fn new() -> Self {
        Self {
            entries: HashMap::new(),
            clock: 0,
        }
    }

    fn get(&mut self, key: &K) -> Option<&mut V> {
        self.clock += 1;
        let clock = self.clock;
        self.entries.get_mut(key).map(|(used, value)| {
            *used = clock;
            value
        })
    }

    fn insert(&mut self, key: K, value: V) {
        self.make_room();
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }

    fn entry(&mut self, key: &K, new: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(key) {
            self.make_room();
        }
        self.clock += 1;
        let clock = self.clock;
        let (used, value) = self.entries.entry(key.clone()).or_insert_with(|| (clock, new()));
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
