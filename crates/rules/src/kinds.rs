//! The smaller kinds: one file each, all through [`crate::Rules`].

pub mod answered;
pub mod api_group;
pub mod config;
pub mod csi;
pub mod endpoints;
pub mod event;
pub mod lease;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod priority_class;
pub mod quota;
pub mod service;
pub mod service_account;
