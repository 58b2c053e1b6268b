//! The network that berth configures when nobody else did.

use std::io;
use std::path::Path;

use serde_json::json;

use crate::config::DefaultNetwork;

/// The file's name; others beside it would be somebody's choice.
const FILE: &str = "10-berth.conflist";

/// Writes the configuration: a bridge, addresses from `subnet`, port mappings.
pub(crate) fn write_default(
    dir: &Path,
    network: &DefaultNetwork,
    subnet: &str,
    ipam_dir: &Path,
) -> io::Result<()> {
    let default_route = if subnet.contains(':') {
        "::/0"
    } else {
        "0.0.0.0/0"
    };
    let ranges: Vec<_> = subnet
        .split(',')
        .map(|subnet| json!([{ "subnet": subnet.trim() }]))
        .collect();
    let text = serde_json::to_string_pretty(&json!({
        "cniVersion": "1.0.0",
        "name": network.name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": network.bridge,
                "isGateway": true,
                // one chain for all pods does it: see masquerade.rs
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": ipam_dir,
                    "ranges": ranges,
                    "routes": [{ "dst": default_route }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    }))?;
    let path = dir.join(FILE);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    let temporary = dir.join(".10-berth.tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, path)
}
