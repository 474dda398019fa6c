//! Taking out of log lines what must not leave the node.

use regex_lite::Regex;
use serde::Deserialize;

use crate::{Error, Result};

/// As a part of a plugin's configuration: `redact = [{ pattern = "token=\\S+", replace = "token=***" }]`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A regular expression, with the syntax of the crate `regex-lite`.
    pub pattern: String,
    /// What stands there instead; `$1` is the first group.
    #[serde(default = "stars")]
    pub replace: String,
}

fn stars() -> String {
    "[redacted]".to_owned()
}

/// Rules that are ready to be used. Each line goes through all of them, in their order.
#[derive(Debug, Default)]
pub struct Redaction(Vec<(Regex, String)>);

impl Redaction {
    /// A rule that makes no sense is an error: without it lines would leave that must not.
    pub fn new(rules: &[Rule]) -> Result<Self> {
        let compile = |rule: &Rule| {
            let regex = Regex::new(&rule.pattern)
                .map_err(|e| Error::Invalid(format!("config: redact: {:?}: {e}", rule.pattern)))?;
            Ok((regex, rule.replace.clone()))
        };
        rules.iter().map(compile).collect::<Result<_>>().map(Self)
    }

    pub fn apply(&self, line: String) -> String {
        self.0.iter().fold(line, |line, (regex, replace)| {
            if regex.is_match(&line) {
                regex.replace_all(&line, replace.as_str()).into_owned()
            } else {
                line
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &[(&str, &str)]) -> Result<Redaction> {
        let rule = |(pattern, replace): &(&str, &str)| Rule {
            pattern: (*pattern).to_owned(),
            replace: (*replace).to_owned(),
        };
        Redaction::new(&list.iter().map(rule).collect::<Vec<_>>())
    }

    #[test]
    fn rules_apply_in_order() {
        let redaction = rules(&[
            (r"(?i)(password|token)=\S+", "$1=***"),
            (r"\b\d{4}-\d{4}\b", "[card]"),
            (r"\*\*\*", "[gone]"),
        ])
        .unwrap();
        for (line, expected) in [
            ("nothing to see", "nothing to see"),
            ("user=a Password=geheim x", "user=a Password=[gone] x"),
            ("1234-5678 and 1234-5678", "[card] and [card]"),
            ("", ""),
        ] {
            assert_eq!(redaction.apply(line.to_owned()), expected);
        }
        let error = rules(&[("(", "")]).unwrap_err();
        assert!(error.message().contains("config: redact: \"(\""), "{error}");
    }

    /// A pattern that other engines need for ever for.
    #[test]
    fn lines_cannot_hold_it_up() {
        let redaction = rules(&[("^(a+)+$", "x")]).unwrap();
        let line = "a".repeat(5000) + "b";
        assert_eq!(redaction.apply(line.clone()), line);
    }
}
