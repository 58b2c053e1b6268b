//! The CRI v1 runtime and image services: sandboxes, containers, handler table, streaming.
//!
//! [`run`] serves both services on one unix socket until it is told to stop. Whatever it starts
//! lives on without it: pods belong to their shims, namespaces to their pins, and everything that
//! has to be known about them is on disk. The next [`run`] on the same directories takes them over.
//!
//! Tasks that `run` owns: the gRPC server, the streaming server (exec, attach, port-forward), one
//! exit watcher for each running container, and the watcher that reloads the handler table.

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
mod filtered;
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
mod stats;
mod status;
mod strays;
mod streaming;

pub use config::{CniConfig, Config, DefaultNetwork, ImageOptions};
pub use handlers::{HandlerSource, HandlerState, HandlerTable};
pub use server::{RunError, run};
