//! Turns `proto/` into Rust. Needs `protoc`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // The node keeps what a plugin answered beside the pod that it is for.
        .type_attribute(
            ".v1beta1",
            "#[derive(serde::Serialize, serde::Deserialize)]",
        )
        .compile_protos(
            &[
                "proto/deviceplugin/v1beta1/api.proto",
                "proto/podresources/v1/api.proto",
            ],
            &["proto"],
        )
}
