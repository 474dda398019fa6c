//! Optional exports: found by looking at the component, called by their names on the instance that serves all other calls too.

use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Instance};

use crate::engine::PluginEngine;
use crate::instance::{Bindings, Instantiated};
use crate::state::State;

/// What exports functions that no world has.
const PACKAGES: [&str; 3] = ["witlet:lifecycle/", "witlet:policy-hooks/", "witlet:volume-steps/"];

/// The name of an exported interface as the component has it, with its version.
pub(super) fn exported(engine: &PluginEngine, component: &Component, wanted: &str) -> Option<String> {
    component
        .component_type()
        .exports(engine.wasmtime())
        .find_map(|(name, item)| {
            let named = name.split('@').next() == Some(wanted);
            (named && matches!(item.ty, ComponentItem::ComponentInstance(_))).then(|| name.to_owned())
        })
}

/// Has the component any optional export?
pub(crate) fn has_any(engine: &PluginEngine, component: &Component) -> bool {
    let ty = component.component_type();
    ty.exports(engine.wasmtime())
        .any(|(name, _)| PACKAGES.iter().any(|package| name.starts_with(package)))
}

/// The instance, and the index of a function of one of its interfaces.
pub(super) fn function<B: Bindings>(
    store: &mut Store<State>,
    instance: &Instantiated<B>,
    interface: &str,
    name: &str,
) -> wasmtime::Result<(Instance, ComponentExportIndex)> {
    let missing = || wasmtime::format_err!("{interface} has no function {name}");
    let instance = instance.by_name.ok_or_else(missing)?;
    let found = instance
        .get_export_index(&mut *store, None, interface)
        .ok_or_else(missing)?;
    let index = instance
        .get_export_index(&mut *store, Some(&found), name)
        .ok_or_else(missing)?;
    Ok((instance, index))
}
