//! Queries of the node's own logs below `/logs/` (the kubelet's `NodeLogQuery`): what they ask for, whether they may, and with
//! which words the journal is asked. Pure; errors are the kubelet's.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const MOST_LINES: i64 = 100_000;
const LONGEST_SERVICE: usize = 256;
const MOST_SERVICES: usize = 4;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogQuery {
    pub services: Vec<String>,
    pub files: Vec<String>,
    pub options: LogOptions,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogOptions {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub tail: Option<i64>,
    pub boot: Option<i64>,
    pub pattern: String,
}

impl LogQuery {
    /// None if nothing is queried: the path alone says what is wanted.
    pub fn parse(query: &[(String, String)]) -> Result<Option<Self>, String> {
        let mut errors = Vec::new();
        let mut found = Self::default();
        let all: Vec<&String> = query.iter().filter(|(k, _)| k == "query").map(|(_, v)| v).collect();
        for wanted in &all {
            // A slash is a hint that it is a file.
            if wanted.contains(['/', '\\']) {
                found.files.push((*wanted).clone());
            } else if !wanted.trim().is_empty() {
                found.services.push((*wanted).clone());
            }
        }
        if !all.is_empty() && found.files.is_empty() && found.services.is_empty() {
            errors.push(invalid("query", &list(&all), "query cannot be empty"));
        }
        let get = |key: &str| {
            let value = query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            value.filter(|v| !v.is_empty())
        };
        let mut time = |key: &str| {
            let text = get(key)?;
            let time = text.parse::<Timestamp>();
            time.map_err(|_| errors.push(invalid(key, &quoted(text), "invalid time format")))
                .ok()
        };
        found.options.since = time("sinceTime");
        found.options.until = time("untilTime");
        let mut number = |key: &str| {
            let text = get(key)?;
            let why = format!("strconv.Atoi: parsing {}: invalid syntax", quoted(text));
            let number = text.parse::<i64>();
            number.map_err(|_| errors.push(invalid(key, &quoted(text), &why))).ok()
        };
        found.options.boot = number("boot");
        found.options.tail = number("tailLines");
        found.options.pattern = get("pattern").unwrap_or_default().to_owned();
        if !errors.is_empty() {
            return Err(together(&errors));
        }
        Ok((found != Self::default()).then_some(found))
    }

    /// What is wrong with it. Whether a file is there is seen when it is opened.
    pub fn problem(&self) -> Option<String> {
        let mut errors: Vec<String> = self.services.iter().filter_map(|s| unsafe_name(s)).collect();
        if self.services.len() > MOST_SERVICES {
            let count = self.services.len();
            errors.push(format!(
                "query: Too many: {count}: must have at most {MOST_SERVICES} items"
            ));
        }
        let files = || list(&self.files.iter().collect::<Vec<_>>());
        match (self.files.len(), self.services.len()) {
            (0, 0) => errors.push("query: Required value: cannot be empty with options".into()),
            (1.., 1..) => {
                let both = format!("[{}], [{}]", self.files.join(" "), self.services.join(" "));
                errors.push(invalid("query", &quoted(&both), "cannot specify a file and service"));
            }
            (2.., _) => errors.push(invalid("query", &files(), "cannot specify more than one file")),
            (1, _) if self.options != LogOptions::default() => {
                errors.push(invalid("query", &files(), "cannot specify file with options"));
            }
            _ => {}
        }
        let options = &self.options;
        if let (Some(since), Some(until)) = (options.since, options.until)
            && since > until
        {
            let until = quoted(&until.to_string());
            errors.push(invalid("untilTime", &until, "must be after `sinceTime`"));
        }
        if let Some(boot) = options.boot.filter(|boot| *boot > 0) {
            errors.push(invalid("boot", &boot.to_string(), "must be less than 1"));
        }
        if let Some(lines) = options.tail.filter(|lines| !(0..=MOST_LINES).contains(lines)) {
            let why = format!("must be between 0 and {MOST_LINES}, inclusive");
            errors.push(invalid("tailLines", &lines.to_string(), &why));
        }
        if options.pattern.contains('\0') {
            let why = "error parsing regexp: invalid character";
            errors.push(invalid("pattern", &quoted(&options.pattern), why));
        }
        (!errors.is_empty()).then(|| together(&errors))
    }

    /// The journal's command line for these services. Each value is one word with its flag, so that none is taken for another flag.
    pub fn journalctl(&self, services: &[String]) -> Vec<String> {
        let options = &self.options;
        let mut words: Vec<String> = ["--utc", "--no-pager", "--output=short-precise"]
            .map(str::to_owned)
            .into();
        // With their zone, so that the machine's does not matter.
        let time = |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        words.extend(options.since.map(|at| format!("--since={}", time(at))));
        words.extend(options.until.map(|at| format!("--until={}", time(at))));
        if let Some(lines) = options.tail {
            words.extend(["--pager-end".into(), format!("--lines={lines}")]);
        }
        words.extend(services.iter().map(|service| format!("--unit={service}")));
        if !options.pattern.is_empty() {
            words.push(format!("--grep={}", options.pattern));
        }
        words.extend(options.boot.map(|boot| format!("--boot={boot}")));
        words
    }
}

/// Whether the service is among the units that the journal lists, one in a line.
pub fn logs_to_journal(units: &str, service: &str) -> bool {
    units.contains(&format!("{service}.service"))
}

/// The files in which a service may keep its log instead, in their order.
pub fn files_of(service: &str) -> [String; 3] {
    [
        service.to_owned(),
        format!("{service}.log"),
        format!("{service}/{service}.log"),
    ]
}

fn unsafe_name(service: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    let why = if service.len() > LONGEST_SERVICE {
        "length must be less than 100"
    } else if !service.chars().all(good) {
        "input contains unsupported characters"
    } else {
        return None;
    };
    Some(invalid("query", &quoted(service), why))
}

fn invalid(field: &str, value: &str, why: &str) -> String {
    format!("{field}: Invalid value: {value}: {why}")
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn list(texts: &[&String]) -> String {
    serde_json::to_string(texts).unwrap_or_default()
}

fn together(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn query(text: &str) -> Vec<(String, String)> {
        let pairs = text.split('&').filter(|p| !p.is_empty());
        let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
        pairs.map(pair).collect()
    }

    #[test]
    fn queries_of_the_journal_become_its_words() {
        let text = "query=kubelet&query=crio&sinceTime=2026-01-02T03:04:05%2&tailLines=5&boot=-1&pattern=a b|--file=/x";
        let text = text.replace("%2", "+02:00");
        let found = LogQuery::parse(&query(&text)).unwrap().unwrap();
        assert_eq!(found.problem(), None);
        assert_eq!(
            found.journalctl(&found.services),
            [
                "--utc",
                "--no-pager",
                "--output=short-precise",
                "--since=2026-01-02 01:04:05 UTC",
                "--pager-end",
                "--lines=5",
                "--unit=kubelet",
                "--unit=crio",
                "--grep=a b|--file=/x",
                "--boot=-1",
            ]
        );
        assert_eq!(LogQuery::parse(&query("")), Ok(None));
        assert_eq!(LogQuery::parse(&query("other=x")), Ok(None));
        assert!(logs_to_journal("crio.service\nkubelet.service\n", "kubelet"));
        assert!(!logs_to_journal("crio.service\n", "kubelet"));
    }

    #[test]
    fn unreadable_queries_are_refused() {
        for (text, why) in [
            ("query= ", r#"query: Invalid value: [" "]: query cannot be empty"#),
            (
                "sinceTime=now",
                r#"sinceTime: Invalid value: "now": invalid time format"#,
            ),
            (
                "query=x&boot=a&tailLines=b",
                r#"[boot: Invalid value: "a": strconv.Atoi: parsing "a": invalid syntax, tailLines: Invalid value: "b": strconv.Atoi: parsing "b": invalid syntax]"#,
            ),
        ] {
            assert_eq!(LogQuery::parse(&query(text)), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn queries_that_may_not_be_are_refused() {
        let long = format!("query={}", "a".repeat(257));
        for (text, why) in [
            ("query=kubelet", None),
            ("query=/foo.log", None),
            (
                "tailLines=1",
                Some("query: Required value: cannot be empty with options"),
            ),
            (
                "query=/a&query=b",
                Some(r#"query: Invalid value: "[/a], [b]": cannot specify a file and service"#),
            ),
            (
                "query=/a&query=/b",
                Some(r#"query: Invalid value: ["/a","/b"]: cannot specify more than one file"#),
            ),
            (
                "query=/a&tailLines=1",
                Some(r#"query: Invalid value: ["/a"]: cannot specify file with options"#),
            ),
            (
                "query=a;b",
                Some(r#"query: Invalid value: "a;b": input contains unsupported characters"#),
            ),
            (
                "query=a&query=b&query=c&query=d&query=e",
                Some("query: Too many: 5: must have at most 4 items"),
            ),
            ("query=a&boot=1", Some("boot: Invalid value: 1: must be less than 1")),
            (
                "query=a&tailLines=100001",
                Some("tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive"),
            ),
            (
                "query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z",
                Some(r#"untilTime: Invalid value: "2026-01-01T00:00:00Z": must be after `sinceTime`"#),
            ),
        ] {
            let found = LogQuery::parse(&query(text)).unwrap().unwrap();
            assert_eq!(found.problem().as_deref(), why, "{text}");
        }
        let found = LogQuery::parse(&query(&long)).unwrap().unwrap();
        assert!(found.problem().unwrap().ends_with("length must be less than 100"));
    }
}
