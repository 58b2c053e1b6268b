//! Controllers: namespaces, node health, pod garbage, service accounts.
