//! Docker's daemon.json: recognized, to say why it can't be used.

use std::path::Path;

use super::HandlersError;

/// Always an error: dockershim, the one path from Kubernetes to Docker's runtimes, never passed a
/// handler on.
pub(crate) fn refuse(path: &Path) -> HandlersError {
    let text = match super::document::read_text(path) {
        Ok(text) => text,
        Err(error) => return error,
    };
    let names = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|json| {
            let names: Vec<String> = json.get("runtimes")?.as_object()?.keys().cloned().collect();
            Some(names)
        })
        .unwrap_or_default();
    HandlersError::Docker {
        path: path.to_owned(),
        names: if names.is_empty() {
            "it names no runtimes".to_owned()
        } else {
            format!("its runtimes: {}", names.join(", "))
        },
    }
}
