//! Container images: pull, import, verify, unpack, snapshots, garbage.
