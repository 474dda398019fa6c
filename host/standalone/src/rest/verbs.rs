//! The verbs on stored objects and their subresources.

use http::{Method, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};
use witlet_core::proxied::Proxied;

use super::delete::{DeleteOptions, Deleted, delete};
use super::request::Query;
use super::respond::{self, Form, Reply};
use super::update::{Changed, Scope, update};
use super::validation::Validation;
use super::{Api, create, list, media_type, parse_document, read_body, read_document, watch};
use crate::auth::Attributes;
use crate::patch::{self, Format};
use crate::proxy::NodeRequest;
use crate::registry::Resource;
use crate::selector::Selection;
use crate::status::{ApiError, ApiResult, success};
use crate::strategy::pod;
use crate::{json as bodies, meta, review};

/// One request for a stored resource.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) resource: &'static Resource,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) subresource: Option<&'a str>,
    pub(super) query: &'a Query,
}

impl<'a> Call<'a> {
    pub(super) fn attributes(&self, method: &Method) -> Attributes<'a> {
        let verb = match (method.as_str(), self.name) {
            ("GET" | "HEAD", _) if self.query.flag("watch") => "watch",
            ("GET" | "HEAD", Some(_)) => "get",
            ("GET" | "HEAD", None) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", Some(_)) => "delete",
            ("DELETE", None) => "deletecollection",
            _ => "",
        };
        Attributes {
            verb,
            group: self.resource.group,
            resource: self.resource.plural,
            subresource: self.subresource.unwrap_or_default(),
            namespace: self.namespace.unwrap_or_default(),
            name: self.name.unwrap_or_default(),
        }
    }

    /// The namespace of the object; empty for cluster-scoped ones, whose requests never have one.
    fn place(&self) -> &'a str {
        self.namespace.unwrap_or_default()
    }
}

impl Api {
    pub(super) async fn call(&self, call: Call<'_>, method: Method, request: Request<Incoming>) -> ApiResult<Reply> {
        if let (Some(subresource), Some(name)) = (call.subresource, call.name)
            && matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
        {
            return self.to_node(call, name, subresource, request).await;
        }
        match (method.as_str(), call.name, call.subresource) {
            ("GET" | "HEAD", None, None) => {
                let form = Form::of(request.headers(), call.query)?;
                if call.query.flag("watch") {
                    watch::watch(
                        &self.store,
                        call.resource,
                        (call.namespace, None),
                        call.query,
                        form,
                        self.shutdown.clone(),
                    )
                } else {
                    list::list(&self.store, call.resource, call.namespace, call.query, form)
                }
            }
            ("GET" | "HEAD", Some(name), sub) if Scope::of(sub).is_some_and(|s| s != Scope::Finalize) => {
                let form = Form::of(request.headers(), call.query)?;
                if sub.is_none() && call.query.flag("watch") {
                    return watch::watch(
                        &self.store,
                        call.resource,
                        (call.namespace, Some(name)),
                        call.query,
                        form,
                        self.shutdown.clone(),
                    );
                }
                let entry = self.store.require(call.resource, call.place(), name)?;
                Ok(respond::full(
                    200,
                    "application/json",
                    respond::one(call.resource, &entry, form, true)?,
                ))
            }
            ("POST", None, None) => self.create(call, request).await,
            ("POST", Some(name), Some("binding")) => self.bind(call, name.to_owned(), request).await,
            ("POST", Some(name), Some("eviction")) => self.evict(call, name.to_owned(), request).await,
            ("POST", Some(name), Some("token")) => {
                let (body, _) = read_document(request).await?;
                let answer = review::token_request(&self.store, &self.signer, call.place(), name, body)?;
                Ok(respond::value(201, &answer))
            }
            ("PUT", Some(name), sub) => match Scope::of(sub) {
                Some(scope) => self.put(call, name.to_owned(), scope, request).await,
                None => Err(ApiError::method_not_allowed()),
            },
            ("PATCH", Some(name), sub) => match Scope::of(sub) {
                Some(scope) => self.patch(call, name.to_owned(), scope, request).await,
                None => Err(ApiError::method_not_allowed()),
            },
            ("DELETE", Some(name), None) => self.delete_one(call, name.to_owned(), request).await,
            ("DELETE", None, None) => self.delete_many(call, request).await,
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    async fn to_node(
        &self,
        call: Call<'_>,
        name: &str,
        subresource: &str,
        request: Request<Incoming>,
    ) -> ApiResult<Reply> {
        // Behind a pod's name may stand the port that is meant.
        let target = match (subresource, call.resource.namespaced) {
            ("proxy", true) => Proxied::parse(name).map_err(ApiError::bad_request)?.name,
            _ => name.to_owned(),
        };
        let name = target.as_str();
        self.store.require(call.resource, call.place(), name)?;
        let Some(proxy) = &self.proxy else {
            let text = format!(
                "{} of {} {name:?}: this API has no way to the node's agent",
                subresource, call.resource.singular
            );
            return Err(ApiError::not_implemented(text));
        };
        let pod = call
            .resource
            .namespaced
            .then(|| (call.place().to_owned(), name.to_owned()));
        Ok(proxy
            .proxy(NodeRequest {
                pod,
                subresource: subresource.to_owned(),
                request,
            })
            .await)
    }

    async fn create(&self, call: Call<'_>, request: Request<Incoming>) -> ApiResult<Reply> {
        let resource = call.resource;
        let (form, dry_run, validation) = (
            Form::of(request.headers(), call.query)?,
            call.query.dry_run()?,
            Validation::of(call.query)?,
        );
        let (mut object, duplicates) = read_document(request).await?;
        let mut warnings = validation.duplicates(resource, &duplicates)?;
        warnings.extend(validation.check(resource, &mut object)?);
        if let Some(view) = resource.view {
            object = (view.to_stored)(object);
        }
        let namespace = match call.namespace {
            // As `kubectl create` of a raw URL may do: the object says where it belongs.
            None if resource.namespaced => return Err(ApiError::bad_request("the request must name a namespace")),
            namespace => namespace.unwrap_or_default().to_owned(),
        };
        let entry = self
            .store
            .write(move |txn| {
                txn.dry_run = dry_run;
                create::create(txn, resource, &namespace, object)
            })
            .await?;
        let reply = respond::full(201, "application/json", respond::one(resource, &entry, form, true)?);
        Ok(respond::warn(reply, &warnings))
    }

    async fn put(&self, call: Call<'_>, name: String, scope: Scope, request: Request<Incoming>) -> ApiResult<Reply> {
        let resource = call.resource;
        let (form, dry_run, validation) = (
            Form::of(request.headers(), call.query)?,
            call.query.dry_run()?,
            Validation::of(call.query)?,
        );
        let (mut object, duplicates) = read_document(request).await?;
        let mut warnings = validation.duplicates(resource, &duplicates)?;
        warnings.extend(validation.check(resource, &mut object)?);
        for (key, want) in [("name", name.as_str()), ("namespace", call.place())] {
            let got = meta::text(&object, &format!("/metadata/{key}"));
            if got != want && !(got.is_empty() && key == "namespace") {
                let text = format!("the {key} of the object ({got}) does not match the {key} on the URL ({want})");
                return Err(ApiError::bad_request(text));
            }
        }
        let namespace = call.place().to_owned();
        let (created, changed) = self
            .store
            .write(move |txn| {
                txn.dry_run = dry_run;
                if resource.create_on_update && scope == Scope::Main && txn.get(resource, &namespace, &name).is_none() {
                    let stored = match resource.view {
                        Some(view) => (view.to_stored)(object),
                        None => object,
                    };
                    let entry = create::create(txn, resource, &namespace, stored)?;
                    return Ok((
                        true,
                        Changed {
                            entry,
                            warnings: Vec::new(),
                        },
                    ));
                }
                // Unknown fields were reported above already.
                let changed = update(txn, resource, (&namespace, &name), scope, Validation::Ignore, |_| {
                    Ok(object)
                })?;
                Ok((false, changed))
            })
            .await?;
        let body = respond::one(resource, &changed.entry, form, true)?;
        Ok(respond::warn(
            respond::full(if created { 201 } else { 200 }, "application/json", body),
            &warnings,
        ))
    }

    async fn patch(&self, call: Call<'_>, name: String, scope: Scope, request: Request<Incoming>) -> ApiResult<Reply> {
        let resource = call.resource;
        let (form, dry_run, validation) = (
            Form::of(request.headers(), call.query)?,
            call.query.dry_run()?,
            Validation::of(call.query)?,
        );
        let format = Format::of(&media_type(request.headers()))?;
        if format == Format::Apply && call.query.get("fieldManager").is_empty() {
            return Err(ApiError::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        let bytes = read_body(request.into_body()).await?;
        let parsed = bodies::parse(&bytes).or_else(|e| {
            if format == Format::Apply {
                bodies::parse_yaml(&bytes)
            } else {
                Err(e)
            }
        });
        let (body, duplicates) = parsed.map_err(|e| ApiError::bad_request(format!("the patch cannot be read: {e}")))?;
        let mut warnings = validation.duplicates(resource, &duplicates)?;
        let namespace = call.place().to_owned();
        let (created, changed) = self
            .store
            .write(move |txn| {
                txn.dry_run = dry_run;
                if format == Format::Apply && scope == Scope::Main && txn.get(resource, &namespace, &name).is_none() {
                    return apply_new(txn, resource, &namespace, &name, validation, body)
                        .map(|changed| (true, changed));
                }
                let changed = update(txn, resource, (&namespace, &name), scope, validation, |mut object| {
                    patch::apply(format, resource.kind, &mut object, body)?;
                    Ok(object)
                })?;
                Ok((false, changed))
            })
            .await?;
        warnings.extend(changed.warnings);
        let body = respond::one(resource, &changed.entry, form, true)?;
        Ok(respond::warn(
            respond::full(if created { 201 } else { 200 }, "application/json", body),
            &warnings,
        ))
    }

    async fn delete_one(&self, call: Call<'_>, name: String, request: Request<Incoming>) -> ApiResult<Reply> {
        let (resource, namespace) = (call.resource, call.place().to_owned());
        let form = Form::of(request.headers(), call.query)?;
        let options = delete_options(call.query, request).await?;
        let deleted = self
            .store
            .write(move |txn| {
                txn.dry_run = options.dry_run;
                delete(txn, resource, &namespace, &name, &options)
            })
            .await?;
        match deleted {
            Deleted::Gone(entry) if !resource.answers_deleted => {
                let value = entry.value()?;
                let mut details = json!({ "name": entry.name(), "kind": resource.plural, "uid": meta::uid(&value) });
                if !resource.group.is_empty() {
                    details["group"] = resource.group.into();
                }
                Ok(respond::value(200, &success(200, &details)))
            }
            Deleted::Gone(entry) | Deleted::Waiting(entry) => Ok(respond::full(
                200,
                "application/json",
                respond::one(resource, &entry, form, true)?,
            )),
        }
    }

    async fn delete_many(&self, call: Call<'_>, request: Request<Incoming>) -> ApiResult<Reply> {
        let resource = call.resource;
        let selection = Selection::parse(
            resource,
            call.query.get("labelSelector"),
            call.query.get("fieldSelector"),
        )?;
        let form = Form::of(request.headers(), call.query)?;
        let options = delete_options(call.query, request).await?;
        let namespace = call.namespace.map(str::to_owned);
        let entries = self
            .store
            .write(move |txn| {
                txn.dry_run = options.dry_run;
                let mut deleted = Vec::new();
                for entry in txn.list(resource, namespace.as_deref()) {
                    if selection.matches(&entry) {
                        match delete(txn, resource, entry.namespace(), entry.name(), &options)? {
                            Deleted::Gone(entry) | Deleted::Waiting(entry) => deleted.push(entry),
                        }
                    }
                }
                Ok(deleted)
            })
            .await?;
        let metadata = json!({ "resourceVersion": self.store.rv().to_string() });
        Ok(respond::full(
            200,
            "application/json",
            respond::many(resource, &entries, &metadata, form)?,
        ))
    }

    async fn bind(&self, call: Call<'_>, name: String, request: Request<Incoming>) -> ApiResult<Reply> {
        let (resource, namespace, dry_run) = (call.resource, call.place().to_owned(), call.query.dry_run()?);
        let (body, _) = read_document(request).await?;
        let node = meta::text(&body, "/target/name").to_owned();
        let kind = meta::text(&body, "/target/kind");
        if node.is_empty() || !matches!(kind, "" | "Node") {
            return Err(ApiError::bad_request("Binding: target.name must name a node"));
        }
        let uid = meta::uid(&body).to_owned();
        self.store
            .write(move |txn| {
                txn.dry_run = dry_run;
                let mut object = txn.require(resource, &namespace, &name)?.value()?;
                pod::bind(&mut object, &node, &uid)?;
                txn.put(resource, &mut object)
            })
            .await?;
        Ok(respond::value(201, &success(201, &json!({}))))
    }

    /// Nothing here limits disruptions, so that an eviction is a deletion.
    async fn evict(&self, call: Call<'_>, name: String, request: Request<Incoming>) -> ApiResult<Reply> {
        let (resource, namespace) = (call.resource, call.place().to_owned());
        let (body, _) = read_document(request).await?;
        let options = DeleteOptions::parse(call.query, body.get("deleteOptions"))?;
        self.store
            .write(move |txn| {
                txn.dry_run = options.dry_run;
                delete(txn, resource, &namespace, &name, &options)
            })
            .await?;
        Ok(respond::value(201, &success(201, &json!({}))))
    }
}

async fn delete_options(query: &Query, request: Request<Incoming>) -> ApiResult<DeleteOptions> {
    let media_type = media_type(request.headers());
    let bytes = read_body(request.into_body()).await?;
    if bytes.is_empty() {
        return DeleteOptions::parse(query, None);
    }
    let (body, _) = parse_document(&media_type, &bytes)?;
    DeleteOptions::parse(query, Some(&body))
}

/// Applying what does not exist creates it.
fn apply_new(
    txn: &mut crate::store::Txn<'_>,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    validation: Validation,
    config: Value,
) -> ApiResult<Changed> {
    let mut object = json!({});
    patch::apply(Format::Apply, resource.kind, &mut object, config)?;
    let warnings = validation.check(resource, &mut object)?;
    let given = meta::name(&object);
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    meta::set_metadata(&mut object, "name", Some(name.into()));
    if let Some(view) = resource.view {
        object = (view.to_stored)(object);
    }
    let entry = create::create(txn, resource, namespace, object)?;
    Ok(Changed { entry, warnings })
}
