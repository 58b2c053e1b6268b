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

/// What stands in a hostile image's /etc/passwd.
pub(crate) enum Passwd {
    Link(&'static str),
    Fifo,
    Bytes(usize),
}

/// An ordinary image but for its /etc/passwd, as a docker-archive in `dir`.
pub(crate) fn hostile(dir: &Path, name: &str, passwd: &Passwd) -> PathBuf {
    let mut tar = tar::Builder::new(Vec::new());
    let place = "etc/passwd";
    match passwd {
        Passwd::Link(target) => {
            let mut header = entry(tar::EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, place, target).unwrap();
        }
        Passwd::Fifo => {
            let mut header = entry(tar::EntryType::Fifo, 0o644, 0);
            tar.append_data(&mut header, place, std::io::empty())
                .unwrap();
        }
        Passwd::Bytes(count) => {
            let line = b"root:x:0:0::/root:/bin/sh\n";
            let bytes: Vec<u8> = line.iter().copied().cycle().take(*count).collect();
            let size = u64::try_from(bytes.len()).unwrap();
            let mut header = entry(tar::EntryType::Regular, 0o644, size);
            tar.append_data(&mut header, place, bytes.as_slice())
                .unwrap();
        }
    }
    docker_archive(
        dir,
        name,
        &serde_json::json!({}),
        &[layer(), tar.into_inner().unwrap()],
    )
}

/// An image with so many volumes.
pub(crate) fn of_volumes(dir: &Path, name: &str, count: usize) -> PathBuf {
    let volumes: serde_json::Map<String, serde_json::Value> = (0..count)
        .map(|number| (format!("/v{number}"), serde_json::json!({})))
        .collect();
    let config = serde_json::json!({ "Volumes": volumes });
    docker_archive(dir, name, &config, &[layer()])
}

/// An image of so many layers, the topmost of which has `/number` with their number.
pub(crate) fn of_layers(dir: &Path, name: &str, count: usize) -> PathBuf {
    let more = (2..=count).map(|number| {
        let text = format!("{number}\n");
        let size = u64::try_from(text.len()).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for name in ["number".to_owned(), format!("layer-{number}")] {
            let mut header = entry(tar::EntryType::Regular, 0o644, size);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    });
    let layers: Vec<Vec<u8>> = std::iter::once(layer()).chain(more).collect();
    docker_archive(dir, name, &serde_json::json!({}), &layers)
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
    let config = serde_json::json!({ "Cmd": ["sleep", "1000"], "Env": ["PATH=/bin", "FROM=image"], "WorkingDir": "/tmp", "Volumes": { "/data": {} } });
    docker_archive(dir, NAME, &config, &[layer()])
}

fn docker_archive(
    dir: &Path,
    image: &str,
    config: &serde_json::Value,
    layers: &[Vec<u8>],
) -> PathBuf {
    let digests: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex::encode(Sha256::digest(layer))))
        .collect();
    let names: Vec<String> = (0..layers.len())
        .map(|number| format!("layer{number}.tar"))
        .collect();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": digests },
    })
    .to_string();
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [image], "Layers": names }])
            .to_string();
    let path = dir.join("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut members = vec![
        ("config.json".to_owned(), config.as_bytes()),
        ("manifest.json".to_owned(), manifest.as_bytes()),
    ];
    members.extend(names.iter().cloned().zip(layers.iter().map(Vec::as_slice)));
    for (name, bytes) in members {
        let size = u64::try_from(bytes.len()).unwrap();
        let mut header = entry(tar::EntryType::Regular, 0o644, size);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.finish().unwrap();
    path
}
