//! The attribute macros of `witlet-sdk`: use them through its modules, as `#[probe::plugin(…)]`.
//!
//! An attribute does three things: it gives the plugin's type its one value per instance, exports the kind's functions for
//! it (in WebAssembly builds), and puts the manifest into the module, where it can be read without running anything.

use proc_macro::TokenStream;
use proc_macro2::{Literal, TokenStream as Tokens};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, ItemImpl, LitInt, LitStr, Token, bracketed, parse_macro_input};

/// What one kind of plugin is called, and what it may ask for.
struct Kind {
    /// As in the manifest; the name of the WIT package.
    name: &'static str,
    /// The module of the SDK.
    module: &'static str,
    capabilities: &'static [&'static str],
}

const PROBE: Kind = Kind {
    name: "probe",
    module: "probe",
    capabilities: &["pod-net", "container-exec", "kv"],
};
const VOLUME: Kind = Kind {
    name: "volume",
    module: "volume",
    capabilities: &[
        "files",
        "mount",
        "host-path",
        "pod-objects",
        "downward",
        "egress-http",
        "kv",
        "volume-secrets",
    ],
};
const NETWORK: Kind = Kind {
    name: "network",
    module: "network",
    capabilities: &["exec", "kv"],
};
const POLICY: Kind = Kind {
    name: "policy",
    module: "policy",
    capabilities: &["kv"],
};
const LOG_SINK: Kind = Kind {
    name: "sink-log",
    module: "log_sink",
    capabilities: &["egress-http", "output-file", "kv"],
};
const METRIC_SINK: Kind = Kind {
    name: "sink-metric",
    module: "metric_sink",
    capabilities: &["egress-http", "kv"],
};

/// Registers an `impl Probe for …`.
#[proc_macro_attribute]
pub fn probe_plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    register(&PROBE, args, item)
}

/// Registers an `impl Volume for …`.
#[proc_macro_attribute]
pub fn volume_plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    register(&VOLUME, args, item)
}

/// Registers an `impl Network for …`.
#[proc_macro_attribute]
pub fn network_plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    register(&NETWORK, args, item)
}

/// Registers an `impl Policy for …`.
#[proc_macro_attribute]
pub fn policy_plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    register(&POLICY, args, item)
}

/// Registers an `impl LogSink for …`.
#[proc_macro_attribute]
pub fn log_sink_plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    register(&LOG_SINK, args, item)
}

/// Registers an `impl MetricSink for …`.
#[proc_macro_attribute]
pub fn metric_sink_plugin(args: TokenStream, item: TokenStream) -> TokenStream {
    register(&METRIC_SINK, args, item)
}

fn register(kind: &Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let args = parse_macro_input!(args as Args);
    let item = parse_macro_input!(item as ItemImpl);
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    expand(kind, &args, &item, &version)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// `name = "…", capabilities = ["…", …], drivers = ["…", …], hooks = ["…", …], state_version = 0`
struct Args {
    name: LitStr,
    capabilities: Vec<LitStr>,
    /// Which volumes are its own, unless the node's configuration says otherwise.
    drivers: Vec<LitStr>,
    /// Optional exports: it implements their traits too.
    hooks: Vec<LitStr>,
    state_version: u32,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut name = None;
        let mut capabilities = Vec::new();
        let mut drivers = Vec::new();
        let mut hooks = Vec::new();
        let mut state_version = 0;
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if key == "name" {
                name = Some(input.parse()?);
            } else if key == "capabilities" {
                capabilities = strings(input)?;
            } else if key == "drivers" {
                drivers = strings(input)?;
            } else if key == "hooks" {
                hooks = strings(input)?;
            } else if key == "state_version" {
                state_version = input.parse::<LitInt>()?.base10_parse()?;
            } else {
                return Err(Error::new(
                    key.span(),
                    "expected `name`, `capabilities`, `drivers`, `hooks` or `state_version`",
                ));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let name =
            name.ok_or_else(|| Error::new(input.span(), "`name = \"…\"` is missing: what the plugin is called"))?;
        Ok(Self {
            name,
            capabilities,
            drivers,
            hooks,
            state_version,
        })
    }
}

fn strings(input: ParseStream<'_>) -> syn::Result<Vec<LitStr>> {
    let list;
    bracketed!(list in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?
        .into_iter()
        .collect())
}

fn expand(kind: &Kind, args: &Args, item: &ItemImpl, version: &str) -> syn::Result<Tokens> {
    let name = args.name.value();
    if !is_dns_label(&name) {
        return Err(Error::new(
            args.name.span(),
            "a plugin's name is a DNS label: a-z, 0-9 and `-`, at most 63 characters",
        ));
    }
    for capability in &args.capabilities {
        if !kind.capabilities.contains(&capability.value().as_str()) {
            let known = match kind.capabilities {
                [] => "none".to_owned(),
                list => list.join(", "),
            };
            return Err(Error::new(
                capability.span(),
                format!("capabilities of a {} plugin: {known}", kind.name),
            ));
        }
    }
    for driver in &args.drivers {
        if kind.name != VOLUME.name {
            return Err(Error::new(driver.span(), "only volume plugins have drivers"));
        }
        if !driver
            .value()
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-./".contains(&b))
        {
            return Err(Error::new(
                driver.span(),
                "a driver's name has letters, digits, `-`, `.` and `/` only",
            ));
        }
    }
    let hooks = args.hooks.iter().map(|hook| export_hook(kind, hook));
    let hooks = hooks.collect::<syn::Result<Vec<_>>>()?;
    let manifest = manifest(kind, args, &name, version);
    let length = Literal::usize_unsuffixed(manifest.len());
    let manifest = Literal::byte_string(manifest.as_bytes());
    let plugin = &item.self_ty;
    let module = Ident::new(kind.module, proc_macro2::Span::call_site());
    Ok(quote! {
        #item

        impl ::witlet_sdk::registration::Registered for #plugin {
            fn get() -> &'static Self {
                static PLUGIN: ::std::sync::OnceLock<#plugin> = ::std::sync::OnceLock::new();
                PLUGIN.get_or_init(::std::default::Default::default)
            }
        }

        // In native builds, where nothing is exported, the plugin still counts as used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> &'static #plugin = <#plugin as ::witlet_sdk::registration::Registered>::get;

        // The exported names are no symbols that a native linker takes.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = ::witlet_sdk::registration::Exported<#plugin>;
            ::witlet_sdk::#module::bindings::export!(Exported with_types_in ::witlet_sdk::#module::bindings);
            #(#hooks)*

            #[used]
            #[unsafe(link_section = "witlet:manifest")]
            static MANIFEST: [u8; #length] = *#manifest;
        };
    })
}

/// What exports one optional interface.
fn export_hook(kind: &Kind, hook: &LitStr) -> syn::Result<Tokens> {
    let value = hook.value();
    let home = match value.as_str() {
        "self-check" | "state" => "lifecycle",
        "container-create" | "access" if kind.name == POLICY.name => "policy",
        "staging" | "expansion" | "statistics" if kind.name == VOLUME.name => "volume",
        _ => {
            return Err(Error::new(
                hook.span(),
                "hooks of all plugins: \"self-check\", \"state\"; of policies also: \"container-create\", \"access\"; of volumes also: \"staging\", \"expansion\", \"statistics\"",
            ));
        }
    };
    let ident = |name: &str| Ident::new(name, proc_macro2::Span::call_site());
    let (home, module) = (ident(home), ident(&value.replace('-', "_")));
    let export = ident(&format!("export_{module}"));
    Ok(quote! {
        ::witlet_sdk::#home::#module::bindings::#export!(
            Exported with_types_in ::witlet_sdk::#home::#module::bindings
        );
    })
}

/// The values were checked or come from Cargo: nothing in them needs escaping in JSON.
fn manifest(kind: &Kind, args: &Args, name: &str, version: &str) -> String {
    let list = |strings: &[LitStr]| {
        let quoted: Vec<_> = strings.iter().map(|s| format!("\"{}\"", s.value())).collect();
        format!("[{}]", quoted.join(","))
    };
    let mut out = format!(
        r#"{{"name":"{name}","version":"{version}","kind":"{}","track":"0.1","sdk":"witlet-sdk {}","capabilities":{},"state_version":{}"#,
        kind.name,
        env!("CARGO_PKG_VERSION"),
        list(&args.capabilities),
        args.state_version,
    );
    if !args.drivers.is_empty() {
        out.push_str(&format!(r#","drivers":{}"#, list(&args.drivers)));
    }
    out.push('}');
    out
}

fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests;
