//! The per-pod supervisor (containerd's shim v2 over ttrpc) and the client for any shim.
