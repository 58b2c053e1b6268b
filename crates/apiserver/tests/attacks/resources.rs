//! Clients that take connections, memory, watches or workers from others.
