//! Policy and probe plugins made on the spot: a core module written as text, encoded as the component that a plugin author's tools would make.

use std::path::Path;

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behaviour {
    Allow,
    /// With the reason `NotToday`.
    Deny,
    /// Never answers.
    Loop,
}

/// Where the answer lies in the guest's memory, and the texts behind it.
const REASON: &str = "NotToday";
const MESSAGE: &str = "the gate is shut";

/// A component for `kind = "policy"` of that track.
pub(crate) fn policy(behaviour: Behaviour, track: &str) -> Result<Vec<u8>> {
    let manifest = format!(
        r#"{{"name":"gate","version":"1.0.0","kind":"policy","track":"{track}","sdk":"none","capabilities":[]}}"#
    );
    let answer = match behaviour {
        // All zero: ok, allow, no warnings.
        Behaviour::Allow => String::new(),
        Behaviour::Deny => format!(
            "(i32.store8 (i32.const 4) (i32.const 1))
             (i32.store (i32.const 8) (i32.const 64)) (i32.store (i32.const 12) (i32.const {}))
             (i32.store (i32.const 16) (i32.const 128)) (i32.store (i32.const 20) (i32.const {}))",
            REASON.len(),
            MESSAGE.len()
        ),
        Behaviour::Loop => "(loop $forever (br $forever))".to_owned(),
    };
    let text = format!(
        r#"(module
            (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop (param i32)))
            (@custom "witlet:manifest" {manifest:?})
            (memory (export "memory") 1)
            (data (i32.const 64) "{REASON}")
            (data (i32.const 128) "{MESSAGE}")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "witlet:policy/admission@0.1.0#admit-pod") (param $pod i32) (result i32)
                (call $drop (local.get $pod))
                {answer}
                (i32.const 0)))"#
    );
    encode(&text, "policy", "policy-plugin")
}

/// A component for `kind = "probe"` that finds every container well and says so with this text; with none it traps.
pub(crate) fn probe(text: Option<&str>) -> Result<Vec<u8>> {
    let manifest = r#"{"name":"pulse","version":"1.0.0","kind":"probe","track":"0.1","sdk":"none","capabilities":[]}"#;
    let answer = match text {
        Some(text) => format!(
            "(i32.store (i32.const 8) (i32.const 64)) (i32.store (i32.const 12) (i32.const {}))",
            text.len()
        ),
        None => "(unreachable)".to_owned(),
    };
    let text = text.unwrap_or_default();
    let text = format!(
        r#"(module
            (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
            (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))
            (@custom "witlet:manifest" {manifest:?})
            (memory (export "memory") 2)
            (data (i32.const 64) "{text}")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "witlet:probe/probe@0.1.0#check")
                (param $pod i32) (param $container i32) (param i32 i32 i32) (result i32)
                (call $drop-pod (local.get $pod))
                (call $drop-container (local.get $container))
                {answer}
                (i32.const 0)))"#
    );
    encode(&text, "probe", "probe-plugin")
}

fn encode(text: &str, package: &str, world: &str) -> Result<Vec<u8>> {
    let mut module = wat::parse_str(text).context("the module's text")?;
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = Resolve::default();
    resolve.push_dir(wit.join("base/0.1")).context("wit/base")?;
    let (package, _) = resolve.push_dir(wit.join(package).join("0.1")).context("wit")?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}
