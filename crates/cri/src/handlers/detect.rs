//! Runtimes that nobody configured, in the places where their installers put them: Kata's releases and packages, NVIDIA's runtime.
//!
//! Only files are looked up, so that it can be done every second: a release that is unpacked is a handler within seconds, and
//! one that is half unpacked is a broken one until the rest is there. Shims of runwasi are not taken: they fetch modules from
//! containerd, so they can't work below `berth cri`.

use std::path::{Path, PathBuf};

use super::definition::{Definition, RuntimeDef};
use super::document::Origin;

/// Directories of Kata's configurations; of two files of one name the first counts.
const CONFIGURATIONS: [&str; 3] = [
    "etc/kata-containers",
    "opt/kata/share/defaults/kata-containers",
    "usr/share/defaults/kata-containers",
];
/// Below each of them: those of the runtime in Rust.
const RUST: &str = "runtime-rs";
/// Kata's shims: of the runtime in Go, and of that in Rust.
const GO_SHIMS: [&str; 3] = [
    "opt/kata/bin/containerd-shim-kata-v2",
    "usr/local/bin/containerd-shim-kata-v2",
    "usr/bin/containerd-shim-kata-v2",
];
const RUST_SHIMS: [&str; 4] = [
    "opt/kata/runtime-rs/bin/containerd-shim-kata-v2",
    "opt/kata/bin/containerd-shim-kata-v2",
    "usr/local/bin/containerd-shim-kata-v2",
    "usr/bin/containerd-shim-kata-v2",
];
/// A release has some twenty configurations.
const MAX_CONFIGURATIONS: usize = 64;
/// NVIDIA's runtime, which calls runc with the devices and libraries of its GPUs.
const NVIDIA: &str = "nvidia-container-runtime";

/// What is installed below `root`, which is `/` except in tests; `installed` says whether PATH has a program.
pub(super) fn others(root: &Path, installed: &dyn Fn(&str) -> bool) -> Vec<Definition> {
    let mut found = kata(root);
    if installed(NVIDIA) {
        let runtime = RuntimeDef::Oci {
            binary: PathBuf::from(NVIDIA),
            root: None,
            systemd_cgroup: false,
            config: None,
            args: Vec::new(),
        };
        found.push(Definition::new("nvidia", runtime, Origin::built_in()));
    }
    found
}

fn kata(root: &Path) -> Vec<Definition> {
    let first = |places: &[&str]| places.iter().map(|p| root.join(p)).find(|p| p.is_file());
    let mut found: Vec<Definition> = Vec::new();
    for (shims, folder) in [(&GO_SHIMS[..], ""), (&RUST_SHIMS[..], RUST)] {
        let Some(shim) = first(shims) else {
            continue;
        };
        for dir in CONFIGURATIONS {
            let dir = root.join(dir).join(folder);
            for (name, file) in configurations(&dir) {
                let is_new = found.iter().all(|known| known.name != name);
                if is_new && has_hardware(root, &name) && found.len() < MAX_CONFIGURATIONS {
                    found.push(virtual_machine(&name, &shim, file));
                }
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The configurations of a directory by handler: `configuration.toml` is `kata`'s, `configuration-qemu.toml` that of `kata-qemu`.
fn configurations(dir: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = dir.read_dir() else {
        return Vec::new();
    };
    let handler = |path: &Path| -> Option<String> {
        let name = path.file_name()?.to_str()?;
        let kind = name.strip_prefix("configuration")?.strip_suffix(".toml")?;
        let is_label = kind
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let is_whole = kind.is_empty() || (kind.starts_with('-') && !kind.ends_with('-'));
        (is_label && is_whole && kind.len() < 58).then(|| format!("kata{kind}"))
    };
    let mut found: Vec<(String, PathBuf)> = entries
        .take(MAX_CONFIGURATIONS * 4)
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((handler(&path)?, path))
        })
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    found
}

/// Whether the machine has what a configuration is for. A release has all of them, for every kind of machine.
fn has_hardware(root: &Path, handler: &str) -> bool {
    let says = |path: &str, yes: &[&str]| {
        let text = std::fs::read_to_string(root.join(path));
        text.is_ok_and(|text| yes.contains(&text.trim()))
    };
    let yes = ["Y", "1"];
    let needs = |word: &str| handler.split('-').any(|part| part == word);
    let gpus = || {
        let groups = root.join("dev/vfio").read_dir();
        groups.is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "vfio"))
        })
    };
    (!needs("snp") || says("sys/module/kvm_amd/parameters/sev_snp", &yes))
        && (!needs("sev") || says("sys/module/kvm_amd/parameters/sev", &yes))
        && (!needs("tdx") || says("sys/module/kvm_intel/parameters/tdx", &yes))
        && (!needs("se") || says("sys/firmware/uv/prot_virt_host", &yes))
        // Nothing of the machine says that it has Arm's, so it has to be configured.
        && !needs("cca")
        && (!needs("nvidia") || gpus())
        // Its virtual machines are elsewhere, and somebody has to make them.
        && (!needs("remote") || root.join("run/peerpod/hypervisor.sock").exists())
}

fn virtual_machine(name: &str, shim: &Path, config: PathBuf) -> Definition {
    let runtime = RuntimeDef::Shim {
        binary: shim.to_owned(),
        config: Some(config),
        config_type: None,
        runtime_binary: None,
        systemd_cgroup: false,
        vm: true,
    };
    Definition::new(name, runtime, Origin::built_in())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn names(root: &Path) -> Vec<String> {
        let found = others(root, &|_| false);
        found.into_iter().map(|d| d.name).collect()
    }

    const RELEASE: &str = "opt/kata/share/defaults/kata-containers";

    #[test]
    fn a_release_has_a_handler_for_each_configuration_that_the_machine_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(names(root), [""; 0]);
        for kind in [
            "",
            "-qemu",
            "-clh",
            "-fc",
            "-qemu-snp",
            "-qemu-tdx",
            "-qemu-se",
            "-qemu-nvidia-gpu",
            "-remote",
        ] {
            file(root, &format!("{RELEASE}/configuration{kind}.toml"), "");
        }
        for none in [
            "configuration-.toml",
            "configuration-UPPER.toml",
            "configuration-a.b.toml",
            "other.toml",
            "configuration-x.toml.orig",
        ] {
            file(root, &format!("{RELEASE}/{none}"), "");
        }
        file(
            root,
            &format!("{RELEASE}/runtime-rs/configuration-dragonball.toml"),
            "",
        );
        // No shim yet: it is being unpacked.
        assert_eq!(names(root), [""; 0]);
        file(root, "opt/kata/bin/containerd-shim-kata-v2", "");
        file(root, "opt/kata/runtime-rs/bin/containerd-shim-kata-v2", "");
        assert_eq!(
            names(root),
            [
                "kata",
                "kata-clh",
                "kata-dragonball",
                "kata-fc",
                "kata-qemu"
            ]
        );
        file(root, "sys/module/kvm_amd/parameters/sev_snp", "Y\n");
        file(root, "sys/module/kvm_intel/parameters/tdx", "N\n");
        file(root, "dev/vfio/vfio", "");
        assert!(names(root).contains(&"kata-qemu-snp".to_owned()));
        assert!(!names(root).contains(&"kata-qemu-tdx".to_owned()));
        assert!(!names(root).contains(&"kata-qemu-nvidia-gpu".to_owned()));
        file(root, "dev/vfio/12", "");
        assert!(names(root).contains(&"kata-qemu-nvidia-gpu".to_owned()));
    }

    #[test]
    fn each_configuration_has_its_runtime_and_etc_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(root, "opt/kata/bin/containerd-shim-kata-v2", "");
        file(root, "opt/kata/runtime-rs/bin/containerd-shim-kata-v2", "");
        file(root, &format!("{RELEASE}/configuration-qemu.toml"), "");
        file(root, "etc/kata-containers/configuration-qemu.toml", "");
        file(
            root,
            &format!("{RELEASE}/runtime-rs/configuration-qemu.toml"),
            "",
        );
        file(
            root,
            &format!("{RELEASE}/runtime-rs/configuration-dragonball.toml"),
            "",
        );
        let found = kata(root);
        let of = |name: &str| {
            let found = found.iter().find(|d| d.name == name).unwrap();
            match &found.runtime {
                RuntimeDef::Shim {
                    binary,
                    config,
                    vm: true,
                    ..
                } => {
                    let short =
                        |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
                    (short(binary), short(config.as_ref().unwrap()))
                }
                other => panic!("{other:?}"),
            }
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            of("kata-qemu"),
            pair(
                "opt/kata/bin/containerd-shim-kata-v2",
                "etc/kata-containers/configuration-qemu.toml"
            )
        );
        assert_eq!(
            of("kata-dragonball"),
            pair(
                "opt/kata/runtime-rs/bin/containerd-shim-kata-v2",
                &format!("{RELEASE}/runtime-rs/configuration-dragonball.toml")
            )
        );
    }

    #[test]
    fn nvidia_s_runtime_is_found_in_path() {
        let found = others(Path::new("/nowhere"), &|name| name == NVIDIA);
        let [nvidia] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(nvidia.name, "nvidia");
        assert!(
            matches!(&nvidia.runtime, RuntimeDef::Oci { binary, .. } if binary == Path::new(NVIDIA))
        );
    }

    #[test]
    fn a_directory_without_end_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "opt/kata/bin/containerd-shim-kata-v2", "");
        for i in 0..1000 {
            file(
                dir.path(),
                &format!("{RELEASE}/configuration-a{i}.toml"),
                "",
            );
        }
        assert!(names(dir.path()).len() <= MAX_CONFIGURATIONS);
    }
}
