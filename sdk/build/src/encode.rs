//! Core modules become components, and components get manifests.

use anyhow::{Context, Result, bail};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use crate::shape::MANIFEST;

/// The component of a core module that has a component's type with it. What is a component already stays what it is.
pub fn component(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut wasi = false;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.context("it is no WebAssembly")? {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => return Ok(bytes.to_vec()),
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    wasi |= import?.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
                }
            }
            _ => {}
        }
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(bytes)?;
    if wasi {
        encoder = encoder.adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?;
    }
    encoder.encode()
}

/// Puts the manifest, a JSON object, behind what a component has.
pub fn with_manifest(mut component: Vec<u8>, manifest: &str) -> Result<Vec<u8>> {
    if !crate::shape::look(&component)?.manifests.is_empty() {
        bail!("it has a manifest already");
    }
    let mut body = leb128(MANIFEST.len());
    body.extend_from_slice(MANIFEST.as_bytes());
    body.extend_from_slice(manifest.as_bytes());
    component.push(0);
    component.extend(leb128(body.len()));
    component.extend(body);
    Ok(component)
}

fn leb128(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_manifest_is_added_once() {
        let empty = b"\0asm\x0d\0\x01\0".to_vec();
        let long = format!("{{\"name\":\"{}\"}}", "a".repeat(300));
        let made = with_manifest(empty, &long).unwrap();
        assert_eq!(crate::shape::look(&made).unwrap().manifests, [long.into_bytes()]);
        let error = with_manifest(made, "{}").unwrap_err().to_string();
        assert_eq!(error, "it has a manifest already");
    }

    #[test]
    fn what_is_no_module_is_refused() {
        let empty = b"\0asm\x0d\0\x01\0";
        assert_eq!(component(empty).unwrap(), empty, "a component stays");
        assert!(component(b"hello").unwrap_err().to_string().contains("no WebAssembly"));
    }
}
