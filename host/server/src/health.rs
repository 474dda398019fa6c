//! `/healthz` and the metrics of it (the kubelet contract, node M rule 179).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use tracing::info;
use witlet_ports::serve::Check;

use crate::query::{all, get};
use crate::reply::{self, Reply};

/// How often each check went well, and how often not, since the last reset.
#[derive(Default)]
pub(crate) struct Health {
    counts: Mutex<BTreeMap<&'static str, (u64, u64)>>,
}

impl Health {
    /// Of all checks but the excluded ones, or of one.
    pub(crate) fn answer(&self, checks: &[Check], one: Option<&str>, query: &[(String, String)]) -> Reply {
        self.count(checks);
        if let Some(name) = one {
            return match checks.iter().find(|c| c.name == name) {
                None => reply::not_found(),
                Some(Check { problem: None, .. }) => reply::text(StatusCode::OK, "ok"),
                Some(Check { problem: Some(why), .. }) => reply::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("internal server error: {why}\n"),
                ),
            };
        }
        let excluded: Vec<&str> = all(query, "exclude").collect();
        let mut text = String::new();
        let mut bad = false;
        for check in checks {
            let line = match &check.problem {
                _ if excluded.contains(&check.name) => format!("[+]{} excluded: ok\n", check.name),
                None => format!("[+]{} ok\n", check.name),
                Some(why) => {
                    info!(check = check.name, why, "health check failed");
                    bad = true;
                    format!("[-]{} failed: reason withheld\n", check.name)
                }
            };
            text.push_str(&line);
        }
        if bad {
            return reply::text(StatusCode::INTERNAL_SERVER_ERROR, text + "healthz check failed\n");
        }
        if get(query, "verbose").is_some() {
            return reply::text(StatusCode::OK, text + "healthz check passed\n");
        }
        reply::text(StatusCode::OK, "ok")
    }

    fn count(&self, checks: &[Check]) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for check in checks {
            let (well, badly) = counts.entry(check.name).or_default();
            *(if check.problem.is_none() { well } else { badly }) += 1;
        }
    }

    /// `/metrics/slis`
    pub(crate) fn slis(&self, checks: &[Check]) -> String {
        let mut text = String::from(
            "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n# TYPE kubernetes_healthcheck gauge\n",
        );
        for check in checks {
            let value = u8::from(check.problem.is_none());
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "kubernetes_healthcheck{{name=\"{}\",type=\"healthz\"}} {value}",
                check.name
            );
        }
        text.push_str(
            "# HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n# TYPE kubernetes_healthchecks_total counter\n",
        );
        for (name, (well, badly)) in &*self.counts.lock().unwrap_or_else(PoisonError::into_inner) {
            for (status, count) in [("error", badly), ("success", well)]
                .into_iter()
                .filter(|(_, n)| **n > 0)
            {
                let labels = format!("name=\"{name}\",status=\"{status}\",type=\"healthz\"");
                let _ = writeln!(text, "kubernetes_healthchecks_total{{{labels}}} {count}");
            }
        }
        text
    }

    pub(crate) fn reset(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http_body_util::BodyExt;

    use super::*;
    use crate::query::parse;

    fn checks(problem: Option<&str>) -> [Check; 2] {
        let check = |name, problem: Option<&str>| Check {
            name,
            problem: problem.map(str::to_owned),
        };
        [check("ping", None), check("syncloop", problem)]
    }

    async fn said(reply: Reply) -> (u16, String) {
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_are_the_kubelets() {
        let health = Health::default();
        let late = Some("late");
        for (problem, one, query, status, text) in [
            (None, None, "", 200, "ok"),
            (
                None,
                None,
                "verbose",
                200,
                "[+]ping ok\n[+]syncloop ok\nhealthz check passed\n",
            ),
            (
                late,
                None,
                "",
                500,
                "[+]ping ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n",
            ),
            (late, None, "exclude=syncloop", 200, "ok"),
            (late, Some("syncloop"), "", 500, "internal server error: late\n"),
            (late, Some("ping"), "", 200, "ok"),
            (None, Some("other"), "", 404, "404 page not found\n"),
        ] {
            let reply = health.answer(&checks(problem), one, &parse(query));
            assert_eq!(
                said(reply).await,
                (status, text.to_owned()),
                "{problem:?} {one:?} {query}"
            );
        }
        let slis = health.slis(&checks(late));
        for line in [
            "kubernetes_healthcheck{name=\"syncloop\",type=\"healthz\"} 0\n",
            "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 7\n",
            "kubernetes_healthchecks_total{name=\"syncloop\",status=\"error\",type=\"healthz\"} 4\n",
        ] {
            assert!(slis.contains(line), "{slis}");
        }
        health.reset();
        assert!(!health.slis(&checks(None)).contains("success"));
    }
}
