//! From a CRI container to an OCI runtime spec, and what each runtime's command line needs.
