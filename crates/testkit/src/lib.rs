//! Builders, fakes and wait_for for tests; a dev-dependency only.
