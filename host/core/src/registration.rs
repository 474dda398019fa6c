//! Plugins that announce themselves by a socket: which are to be taken on, and which let go (the kubelet contract, volumes
//! 146 to 148).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What tells a socket from another one that was at the same place before: device, inode, and when it was made.
pub type Identity = (u64, u64, i64, i64);
/// Sockets by their paths.
pub type Sockets = BTreeMap<PathBuf, Identity>;

pub const FIRST_RETRY: Duration = Duration::from_millis(500);
pub const LAST_RETRY: Duration = Duration::from_secs(122);

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Deregister(PathBuf),
    Register(PathBuf, Identity),
}

/// From what is registered to what is there. A socket that was made anew is let go, then taken on.
pub fn steps(there: &Sockets, registered: &Sockets) -> Vec<Step> {
    let gone = registered
        .iter()
        .filter(|(path, known)| there.get(*path) != Some(known));
    let gone = gone.map(|(path, _)| Step::Deregister(path.clone()));
    let new = there.iter().filter(|(path, now)| registered.get(*path) != Some(now));
    let new = new.map(|(path, now)| Step::Register(path.clone(), *now));
    gone.chain(new).collect()
}

/// How long after another failure.
pub fn next_retry(last: Option<Duration>) -> Duration {
    last.map_or(FIRST_RETRY, |last| (last * 2).min(LAST_RETRY))
}

/// The words for a plugin that is not taken on.
pub mod words {
    use std::fmt::Display;

    pub fn nobody(kind: &str, socket: impl Display) -> String {
        format!("RegisterPlugin error -- no handler registered for plugin type: {kind} at socket {socket}")
    }

    pub fn invalid(why: &str) -> String {
        format!("RegisterPlugin error -- plugin validation failed with err: {why}")
    }

    pub fn failed(why: &str) -> String {
        format!("RegisterPlugin error -- plugin registration failed with err: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_become_steps() {
        let sockets = |list: &[(&str, u64)]| -> Sockets {
            let entries = list.iter();
            entries
                .map(|(path, inode)| ((*path).into(), (1, *inode, 0, 0)))
                .collect()
        };
        let register = |path: &str, inode| Step::Register(path.into(), (1, inode, 0, 0));
        let there = sockets(&[("a", 1), ("b", 2)]);
        assert_eq!(steps(&there, &sockets(&[])), [register("a", 1), register("b", 2)]);
        assert_eq!(steps(&there, &there), []);
        let before = sockets(&[("a", 7), ("b", 2), ("c", 3)]);
        let expected = [
            Step::Deregister("a".into()),
            Step::Deregister("c".into()),
            register("a", 1),
        ];
        assert_eq!(steps(&there, &before), expected);
    }

    #[test]
    fn failures_are_tried_again_ever_later() {
        let mut pause = next_retry(None);
        let mut all = vec![pause];
        for _ in 0..9 {
            pause = next_retry(Some(pause));
            all.push(pause);
        }
        assert_eq!(all[..3], [500, 1000, 2000].map(Duration::from_millis));
        assert_eq!(all[8..], [LAST_RETRY, LAST_RETRY]);
    }
}
