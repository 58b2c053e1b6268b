//! Which pod has to go first when the node runs short of something incompressible.

/// One pod's standing for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The pod's uid.
    pub uid: String,
    /// What it uses, in bytes.
    pub usage: i64,
    /// What it asked for, its overhead included.
    pub request: i64,
    /// `spec.priority`.
    pub priority: i32,
    /// Never to be evicted (node-critical).
    pub critical: bool,
}

/// Pods in the order in which they are evicted: those above their request first, then by rising
/// priority, then by how far they are above it. Critical pods are left out.
pub fn rank(mut pods: Vec<Standing>) -> Vec<Standing> {
    pods.retain(|p| !p.critical);
    pods.sort_by_key(|p| {
        let above = p.usage - p.request;
        (above <= 0, p.priority, std::cmp::Reverse(above))
    });
    pods
}
