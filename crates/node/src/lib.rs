//! The node agent (the kubelet's role): pod workers, probes, volumes, status, cgroups.
