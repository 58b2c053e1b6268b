//! Under whose name the node's writes stand in `metadata.managedFields`.

use kube::api::{PatchParams, PostParams};

/// The stock kubelet's field manager.
const MANAGER: &str = "kubelet";

/// For creations.
pub(crate) fn create() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// For patches that are no apply.
pub(crate) fn patch() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
