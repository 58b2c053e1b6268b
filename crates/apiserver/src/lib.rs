//! The API server: HTTP, discovery, OpenAPI, representations, patches, watch, who-may.
//!
//! [`Config`] says everything, [`Config::build`] checks it, opens the store and binds the port,
//! [`Server::serve`] answers until it is told to stop.
//!
//! A request passes `handler` (request info, who, may) and then one of the generic verbs in `rest`,
//! which know kinds only through the rows of the [`registry`] and their [`strategy`].

mod admission;
pub mod api;
pub mod authn;
pub mod authz;
pub mod config;
mod custom;
pub mod discovery;
mod finish;
mod handler;
mod health;
mod heavy;
pub mod http_types;
mod maintenance;
mod metrics;
mod negotiate;
pub mod openapi;
pub mod patch;
pub mod printer;
pub mod protobuf;
pub mod proxy;
mod query;
pub mod registry;
pub mod request;
mod rest;
pub mod reviews;
mod selector;
mod server;
pub mod storage;
pub mod strategy;
pub mod tls;
pub mod tokens;
pub mod user;

pub use admission::PluginsError;
pub use config::{Config, StoreConfig};
pub use server::{BuildError, Server};
