//! From API objects and the pod to the files of a volume (volumes 4.3 to 4.5).

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use witlet_sdk::volume::{Downward, PodObjects};
use witlet_sdk::{Error, Result};

use super::payload::{File, Files};
use super::pod::PodView;
use super::{aggregate, parse};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigMapSource {
    #[serde(default)]
    name: String,
    #[serde(default)]
    items: Option<Vec<KeyToPath>>,
    default_mode: Option<u32>,
    #[serde(default)]
    optional: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretSource {
    /// As a volume of its own.
    #[serde(default)]
    secret_name: String,
    /// As a source of a projected volume.
    #[serde(default)]
    name: String,
    #[serde(default)]
    items: Option<Vec<KeyToPath>>,
    default_mode: Option<u32>,
    #[serde(default)]
    optional: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DownwardSource {
    #[serde(default)]
    items: Option<Vec<DownwardItem>>,
    default_mode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProjectedSource {
    #[serde(default)]
    sources: Option<Vec<Projection>>,
    default_mode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Projection {
    config_map: Option<ConfigMapSource>,
    secret: Option<SecretSource>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<DownwardSource>,
    service_account_token: Option<TokenSource>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenSource {
    #[serde(default)]
    audience: String,
    expiration_seconds: Option<i64>,
    path: String,
}

#[derive(Deserialize)]
struct KeyToPath {
    key: String,
    path: String,
    mode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DownwardItem {
    path: String,
    field_ref: Option<FieldRef>,
    resource_field_ref: Option<ResourceFieldRef>,
    mode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldRef {
    field_path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceFieldRef {
    #[serde(default)]
    container_name: String,
    resource: String,
    #[serde(default)]
    divisor: Option<serde_json::Value>,
}

/// What is read of a v1 ConfigMap and a v1 Secret.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    binary_data: Option<BTreeMap<String, String>>,
}

pub(super) fn config_map<O: PodObjects>(objects: &O, source: &ConfigMapSource) -> Result<Files> {
    config_map_files(objects, source, mode(source.default_mode)?)
}

pub(super) fn secret<O: PodObjects>(objects: &O, source: &SecretSource) -> Result<Files> {
    secret_files(objects, source, mode(source.default_mode)?)
}

pub(super) fn downward<O: Downward>(objects: &O, source: &DownwardSource) -> Result<Files> {
    downward_files(objects, source, mode(source.default_mode)?)
}

/// The volume's mode, not a source's own, holds for all sources.
pub(super) fn projected<O: PodObjects + Downward>(
    objects: &O,
    pod: &PodView,
    source: &ProjectedSource,
) -> Result<Files> {
    let mode = mode(source.default_mode)?;
    let mut files = Files::new();
    let mut errors = Vec::new();
    for projection in source.sources.as_deref().unwrap_or_default() {
        match project(objects, pod, projection, mode) {
            // A later source wins.
            Ok(more) => files.extend(more),
            Err(error) => errors.push(error),
        }
    }
    aggregate(errors)?;
    Ok(files)
}

fn project<O: PodObjects + Downward>(objects: &O, pod: &PodView, projection: &Projection, mode: u32) -> Result<Files> {
    if let Some(source) = &projection.secret {
        secret_files(objects, source, mode)
    } else if let Some(source) = &projection.config_map {
        config_map_files(objects, source, mode)
    } else if let Some(source) = &projection.downward_api {
        downward_files(objects, source, mode)
    } else if let Some(source) = &projection.service_account_token {
        let audience = Some(source.audience.as_str()).filter(|a| !a.is_empty());
        let token = objects.service_account_token(audience, source.expiration_seconds)?;
        let owner = pod.fs_user();
        // With a user or a group of its own, a pod's other users must not read its token. fsGroup adds the group's bits.
        let mode = if owner.is_some() || pod.fs_group().is_some() {
            0o600
        } else {
            mode
        };
        Ok(Files::from([(
            source.path.clone(),
            File {
                data: token.into_bytes(),
                mode,
                owner,
            },
        )]))
    } else {
        let name = projection.others.keys().next().map_or("(none)", String::as_str);
        Err(Error::Invalid(format!(
            "projected volume source {name} is not supported by this node"
        )))
    }
}

fn config_map_files<O: PodObjects>(objects: &O, source: &ConfigMapSource, mode: u32) -> Result<Files> {
    let optional = source.optional.unwrap_or_default();
    let object = found("configmap", objects.config_map(&source.name), optional)?;
    let mut values = decoded("configmap", object.binary_data)?;
    // Text wins over bytes of the same key; the API lets no object have both.
    values.extend(
        object
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes())),
    );
    select(
        values,
        source.items.as_deref(),
        mode,
        optional,
        "configmap references non-existent config key",
    )
}

fn secret_files<O: PodObjects>(objects: &O, source: &SecretSource, mode: u32) -> Result<Files> {
    let optional = source.optional.unwrap_or_default();
    let name = if source.secret_name.is_empty() {
        &source.name
    } else {
        &source.secret_name
    };
    let object = found("secret", objects.secret(name), optional)?;
    let values = decoded("secret", object.data)?;
    select(
        values,
        source.items.as_deref(),
        mode,
        optional,
        "references non-existent secret key",
    )
}

fn downward_files<O: Downward>(objects: &O, source: &DownwardSource, default_mode: u32) -> Result<Files> {
    let mut files = Files::new();
    let mut errors = Vec::new();
    for item in source.items.as_deref().unwrap_or_default() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => objects.field(&field.field_path),
            (None, Some(r)) => {
                let divisor = match &r.divisor {
                    Some(serde_json::Value::String(text)) => text.clone(),
                    Some(serde_json::Value::Number(number)) => number.to_string(),
                    _ => String::new(),
                };
                objects.resource(&r.container_name, &r.resource, &divisor)
            }
            (None, None) => continue,
        };
        match text {
            Ok(text) => {
                let file = File {
                    data: text.into_bytes(),
                    mode: item.mode.unwrap_or(default_mode),
                    owner: None,
                };
                files.insert(item.path.clone(), file);
            }
            Err(error) => errors.push(error),
        }
    }
    aggregate(errors)?;
    Ok(files)
}

/// An object that need not be there is empty when it is not. Any other fault counts.
fn found(kind: &str, json: Result<String>, optional: bool) -> Result<Object> {
    match json {
        Ok(json) => parse(kind, &json),
        Err(Error::NotFound(_)) if optional => Ok(Object::default()),
        Err(error) => Err(error),
    }
}

fn decoded(kind: &str, data: Option<BTreeMap<String, String>>) -> Result<BTreeMap<String, Vec<u8>>> {
    let decode = |(key, text): (String, String)| match BASE64_STANDARD.decode(&text) {
        Ok(data) => Ok((key, data)),
        Err(error) => Err(Error::Invalid(format!("the {kind}: {key}: {error}"))),
    };
    data.unwrap_or_default().into_iter().map(decode).collect()
}

fn mode(default_mode: Option<u32>) -> Result<u32> {
    default_mode.ok_or_else(|| Error::Invalid("no defaultMode used, not even the default value for it".to_owned()))
}

/// All keys, or those that are asked for under the paths that are asked for.
fn select(
    mut values: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
    missing: &str,
) -> Result<Files> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let file = |(key, data)| {
            (
                key,
                File {
                    data,
                    mode: default_mode,
                    owner: None,
                },
            )
        };
        return Ok(values.into_iter().map(file).collect());
    };
    let mut files = Files::new();
    for (at, item) in items.iter().enumerate() {
        // One key may stand under several paths.
        let wanted_again = items[at + 1..].iter().any(|later| later.key == item.key);
        let data = if wanted_again {
            values.get(&item.key).cloned()
        } else {
            values.remove(&item.key)
        };
        match data {
            Some(data) => {
                let file = File {
                    data,
                    mode: item.mode.unwrap_or(default_mode),
                    owner: None,
                };
                files.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Err(Error::Invalid(format!("{missing}: {}", item.key))),
        }
    }
    Ok(files)
}
