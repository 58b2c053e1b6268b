//! Credentials: tokens, audiences, certificates, reviews.
