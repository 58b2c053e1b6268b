//! Where spans go: one exporter for all roles of a process.

use std::path::Path;

use berth_trace::{Tracer, TracingConfig};

/// The exporter that the file (`--tracing-config-file`) or OpenTelemetry's variables ask for. Must be called where a runtime
/// is.
///
/// # Errors
/// When they ask for what cannot be done.
pub(crate) fn tracer(file: Option<&Path>) -> anyhow::Result<Tracer> {
    let variable = |name: &str| std::env::var(name).ok();
    let config = match file {
        Some(path) => Some(TracingConfig::load(path)?.with_variables(variable)?),
        None => TracingConfig::from_variables(variable)?,
    };
    Ok(config.as_ref().map_or_else(Tracer::default, Tracer::start))
}
