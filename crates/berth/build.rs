//! Links with relative relocations packed: `berth shim` is started for every pod, and reading megabytes of
//! relocation entries at each start would cost time and memory. Position independence is kept.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
