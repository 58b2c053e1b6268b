//! Revisioned key-value store with watch: SQLite (embedded default) and etcd.
