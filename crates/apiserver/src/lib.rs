//! The API server: HTTP, discovery, OpenAPI, representations, patches, watch, who-may.
//!
//! [`Config`] says everything, [`Config::build`] checks it, opens the store and binds the port,
//! [`Server::serve`] answers until it is told to stop.
//!
//! A request is read once ([`request`]), passes `handler` (who, may) and then one of the generic verbs in `rest`, which know
//! kinds only through the rows of the [`registry`] and their [`strategy`].

mod admission;
mod aggregation;
mod allocation;
pub mod api;
pub mod attributes;
mod audit;
pub mod authn;
pub mod authz;
mod body;
pub mod ca_hash;
pub mod config;
mod connections;
mod control_plane;
mod custom;
pub mod discovery;
mod field_label;
mod finish;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod generated_name;
mod handler;
mod health;
mod heavy;
pub mod http_types;
mod kind;
mod kinds;
pub mod limits;
mod log_limit;
mod maintenance;
mod metadata;
mod metrics;
mod negotiate;
mod object;
pub mod openapi;
pub mod patch;
pub mod printer;
pub mod protobuf;
pub mod proxy;
mod query;
pub mod registry;
pub mod request;
mod resource_metrics;
mod rest;
pub mod reviews;
mod selector;
mod server;
pub mod storage;
mod strategy;
pub mod tls;
pub mod tokens;
mod trace;
pub mod user;
mod version;
mod warnings;
mod webhook;

pub use admission::{ConfigFileError, NoTemplatePath, PluginsError, PodTemplatePath};
pub use aggregation::FrontProxyConfig;
pub use allocation::ServiceSettings;
pub use audit::{
    AuditConfig, AuditError, AuditMode, BatchConfig, KubeconfigError, PolicyError, Throttle,
    WebhookConfig,
};
pub use config::{Config, PodListener, StoreConfig};
pub use control_plane::{EndpointReconciler, OtherAuthority};
pub use server::{BuildError, ServeError, Server};
