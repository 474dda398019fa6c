//! Who pulled an image to the node, so that others must show credentials too (the kubelet contract, pod 6.4).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, Unit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::image::{self, Reference};
use crate::keyring::{Credential, Source, hex};

#[cfg(test)]
mod tests;

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const OLD_API_VERSION: &str = "kubelet.config.k8s.io/v1alpha1";
/// Where many namespaces come and go, a record does not grow without end.
const REMEMBERED: usize = 100;

/// A pull of this image is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullIntent {
    kind: String,
    api_version: String,
    /// As the pod's spec has it.
    pub image: String,
}

/// How an image came to the node, and who may use it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PulledRecord {
    kind: String,
    api_version: String,
    pub last_updated_time: Timestamp,
    /// As the runtime has it.
    pub image_ref: String,
    /// By the image's repository.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credential_mapping: BTreeMap<String, Access>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Access {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_secrets: Vec<PullSecret>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_service_accounts: Vec<PullAccount>,
    /// Every pod on the node may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub node_pods_accessible: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullSecret {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub credential_hash: String,
}

impl PullSecret {
    fn place(&self) -> (&str, &str, &str) {
        (&self.namespace, &self.name, &self.uid)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullAccount {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// The file of an intent (by the image as written) or of a record (by the image's reference).
pub fn file_name(image: &str) -> String {
    format!("sha256-{}", hex(&Sha256::digest(image)))
}

impl PullIntent {
    pub fn new(image: &str) -> Self {
        Self {
            kind: "ImagePullIntent".into(),
            api_version: API_VERSION.into(),
            image: image.to_owned(),
        }
    }

    pub fn parse(content: &str) -> Result<Self, String> {
        let intent: Self = serde_json::from_str(content).map_err(|e| e.to_string())?;
        check(&intent.kind, "ImagePullIntent", &intent.api_version)?;
        Ok(intent)
    }

    /// Is this what the runtime lists under the name?
    pub fn is_for(&self, listed: &str) -> bool {
        let full = |text: &str| {
            let named = image::normalise(text).ok()?;
            Reference::parse(&named).ok()
        };
        self.image == listed || full(&self.image).is_some_and(|mine| full(listed) == Some(mine))
    }
}

impl PulledRecord {
    /// Without access for anybody: who comes next must show credentials.
    pub fn new(image_ref: &str, now: Timestamp) -> Self {
        Self {
            kind: "ImagePulledRecord".into(),
            api_version: API_VERSION.into(),
            last_updated_time: whole_second(now),
            image_ref: image_ref.to_owned(),
            credential_mapping: BTreeMap::new(),
        }
    }

    pub fn parse(content: &str) -> Result<Self, String> {
        let mut record: Self = serde_json::from_str(content).map_err(|e| e.to_string())?;
        check(&record.kind, "ImagePulledRecord", &record.api_version)?;
        API_VERSION.clone_into(&mut record.api_version);
        Ok(record)
    }

    /// Written before that moment for certain: times are rounded to seconds.
    pub fn is_older_than(&self, moment: Timestamp) -> bool {
        self.last_updated_time
            .checked_add(SignedDuration::from_secs(1))
            .is_ok_and(|written| written < moment)
    }

    /// Adds who may use the image under this name. False if that changes nothing.
    pub fn merge(&mut self, image: &str, new: &Access, now: Timestamp) -> bool {
        if *new == Access::default() {
            return false;
        }
        let changed = match self.credential_mapping.get_mut(&image::repository(image)) {
            None => {
                self.credential_mapping.insert(image::repository(image), new.clone());
                true
            }
            Some(known) => known.merge(new),
        };
        if changed {
            self.last_updated_time = whole_second(now);
        }
        changed
    }
}

impl Access {
    /// What a pull with this credential proves; without any, the image is for everybody.
    pub fn of(credential: Option<&Credential>) -> Self {
        let mut access = Self::default();
        match credential.map(|c| (&c.source, c)) {
            None | Some((Source::Node, _)) => access.node_pods_accessible = true,
            Some((Source::Secret(secret), credential)) => access.kubernetes_secrets.push(PullSecret {
                credential_hash: credential.hash(),
                ..secret.clone()
            }),
            Some((Source::ServiceAccount(account), _)) => access.kubernetes_service_accounts.push(account.clone()),
        }
        access
    }

    fn merge(&mut self, new: &Self) -> bool {
        if self.node_pods_accessible {
            return false;
        }
        if new.node_pods_accessible {
            *self = Self {
                node_pods_accessible: true,
                ..Self::default()
            };
            return true;
        }
        let before = self.clone();
        for secret in &new.kubernetes_secrets {
            self.kubernetes_secrets.retain(|s| s.place() != secret.place());
            self.kubernetes_secrets.push(secret.clone());
        }
        for account in &new.kubernetes_service_accounts {
            self.kubernetes_service_accounts.retain(|a| a != account);
            self.kubernetes_service_accounts.push(account.clone());
        }
        self.kubernetes_secrets.sort_by(|a, b| a.place().cmp(&b.place()));
        self.kubernetes_service_accounts
            .sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
        *self != before
    }
}

fn check(kind: &str, expected: &str, api_version: &str) -> Result<(), String> {
    if kind != expected || ![API_VERSION, OLD_API_VERSION].contains(&api_version) {
        return Err(format!(
            "it is a {kind} of {api_version} and should be a {expected} of {API_VERSION}"
        ));
    }
    Ok(())
}

fn whole_second(now: Timestamp) -> Timestamp {
    now.round(Unit::Second).unwrap_or(now)
}

/// What is known of an image that is on the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known<'a> {
    /// It was there before the agent pulled anything.
    Nothing,
    /// The agent began to pull it.
    Intent,
    Record(&'a PulledRecord),
    /// There is something, but it cannot be read.
    Unreadable,
}

/// Which images need no credentials, although they are on the node (`imagePullCredentialsVerificationPolicy`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Verification {
    NeverVerify,
    /// Those that the agent did not pull.
    #[default]
    NeverVerifyPreloadedImages,
    NeverVerifyAllowlistedImages(Allowlist),
    AlwaysVerify,
}

/// Repositories, and beginnings of them that end with `/`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowlist {
    exact: Vec<String>,
    prefixes: Vec<String>,
}

impl Verification {
    /// By the names of the kubelet's configuration. The list is for one of them only.
    pub fn new(policy: &str, allowlist: &[String]) -> Result<Self, String> {
        let policy = match policy {
            "NeverVerify" => Self::NeverVerify,
            "NeverVerifyPreloadedImages" => Self::NeverVerifyPreloadedImages,
            "NeverVerifyAllowlistedImages" => return Allowlist::new(allowlist).map(Self::NeverVerifyAllowlistedImages),
            "AlwaysVerify" => Self::AlwaysVerify,
            other => {
                return Err(format!(
                    "{other:?} is not one of NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify"
                ));
            }
        };
        if allowlist.is_empty() {
            Ok(policy)
        } else {
            Err("the list of images is for NeverVerifyAllowlistedImages only".into())
        }
    }

    fn required(&self, image: &str, pulled: bool) -> bool {
        match self {
            Self::NeverVerify => false,
            Self::NeverVerifyPreloadedImages => pulled,
            Self::NeverVerifyAllowlistedImages(list) => !list.has(image),
            Self::AlwaysVerify => true,
        }
    }
}

impl Allowlist {
    fn new(patterns: &[String]) -> Result<Self, String> {
        let mut list = Self::default();
        for pattern in patterns {
            if pattern.trim() != pattern {
                return Err(format!("leading/trailing spaces are not allowed: {pattern}"));
            }
            let prefix = pattern.strip_suffix('*').filter(|p| p.ends_with('/'));
            let bare = prefix.unwrap_or(pattern);
            if bare.is_empty() {
                return Err(format!("the supplied pattern is too short: {pattern}"));
            }
            if bare.contains('*') {
                return Err(format!(
                    "not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
                ));
            }
            match prefix {
                Some("/") => return Err("at least registry hostname is required".into()),
                Some(prefix) => list.prefixes.push(prefix.to_owned()),
                None => {
                    let reference =
                        Reference::parse(bare).map_err(|e| format!("failed to parse as an image name: {e}"))?;
                    if reference.repository() != bare {
                        return Err(format!(
                            "neither tag nor digest is accepted in an image reference: {pattern}"
                        ));
                    }
                    list.exact.push(bare.to_owned());
                }
            }
        }
        Ok(list)
    }

    fn has(&self, image: &str) -> bool {
        Reference::parse(image).is_ok_and(|reference| {
            let name = reference.repository();
            self.exact.contains(&name) || self.prefixes.iter().any(|p| name.starts_with(p))
        })
    }
}

/// May a pod use an image that is on the node?
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Use,
    /// And these credentials, which were found to be good, are to be remembered.
    UseAndRemember(Access),
    /// Only the registry can tell.
    Pull,
}

/// `credentials` are those that the pod would pull with.
pub fn decide(policy: &Verification, image: &str, known: Known<'_>, credentials: &[Credential]) -> Decision {
    if known == Known::Unreadable {
        return Decision::Pull;
    }
    if !policy.required(image, known != Known::Nothing) {
        return Decision::Use;
    }
    let Known::Record(record) = known else {
        return Decision::Pull;
    };
    let Some(access) = record.credential_mapping.get(&image::repository(image)) else {
        return Decision::Pull;
    };
    if access.node_pods_accessible {
        return Decision::Use;
    }
    let mut account = None;
    for credential in credentials {
        match &credential.source {
            Source::Node => {}
            Source::Secret(secret) => {
                let shown = PullSecret {
                    credential_hash: credential.hash(),
                    ..secret.clone()
                };
                if let Some(decision) = access.admits(&shown) {
                    return decision;
                }
            }
            Source::ServiceAccount(it) => account = account.or(Some(it)),
        }
    }
    match account {
        Some(account) if access.kubernetes_service_accounts.contains(account) => Decision::Use,
        _ => Decision::Pull,
    }
}

/// What metrics call the answer to a question.
pub fn outcome(policy: &Verification, image: &str, known: Known<'_>, decision: &Decision) -> &'static str {
    match (known, decision) {
        (Known::Unreadable, _) => "error",
        _ if !policy.required(image, known != Known::Nothing) => "credentialPolicyAllowed",
        (_, Decision::Pull) => "mustAuthenticate",
        (_, Decision::Use | Decision::UseAndRemember(_)) => "credentialRecordFound",
    }
}

impl Access {
    fn admits(&self, shown: &PullSecret) -> Option<Decision> {
        let room = self.kubernetes_secrets.len() < REMEMBERED;
        let remember = || {
            Decision::UseAndRemember(Self {
                kubernetes_secrets: vec![shown.clone()],
                ..Self::default()
            })
        };
        if self.kubernetes_secrets.contains(shown) {
            return Some(Decision::Use);
        }
        self.kubernetes_secrets.iter().find_map(|known| {
            let same_place = known.place() == shown.place();
            let same_hash = !known.credential_hash.is_empty() && known.credential_hash == shown.credential_hash;
            match (same_hash, same_place) {
                (true, _) => Some(if room { remember() } else { Decision::Use }),
                // The secret was changed: whoever may change it may have what it stands for.
                (false, true) => room.then(remember),
                (false, false) => None,
            }
        })
    }
}
