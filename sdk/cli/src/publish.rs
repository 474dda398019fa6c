//! Keys, signatures, registries: what comes after a plugin works.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use witlet_plugin_host::config::Pull;
use witlet_plugin_host::manifest::{MOST_COMPONENT, Manifest};
use witlet_plugin_host::publish::{self, Interfaces, SigningKey, Target};

use crate::subject::Subject;
use crate::{check, node, usage};

pub(crate) fn keygen(name: &Path) -> Result<bool> {
    let file = |ending: &str| {
        let mut file = name.as_os_str().to_owned();
        file.push(ending);
        PathBuf::from(file)
    };
    let (private, public) = (file(".key"), file(".pub"));
    let pair = publish::keygen().map_err(|e| anyhow!(e))?;
    let write = |path: &Path, mode: u32, text: &str| -> Result<()> {
        // Never over a key that something may be signed with.
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let mut made = made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(made.write_all(text.as_bytes())?)
    };
    write(&private, 0o600, &pair.private)?;
    write(&public, 0o644, &pair.public)?;
    println!("{}: signs; keep it to yourself", private.display());
    println!(
        "{}: for the nodes, as in verify = {{ key = \"/etc/witlet/keys/{}\" }}",
        public.display(),
        shown(&public)
    );
    Ok(true)
}

fn shown(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn sign(path: &Path, key: &Path) -> Result<bool> {
    let subject = Subject::find(path)?;
    let key = SigningKey::read(key).map_err(|e| anyhow!(e))?;
    let mut file = subject.file.clone().into_os_string();
    file.push(".sig");
    let file = PathBuf::from(file);
    fs::write(&file, key.sign(&subject.bytes)).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}: belongs beside the component on the node", file.display());
    Ok(true)
}

#[derive(Args)]
pub(crate) struct Push {
    /// oci://HOST/REPOSITORY:TAG
    target: String,
    /// The plugin's project, or a component.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Sign it with this private key.
    #[arg(long)]
    key: Option<PathBuf>,
    /// PEM certificates that the registry's is checked against, besides the machine's.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// User and password: a file as `docker login` writes it.
    #[arg(long)]
    credentials: Option<PathBuf>,
    /// Without TLS. For a registry on this machine.
    #[arg(long)]
    plain_http: bool,
}

impl Push {
    pub(crate) fn run(self) -> Result<bool> {
        let target = Target::parse(&self.target).map_err(usage)?;
        let subject = Subject::find(&self.path)?;
        let problems = check::problems(&subject.bytes);
        if let Some(problem) = problems.first() {
            bail!("no node would take it: {}; {}", problem.what, problem.todo);
        }
        let manifest = Manifest::read(&subject.bytes, MOST_COMPONENT).map_err(|e| anyhow!("{e}"))?;
        let key = self
            .key
            .as_deref()
            .map(SigningKey::read)
            .transpose()
            .map_err(|e| anyhow!(e))?;
        let seen = subject.seen()?;
        let (imports, exports): (Vec<_>, Vec<_>) =
            (seen.imports.into_iter().collect(), seen.exports.into_iter().collect());
        let pull = Pull {
            ca: self.ca,
            credentials: self.credentials,
            plain_http: self.plain_http,
        };
        let interfaces = Interfaces {
            imports: &imports,
            exports: &exports,
        };
        let push = publish::push(&target, &subject.bytes, &manifest, &interfaces, &pull, key.as_ref());
        let digest = node::runtime()?
            .block_on(push)
            .map_err(|e| anyhow!(flags(&e.to_string())))?;
        println!("source = \"{}\"", target.source(&digest));
        Ok(true)
    }
}

/// Registries are talked to as nodes do it, whose words are of a stanza's keys.
fn flags(text: &str) -> String {
    text.replace("set pull.plain_http = true", "give --plain-http")
        .replace("set pull.credentials", "give --credentials")
        .replace("pull.credentials", "--credentials")
        .replace("pull.ca", "--ca")
}
