//! Bodies and patches that cost more than they are worth.
