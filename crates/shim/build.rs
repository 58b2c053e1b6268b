//! Links without position independence: a shim is started for every pod, and relocating its tables at each start
//! would cost time and leave those pages private to each process.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
