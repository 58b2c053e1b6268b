//! The server with real runtimes, real namespaces and real CNI plugins, spoken to over its unix
//! socket. Needs root, runc, runsc, crun, busybox (static) and the CNI plugins of Debian.

// A helper that can't go on fails its test, and says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod gvisor;
mod handlers;
mod hostile;
mod image;
mod images;
mod machine;
mod network;
mod newer;
mod pods;
mod processes;
mod restart;
mod rootfs;
mod sameness;
mod server;
mod sound;
mod spdy;
mod streams;
mod together;
mod trust;
mod users;
mod views;
mod warm;
