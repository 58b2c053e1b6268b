//! Whether what goes from one pod of the bridge to another passes the rules of the IP layer.
//!
//! A pod that asks for a Service's address is led to another pod of the same bridge, which answers it directly. Only where
//! that answer passes connection tracking does it come from the address that was asked. Without that the proxy makes such
//! questions come from this machine, at the price that the answering pod sees the machine's address.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

const SETTINGS: &str = "/proc/sys/net/bridge";
const FOR_ALL: [&str; 3] = [
    "bridge-nf-call-iptables",
    "bridge-nf-call-ip6tables",
    "bridge-nf-call-arptables",
];

/// Loads the kernel's module, and leaves other bridges than ours as they were: loading it switches it on for all.
pub(crate) fn prepare() {
    if Path::new(SETTINGS).exists() {
        return;
    }
    let loaded = Command::new("modprobe")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .arg("br_netfilter")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if loaded.is_ok_and(|status| status.success()) {
        for name in FOR_ALL {
            // Where it stays on, more is filtered than has to be.
            let _stays_on = fs::write(Path::new(SETTINGS).join(name), "0");
        }
    }
}

/// Switches it on for a bridge; false while there is no such bridge, or the kernel can't.
pub(crate) fn passes_rules(bridge: &str) -> bool {
    let is_on = |path: &Path| -> io::Result<bool> { Ok(fs::read_to_string(path)?.trim() == "1") };
    let on = |all: &str, own: &str| -> io::Result<bool> {
        if is_on(&Path::new(SETTINGS).join(all))? {
            return Ok(true);
        }
        let own = Path::new("/sys/class/net").join(bridge).join(own);
        if !is_on(&own)? {
            fs::write(&own, "1")?;
        }
        is_on(&own)
    };
    on("bridge-nf-call-iptables", "bridge/nf_call_iptables").unwrap_or(false)
        && on("bridge-nf-call-ip6tables", "bridge/nf_call_ip6tables").unwrap_or(false)
}
