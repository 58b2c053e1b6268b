//! The rules as pure functions: default, validate, admit, overhead, filter and score, who-may, the pod's phase machine. No I/O, no clock, no tokio.

pub mod event;
