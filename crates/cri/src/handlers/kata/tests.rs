//! Kata's configurations, on machines that have what they name and on machines that don't.

use super::*;

/// A directory with a configuration and the files that it names.
struct Made {
    dir: tempfile::TempDir,
    machine: Machine,
}

const CONFIGURATION: &str = r#"[hypervisor.qemu]
path = "DIR/qemu"
kernel = "DIR/vmlinuz"
image = ""
initrd = "DIR/initrd"
virtio_fs_daemon = "DIR/virtiofsd"
shared_fs = "virtio-fs"
firmware = ""

[runtime]
hypervisor_name = "qemu"
"#;

impl Made {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine {
            defaults: vec![
                dir.path().join("rs/configuration.toml"),
                dir.path().join("go/configuration.toml"),
            ],
            kvm: dir.path().join("kvm"),
            mshv: dir.path().join("mshv"),
            vsock: dir.path().join("vsock"),
        };
        let made = Self { dir, machine };
        for name in ["qemu", "virtiofsd"] {
            made.file(name, "\u{7f}ELF");
            let program = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(made.path(name), program).unwrap();
        }
        for name in ["vmlinuz", "initrd", "kvm", "vsock"] {
            made.file(name, "data");
        }
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = text.replace("DIR", &self.dir.path().display().to_string());
        std::fs::write(&path, text).unwrap();
        path
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let file = self.file("kata.toml", text);
        self.machine.check(Some(&file))
    }

    /// The reason of a refusal, with the directory as DIR.
    fn refused(&self, text: &str) -> String {
        let reason = self.check(text).expect_err("it must be refused");
        let dir = self.dir.path().canonicalize().unwrap();
        reason.replace(&dir.display().to_string(), "DIR")
    }
}

#[test]
fn what_the_configuration_names_must_be_there() {
    let made = Made::new();
    assert_eq!(made.check(CONFIGURATION), Ok(()));
    for (name, line, reason) in [
        ("vmlinuz", "kernel (DIR/kata.toml:3)", "does not exist"),
        ("initrd", "initrd (DIR/kata.toml:5)", "does not exist"),
        (
            "virtiofsd",
            "virtio_fs_daemon (DIR/kata.toml:6)",
            "does not exist",
        ),
        ("qemu", "path (DIR/kata.toml:2)", "does not exist"),
    ] {
        let made = Made::new();
        made.remove(name);
        let wanted = format!("hypervisor.qemu.{line}: DIR/{name} {reason}");
        assert_eq!(made.refused(CONFIGURATION), wanted);
    }
    std::fs::set_permissions(made.path("qemu"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        made.refused(CONFIGURATION)
            .ends_with("DIR/qemu is not executable")
    );
}

#[test]
fn a_qemu_needs_the_kernels_vsock() {
    let made = Made::new();
    made.remove("vsock");
    let wanted = "hypervisor.qemu in DIR/kata.toml needs DIR/vsock, which can't be opened: No such file or directory \
                  (os error 2); load vhost_vsock";
    let refused = made.refused(CONFIGURATION);
    let refused = refused.replace(&made.dir.path().display().to_string(), "DIR");
    assert_eq!(refused, wanted);
    // Others make their own, and a script may start one that does.
    let other = CONFIGURATION
        .replace("qemu]", "clh]")
        .replace("\"qemu\"", "\"clh\"");
    assert_eq!(made.check(&other), Ok(()));
    made.file("qemu", "#!/bin/sh\n");
    assert_eq!(made.check(CONFIGURATION), Ok(()));
}

#[test]
fn what_is_not_used_need_not_be_there() {
    let made = Made::new();
    made.remove("virtiofsd");
    let other = CONFIGURATION.replace("\"virtio-fs\"", "\"none\"");
    assert_eq!(made.check(&other), Ok(()));
    // Another hypervisor's settings don't count, and remote ones are on another machine.
    let made = Made::new();
    let more = format!("{CONFIGURATION}\n[hypervisor.clh]\npath = \"/no/such/clh\"\n");
    assert_eq!(made.check(&more), Ok(()));
    made.remove("kvm");
    assert_eq!(
        made.check("[hypervisor.remote]\nkernel = \"/no/such\"\n"),
        Ok(())
    );
}

#[test]
fn kvm_must_be_there_where_it_is_used() {
    let made = Made::new();
    made.remove("kvm");
    let reason = made.refused(CONFIGURATION);
    assert!(
        reason.starts_with("hypervisor.qemu in DIR/kata.toml needs DIR/kvm, which can't be opened"),
        "{reason}"
    );
    let emulated = CONFIGURATION.replace(
        "shared_fs",
        "machine_accelerators = \"accel=tcg\"\nshared_fs",
    );
    assert_eq!(made.check(&emulated), Ok(()));
    made.file("mshv", "");
    assert_eq!(made.check(CONFIGURATION), Ok(()));
    made.remove("mshv");
    // A script decides for itself.
    made.file(
        "qemu",
        "#!/bin/sh\nexec qemu-system-x86_64 -accel tcg \"$@\"\n",
    );
    assert_eq!(made.check(CONFIGURATION), Ok(()));
}

#[test]
fn drop_ins_are_laid_over() {
    let made = Made::new();
    made.file(
        "config.d/10-kernel.toml",
        "[hypervisor.qemu]\nkernel = \"/no/such/one\"\n",
    );
    let reason = made.refused(CONFIGURATION);
    assert_eq!(
        reason,
        "hypervisor.qemu.kernel (DIR/config.d/10-kernel.toml:2): /no/such/one does not exist"
    );
    made.file(
        "config.d/20-kernel.toml",
        "[hypervisor.qemu]\nkernel = \"DIR/vmlinuz\"\n",
    );
    assert_eq!(made.check(CONFIGURATION), Ok(()));
}

#[test]
fn without_a_file_the_default_places_count() {
    let made = Made::new();
    let reason = made.machine.check(None).expect_err("there is none");
    assert!(reason.contains("rs/configuration.toml"), "{reason}");
    // Which of the two a binary reads can't be told: one that is good is enough.
    made.file(
        "rs/configuration.toml",
        "[hypervisor.qemu]\nkernel = \"/no/such\"\n",
    );
    let reason = made
        .machine
        .check(None)
        .expect_err("it names what is not there");
    assert!(reason.contains("/no/such"), "{reason}");
    made.file("go/configuration.toml", CONFIGURATION);
    assert_eq!(made.machine.check(None), Ok(()));
}

#[test]
fn what_is_no_configuration_is_refused_in_words() {
    let made = Made::new();
    for (text, reason) in [
        ("[hypervisor", "kata.toml:1"),
        ("", "names no hypervisor"),
        ("hypervisor = 1", "names no hypervisor"),
        ("[hypervisor.qemu]\nkernel = 3\n", "must be a text"),
        (
            "[hypervisor.qemu]\n[runtime]\nhypervisor_name = \"clh\"\n",
            "names no hypervisor",
        ),
    ] {
        let got = made.refused(text);
        assert!(got.contains(reason), "{text:?}: {got}");
    }
    let gone = made.machine.check(Some(&made.path("gone.toml")));
    assert!(gone.unwrap_err().contains("gone.toml"));
    // Nothing hangs on a pipe.
    nix::unistd::mkfifo(&made.path("pipe.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(made.machine.check(Some(&made.path("pipe.toml"))).is_err());
}

#[test]
fn everything_that_was_looked_at_is_watched() {
    let made = Made::new();
    made.file(
        "config.d/10.toml",
        "[hypervisor.qemu]\nimage = \"DIR/image\"\n",
    );
    let file = made.file("kata.toml", CONFIGURATION);
    let inputs = made.machine.inputs(Some(&file));
    for name in [
        "kata.toml",
        "config.d",
        "config.d/10.toml",
        "qemu",
        "vmlinuz",
        "initrd",
        "image",
        "kvm",
    ] {
        assert!(inputs.contains(&made.path(name)), "{name}: {inputs:?}");
    }
}
