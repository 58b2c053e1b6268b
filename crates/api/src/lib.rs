//! Wire types that k8s-openapi lacks, Quantity arithmetic, name rules, Status and its causes. No I/O, no tokio.
