//! The API server over real HTTP: what clients rely on, verb by verb.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "api/extension_server.rs"]
mod extension_server;
#[path = "api/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the suite of attacks uses the rest")]
#[path = "api/hook_server.rs"]
mod hook_server;

#[path = "api/access.rs"]
mod access;
#[path = "api/aggregation.rs"]
mod aggregation;
#[path = "api/applies.rs"]
mod applies;
#[path = "api/audit.rs"]
mod audit;
#[path = "api/audit_webhook.rs"]
mod audit_webhook;
#[path = "api/classes.rs"]
mod classes;
#[path = "api/connections.rs"]
mod connections;
#[path = "api/conversion.rs"]
mod conversion;
#[path = "api/custom.rs"]
mod custom;
#[path = "api/documents.rs"]
mod documents;
#[path = "api/encryption.rs"]
mod encryption;
#[path = "api/evictions.rs"]
mod evictions;
#[path = "api/field_managers.rs"]
mod field_managers;
#[path = "api/gates.rs"]
mod gates;
#[path = "api/kinds.rs"]
mod kinds;
#[path = "api/kubelet_server.rs"]
mod kubelet_server;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/lists.rs"]
mod lists;
#[path = "api/logs.rs"]
mod logs;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/owners.rs"]
mod owners;
#[path = "api/pages.rs"]
mod pages;
#[path = "api/policies.rs"]
mod policies;
#[path = "api/quotas.rs"]
mod quotas;
#[path = "api/representations.rs"]
mod representations;
#[path = "api/resource_metrics.rs"]
mod resource_metrics;
#[path = "api/scale.rs"]
mod scale;
#[path = "api/services.rs"]
mod services;
#[path = "api/several.rs"]
mod several;
#[path = "api/shared_store.rs"]
mod shared_store;
#[path = "api/sockets.rs"]
mod sockets;
#[path = "api/stock_policies.rs"]
mod stock_policies;
#[path = "api/strict.rs"]
mod strict;
#[path = "api/tracing.rs"]
mod tracing;
#[path = "api/watches.rs"]
mod watches;
#[path = "api/webhooks.rs"]
mod webhooks;
#[path = "api/writes.rs"]
mod writes;
