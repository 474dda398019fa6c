//! `build`: each language's way to a component, then the same for all.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use witlet_sdk_build::{c, encode, javascript, python, rust, shape};

use crate::project::{Lang, Project};
use crate::{check, usage};

pub(crate) const NO_GO: &str = "Go: there is no way to plugins that was tried and works. TinyGo's bindings \
    (go.bytecodealliance.org) are not maintained, and those of `wit-bindgen go` need a Go whose runtime imports more of WASI \
    than a node gives. Write it in Rust, C, JavaScript or Python";

pub(crate) fn run(dir: &Path) -> Result<bool> {
    let project = Project::read(dir)?;
    let component = make(&project)?;
    let file = project.component();
    // Whole or not at all: a node may watch it.
    let part = file.with_extension("part");
    fs::write(&part, &component).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, &file)?;
    println!("{}, {}", file.display(), check::size(component.len() as u64));
    let problems = check::problems(&component);
    for problem in &problems {
        eprintln!("{problem}");
    }
    Ok(problems.is_empty())
}

fn make(project: &Project) -> Result<Vec<u8>> {
    let out = project.dir.join("target").join("plugin");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let (dir, out) = (project.dir.canonicalize()?, out.canonicalize()?);
    let build = &project.build;
    let source = || {
        let source = build.source.as_deref();
        source.ok_or_else(|| usage("plugin.toml: [build] source is missing: which file is it made of?"))
    };
    let made = match project.lang {
        Lang::Rust => rust::build(&dir, build.target.as_deref().unwrap_or(rust::TARGET))?,
        Lang::Js => javascript::build(&dir, source()?, &out)?,
        Lang::Python => python::build(&dir, source()?, &out)?,
        Lang::C => c::build(&dir, source()?, &out)?,
        Lang::Go => return Err(usage(NO_GO)),
    };
    let bytes = fs::read(&made).with_context(|| format!("{} was not made", made.display()))?;
    let component = encode::component(&bytes).context("it does not become a component")?;
    // Rust's SDK puts it into the module.
    if project.lang == Lang::Rust && !shape::look(&component)?.manifests.is_empty() {
        return Ok(component);
    }
    let manifest = serde_json::to_string(&project.manifest())?;
    encode::with_manifest(component, &manifest)
}
