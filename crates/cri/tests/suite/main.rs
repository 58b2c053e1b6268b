//! The server with real runtimes, real namespaces and real CNI plugins, spoken to over its unix
//! socket. Needs root, runc, runsc, crun, busybox (static) and the CNI plugins of Debian.

mod client;
mod handlers;
mod image;
mod pods;
mod processes;
mod restart;
mod server;
mod spdy;
mod streams;
