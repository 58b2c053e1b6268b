//! Containers and their devices on a machine where all controllers are of version 2: this one, if it is such, else a
//! mount namespace in which it looks so. (The version 2 tree of a hybrid machine lacks controllers, but device
//! programs are none.)
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde_json::{Value, json};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Reads kmsg (1:11), opens it for both, reads null.
const LOOK: &str = "[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11 || exit; printf m; \
    (: < /dev/kmsg) 2>/dev/null && printf r; (: <> /dev/kmsg) 2>/dev/null && printf b; \
    (: < /dev/null) && printf n";

/// Runs a test in a thread of its own, whose mounts and filters are nobody else's.
fn on_v2(test: impl FnOnce() + Send + 'static) {
    /// The controllers that cgroups had before libcgroups gave them all there are.
    static BEFORE: OnceLock<String> = OnceLock::new();
    let thread = std::thread::spawn(|| {
        if statfs(CGROUPS).unwrap().filesystem_type() != CGROUP2_SUPER_MAGIC {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace, as root");
            let none = None::<&str>;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            umount2(CGROUPS, MntFlags::MNT_DETACH).unwrap();
            mount(
                Some("cgroup2"),
                CGROUPS,
                Some("cgroup2"),
                MsFlags::empty(),
                none,
            )
            .unwrap();
            let control = Path::new(CGROUPS).join("cgroup.subtree_control");
            let read = || std::fs::read_to_string(&control).unwrap();
            let before = BEFORE.get_or_init(read);
            test();
            for controller in read().split_whitespace() {
                if !before.split_whitespace().any(|old| old == controller) {
                    // Another test may use it still, and takes it away after.
                    let _ = std::fs::write(&control, format!("-{controller}"));
                }
            }
        } else {
            test();
        }
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A container's bundle, and the runtime's root.
struct Bundle {
    dir: tempfile::TempDir,
    id: String,
}

impl Bundle {
    fn new(name: &str, devices: &Value, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for name in ["sh", "mknod", "sleep"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        let id = format!("berth-unified-{name}-{}", std::process::id());
        let capabilities = ["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"];
        let sets: serde_json::Map<String, Value> = ["bounding", "effective", "permitted"]
            .into_iter()
            .map(|set| (set.to_owned(), json!(capabilities)))
            .collect();
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "process": {
                "cwd": "/",
                "args": args,
                "env": ["PATH=/bin"],
                "user": { "uid": 0, "gid": 0 },
                "capabilities": sets,
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            ],
            "linux": {
                "cgroupsPath": format!("/{id}"),
                "resources": { "devices": devices },
                "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
                    { "type": "network" }, { "type": "cgroup" }],
            },
        });
        std::fs::write(dir.path().join("config.json"), spec.to_string()).unwrap();
        Self { dir, id }
    }

    fn cgroup(&self) -> PathBuf {
        Path::new(CGROUPS).join(&self.id)
    }

    /// A verb and its words; the container's id comes last, `more` after it.
    fn call(&self, verb: &[&str], more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_berth-oci"))
            .arg("--root")
            .arg(self.dir.path().join("state"))
            .args(verb)
            .arg(&self.id)
            .args(more)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    /// Its process' streams are not to be waited for.
    fn create(&self) -> Result<(), String> {
        let errors = self.dir.path().join("errors");
        let created = Command::new(env!("CARGO_BIN_EXE_berth-oci"))
            .arg("--root")
            .arg(self.dir.path().join("state"))
            .args(["create", &self.id])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).unwrap())
            .status();
        if created.unwrap().success() {
            return Ok(());
        }
        Err(std::fs::read_to_string(errors).unwrap())
    }

    /// As [`Self::call`], with what it printed, or how it failed.
    fn ask(&self, verb: &[&str], more: &[&str]) -> Result<String, String> {
        let done = self.call(verb, more);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if done.status.success() {
            Ok(text(done.stdout))
        } else {
            Err(format!(
                "{}, {}{}",
                done.status,
                text(done.stdout),
                text(done.stderr)
            ))
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force"], &[]);
    }
}

fn denied() -> Value {
    json!({ "allow": false, "access": "rwm" })
}

fn kmsg(access: &str) -> Value {
    json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": access })
}

#[test]
fn a_container_opens_the_devices_of_its_rules_and_the_default_ones() {
    let check = || {
        for (name, devices, may) in [
            ("none", json!(null), "mn"),
            ("denied", json!([denied()]), "mn"),
            ("read", json!([denied(), kmsg("r")]), "mrn"),
            ("both", json!([denied(), kmsg("rw")]), "mrbn"),
            ("all", json!([{ "allow": true, "access": "rwm" }]), "mrbn"),
        ] {
            let bundle = Bundle::new(name, &devices, &["sh", "-c", LOOK]);
            assert_eq!(bundle.ask(&["run"], &[]), Ok(may.to_owned()), "{name}");
            assert!(!bundle.cgroup().exists());
        }
    };
    on_v2(check);
    // By the devices controller of version 1, where there is one.
    check();
}

#[test]
fn an_exec_is_bound_too_and_an_update_changes_it() {
    on_v2(|| {
        let bundle = Bundle::new("update", &json!([denied(), kmsg("r")]), &["sleep", "60"]);
        bundle.create().unwrap();
        bundle.ask(&["start"], &[]).unwrap();
        let look = || bundle.ask(&["exec"], &["sh", "-c", LOOK]).unwrap();
        assert_eq!(look(), "mrn");
        let resources = bundle.dir.path().join("resources.json");
        let file = resources.to_str().unwrap();
        for (update, may) in [
            (json!({ "devices": [denied()] }), "mn"),
            // Of something else.
            (json!({}), "mn"),
            (json!({ "devices": [denied(), kmsg("rw")] }), "mrbn"),
            (
                json!({ "devices": [{ "allow": true, "access": "rwm" }] }),
                "mrbn",
            ),
            (json!({ "devices": [] }), "mn"),
        ] {
            std::fs::write(&resources, update.to_string()).unwrap();
            bundle.ask(&["update", "--resources", file], &[]).unwrap();
            assert_eq!(look(), may, "{update}");
        }
    });
}

#[test]
fn a_container_that_may_not_be_bound_yet_is_not_started() {
    on_v2(|| {
        let bundle = Bundle::new("cut", &json!([denied()]), &["sleep", "60"]);
        bundle.create().unwrap();
        // As a killed create leaves it.
        let record = Path::new("state/.berth")
            .join(&bundle.id)
            .join("record.json");
        let record = bundle.dir.path().join(record);
        let mut kept: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        kept["started"] = Value::Null;
        std::fs::write(&record, kept.to_string()).unwrap();
        let refused = bundle.ask(&["start"], &[]).unwrap_err();
        assert!(refused.contains("cut short"), "{refused}");
        bundle.ask(&["delete", "--force"], &[]).unwrap();
        assert!(!bundle.cgroup().exists());
    });
}

#[test]
fn without_bpf_only_a_container_that_may_use_all_is_made() {
    on_v2(|| {
        let args = ["sh", "-c", LOOK];
        let allowed = Bundle::new("free", &json!([{ "allow": true }]), &args);
        let denied = Bundle::new("bound", &json!([denied()]), &args);
        let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
        let bpf = ScmpSyscall::from_name("bpf").unwrap();
        filter
            .add_rule(ScmpAction::Errno(libc::ENOSYS), bpf)
            .unwrap();
        filter.load().unwrap();
        let refused = denied.ask(&["run"], &[]).unwrap_err();
        assert!(refused.contains("CONFIG_BPF_SYSCALL"), "{refused}");
        assert!(!denied.cgroup().exists());
        let gone = denied.ask(&["state"], &[]).unwrap_err();
        assert!(gone.contains("does not exist"), "{gone}");
        assert_eq!(allowed.ask(&["run"], &[]), Ok("mrbn".to_owned()));
    });
}

#[test]
fn a_container_whose_program_can_not_be_attached_is_not_made() {
    on_v2(|| {
        let bundle = Bundle::new("open", &json!([denied()]), &["sh", "-c", LOOK]);
        let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
        let bpf = ScmpSyscall::from_name("bpf").unwrap();
        // BPF_PROG_ATTACH.
        let attach = libseccomp::ScmpArgCompare::new(0, libseccomp::ScmpCompareOp::Equal, 8);
        filter
            .add_rule_conditional(ScmpAction::Errno(libc::EPERM), bpf, &[attach])
            .unwrap();
        filter.load().unwrap();
        let refused = bundle.create().unwrap_err();
        assert!(refused.contains("cannot attach"), "{refused}");
        assert!(!bundle.cgroup().exists());
        let gone = bundle.ask(&["state"], &[]).unwrap_err();
        assert!(gone.contains("does not exist"), "{gone}");
    });
}
