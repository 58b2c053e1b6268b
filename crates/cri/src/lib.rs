//! The CRI v1 runtime and image services: sandboxes, containers, handler table, streaming.
