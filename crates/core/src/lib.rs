//! What more than one part decides by, as pure functions. No I/O, no clock, no tokio.
//!
//! What a single part decides is in a crate of its own, so that a change compiles only that part: `rules` (the API server),
//! `placement` (the scheduler), `lifecycle` (the node), `check` (`berth check` and `berth migrate`).
//!
//! - [`advice`]: what is told early, with the exact words.
//! - [`annotations`]: berth's own.
//! - [`class_status`]: how far a RuntimeClass can be used, and is.
//! - [`container`]: the containers of a pod, whichever list they are in.
//! - [`cron`]: schedules of cron, and the times to come.
//! - [`event`]: counting repeated events.
//! - [`fnv`]: a number for bytes.
//! - [`gates`]: the feature gates.
//! - [`handlers`]: what nodes say of their runtime handlers.
//! - [`isolation`]: how strongly a handler keeps a pod apart from its node, and how strongly a namespace demands it.
//! - [`managed_class`]: RuntimeClasses that the server makes by itself.
//! - [`local_path`]: volumes that are directories of one node.
//! - [`meta`]: what holds for the metadata of every object.
//! - [`nearest`]: names that were probably meant.
//! - [`object_usage`]: what claims and services use of a quota.
//! - [`pod`]: what a pod's status says of it.
//! - [`qos`]: the quality-of-service class of a pod.
//! - [`resources`]: what a pod asks for in all.
//! - [`usage`]: what objects use of a quota.

pub mod advice;
pub mod annotations;
pub mod class_status;
pub mod container;
pub mod cron;
pub mod event;
pub mod fnv;
pub mod gates;
pub mod handlers;
pub mod isolation;
pub mod local_path;
pub mod managed_class;
pub mod meta;
pub mod nearest;
pub mod object_usage;
pub mod pod;
pub mod qos;
pub mod resource_list;
pub mod resources;
pub mod selector;
pub mod toleration;
pub mod usage;
