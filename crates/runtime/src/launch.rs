//! The last steps of a process inside the container: from root with all capabilities to what the spec wants,
//! then the program.
//!
//! The order is runc's: without no_new_privs a filter can only be loaded with CAP_SYS_ADMIN, so it comes just
//! before the capabilities go; with no_new_privs it comes last, so that it need not allow any of this.

mod privileges;
mod program;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::{Process, Spec};

use crate::seccomp::Filter;
use privileges::Identity;

/// One process to be.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    process: Process,
    filter: Option<Filter>,
    /// The container's id when the process gets a session keyring of that name.
    keyring: Option<String>,
    /// Where a failure after `create` is told.
    report: Option<Arc<OwnedFd>>,
}

impl Launch {
    pub(crate) fn new(process: Process, filter: Option<Filter>) -> Self {
        Self {
            process,
            filter,
            keyring: None,
            report: None,
        }
    }

    /// In a session keyring of the container's own.
    pub(crate) fn in_keyring(mut self, id: &str) -> Self {
        self.keyring = Some(id.to_owned());
        self
    }

    /// Tells failures through `report` too.
    pub(crate) fn reporting(mut self, report: OwnedFd) -> Self {
        self.report = Some(Arc::new(report));
        self
    }

    /// Becomes the program. Only a failure returns.
    fn become_program(&self) -> String {
        let program = match program::find(&self.process) {
            Ok(program) => program,
            Err(message) => return message,
        };
        if let Some(id) = &self.keyring {
            privileges::join_keyring(id);
        }
        if let Err((step, error)) = self.shed() {
            return format!("cannot {step}: {error}");
        }
        format!("exec {:?}: {}", program.path, program.execute())
    }

    fn shed(&self) -> Result<(), (&'static str, std::io::Error)> {
        let identity = Identity::of(&self.process);
        identity.own_streams();
        identity.assume()?;
        let enter = |filter: &Filter| {
            filter
                .enter()
                .map_err(|error| ("load the seccomp filter", error))
        };
        if self.process.no_new_privileges() == Some(true) {
            identity.drop_capabilities()?;
            privileges::no_new_privileges()?;
            self.filter.as_ref().map_or(Ok(()), enter)
        } else {
            self.filter.as_ref().map_or(Ok(()), enter)?;
            identity.drop_capabilities()
        }
    }
}

impl Executor for Launch {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let message = self.become_program();
        if let Some(report) = &self.report {
            let _ = rustix::io::write(&**report, message.as_bytes());
        }
        Err(ExecutorError::Other(message))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        if self.report.is_some() {
            close_device_folders(spec);
        }
        program::find(&self.process)
            .map(drop)
            .map_err(ExecutorValidationError::ArgValidationError)
    }

    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), libcontainer::workload::ExecutorSetEnvsError> {
        // The program gets its own environment, in the spec's order; nothing of ours is left to clear.
        Ok(())
    }
}

/// libcontainer makes the folders of devices writable for all.
fn close_device_folders(spec: &Spec) {
    use std::os::unix::fs::PermissionsExt as _;
    let devices = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.devices().as_ref());
    let parents = devices
        .into_iter()
        .flatten()
        .flat_map(|device| device.path().ancestors().skip(1));
    let folders: std::collections::BTreeSet<_> = parents
        .filter(|folder| folder.starts_with("/dev/") && folder.components().count() > 2)
        .collect();
    for folder in folders {
        // By what is there, not what a link in its place points to.
        let open = folder
            .symlink_metadata()
            .is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o7777 == 0o777);
        if open {
            let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755));
        }
    }
}
