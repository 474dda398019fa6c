//! Watches. A watch is a cursor into the store's history: it holds no queue of its own, and one that falls behind the history
//! is told to list again (410) instead of costing memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch as notice;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::request::Query;
use super::respond::{self, Form, Reply};
use crate::registry::Resource;
use crate::selector::Selection;
use crate::status::{ApiError, ApiResult, Cause};
use crate::store::{Change, Entry, Store};

const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// A watch without a wish for its length gets between this and twice of it.
const MIN_LENGTH: Duration = Duration::from_secs(30 * 60);

struct Watch {
    store: Store,
    resource: &'static Resource,
    namespace: Option<String>,
    selection: Selection,
    form: Form,
    bookmarks: bool,
    cursor: u64,
    news: notice::Receiver<u64>,
    /// Bytes that go out before anything else.
    pending: Option<Bytes>,
    columns_sent: bool,
    end: Instant,
    next_bookmark: Instant,
    shutdown: CancellationToken,
    /// A bookmark is to be sent as soon as everything before it is.
    mark_due: bool,
    done: bool,
}

pub(crate) fn watch(
    store: &Store,
    resource: &'static Resource,
    (namespace, name): (Option<&str>, Option<&str>),
    query: &Query,
    form: Form,
    shutdown: CancellationToken,
) -> ApiResult<Reply> {
    let mut selection = Selection::parse(resource, query.get("labelSelector"), query.get("fieldSelector"))?;
    if let Some(name) = name {
        selection.only(name);
    }
    let bookmarks = query.flag("allowWatchBookmarks");
    let initial_asked = query.flag("sendInitialEvents");
    if query.has("sendInitialEvents") && query.get("resourceVersionMatch") != "NotOlderThan" {
        let text = "Forbidden: resourceVersionMatch must be NotOlderThan when sendInitialEvents is set";
        return Err(ApiError::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            &[Cause::new("resourceVersionMatch", text)],
        ));
    }
    let length = match query.number::<u64>("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(7 * 24 * 3600)),
        _ => MIN_LENGTH + Duration::from_secs(rand::rng().random_range(0..MIN_LENGTH.as_secs())),
    };
    let asked: u64 = query.number("resourceVersion")?.unwrap_or(0);
    let news = store.subscribe(resource);
    let now = Instant::now();
    let mut watch = Watch {
        store: store.clone(),
        resource,
        namespace: namespace.map(str::to_owned),
        selection,
        form,
        bookmarks,
        cursor: asked,
        news,
        pending: None,
        columns_sent: false,
        end: now + length,
        next_bookmark: now + BOOKMARK_PERIOD,
        shutdown,
        mark_due: false,
        done: false,
    };
    // Without a version a watch starts with what is there, unless it says that it does not want that.
    let from_state = initial_asked || (asked == 0 && !query.has("sendInitialEvents"));
    if asked > store.rv() {
        watch.fail(&ApiError::expired(asked, store.rv()));
    } else if from_state {
        watch.start_with_state(initial_asked && bookmarks)?;
    } else if asked == 0 {
        watch.cursor = store.rv();
    }
    let body = StreamBody::new(stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next().await?;
        Some((Ok(Frame::data(chunk)), watch))
    }));
    let mut reply = Reply::new(body.boxed_unsync());
    let headers = reply.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    headers.insert(
        http::header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-cache, private"),
    );
    Ok(reply)
}

impl Watch {
    fn start_with_state(&mut self, marked: bool) -> ApiResult<()> {
        let listing = self.store.list(self.resource, self.namespace.as_deref());
        self.cursor = listing.rv;
        let mut out = Vec::new();
        for entry in &listing.entries {
            if self.selection.matches(entry) {
                self.emit(&mut out, "ADDED", entry)?;
            }
        }
        if marked {
            self.bookmark(&mut out, true);
        }
        // An empty first chunk would end the body for some servers' eyes.
        self.pending = (!out.is_empty()).then(|| out.into());
        Ok(())
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.take() {
                return Some(bytes);
            }
            if self.done && !self.mark_due {
                return None;
            }
            // Seen before the history is read, so that nothing committed in between is slept over.
            self.news.mark_unchanged();
            match self.advance() {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Some(out.into()),
                Err(error) => {
                    self.fail(&error);
                    continue;
                }
            }
            if std::mem::take(&mut self.mark_due) {
                let mut out = Vec::new();
                self.bookmark(&mut out, false);
                return Some(out.into());
            }
            // Every arm only waits; whichever loses has taken nothing.
            tokio::select! {
                changed = self.news.changed() => self.done = changed.is_err(),
                () = self.shutdown.cancelled() => self.done = true,
                () = sleep_until(self.end) => {
                    self.done = true;
                    self.mark_due = self.bookmarks;
                }
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_PERIOD;
                    self.mark_due = true;
                }
            }
        }
    }

    fn advance(&mut self) -> ApiResult<Vec<u8>> {
        let asked = self.cursor;
        let (changes, rv) = self
            .store
            .changes(self.resource, asked)
            .map_err(|oldest| ApiError::expired(asked, oldest))?;
        let mut out = Vec::new();
        for change in &changes {
            self.emit_change(&mut out, change)?;
        }
        self.cursor = rv;
        Ok(out)
    }

    /// With a selector, an object that begins to match is new to this watch, and one that ceases to is gone.
    fn emit_change(&mut self, out: &mut Vec<u8>, change: &Change) -> ApiResult<()> {
        let visible = |entry: &Entry| {
            self.namespace.as_deref().is_none_or(|ns| ns == entry.namespace()) && self.selection.matches(entry)
        };
        let before = change.old.as_ref().filter(|e| visible(e));
        let after = !change.removed && visible(&change.new);
        match (before, after) {
            (None, true) => self.emit(out, "ADDED", &change.new),
            (Some(_), true) => self.emit(out, "MODIFIED", &change.new),
            (Some(_), false) if change.removed => self.emit(out, "DELETED", &change.new),
            (Some(old), false) => {
                // It goes in the last state that this watch could see, at the version of the change.
                let mut value = old.value()?;
                crate::meta::set_metadata(&mut value, "resourceVersion", Some(change.rv.to_string().into()));
                let last = Arc::new(Entry::new(self.resource, &value, change.rv)?);
                self.emit(out, "DELETED", &last)
            }
            (None, false) => Ok(()),
        }
    }

    fn emit(&mut self, out: &mut Vec<u8>, kind: &str, entry: &Entry) -> ApiResult<()> {
        let object = respond::one(self.resource, entry, self.form, !self.columns_sent)?;
        self.columns_sent = true;
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        out.extend_from_slice(&object);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn bookmark(&self, out: &mut Vec<u8>, initial: bool) {
        let mut metadata = json!({ "resourceVersion": self.cursor.to_string() });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match self.form {
            Form::Table(_) => {
                json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": { "resourceVersion": self.cursor.to_string() },
                "columnDefinitions": [], "rows": [{ "cells": [], "object": { "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata } }] })
            }
            Form::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
            }
            Form::Object => {
                json!({ "kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata })
            }
        };
        write_event(out, "BOOKMARK", &object);
    }

    fn fail(&mut self, error: &ApiError) {
        let mut out = Vec::new();
        write_event(&mut out, "ERROR", &error.to_value());
        self.pending = Some(out.into());
        self.mark_due = false;
        self.done = true;
    }
}

fn write_event(out: &mut Vec<u8>, kind: &str, object: &Value) {
    out.extend_from_slice(json!({ "type": kind, "object": object }).to_string().as_bytes());
    out.push(b'\n');
}
