//! Kubernetes' protobuf encoding, for request bodies only and for the small kinds that `kubectl` sends in it (it uses it for
//! whatever goes through typed clients: `create configmap`, `create token`, `auth whoami`, …). Answers are always JSON, which
//! every client takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
/// Deeper than any kind here; a message that goes further is nonsense.
const DEPTH: usize = 16;

/// Number, JSON name, type.
struct Field(u64, &'static str, Type);

enum Type {
    Text,
    Texts,
    Int,
    Bool,
    Time,
    MicroTime,
    IntOrText,
    TextMap,
    /// Values go out as base64, as JSON has them.
    BytesMap,
    One(&'static [Field]),
    Many(&'static [Field]),
}

use Type::{Bool, BytesMap, Int, IntOrText, Many, MicroTime, One, Text, TextMap, Texts, Time};

static METADATA: [Field; 14] = [
    Field(1, "name", Text),
    Field(2, "generateName", Text),
    Field(3, "namespace", Text),
    Field(5, "uid", Text),
    Field(6, "resourceVersion", Text),
    Field(7, "generation", Int),
    Field(8, "creationTimestamp", Time),
    Field(9, "deletionTimestamp", Time),
    Field(10, "deletionGracePeriodSeconds", Int),
    Field(11, "labels", TextMap),
    Field(12, "annotations", TextMap),
    Field(13, "ownerReferences", Many(&OWNER)),
    Field(14, "finalizers", Texts),
    Field(4, "selfLink", Text),
];
static OWNER: [Field; 6] = [
    Field(1, "kind", Text),
    Field(3, "name", Text),
    Field(4, "uid", Text),
    Field(5, "apiVersion", Text),
    Field(6, "controller", Bool),
    Field(7, "blockOwnerDeletion", Bool),
];
static REFERENCE: [Field; 7] = [
    Field(1, "kind", Text),
    Field(2, "namespace", Text),
    Field(3, "name", Text),
    Field(4, "uid", Text),
    Field(5, "apiVersion", Text),
    Field(6, "resourceVersion", Text),
    Field(7, "fieldPath", Text),
];
static LOCAL_REFERENCE: [Field; 1] = [Field(1, "name", Text)];
static CONFIG_MAP: [Field; 4] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "data", TextMap),
    Field(3, "binaryData", BytesMap),
    Field(4, "immutable", Bool),
];
static SECRET: [Field; 5] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "data", BytesMap),
    Field(3, "type", Text),
    Field(4, "stringData", TextMap),
    Field(5, "immutable", Bool),
];
static NAMESPACE: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "spec", One(&NAMESPACE_SPEC)),
];
static NAMESPACE_SPEC: [Field; 1] = [Field(1, "finalizers", Texts)];
static SERVICE_ACCOUNT: [Field; 4] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "secrets", Many(&REFERENCE)),
    Field(3, "imagePullSecrets", Many(&LOCAL_REFERENCE)),
    Field(4, "automountServiceAccountToken", Bool),
];
static SERVICE: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "spec", One(&SERVICE_SPEC)),
];
static SERVICE_SPEC: [Field; 12] = [
    Field(1, "ports", Many(&SERVICE_PORT)),
    Field(2, "selector", TextMap),
    Field(3, "clusterIP", Text),
    Field(4, "type", Text),
    Field(5, "externalIPs", Texts),
    Field(7, "sessionAffinity", Text),
    Field(8, "loadBalancerIP", Text),
    Field(10, "externalName", Text),
    Field(11, "externalTrafficPolicy", Text),
    Field(13, "publishNotReadyAddresses", Bool),
    Field(18, "clusterIPs", Texts),
    Field(22, "internalTrafficPolicy", Text),
];
static SERVICE_PORT: [Field; 6] = [
    Field(1, "name", Text),
    Field(2, "protocol", Text),
    Field(3, "port", Int),
    Field(4, "targetPort", IntOrText),
    Field(5, "nodePort", Int),
    Field(6, "appProtocol", Text),
];
static LEASE: [Field; 2] = [Field(1, "metadata", One(&METADATA)), Field(2, "spec", One(&LEASE_SPEC))];
static LEASE_SPEC: [Field; 5] = [
    Field(1, "holderIdentity", Text),
    Field(2, "leaseDurationSeconds", Int),
    Field(3, "acquireTime", MicroTime),
    Field(4, "renewTime", MicroTime),
    Field(5, "leaseTransitions", Int),
];
static PRIORITY_CLASS: [Field; 5] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "value", Int),
    Field(3, "globalDefault", Bool),
    Field(4, "description", Text),
    Field(5, "preemptionPolicy", Text),
];
static TOKEN_REQUEST: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "spec", One(&TOKEN_REQUEST_SPEC)),
];
static TOKEN_REQUEST_SPEC: [Field; 3] = [
    Field(1, "audiences", Texts),
    Field(3, "boundObjectRef", One(&BOUND)),
    Field(4, "expirationSeconds", Int),
];
static BOUND: [Field; 4] = [
    Field(1, "kind", Text),
    Field(2, "apiVersion", Text),
    Field(3, "name", Text),
    Field(4, "uid", Text),
];
static TOKEN_REVIEW: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "spec", One(&TOKEN_REVIEW_SPEC)),
];
static TOKEN_REVIEW_SPEC: [Field; 2] = [Field(1, "token", Text), Field(2, "audiences", Texts)];
static SUBJECT_REVIEW: [Field; 1] = [Field(1, "metadata", One(&METADATA))];
static ACCESS_REVIEW: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "spec", One(&ACCESS_REVIEW_SPEC)),
];
static ACCESS_REVIEW_SPEC: [Field; 5] = [
    Field(1, "resourceAttributes", One(&RESOURCE_ATTRIBUTES)),
    Field(2, "nonResourceAttributes", One(&PATH_ATTRIBUTES)),
    // Of reviews about somebody else.
    Field(3, "user", Text),
    Field(4, "groups", Texts),
    Field(6, "uid", Text),
];
static RESOURCE_ATTRIBUTES: [Field; 7] = [
    Field(1, "namespace", Text),
    Field(2, "verb", Text),
    Field(3, "group", Text),
    Field(4, "version", Text),
    Field(5, "resource", Text),
    Field(6, "subresource", Text),
    Field(7, "name", Text),
];
static PATH_ATTRIBUTES: [Field; 2] = [Field(1, "path", Text), Field(2, "verb", Text)];
static RULES_REVIEW: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "spec", One(&RULES_REVIEW_SPEC)),
];
static RULES_REVIEW_SPEC: [Field; 1] = [Field(1, "namespace", Text)];
static BINDING: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "target", One(&REFERENCE)),
];
static EVICTION: [Field; 2] = [
    Field(1, "metadata", One(&METADATA)),
    Field(2, "deleteOptions", One(&DELETE_OPTIONS)),
];
static DELETE_OPTIONS: [Field; 5] = [
    Field(1, "gracePeriodSeconds", Int),
    Field(2, "preconditions", One(&PRECONDITIONS)),
    Field(3, "orphanDependents", Bool),
    Field(4, "propagationPolicy", Text),
    Field(5, "dryRun", Texts),
];
static PRECONDITIONS: [Field; 2] = [Field(1, "uid", Text), Field(2, "resourceVersion", Text)];

fn schema(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Binding" => &BINDING,
        "ConfigMap" => &CONFIG_MAP,
        "DeleteOptions" => &DELETE_OPTIONS,
        "Eviction" => &EVICTION,
        "Lease" => &LEASE,
        "LocalSubjectAccessReview" | "SelfSubjectAccessReview" | "SubjectAccessReview" => &ACCESS_REVIEW,
        "Namespace" => &NAMESPACE,
        "PriorityClass" => &PRIORITY_CLASS,
        "Secret" => &SECRET,
        "SelfSubjectReview" => &SUBJECT_REVIEW,
        "SelfSubjectRulesReview" => &RULES_REVIEW,
        "Service" => &SERVICE,
        "ServiceAccount" => &SERVICE_ACCOUNT,
        "TokenRequest" => &TOKEN_REQUEST,
        "TokenReview" => &TOKEN_REVIEW,
        _ => return None,
    })
}

/// The document in a body of this encoding.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let envelope = bytes
        .strip_prefix(MAGIC)
        .ok_or("it does not start with the protobuf prefix")?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    each(envelope, |number, item| {
        match (number, item) {
            (1, Item::Bytes(types)) => each(types, |number, item| {
                match (number, item) {
                    (1, Item::Bytes(text)) => version = utf8(text)?,
                    (2, Item::Bytes(text)) => kind = utf8(text)?,
                    _ => {}
                }
                Ok(())
            })?,
            (2, Item::Bytes(content)) => raw = content,
            _ => {}
        }
        Ok(())
    })?;
    let Some(fields) = schema(&kind) else {
        return Err(format!("the kind {kind:?} is not read in protobuf here; send JSON"));
    };
    let mut object = message(raw, fields, DEPTH)?;
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

enum Item<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn message(bytes: &[u8], fields: &'static [Field], depth: usize) -> Result<Map<String, Value>, String> {
    let depth = depth.checked_sub(1).ok_or("it is nested too deep")?;
    let mut object = Map::new();
    each(bytes, |number, item| {
        // Numbers that are not known are newer or of no use here; protobuf is made so that they can be skipped.
        let Some(Field(_, name, kind)) = fields.iter().find(|f| f.0 == number) else {
            return Ok(());
        };
        let wrong = || Err(format!("the field {name} has the wrong wire type"));
        let single = match (kind, item) {
            // An empty text is how the encoding writes one that is not set.
            (Text, Item::Bytes(text)) => Some(utf8(text)?).filter(|t| !t.is_empty()).map(Value::from),
            (Int, Item::Number(n)) => Some((n as i64).into()),
            (Bool, Item::Number(n)) => Some((n != 0).into()),
            (Time, Item::Bytes(time)) => timestamp(time)?.map(|t| crate::meta::rfc3339(t).into()),
            (MicroTime, Item::Bytes(time)) => {
                timestamp(time)?.map(|t| t.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into())
            }
            (IntOrText, Item::Bytes(inner)) => Some(int_or_text(inner)?),
            (One(fields), Item::Bytes(inner)) => Some(Value::Object(message(inner, fields, depth)?)),
            (Texts, Item::Bytes(text)) => {
                push(&mut object, name, utf8(text)?.into());
                None
            }
            (Many(fields), Item::Bytes(inner)) => {
                let item = Value::Object(message(inner, fields, depth)?);
                push(&mut object, name, item);
                None
            }
            (TextMap | BytesMap, Item::Bytes(pair)) => {
                let (mut key, mut value) = (String::new(), &[][..]);
                each(pair, |number, item| {
                    match (number, item) {
                        (1, Item::Bytes(text)) => key = utf8(text)?,
                        (2, Item::Bytes(content)) => value = content,
                        _ => {}
                    }
                    Ok(())
                })?;
                let value = if matches!(kind, TextMap) {
                    utf8(value)?
                } else {
                    STANDARD.encode(value)
                };
                if let Some(map) = object.entry(*name).or_insert_with(|| json!({})).as_object_mut() {
                    map.insert(key, value.into());
                }
                None
            }
            _ => return wrong(),
        };
        if let Some(value) = single {
            object.insert((*name).to_owned(), value);
        }
        Ok(())
    })?;
    Ok(object)
}

fn push(object: &mut Map<String, Value>, name: &str, item: Value) {
    if let Some(list) = object.entry(name).or_insert_with(|| json!([])).as_array_mut() {
        list.push(item);
    }
}

fn timestamp(bytes: &[u8]) -> Result<Option<jiff::Timestamp>, String> {
    let (mut seconds, mut nanos) = (None, 0_i64);
    each(bytes, |number, item| {
        match (number, item) {
            (1, Item::Number(n)) => seconds = Some(n as i64),
            (2, Item::Number(n)) => nanos = n as i64,
            _ => {}
        }
        Ok(())
    })?;
    let Some(seconds) = seconds else { return Ok(None) };
    let nanos = i32::try_from(nanos).map_err(|e| e.to_string())?;
    jiff::Timestamp::new(seconds, nanos)
        .map(Some)
        .map_err(|e| e.to_string())
}

fn int_or_text(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut text) = (false, 0_i64, String::new());
    each(bytes, |field, item| {
        match (field, item) {
            (1, Item::Number(kind)) => is_text = kind == 1,
            (2, Item::Number(n)) => number = n as i64,
            (3, Item::Bytes(content)) => text = utf8(content)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(if is_text { text.into() } else { number.into() })
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())
}

/// Walks over the fields of a message.
fn each<'a>(mut bytes: &'a [u8], mut visit: impl FnMut(u64, Item<'a>) -> Result<(), String>) -> Result<(), String> {
    let short = || "it ends in the middle of a field".to_owned();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let item = match tag & 7 {
            0 => Item::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|e| e.to_string())?;
                let (content, rest) = bytes.split_at_checked(length).ok_or_else(short)?;
                bytes = rest;
                Item::Bytes(content)
            }
            fixed @ (1 | 5) => {
                bytes = bytes.get(if fixed == 1 { 8 } else { 4 }..).ok_or_else(short)?;
                continue;
            }
            other => return Err(format!("it holds the unknown wire type {other}")),
        };
        visit(tag >> 3, item)?;
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("it ends in the middle of a number")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("it holds a number that is too long".into())
}
