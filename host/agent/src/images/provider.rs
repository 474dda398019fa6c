//! Programs that give credentials for images (the kubelet contract, pod 6.3). One run per question; answers are kept as long as
//! they say. A program that fails gives no credentials, and the pull goes on without.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::Instant;
use tracing::{debug, warn};
use witlet_core::credential_provider::{self as protocol, Answer, Provider as Config, Scope, TokenAttributes};
use witlet_core::desired::{key, uid};
use witlet_core::keyring::{Credential, Keyring, Source};
use witlet_core::pull_records::PullAccount;
use witlet_ports::api::{Objects, TokenRequest};

use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(60);
const PURGE: Duration = Duration::from_secs(900);
const MAX_OUTPUT: u64 = 1 << 20;

/// Those that were configured.
#[derive(Default)]
pub struct Providers {
    pub(super) all: Vec<Provider>,
    /// The hash of what configured them, as metrics tell it.
    pub hash: Option<String>,
}

/// The providers that a file, or the files of a directory, configure; their programs are in `programs`.
pub fn load(config: &Path, programs: &Path) -> Result<Providers, String> {
    let read = |path: &Path| {
        let content = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Ok::<_, String>((path.display().to_string(), content))
    };
    let files = if config.is_dir() {
        let entries = fs::read_dir(config).map_err(|e| format!("cannot read {}: {e}", config.display()))?;
        let is_config = |p: &PathBuf| {
            let extension = p.extension().and_then(|e| e.to_str());
            p.is_file() && matches!(extension, Some("json" | "yaml" | "yml"))
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_config).collect();
        paths.sort();
        if paths.is_empty() {
            return Err(format!(
                "no configuration files found in directory {}",
                config.display()
            ));
        }
        paths.iter().map(|p| read(p)).collect::<Result<_, _>>()?
    } else {
        vec![read(config)?]
    };
    let configs = protocol::parse(&files).map_err(|problems| problems.join("; "))?;
    let all = configs
        .into_iter()
        .map(|config| Provider::new(config, programs).map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    Ok(Providers {
        all,
        hash: Some(protocol::hash(&files)),
    })
}

type Run = Shared<BoxFuture<'static, Result<Answer, String>>>;

pub struct Provider {
    config: Arc<Config>,
    program: PathBuf,
    cache: Mutex<Cache>,
    under_way: Mutex<HashMap<Question, Run>>,
}

/// Everything an answer depends on, beside the image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
struct Who {
    account: Option<(String, String, String)>,
    annotations: BTreeMap<String, String>,
    /// Only where answers hold for one token.
    token: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Question {
    image: String,
    token: String,
    annotations: BTreeMap<String, String>,
}

struct Cache {
    answers: BTreeMap<(Scope, Who), (Answer, Instant)>,
    purged: Instant,
}

impl Cache {
    fn find(&mut self, image: &str, who: &Who) -> Option<Answer> {
        let now = Instant::now();
        if now.duration_since(self.purged) > PURGE {
            self.answers.retain(|_, (_, until)| *until > now);
            self.purged = now;
        }
        Scope::of(image).into_iter().find_map(|scope| {
            let (answer, until) = self.answers.get(&(scope, who.clone()))?;
            (*until > now).then(|| answer.clone())
        })
    }
}

/// What all providers have for a repository.
pub(super) async fn lookup(
    providers: &[Provider],
    repository: &str,
    pod: &Pod,
    objects: &Arc<dyn Objects>,
    metrics: &Arc<Metrics>,
) -> Vec<Credential> {
    let mut keyring = Keyring::default();
    for provider in providers.iter().filter(|p| p.config.is_for(repository)) {
        if let Some((answer, source)) = provider.ask(repository, pod, objects, metrics).await {
            keyring.add(answer.logins, &source);
        }
    }
    keyring.lookup(repository)
}

impl Provider {
    fn new(config: Config, programs: &Path) -> io::Result<Self> {
        let program = programs.join(&config.name);
        let is_program = fs::metadata(&program).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if !is_program {
            let text = format!("plugin binary executable {} did not exist", program.display());
            return Err(io::Error::other(text));
        }
        Ok(Self {
            config: Arc::new(config),
            program,
            cache: Mutex::new(Cache {
                answers: BTreeMap::new(),
                purged: Instant::now(),
            }),
            under_way: Mutex::default(),
        })
    }

    async fn ask(
        &self,
        image: &str,
        pod: &Pod,
        objects: &Arc<dyn Objects>,
        metrics: &Arc<Metrics>,
    ) -> Option<(Answer, Source)> {
        let (who, token, source) = match &self.config.token_attributes {
            None => (Who::default(), String::new(), Source::Node),
            Some(attributes) => self.account(attributes, pod, objects).await?,
        };
        let kept = self
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .find(image, &who);
        if let Some(answer) = kept {
            return Some((answer, source));
        }
        match self.run(image, token, who.annotations.clone(), metrics).await {
            Ok(answer) => {
                self.keep(&answer, who);
                Some((answer, source))
            }
            Err(error) => {
                warn!(
                    error,
                    provider = self.config.name,
                    image,
                    "no credentials from a provider"
                );
                None
            }
        }
    }

    fn keep(&self, answer: &Answer, who: Who) {
        let until = answer.lifetime.and_then(|l| Instant::now().checked_add(l));
        if let Some(until) = until {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache
                .answers
                .insert((answer.scope.clone(), who), (answer.clone(), until));
        }
    }

    /// Whom the program is asked for. None: it is not to be asked for this pod.
    async fn account(
        &self,
        attributes: &TokenAttributes,
        pod: &Pod,
        objects: &Arc<dyn Objects>,
    ) -> Option<(Who, String, Source)> {
        let key = key(pod);
        let name = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
        let Some(name) = name.filter(|n| !n.is_empty()) else {
            let required = attributes.require_service_account == Some(true);
            return (!required).then(|| (Who::default(), String::new(), Source::Node));
        };
        let failed = |error: &dyn std::fmt::Display| {
            warn!(%error, account = name, namespace = key.namespace, provider = self.config.name, "no credentials for a service account");
        };
        let account = match objects.service_account(&key.namespace, &name).await {
            Ok(account) => account,
            Err(error) => {
                failed(&error);
                return None;
            }
        };
        let all = account.metadata.annotations.clone().unwrap_or_default();
        let Some(annotations) = attributes.annotations(&all) else {
            debug!(
                account = name,
                namespace = key.namespace,
                "the service account lacks a required annotation"
            );
            return None;
        };
        let request = TokenRequest {
            namespace: key.namespace.clone(),
            service_account: name.clone(),
            audience: Some(attributes.service_account_token_audience.clone()),
            expiration_seconds: None,
            pod_name: key.name.clone(),
            pod_uid: uid(pod),
        };
        let token = match objects.token(&request).await {
            Ok(token) => token.token,
            Err(error) => {
                failed(&error);
                return None;
            }
        };
        let account = PullAccount {
            uid: account.metadata.uid.clone().unwrap_or_default(),
            namespace: key.namespace.clone(),
            name: name.clone(),
        };
        let who = Who {
            account: Some((account.namespace.clone(), account.name.clone(), account.uid.clone())),
            annotations,
            token: if attributes.cached_by_token() {
                token.clone()
            } else {
                String::new()
            },
        };
        Some((who, token, Source::ServiceAccount(account)))
    }

    /// Whoever asks the same while the program runs waits with the first.
    async fn run(
        &self,
        image: &str,
        token: String,
        annotations: BTreeMap<String, String>,
        metrics: &Arc<Metrics>,
    ) -> Result<Answer, String> {
        let question = Question {
            image: image.to_owned(),
            token,
            annotations,
        };
        let run = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = || {
                let (config, program) = (self.config.clone(), self.program.clone());
                let (question, metrics) = (question.clone(), metrics.clone());
                let job = tokio::spawn(async move {
                    let began = Instant::now();
                    let name = config.name.clone();
                    let result = exec(config, program, question).await;
                    metrics.kubelet.credential_provider.took(&[&name], began.elapsed());
                    if result.is_err() {
                        metrics.kubelet.credential_provider_errors.add(&[&name]);
                    }
                    result
                });
                let job = job.map(|joined| joined.unwrap_or_else(|e| Err(e.to_string())));
                job.boxed().shared()
            };
            under_way.entry(question.clone()).or_insert_with(begin).clone()
        };
        let result = run.await;
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&question);
        result
    }
}

async fn exec(config: Arc<Config>, program: PathBuf, question: Question) -> Result<Answer, String> {
    let Question {
        image,
        token,
        annotations,
    } = question;
    let input = protocol::request(&config, &image, &token, &annotations);
    let failed = |text: String| {
        format!(
            "error execing credential provider plugin {} for image {image}: {text}",
            config.name
        )
    };
    let talk = talk(&config, &program, &input);
    let output = tokio::time::timeout(PATIENCE, talk)
        .await
        .map_err(|_| failed("context deadline exceeded".into()))?
        .map_err(|e| failed(e.to_string()))?;
    protocol::answer(&config, &image, &token, &output)
}

/// The program is killed with the future.
async fn talk(config: &Config, program: &Path, input: &[u8]) -> io::Result<Vec<u8>> {
    let variables = config.env.iter().flatten().map(|v| (&v.name, &v.value));
    let mut child = Command::new(program)
        .args(config.args.iter().flatten())
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that knows enough without reading to the end has closed it.
            let _ = stdin.write_all(input).await;
        }
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let read_output = async {
        match stdout {
            Some(stdout) => stdout.take(MAX_OUTPUT).read_to_end(&mut output).await,
            None => Ok(0),
        }
    };
    let read_errors = async {
        match stderr {
            Some(stderr) => stderr.take(MAX_OUTPUT).read_to_end(&mut errors).await,
            None => Ok(0),
        }
    };
    let ((), read, errors_read) = futures::join!(write, read_output, read_errors);
    read?;
    errors_read?;
    let status = child.wait().await?;
    if status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&errors);
    Err(io::Error::other(format!("{status}: {}", said.trim())))
}

#[cfg(test)]
mod tests;
