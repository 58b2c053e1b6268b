//! A node's credentials in the wrong hands.
