//! The supervisor as a binary of its own, by a name under which containerd finds it (`io.containerd.berth.v2`).

fn main() -> std::process::ExitCode {
    berth_shim::server::main(std::env::args_os().skip(1).collect())
}
