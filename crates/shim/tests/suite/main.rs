//! The shim with real runtimes. Needs root, runc, crun, runsc and busybox-static; fails without them.

mod confinement;
mod exec;
mod harness;
mod lifecycle;
mod logs;
mod strangers;
mod survival;
