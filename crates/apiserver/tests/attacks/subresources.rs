//! Writes that reach an object by a subresource.
