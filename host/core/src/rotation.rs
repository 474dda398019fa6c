//! Rotating the logs of containers (the kubelet contract, pod 11.3): names of files, and what is done with which.
//!
//! `3.log` is written to; `3.log.20260102-030405` was rotated last, and those before it are `….gz`. The time in a name is the
//! moment of the rotation, so names sort by age.

use jiff::Timestamp;

pub const COMPRESSED: &str = ".gz";
pub const TEMPORARY: &str = ".tmp";

/// When logs are rotated, and how many are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Bytes; none: logs are never rotated.
    pub max_size: Option<u64>,
    /// With the one that is written to.
    pub max_files: usize,
}

impl Policy {
    pub fn is_due(self, size: u64) -> bool {
        self.max_size.is_some_and(|max| size >= max)
    }
}

/// What to do with the rotated files before the log itself is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// An interrupted rotation left it.
    Remove(String),
    /// More than are kept.
    Excess(String),
    /// To the same name with [`COMPRESSED`].
    Compress(String),
}

/// `names` are the files beside the log; those of other logs are left alone. Only the oldest go, so that a reader who is behind
/// loses as little as can be.
pub fn tidy<'a>(log: &str, names: impl IntoIterator<Item = &'a str>, policy: Policy) -> Vec<Step> {
    let mut rotated: Vec<&str> = names.into_iter().filter(|name| is_rotated(log, name)).collect();
    rotated.sort_unstable();
    let mut steps = Vec::new();
    // What an interrupted rotation left: unfinished files, and those of which the compressed one is finished.
    let compressed = |name: &str| rotated.iter().any(|n| n.strip_suffix(COMPRESSED) == Some(name));
    let (good, bad): (Vec<&str>, Vec<&str>) = rotated
        .iter()
        .partition(|name| !name.ends_with(TEMPORARY) && !compressed(name));
    steps.extend(bad.into_iter().map(|name| Step::Remove(name.to_owned())));
    // The new log and the one that is rotated now are files too.
    let excess = good.len().saturating_sub(policy.max_files.saturating_sub(2));
    for (i, name) in good.into_iter().enumerate() {
        if i < excess {
            steps.push(Step::Excess(name.to_owned()));
        } else if !name.ends_with(COMPRESSED) {
            steps.push(Step::Compress(name.to_owned()));
        }
    }
    steps
}

/// What a log is called once it is rotated.
pub fn rotated_name(log: &str, now: Timestamp) -> String {
    format!("{log}.{}", now.strftime("%Y%m%d-%H%M%S"))
}

/// The moment in a rotated file's name, compressed or not; none for other files.
pub fn stamp<'a>(log: &str, name: &'a str) -> Option<&'a str> {
    let stamp = name.strip_prefix(log)?.strip_prefix('.')?;
    let stamp = stamp.strip_suffix(COMPRESSED).unwrap_or(stamp);
    let is_time = stamp.len() == 15
        && stamp
            .bytes()
            .enumerate()
            .all(|(i, b)| if i == 8 { b == b'-' } else { b.is_ascii_digit() });
    is_time.then_some(stamp)
}

fn is_rotated(log: &str, name: &str) -> bool {
    let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
    stamp(log, name).is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn policy(max_files: usize) -> Policy {
        Policy {
            max_size: Some(10),
            max_files,
        }
    }

    fn show(steps: &[Step]) -> Vec<String> {
        let show = |step: &Step| match step {
            Step::Remove(name) => format!("- {name}"),
            Step::Excess(name) => format!("> {name}"),
            Step::Compress(name) => format!("z {name}"),
        };
        steps.iter().map(show).collect()
    }

    #[test]
    fn a_log_is_due_from_its_size_on() {
        assert!(!policy(5).is_due(9));
        assert!(policy(5).is_due(10));
        let never = Policy {
            max_size: None,
            max_files: 5,
        };
        assert!(!never.is_due(u64::MAX));
    }

    #[test]
    fn the_newest_are_kept_and_compressed() {
        let names = [
            "0.log",
            "0.log.20260101-000004",
            "0.log.20260101-000001.gz",
            "0.log.20260101-000003.gz",
            "0.log.20260101-000002.gz",
        ];
        assert_eq!(
            show(&tidy("0.log", names, policy(5))),
            ["> 0.log.20260101-000001.gz", "z 0.log.20260101-000004"]
        );
        assert_eq!(
            show(&tidy("0.log", names, policy(2))).len(),
            4,
            "only the log and its last rotation"
        );
    }

    #[test]
    fn what_an_interrupted_rotation_left_goes() {
        let names = [
            "0.log.20260101-000001.tmp",
            "0.log.20260101-000001",
            "0.log.20260101-000000",
            "0.log.20260101-000000.gz",
            "0.log.20260101-000002.gz.tmp",
        ];
        assert_eq!(
            show(&tidy("0.log", names, policy(5))),
            [
                "- 0.log.20260101-000000",
                "- 0.log.20260101-000001.tmp",
                "- 0.log.20260101-000002.gz.tmp",
                "z 0.log.20260101-000001"
            ]
        );
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let names = [
            "10.log.20260101-000001",
            "0.log.old",
            "0.log.",
            "0.log.20260101_000001",
            "notes",
        ];
        assert!(tidy("0.log", names, policy(2)).is_empty());
    }

    #[test]
    fn names_bear_the_time_and_sort_by_it() {
        let name = rotated_name("3.log", "2026-01-02T03:04:05.9Z".parse().unwrap_or_default());
        assert_eq!(name, "3.log.20260102-030405");
        assert_eq!(stamp("3.log", &name), Some("20260102-030405"));
        assert_eq!(stamp("3.log", "3.log.20260102-030405.gz"), Some("20260102-030405"));
        assert_eq!(stamp("3.log", "3.log"), None);
    }

    proptest! {
        /// Whatever lies around: afterwards there is room for two more, everything left is compressed, and the newest are left.
        #[test]
        fn tidying_makes_room(days in proptest::collection::btree_set((0u8..28, 0u8..3), 0..20), max_files in 2usize..8) {
            let name = |(day, form): &(u8, u8)| {
                let end = ["", ".gz", ".tmp"][usize::from(*form)];
                format!("0.log.202601{:02}-000000{end}", day + 1)
            };
            let mut files: BTreeSet<String> = days.iter().map(name).collect();
            let before = files.clone();
            let names: Vec<String> = files.iter().cloned().collect();
            for step in tidy("0.log", names.iter().map(String::as_str), policy(max_files)) {
                match step {
                    Step::Remove(name) | Step::Excess(name) => prop_assert!(files.remove(&name)),
                    Step::Compress(name) => {
                        prop_assert!(files.remove(&name));
                        prop_assert!(files.insert(name + COMPRESSED));
                    }
                }
            }
            prop_assert!(files.len() + 2 <= max_files);
            prop_assert!(files.iter().all(|f| f.ends_with(COMPRESSED)));
            let stamps = |set: &BTreeSet<String>| -> BTreeSet<String> {
                set.iter().filter(|f| !f.ends_with(TEMPORARY)).filter_map(|f| stamp("0.log", f)).map(str::to_owned).collect()
            };
            let newest: BTreeSet<String> = stamps(&before).into_iter().rev().take(max_files - 2).collect();
            prop_assert_eq!(stamps(&files), newest);
            let again: Vec<String> = files.iter().cloned().collect();
            prop_assert!(tidy("0.log", again.iter().map(String::as_str), policy(max_files)).is_empty());
        }
    }
}
