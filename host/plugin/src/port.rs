//! The ports that plugins stand behind: which plugin is asked, what its answer means, what happens without one.

mod network;
mod policy;
mod probe;
mod sink;
mod volume;

use witlet_ports::Error;
use witlet_ports::plugin::Plugins;

pub(crate) use self::volume::staged::Stagings;
use crate::config::Kind;
use crate::supervisor::PluginHost;

impl Plugins for PluginHost {
    fn problems(&self) -> Vec<String> {
        Self::problems(self)
    }
}

/// The configuration names no plugin of this kind, or not this one.
fn none(kind: Kind, name: Option<&str>) -> Error {
    let text = match name {
        Some(name) => format!("there is no {kind} plugin {name:?}"),
        None => format!("there is no {kind} plugin"),
    };
    Error::terminal(text).with_reason("PluginNotFound")
}

/// A slot of one kind always holds generations of that kind.
fn mixed_up(kind: Kind) -> Error {
    Error::new(
        witlet_ports::Class::Bug,
        format!("a {kind} plugin was linked as another kind"),
    )
}
