//! Annotations of berth's own that more than one part reads.

/// The annotation in which a berth node says which handlers are configured and cannot run: a JSON object of reasons
/// by handler. `node.status.runtimeHandlers` has only those that can.
pub const BROKEN_HANDLERS: &str = "berth.dev/broken-handlers";
