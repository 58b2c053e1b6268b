//! The shim with real runtimes. Needs root, runc, crun, runsc and busybox-static; fails without them.

#![allow(clippy::expect_used)] // a test that can not go on says why and fails

mod confinement;
mod exec;
mod harness;
mod keeper;
mod lifecycle;
mod logs;
mod strangers;
mod survival;
