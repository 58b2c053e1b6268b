//! `berth cri` as a process of its own, spoken to over its socket: what holds when it is killed.
//!
//! Needs root, runc, busybox (static), containerd's shim and the CNI plugins of Debian. Each test has directories, a
//! bridge and addresses of its own and removes them at the end, also when it fails.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "cri/begun.rs"]
mod begun;
#[path = "cri/cut.rs"]
mod cut;
#[path = "cri/daemon.rs"]
mod daemon;
#[path = "cri/events.rs"]
mod events;
#[path = "cri/guest.rs"]
mod guest;
#[path = "cri/kill.rs"]
mod kill;
#[path = "cri/leftovers.rs"]
mod leftovers;
#[path = "cri/lost.rs"]
mod lost;
#[path = "cri/rootfs.rs"]
mod rootfs;
#[path = "cri/sandboxer.rs"]
mod sandboxer;
#[path = "cri/strangers.rs"]
mod strangers;
#[path = "cri/tap.rs"]
mod tap;
#[path = "cri/testvm.rs"]
mod testvm;
#[path = "cri/vm.rs"]
mod vm;
#[path = "cri/warm.rs"]
mod warm;
#[path = "cri/words.rs"]
mod words;
