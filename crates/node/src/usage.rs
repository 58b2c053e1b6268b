//! What the node, its pods and their containers use: read from cgroups, and asked of the runtime where a sandbox has a kernel
//! of its own (gVisor, virtual machines), whose containers the host does not see.

pub(crate) mod cgroup;
mod disk;
mod files;
pub(crate) mod hierarchy;
mod machine;
pub(crate) mod pressure;
pub(crate) mod process;
mod rates;
mod runtime;
mod scene;
mod seen;

pub(crate) use cgroup::CgroupUsage;
pub(crate) use disk::DiskUsage;
pub(crate) use machine::{FsUsage, MachineUsage, boot_time, filesystem};
pub(crate) use rates::Rates;
pub(crate) use runtime::InterfaceUsage;
pub(crate) use scene::{ContainerScene, PodScene, Scene, gather};
pub(crate) use seen::Usage;
