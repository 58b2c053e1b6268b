//! Network configurations: single plugins (`.conf`, `.json`) and lists (`.conflist`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CniError;

/// A list of plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) cni_version: String,
    /// The plugins' configurations as they stand in the file.
    pub(crate) plugins: Vec<Value>,
    /// Where it was read from.
    pub(crate) file: PathBuf,
}

/// The first configuration of a directory in name order.
pub(super) fn first(dir: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .and_then(|extension| extension.to_str())
                .is_some_and(|extension| matches!(extension, "conf" | "conflist" | "json"))
        })
        .collect();
    files.sort();
    files.into_iter().next()
}

pub(super) fn read(path: &Path) -> Result<Network, CniError> {
    let bad = |reason: String| CniError::Config {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    parse(path, value).map_err(bad)
}

fn parse(path: &Path, value: Value) -> Result<Network, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = text("name")
        .filter(|name| !name.is_empty())
        .ok_or("it has no name")?;
    let cni_version = text("cniVersion").unwrap_or_else(|| "0.3.1".to_owned());
    let plugins = match value.get("plugins") {
        Some(Value::Array(plugins)) if !plugins.is_empty() => plugins.clone(),
        Some(_) => return Err("plugins must be a list with at least one plugin".to_owned()),
        None => vec![value.clone()],
    };
    for plugin in &plugins {
        if plugin
            .get("type")
            .and_then(Value::as_str)
            .is_none_or(|kind| kind.is_empty() || kind.contains('/'))
        {
            return Err("a plugin has no type, or one with a slash".to_owned());
        }
    }
    Ok(Network {
        name,
        cni_version,
        plugins,
        file: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_and_single_plugins() {
        let path = Path::new("/x");
        let single = parse(path, json!({"name": "n", "type": "bridge"})).unwrap();
        assert_eq!(single.plugins, [json!({"name": "n", "type": "bridge"})]);
        assert_eq!(single.cni_version, "0.3.1");
        let list = parse(
            path,
            json!({"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "a"}, {"type": "b"}]}),
        )
        .unwrap();
        assert_eq!(
            (list.plugins.len(), list.cni_version.as_str()),
            (2, "1.0.0")
        );
        for bad in [
            json!({"type": "a"}),
            json!({"name": "n", "plugins": []}),
            json!({"name": "n"}),
            json!({"name": "n", "type": "../sh"}),
        ] {
            parse(path, bad).unwrap_err();
        }
    }
}
