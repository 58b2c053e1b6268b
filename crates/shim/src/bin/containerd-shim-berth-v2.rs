//! The supervisor as a binary of its own, by a name under which containerd finds it (`io.containerd.berth.v2`).

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    berth_shim::publish::main(&arguments).unwrap_or_else(|| berth_shim::server::main(arguments))
}
