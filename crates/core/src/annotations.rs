//! Annotations of berth's own that more than one part knows.

use crate::isolation::{ATTESTED, DECLARED, HANDLERS, MINIMUM};

/// Of a Node: the handlers that are configured on it and cannot run, as a JSON object of reasons by name. The node
/// agent writes it (`status.runtimeHandlers` has only those that can run); API server, scheduler and `berth check` read it.
pub const BROKEN_HANDLERS: &str = "berth.dev/broken-handlers";

/// Of a Node: what pods may need of it besides a handler ([`crate::handlers::NodeFeatures`], as JSON).
pub const NODE_FEATURES: &str = "berth.dev/node-features";

/// Of a Pod: handler, binary and version that really ran it.
pub const RUNTIME: &str = "berth.dev/runtime";

/// Of a Namespace: the class of pods that name none.
pub const DEFAULT_CLASS: &str = "node.berth.dev/default-runtime-class";

/// Of a Namespace: the classes that pods may have, a comma list.
pub const ALLOWED_CLASSES: &str = "node.berth.dev/allowed-runtime-classes";

/// Of a RuntimeClass: how the declared overhead differs from what was measured.
pub const MEASURED_OVERHEAD: &str = "node.berth.dev/measured-overhead";

/// Those that people write, for which a misspelt one is taken to be meant.
pub const WRITTEN: [&str; 5] = [
    DEFAULT_CLASS,
    ALLOWED_CLASSES,
    MINIMUM,
    DECLARED,
    "node.berth.dev/default-network-policy",
];

/// Those that berth writes itself: however like one of the others, they are meant.
pub const OWN: [&str; 6] = [
    RUNTIME,
    ATTESTED,
    BROKEN_HANDLERS,
    HANDLERS,
    NODE_FEATURES,
    MEASURED_OVERHEAD,
];

/// The prefixes of berth's own annotations.
pub const PREFIXES: [&str; 2] = ["node.berth.dev/", "berth.dev/"];
