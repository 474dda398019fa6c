//! Programs that give credentials for images (the kubelet contract, pod 6.3): their configuration, what they are asked, and how
//! long an answer holds.

mod duration;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keyring::{self, DockerConfig, Login, hex};
use crate::names::qualified_name_problems;

const CONFIG_VERSIONS: [&str; 3] = [
    "kubelet.config.k8s.io/v1",
    "kubelet.config.k8s.io/v1beta1",
    "kubelet.config.k8s.io/v1alpha1",
];
const V1: &str = "credentialprovider.kubelet.k8s.io/v1";
const VERSIONS: [&str; 3] = [
    V1,
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// One file of configuration.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// Of the program.
    pub name: String,
    #[serde(default)]
    pub match_images: Vec<String>,
    default_cache_duration: Option<String>,
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub args: Option<Vec<String>>,
    #[serde(default)]
    pub env: Option<Vec<Variable>>,
    pub token_attributes: Option<TokenAttributes>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenAttributes {
    #[serde(default)]
    pub service_account_token_audience: String,
    #[serde(default)]
    cache_type: String,
    pub require_service_account: Option<bool>,
    #[serde(default)]
    pub required_service_account_annotation_keys: Option<Vec<String>>,
    #[serde(default)]
    pub optional_service_account_annotation_keys: Option<Vec<String>>,
}

impl TokenAttributes {
    /// Credentials hold for one token; else for all pods of the service account.
    pub fn cached_by_token(&self) -> bool {
        self.cache_type == "Token"
    }

    /// The annotations that the program is told. None if a required one is missing: the program is not asked then.
    pub fn annotations(&self, all: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
        let keys = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let mut chosen = BTreeMap::new();
        for key in keys(&self.required_service_account_annotation_keys) {
            let value = all.get(&key)?.clone();
            chosen.insert(key, value);
        }
        for key in keys(&self.optional_service_account_annotation_keys) {
            if let Some(value) = all.get(&key) {
                chosen.insert(key, value.clone());
            }
        }
        Some(chosen)
    }
}

/// What the files say, in short: it changes when they do.
pub fn hash(files: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    for (_, content) in files {
        hash.update(content);
    }
    format!("sha256:{}", hex(&hash.finalize()))
}

/// The providers of all files, or everything that is wrong with them.
pub fn parse(files: &[(String, String)]) -> Result<Vec<Provider>, Vec<String>> {
    let (mut providers, mut problems) = (Vec::<Provider>::new(), Vec::new());
    for (name, content) in files {
        let file: File = match serde_saphyr::from_str(content) {
            Ok(file) => file,
            Err(e) => {
                problems.push(format!("{name}: {e}"));
                continue;
            }
        };
        if file.kind != "CredentialProviderConfig" || !CONFIG_VERSIONS.contains(&file.api_version.as_str()) {
            problems.push(format!(
                "{name}: it is a {:?} of {:?} and should be a CredentialProviderConfig of {}",
                file.kind, file.api_version, CONFIG_VERSIONS[0]
            ));
            continue;
        }
        for provider in file.providers {
            let path = format!("{name}: provider {:?}", provider.name);
            if providers.iter().any(|p| p.name == provider.name) {
                problems.push(format!("{path}: there are two of this name"));
            }
            problems.extend(provider.problems().into_iter().map(|p| format!("{path}: {p}")));
            providers.push(provider);
        }
    }
    if providers.is_empty() && problems.is_empty() {
        problems.push("providers: at least 1 item in plugins is required".into());
    }
    if problems.is_empty() {
        Ok(providers)
    } else {
        Err(problems)
    }
}

impl Provider {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut say = |text: &str| problems.push(text.to_owned());
        match self.name.as_str() {
            "" => say("name must be the name of a program"),
            "." | ".." => say("provider name cannot be '.' or '..'"),
            name if name.contains('/') => say("provider name cannot contain '/'"),
            name if name.contains(' ') => say("provider name cannot contain spaces"),
            _ => {}
        }
        if !VERSIONS.contains(&self.api_version.as_str()) {
            say(&format!("apiVersion must be one of {}", VERSIONS.join(", ")));
        }
        if self.match_images.is_empty() {
            say("at least 1 item in matchImages is required");
        }
        for pattern in self
            .match_images
            .iter()
            .filter(|p| p.contains("://") || p.starts_with('/') || p.is_empty())
        {
            say(&format!(
                "match image is invalid: {pattern:?} must be host[:port][/path]"
            ));
        }
        match self.default_cache_duration.as_deref().map(duration::parse) {
            None => say("defaultCacheDuration is required"),
            Some(None) => say("defaultCacheDuration must be a duration such as \"10m\", and not negative"),
            Some(Some(_)) => {}
        }
        if let Some(token) = &self.token_attributes {
            if self.api_version != V1 {
                say(&format!("tokenAttributes is only supported for {V1} API version"));
            }
            token.problems(&mut say);
        }
        problems
    }

    pub fn default_cache_duration(&self) -> Duration {
        self.default_cache_duration
            .as_deref()
            .and_then(duration::parse)
            .unwrap_or_default()
    }

    pub fn is_for(&self, repository: &str) -> bool {
        self.match_images
            .iter()
            .any(|pattern| keyring::matches(pattern, repository))
    }
}

impl TokenAttributes {
    fn problems(&self, say: &mut dyn FnMut(&str)) {
        if self.service_account_token_audience.is_empty() {
            say("tokenAttributes.serviceAccountTokenAudience is required");
        }
        if !["Token", "ServiceAccount"].contains(&self.cache_type.as_str()) {
            say("tokenAttributes.cacheType must be \"ServiceAccount\" or \"Token\"");
        }
        let (required, optional) = (
            self.required_service_account_annotation_keys
                .as_deref()
                .unwrap_or_default(),
            self.optional_service_account_annotation_keys
                .as_deref()
                .unwrap_or_default(),
        );
        match self.require_service_account {
            None => say("tokenAttributes.requireServiceAccount is required"),
            Some(false) if !required.is_empty() => {
                say("requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set");
            }
            Some(_) => {}
        }
        let mut seen = BTreeSet::new();
        for key in required.iter().chain(optional) {
            for problem in qualified_name_problems(&key.to_lowercase()) {
                say(&format!("annotation key {key:?}: {problem}"));
            }
            if !seen.insert(key) {
                say(&format!("annotation key {key:?} is listed twice"));
            }
        }
    }
}

/// What the program is asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    kind: &'static str,
    api_version: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    service_account_token: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service_account_annotations: &'a BTreeMap<String, String>,
}

/// For the program's standard input.
pub fn request(provider: &Provider, image: &str, token: &str, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    let request = Request {
        kind: "CredentialProviderRequest",
        api_version: &provider.api_version,
        image,
        service_account_token: token,
        service_account_annotations: annotations,
    };
    // Strings always serialise.
    serde_json::to_vec(&request).unwrap_or_default()
}

/// What the program answered.
#[derive(Clone)]
pub struct Answer {
    pub logins: DockerConfig,
    /// Which images it is for.
    pub scope: Scope,
    /// How long; none: only this once.
    pub lifetime: Option<Duration>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    Image(String),
    Registry(String),
    Global,
}

impl Scope {
    /// What an image's credentials may be found under, closest first.
    pub fn of(image: &str) -> [Self; 3] {
        let registry = image.split('/').next().unwrap_or_default();
        [
            Self::Image(image.to_owned()),
            Self::Registry(registry.to_owned()),
            Self::Global,
        ]
    }
}

/// Reads the program's standard output. Errors do not show it: it may contain credentials.
pub fn answer(provider: &Provider, image: &str, token: &str, output: &[u8]) -> Result<Answer, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Response {
        api_version: String,
        kind: String,
        cache_key_type: String,
        #[serde(default)]
        cache_duration: Option<String>,
        #[serde(default)]
        auth: Option<BTreeMap<String, Auth>>,
    }
    #[derive(Deserialize)]
    struct Auth {
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
    }
    const UNREADABLE: &str = "error decoding credential provider plugin response from stdout";
    let response: Response = serde_json::from_slice(output).map_err(|_| UNREADABLE)?;
    if response.api_version != provider.api_version {
        return Err(format!(
            "apiVersion from credential plugin response did not match expected apiVersion:{}, actual apiVersion:{}",
            provider.api_version, response.api_version
        ));
    }
    if response.kind != "CredentialProviderResponse" {
        return Err(format!(
            "failed to decode CredentialProviderResponse, unexpected Kind: {:?}",
            response.kind
        ));
    }
    let [by_image, by_registry, global] = Scope::of(image);
    let scope = match response.cache_key_type.as_str() {
        "Image" => by_image,
        "Registry" => by_registry,
        "Global" => global,
        other => {
            return Err(format!(
                "credential provider plugin did not return a valid cacheKeyType: {other:?}"
            ));
        }
    };
    let lifetime = match response.cache_duration.as_deref() {
        None => provider.default_cache_duration(),
        Some(text) => duration::parse(text).ok_or(UNREADABLE)?,
    };
    let auth = response.auth.unwrap_or_default();
    let shared = provider.token_attributes.as_ref().is_some_and(|t| !t.cached_by_token());
    if shared && !token.is_empty() && auth.values().any(|a| a.password == token) {
        return Err(
            "credential provider plugin returned the service account token as the password, \
                    which is not allowed when service account cacheType is not set to 'Token'"
                .into(),
        );
    }
    let login = |a: Auth| Login {
        username: a.username,
        password: a.password,
    };
    Ok(Answer {
        logins: auth.into_iter().map(|(key, a)| (key, login(a))).collect(),
        scope,
        lifetime: (!lifetime.is_zero()).then_some(lifetime),
    })
}
