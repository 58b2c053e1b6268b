//! The CRI v1 runtime and image services: sandboxes, containers, handler table, streaming.
//!
//! [`run`] serves both services on one unix socket until it is told to stop. Whatever it starts
//! lives on without it: pods belong to their shims, namespaces to their pins, and everything that
//! has to be known about them is on disk. The next [`run`] on the same directories takes them over.
//!
//! Tasks that `run` owns: the gRPC server and the requests under way, the streaming server (exec, attach,
//! port-forward), one watcher for each running container and each sandbox container, the one that
//! reloads the handler table, the one that keeps sandboxes waiting for their pods, and the one that looks after the
//! masquerading. None outlives `run`, and
//! `run` ends when one of them fails.

pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod handlers;

mod apparmor;
mod cni;
mod container;
mod elf;
mod engine;
mod error;
mod events;
mod exposition;
mod filtered;
mod held;
mod inside;
mod known;
mod layout;
mod metrics;
mod netns;
mod pause;
mod record;
mod registry;
mod restore;
mod runtime;
mod sandbox;
mod server;
mod service;
mod shim_events;
mod sound;
mod stats;
mod status;
mod strays;
mod streaming;
mod tasks;
mod warm;

/// The name of the AppArmor profile that containers have by default.
pub const APPARMOR_PROFILE: &str = berth_oci::apparmor::DEFAULT_NAME;

pub use config::{CniConfig, Config, DefaultNetwork, ImageOptions};
pub use handlers::{HandlerSource, HandlerState, HandlerTable, Survey};
pub use server::{RunError, run};
