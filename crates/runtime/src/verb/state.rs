//! `state`.

use libcontainer::container::{Container, ContainerStatus};
use serde::Serialize;

use crate::cli::Global;
use crate::error::Error;
use crate::record::{Place, Record};

/// A container as runc prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: String,
    pub(super) bundle: String,
    rootfs: String,
    pub(super) created: String,
    owner: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl View {
    pub(super) fn of(container: &Container, record: &Record) -> Self {
        let alive = container.status() != ContainerStatus::Stopped;
        let annotations = container.state.annotations.clone();
        Self {
            oci_version: container.state.oci_version.clone(),
            id: container.id().to_owned(),
            pid: container
                .pid()
                .filter(|_| alive)
                .map_or(0, |pid| pid.as_raw()),
            status: container.status().to_string().to_ascii_lowercase(),
            bundle: record.bundle.to_string_lossy().into_owned(),
            rootfs: record.rootfs.to_string_lossy().into_owned(),
            created: container
                .created()
                .map(|at| at.to_rfc3339())
                .unwrap_or_default(),
            owner: container
                .creator()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            annotations: annotations.map(|all| all.into_iter().collect()),
        }
    }
}

pub(crate) fn state(global: &Global, id: &str) -> Result<(), Error> {
    let (container, record) = Place::new(global, id)?.load()?;
    println!("{}", super::list::json(&View::of(&container, &record))?);
    Ok(())
}
