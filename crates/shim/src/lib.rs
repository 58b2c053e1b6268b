//! The per-pod supervisor and the client for any shim.
//!
//! * [`server`] is `berth shim`: containerd's shim v2 (Task v2 and v3 over ttrpc) for OCI runtimes driven by
//!   their command line. One small process a pod: it starts, reaps and logs, and outlives its starter.
//! * [`client`] drives our shim and any stranger's alike, and hides which way their stdio goes.
//! * [`events`] receives what third-party shims publish of their containers; [`publish`] is the command by which those
//!   publish that can't speak ttrpc.
//! * [`record`] is how what outlives a process is kept.
//! * [`private`] makes the files and sockets that are nobody else's business.
//! * [`stdio`] and [`stream`] are what both share: the URIs that say where a process' streams go, and the
//!   framing on the socket beside the shim's own, over which attach and exec streams run.

//!
//! Shared by both sides as well: a process' output on its way from a pipe (`pump`, `fd`) to its log
//! (`crilog`) and to those who are attached (`hub`).

pub mod client;
mod crilog;
pub mod events;
mod fd;
mod hub;
pub mod private;
pub mod publish;
mod pump;
pub mod record;
pub mod server;
pub mod stdio;
pub mod stream;
