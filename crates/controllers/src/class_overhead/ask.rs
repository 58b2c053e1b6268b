//! A node's report.

use berth_cost::{MAX_CLASSES, NodeReport};
use http::StatusCode;
use kube::Client;

use crate::node_page::{self, LIMIT, PageError};

/// A report is no longer: 128 classes, and 110 pods.
const MAX_BYTES: usize = 1 << 20;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It is no node of berth's, or is told not to measure.
    #[error("the node does not measure what sandboxes cost")]
    NotMeasured,
    /// The API server could not ask it, or refused to.
    #[error("the node could not be asked: {0}")]
    Refused(String),
    /// It took longer.
    #[error("the node did not answer within {} s", LIMIT.as_secs())]
    Timeout,
    /// The answer can't be read.
    #[error("the node's report can't be read: {0}")]
    Malformed(String),
}

/// Asks a node for its report, through the API server.
///
/// # Errors
/// When there is none. Nothing of a report that is too long or malformed is taken.
pub async fn ask(client: &Client, node: &str) -> Result<NodeReport, AskError> {
    let answer = node_page::get(client, node, "/stats/overhead", MAX_BYTES).await;
    let (status, body) = answer.map_err(|error| match error {
        PageError::Timeout => AskError::Timeout,
        PageError::Broken(why) => AskError::Malformed(why),
        PageError::Name | PageError::Request(_) => AskError::Refused(error.to_string()),
    })?;
    match status {
        StatusCode::OK => parse(&body),
        StatusCode::NOT_FOUND => Err(AskError::NotMeasured),
        _ => {
            let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            Err(AskError::Refused(format!("{status}: {}", text.trim())))
        }
    }
}

fn parse(body: &[u8]) -> Result<NodeReport, AskError> {
    let report: NodeReport =
        serde_json::from_slice(body).map_err(|error| AskError::Malformed(error.to_string()))?;
    if report.classes.len() > MAX_CLASSES {
        return Err(AskError::Malformed(format!(
            "more than {MAX_CLASSES} classes"
        )));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_report_is_refused() {
        let good = serde_json::to_vec(&NodeReport::default()).unwrap();
        assert!(parse(&good).is_ok());
        for bad in [
            "",
            "ok",
            "{}",
            r#"{"node":"n","periodSeconds":60,"classes":[{"sandboxes":-1}]}"#,
        ] {
            assert!(
                matches!(parse(bad.as_bytes()), Err(AskError::Malformed(_))),
                "{bad}"
            );
        }
        let many = NodeReport {
            classes: vec![berth_cost::ClassReport::default(); MAX_CLASSES + 1],
            ..NodeReport::default()
        };
        assert!(parse(&serde_json::to_vec(&many).unwrap()).is_err());
    }
}
