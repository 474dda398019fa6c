//! The two things the demo asks an API server for, by kubectl, or by curl where that is all there is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub(crate) enum Client {
    Kubectl { kubeconfig: PathBuf },
    Curl { server: String, credentials: Vec<String> },
}

impl Client {
    /// `scratch` is a directory for the credentials that curl wants as files.
    pub(crate) fn new(kubeconfig: &Path, scratch: &Path) -> Result<Self> {
        if witlet_lab::has_program("kubectl") {
            return Ok(Self::Kubectl {
                kubeconfig: kubeconfig.to_owned(),
            });
        }
        ensure!(witlet_lab::has_program("curl"), "neither kubectl nor curl is installed");
        let text = fs::read_to_string(kubeconfig).context("cannot read the kubeconfig")?;
        let server = field(&text, "server").context("no server in the kubeconfig")?;
        let mut credentials = Vec::new();
        for (key, flag) in [
            ("certificate-authority-data", "--cacert"),
            ("client-certificate-data", "--cert"),
            ("client-key-data", "--key"),
        ] {
            if let Some(data) = field(&text, key) {
                let file = scratch.join(key);
                fs::write(&file, decode(&data)?)?;
                credentials.extend([flag.to_owned(), file.display().to_string()]);
            }
        }
        if let Some(token) = field(&text, "token") {
            credentials.extend(["--header".to_owned(), format!("Authorization: Bearer {token}")]);
        }
        Ok(Self::Curl { server, credentials })
    }

    /// Creates every item of a list.
    pub(crate) fn apply(&self, list: &Value) -> Result<()> {
        match self {
            Self::Kubectl { kubeconfig } => {
                let mut kubectl = Command::new("kubectl");
                kubectl.arg("--kubeconfig").arg(kubeconfig).args(["apply", "-f", "-"]);
                feed(kubectl, &list.to_string()).map(drop)
            }
            Self::Curl { .. } => {
                for item in list["items"].as_array().context("a list has items")? {
                    let kind = item["kind"].as_str().unwrap_or_default().to_lowercase();
                    let curl = self.curl(&format!("/api/v1/namespaces/default/{kind}s"), &["--data-binary", "@-"]);
                    feed(curl, &item.to_string())?;
                }
                Ok(())
            }
        }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let text = match self {
            Self::Kubectl { kubeconfig } => witlet_lab::output(
                Command::new("kubectl")
                    .arg("--kubeconfig")
                    .arg(kubeconfig)
                    .args(["get", "--raw", path]),
            )?,
            Self::Curl { .. } => witlet_lab::output(&mut self.curl(path, &[]))?,
        };
        serde_json::from_str(&text).with_context(|| format!("{path}: the answer is no JSON"))
    }

    fn curl(&self, path: &str, more: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        if let Self::Curl { server, credentials } = self {
            curl.args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--header",
                "Content-Type: application/json",
            ]);
            curl.args(credentials).args(more).arg(format!("{server}{path}"));
        }
        curl
    }
}

/// The first value of that key, in JSON or in YAML.
fn field(kubeconfig: &str, key: &str) -> Option<String> {
    kubeconfig.lines().find_map(|line| {
        let line = line.trim().trim_start_matches("- ").replace('"', "");
        let value = line
            .strip_prefix(key)?
            .strip_prefix(':')?
            .trim()
            .trim_end_matches(',')
            .to_owned();
        (!value.is_empty()).then_some(value)
    })
}

fn decode(base64: &str) -> Result<String> {
    let mut command = Command::new("base64");
    command.arg("-d");
    feed(command, base64)
}

fn feed(mut command: Command, input: &str) -> Result<String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let out = child.wait_with_output()?;
    if !out.status.success() {
        let (error, answer) = (
            String::from_utf8_lossy(&out.stderr),
            String::from_utf8_lossy(&out.stdout),
        );
        bail!("{shown}: {}: {} {}", out.status, error.trim(), answer.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_kubeconfig_are_read() {
        for text in [
            "clusters:\n- cluster:\n    server: https://127.0.0.1:1\n",
            r#"{
            "server": "https://127.0.0.1:1",
        }"#,
        ] {
            assert_eq!(field(text, "server").as_deref(), Some("https://127.0.0.1:1"));
            assert_eq!(field(text, "token"), None);
        }
    }
}
