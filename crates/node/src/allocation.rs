//! What this node has granted each pod of CPU and memory, and what the runtime was given of it: recorded in the pod's
//! directory, so that a resize asked for while the agent is away is seen when it is back.

use std::fs;
use std::io;
use std::path::Path;

use berth_lifecycle::Resources;
use serde::{Deserialize, Serialize};

use crate::own_dirs;

const FILE: &str = "resources.json";

/// The record of one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allocation {
    /// By container; what the node runs the pod with, whatever its spec asks for by now.
    pub(crate) allocated: Resources,
    /// By container; what the runtime was told last. A container that is missing has not been told.
    pub(crate) actuated: Resources,
}

/// Reads the record in a pod's directory; none when there is none.
///
/// # Errors
/// When it cannot be read or is not such a record.
pub(crate) fn read(pod_dir: &Path) -> io::Result<Option<Allocation>> {
    match fs::read(pod_dir.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
    }
}

/// Writes it, whole or not at all.
pub(crate) fn write(pod_dir: &Path, record: &Allocation) -> io::Result<()> {
    own_dirs::make(pod_dir)?;
    let temporary = pod_dir.join(".resources");
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(&temporary, pod_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ResourceRequirements;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    #[test]
    fn a_record_is_read_as_it_was_written_and_half_a_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("u");
        assert_eq!(read(&pod).unwrap(), None);
        let resources = ResourceRequirements {
            limits: Some([("cpu".to_owned(), Quantity("1".to_owned()))].into()),
            ..ResourceRequirements::default()
        };
        let record = Allocation {
            allocated: [("a".to_owned(), resources)].into(),
            actuated: Resources::new(),
        };
        write(&pod, &record).unwrap();
        assert_eq!(read(&pod).unwrap(), Some(record));
        fs::write(pod.join(FILE), r#"{"allocated": {"#).unwrap();
        assert!(read(&pod).is_err());
    }
}
