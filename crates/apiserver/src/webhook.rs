//! Requests of the server's own to webhooks: admission and conversion.
//!
//! A webhook is whoever a cluster administrator has named, and may still hang, lie, redirect or answer megabytes. It gets
//! what it is asked about and nothing else: no credentials, no cookies, no redirect is followed, and nothing is sent before
//! its certificate was verified. What it costs is bounded, and each webhook has bounds of its own ([`client`]): one that
//! hangs takes nothing from the others.

mod client;
mod failure;
mod places;
pub(crate) mod trust;

pub(crate) use client::{ClientConfig, HookClient, Whereabouts};
pub(crate) use failure::{CallError, transport as describe};
