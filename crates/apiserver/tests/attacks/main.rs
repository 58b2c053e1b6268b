//! Attacks on the API server: each scenario is tried by somebody with the least rights that it needs, and must be refused
//! (or bounded) without hurting anybody else. The threat model is docs/security.md.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "the suite in tests/api uses the rest")]
#[path = "../api/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the suite in tests/api uses the rest")]
#[path = "../api/hook_server.rs"]
mod hook_server;

mod advice;
mod aggregation;
mod audit;
mod bootstrap_tokens;
mod certificates;
mod connects;
mod conversion;
mod custom_resources;
mod decoding;
mod devices;
mod escalation;
#[path = "../api/extension_server.rs"]
mod extension_server;
mod identity;
mod isolation;
#[allow(dead_code, reason = "the suite in tests/api uses the rest")]
#[path = "../api/kubelet_server.rs"]
mod kubelet_server;
mod names;
mod node_restriction;
mod objects;
mod pod_security;
mod policies;
mod proxying;
mod request_reading;
mod resource_metrics;
mod resources;
mod services;
mod subresources;
mod volumes;
mod webhooks;
