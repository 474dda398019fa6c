//! From source to component: what `cargo xtask plugins` and the authors' tool `witlet-plugin` share.
//!
//! - `rust`, `c`, `javascript`, `python`: how each language becomes a component, and what must be installed for it.
//! - `encode`: a core module becomes a component; a component gets its manifest.
//! - `shape`: what a component shows of itself.
//! - `tools`: programs that are called, and those that are fetched once.

pub mod c;
pub mod encode;
pub mod javascript;
pub mod python;
pub mod rust;
pub mod shape;
pub mod tools;

/// Why plugins of a language cannot be built here, as far as that shows without trying.
pub fn lacks(language: &str) -> Option<String> {
    let program = |names: &[&str]| match tools::find(names) {
        Some(_) => Ok(()),
        None => Err(anyhow::anyhow!("there is no {}", names.join(", nor "))),
    };
    let found = match language {
        "rust" => rust::check(),
        "js" => program(&["node"]).and_then(|()| program(&["npm"])),
        "python" => program(&["python3", "python"]),
        "c" => c::clang().map(drop),
        other => Err(anyhow::anyhow!("no such language: {other}")),
    };
    found.err().map(|e| format!("{e:#}"))
}
