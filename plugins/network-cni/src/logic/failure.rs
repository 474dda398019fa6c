//! What a plugin that fails says: JSON on standard output, or whatever else there is.

use serde::Deserialize;
use witlet_sdk::Error;
use witlet_sdk::network::Output;

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// In the words of `libcni`: `plugin type="bridge" name="net" failed (add): …`
pub(super) fn of(plugin: &str, verb: &str, output: &Output) -> Error {
    let prefix = format!("{plugin} failed ({})", verb.to_lowercase());
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Error::Failed(match stderr.trim() {
            "" => format!(
                "{prefix}: netplugin failed with no error message: exit status {}",
                output.exit_code
            ),
            text => format!("{prefix}: netplugin failed: {text:?}"),
        });
    }
    let report: Report = match serde_json::from_slice(&output.stdout) {
        Ok(report) => report,
        Err(error) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let text = format!("{prefix}: netplugin failed but error parsing its diagnostic message {said:?}: {error}");
            return Error::Failed(text);
        }
    };
    let details = if report.details.is_empty() {
        String::new()
    } else {
        format!("; {}", report.details)
    };
    let text = format!("{prefix}: {}{details}", report.msg);
    match report.code {
        // Incompatible version, unsupported field, bad environment, bad or undecodable configuration.
        1 | 2 | 4 | 6 | 7 => Error::Invalid(text),
        // Try again later; not available.
        11 | 50 | 51 => Error::Unavailable(text),
        _ => Error::Failed(text),
    }
}
