//! Pods that the namespace's Pod Security level forbids.
