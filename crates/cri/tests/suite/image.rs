//! One image, made of the machine's busybox.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub(crate) const NAME: &str = "localhost/berth-cri-test:1";

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "id", "httpd", "uname", "env", "ls", "ps", "true", "dd",
    "hostname", "kill", "wc", "head", "mkdir", "stty", "yes", "touch", "grep",
];

fn entry(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn layer() -> Vec<u8> {
    let busybox = std::fs::read("/usr/bin/busybox").expect("busybox-static is installed");
    let mut tar = tar::Builder::new(Vec::new());
    for dir in [
        "bin/", "etc/", "tmp/", "root/", "proc/", "sys/", "dev/", "data/",
    ] {
        let mut header = entry(tar::EntryType::Directory, 0o755, 0);
        tar.append_data(&mut header, dir, std::io::empty()).unwrap();
    }
    for (path, mode, bytes) in [
        ("bin/busybox", 0o755, busybox.as_slice()),
        (
            "etc/passwd",
            0o644,
            b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n".as_slice(),
        ),
        ("data/seed", 0o640, b"seed\n".as_slice()),
        (
            "etc/group",
            0o644,
            b"root:x:0:\nweb:x:34:\nextra:x:500:web\n".as_slice(),
        ),
    ] {
        let mut header = entry(
            tar::EntryType::Regular,
            mode,
            u64::try_from(bytes.len()).unwrap(),
        );
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    for applet in APPLETS {
        let mut header = entry(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    tar.into_inner().unwrap()
}

/// Writes the image as a docker-archive into `dir`.
pub(crate) fn archive(dir: &Path) -> PathBuf {
    let layer = layer();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["sleep", "1000"], "Env": ["PATH=/bin", "FROM=image"], "WorkingDir": "/tmp", "Volumes": { "/data": {} } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))] },
    })
    .to_string();
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]).to_string();
    let path = dir.join("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for (name, bytes) in [
        ("config.json", config.as_bytes()),
        ("layer.tar", layer.as_slice()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = entry(
            tar::EntryType::Regular,
            0o644,
            u64::try_from(bytes.len()).unwrap(),
        );
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.finish().unwrap();
    path
}
