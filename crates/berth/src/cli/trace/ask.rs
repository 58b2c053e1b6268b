//! A node's report of a pod's start.

use anyhow::{Context as _, bail};
use berth_controllers::node_page;
use berth_trace::MAX_SPANS;
use berth_trace::report::StartReport;
use http::StatusCode;
use kube::Client;

/// A report is no longer.
const MAX_BYTES: usize = 256 << 10;

/// Asks a node through the API server.
///
/// # Errors
/// When there is no report. Nothing of one that is too long or malformed is taken.
pub(in crate::cli) async fn ask(
    client: &Client,
    node: &str,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
) -> anyhow::Result<StartReport> {
    let node = segment(node)?;
    let mut path = format!("/stats/starts/{}/{}", segment(namespace)?, segment(pod)?);
    if let Some(uid) = uid {
        path.push_str(&format!("?uid={}", segment(uid)?));
    }
    let (status, body) = node_page::get(client, node, &path, MAX_BYTES).await?;
    if status == StatusCode::OK {
        return parse(&body);
    }
    let text = String::from_utf8_lossy(&body);
    // A Status from the API server, or plain text from the node.
    let message = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|status| status.get("message")?.as_str().map(str::to_owned));
    let message = message.unwrap_or_else(|| text.trim().to_owned());
    let message: String = message.chars().take(300).collect();
    bail!("{}", message.replace(char::is_control, " "))
}

/// A name as a segment of a path: names, namespaces and UIDs have nothing in them that means something there.
fn segment(name: &str) -> anyhow::Result<&str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    anyhow::ensure!(
        !name.is_empty() && name.chars().all(fine) && !name.chars().all(|c| c == '.'),
        "{name:?} is no name"
    );
    Ok(name)
}

fn parse(body: &[u8]) -> anyhow::Result<StartReport> {
    let report: StartReport = serde_json::from_slice(body)
        .context("its report can't be read (is it a node of berth's?)")?;
    anyhow::ensure!(
        report.stages.len() <= MAX_SPANS,
        "its report has more than {MAX_SPANS} stages"
    );
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_leave_its_segment() {
        assert_eq!(segment("web-0.a").unwrap(), "web-0.a");
        for bad in ["", "..", "a/b", "a?b", "a%2fb", "a b", "ä"] {
            assert!(segment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let good = serde_json::to_vec(&StartReport::default()).unwrap();
        assert!(parse(&good).is_ok());
        let stage =
            r#"{"part":"node","name":"n","depth":0,"beginMicroseconds":0,"microseconds":0}"#;
        let many = vec![stage; MAX_SPANS + 1].join(",");
        let many = format!(
            r#"{{"namespace":"n","pod":"p","uid":"u","node":"x","noticed":"","outcome":"","microseconds":0,"stages":[{many}]}}"#
        );
        for bad in ["", "ok", "{}", many.as_str()] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
