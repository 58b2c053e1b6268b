//! End to end: the real binary, stock kubectl, real runc, runsc and crun.
//!
//! Each test has a cluster of its own, with its own directories, ports, bridge and addresses, and removes it
//! at the end, also when it fails. They need root and Debian's packages (scripts/setup installs them).

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "e2e/access.rs"]
mod access;
#[path = "e2e/addons.rs"]
mod addons;
#[path = "e2e/certificates.rs"]
mod certificates;
#[path = "e2e/check.rs"]
mod check;
#[path = "e2e/claims.rs"]
mod claims;
#[path = "e2e/classes.rs"]
mod classes;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/converge.rs"]
mod converge;
#[path = "e2e/demo.rs"]
mod demo;
#[path = "e2e/devices.rs"]
mod devices;
#[path = "e2e/dns.rs"]
mod dns;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/installer.rs"]
mod installer;
#[path = "e2e/isolation.rs"]
mod isolation;
#[path = "e2e/join.rs"]
mod join;
#[path = "e2e/machines.rs"]
mod machines;
#[path = "e2e/measured.rs"]
mod measured;
#[path = "e2e/migrate.rs"]
mod migrate;
#[path = "e2e/network_policy.rs"]
mod network_policy;
#[path = "e2e/node_policy.rs"]
mod node_policy;
#[path = "e2e/observability.rs"]
mod observability;
#[path = "e2e/overhead.rs"]
mod overhead;
#[path = "e2e/owners.rs"]
mod owners;
#[path = "e2e/package.rs"]
mod package;
#[path = "e2e/parts.rs"]
mod parts;
#[path = "e2e/pods.rs"]
mod pods;
#[path = "e2e/policies.rs"]
mod policies;
#[path = "e2e/quotas.rs"]
mod quotas;
#[path = "e2e/refused.rs"]
mod refused;
#[path = "e2e/resize.rs"]
mod resize;
#[path = "e2e/restart.rs"]
mod restart;
#[path = "e2e/runtimeless.rs"]
mod runtimeless;
#[path = "e2e/scheduling.rs"]
mod scheduling;
#[path = "e2e/seen_to_work.rs"]
mod seen_to_work;
#[path = "e2e/service_traffic.rs"]
mod service_traffic;
#[path = "e2e/services.rs"]
mod services;
#[path = "e2e/streams.rs"]
mod streams;
#[path = "e2e/trace.rs"]
mod trace;
#[path = "e2e/users.rs"]
mod users;
#[path = "e2e/volumes.rs"]
mod volumes;
#[path = "e2e/workloads.rs"]
mod workloads;
