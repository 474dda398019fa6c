//! Python: CPython with the source in it, made by `componentize-py` of PyPI, which is fetched once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;

const VERSION: &str = "0.25.1";

fn python() -> Result<PathBuf> {
    let missing = "there is no python3: install Python 3.10 or newer with pip, as with `apt-get install python3-pip`";
    tools::find(&["python3", "python"]).context(missing)
}

/// Fetches what makes components of Python, unless it is there.
pub fn install() -> Result<PathBuf> {
    tools::once(&format!("componentize-py-{VERSION}"), &[], |dir| {
        eprintln!("fetching componentize-py {VERSION} from PyPI, once");
        let mut command = Command::new(python()?);
        command
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--target",
            ])
            .arg(dir.join("site"))
            .arg(format!("componentize-py=={VERSION}"));
        tools::run(&mut command).context("pip could not fetch what makes components of Python")
    })
}

/// The component of the project's module, such as `app` for `app.py`.
pub fn build(root: &Path, source: &str, out: &Path) -> Result<PathBuf> {
    let module = source.strip_suffix(".py").unwrap_or(source).replace('/', ".");
    let component = out.join("component.wasm");
    let mut command = Command::new(python()?);
    command
        .current_dir(root)
        .env("PYTHONPATH", install()?.join("site"))
        .args(["-c", "import sys, componentize_py; sys.exit(componentize_py.script())"])
        .args([
            "--wit-path",
            "wit",
            "--world",
            "plugin",
            "componentize",
            &module,
            "--output",
        ])
        .arg(&component);
    tools::run(&mut command)?;
    Ok(component)
}
