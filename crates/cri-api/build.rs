//! Turns `proto/` into Rust. Needs `protoc`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        // Says what lib.rs lets it say.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_protos(&["proto/runtime/v1/service.proto"], &["proto"])
}
