//! Policy, scope and options, as they are configured.

use std::collections::BTreeMap;

/// More nodes mean too many combinations.
pub const DEFAULT_MAX_NODES: usize = 8;

const PREFER_CLOSEST: &str = "prefer-closest-numa-nodes";
const MAX_NODES: &str = "max-allowable-numa-nodes";

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    #[default]
    None,
    BestEffort,
    Restricted,
    SingleNumaNode,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    #[default]
    Container,
    Pod,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Of as many nodes, those that are near each other.
    pub prefer_closest: bool,
    pub max_nodes: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    pub policy: Policy,
    pub scope: Scope,
    pub options: Options,
}

/// An option that nobody knows, or with a value that says nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadOption {
    #[error("unknown Topology Manager Policy option: {0:?}")]
    Unknown(String),
    #[error("bad value for option {name:?}: {value:?} is neither true nor false")]
    Flag { name: &'static str, value: String },
    #[error("unable to convert policy option to integer {name:?}: {value:?}")]
    Number { name: &'static str, value: String },
    #[error("the minimum value of {name:?} should not be less than {least}")]
    TooFew { name: &'static str, least: usize },
}

impl Policy {
    pub const ALL: [Self; 4] = [Self::None, Self::BestEffort, Self::Restricted, Self::SingleNumaNode];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BestEffort => "best-effort",
            Self::Restricted => "restricted",
            Self::SingleNumaNode => "single-numa-node",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text)
    }
}

impl Scope {
    pub const ALL: [Self; 2] = [Self::Container, Self::Pod];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Pod => "pod",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefer_closest: false,
            max_nodes: DEFAULT_MAX_NODES,
        }
    }
}

impl Options {
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, BadOption> {
        let mut parsed = Self::default();
        for (name, value) in options {
            match name.as_str() {
                PREFER_CLOSEST => {
                    let bad = || BadOption::Flag {
                        name: PREFER_CLOSEST,
                        value: value.clone(),
                    };
                    parsed.prefer_closest = go_bool(value).ok_or_else(bad)?;
                }
                MAX_NODES => parsed.max_nodes = max_nodes(value)?,
                _ => return Err(BadOption::Unknown(name.clone())),
            }
        }
        Ok(parsed)
    }
}

fn max_nodes(value: &str) -> Result<usize, BadOption> {
    let Ok(number) = value.parse::<i64>() else {
        return Err(BadOption::Number {
            name: MAX_NODES,
            value: value.to_owned(),
        });
    };
    usize::try_from(number)
        .ok()
        .filter(|n| *n >= DEFAULT_MAX_NODES)
        .ok_or(BadOption::TooFew {
            name: MAX_NODES,
            least: DEFAULT_MAX_NODES,
        })
}

/// The words that Go takes for truth values.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
