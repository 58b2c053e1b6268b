//! With the kernel: a device program works on any cgroup of a version 2 tree, with or without controllers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxDeviceCgroup;

use super::*;
use rule::Rule;

/// A cgroup of the version 2 tree, wherever that is mounted.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (root, _) = crate::cgroup::hierarchies(&mounts)
            .into_iter()
            .find(|(_, kind)| *kind == "cgroup2")
            .expect("a cgroup2 tree is mounted below /sys/fs/cgroup");
        let path = Path::new(root).join(format!("berth-devices-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("make a cgroup, as root");
        Self(path)
    }

    /// What a shell in the cgroup says of accesses: a letter for each that it may.
    fn may(&self, script: &str) -> String {
        let script = format!(
            "echo 0 > {}/cgroup.procs || exit; {script}",
            self.0.display()
        );
        let done = Command::new("/bin/sh").args(["-c", &script]).output();
        String::from_utf8(done.unwrap().stdout).unwrap()
    }

    fn programs(&self) -> Vec<u32> {
        let folder = std::fs::File::open(&self.0).unwrap();
        bpf::attached(folder.as_fd()).unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(5);
        while std::fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads, writes and both, of zero (1:5); makes a node of it.
fn zero(folder: &Path) -> String {
    let node = folder.join("node");
    format!(
        "(: < /dev/zero) 2>&- && printf r; (: > /dev/zero) 2>&- && printf w; \
         (: <> /dev/zero) 2>&- && printf b; \
         mknod {node} c 1 5 2>&- && printf m; rm -f {node}",
        node = node.display()
    )
}

fn rules(lines: &[(bool, &str)]) -> Devices {
    let rules = lines.iter().map(|(allow, access)| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(*allow);
        rule.set_access(Some((*access).to_owned()));
        if *access != "rwm" {
            rule.set_major(Some(1)).set_minor(Some(5));
        }
        Rule::parse(&rule).unwrap()
    });
    Devices::load(&Rules::new(rules.collect())).unwrap()
}

#[test]
fn the_kernel_keeps_to_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let script = zero(folder.path());
    let cgroup = Cgroup::make("kept");
    assert_eq!(cgroup.may(&script), "rwbm", "nothing is denied before");
    // Each in place of the one before.
    for (lines, may) in [
        (&[(false, "rwm")][..], ""),
        (&[(false, "rwm"), (true, "r")], "r"),
        (&[(false, "rwm"), (true, "rw")], "rwb"),
        (&[(false, "rwm"), (true, "r"), (true, "w")], "rwb"),
        (&[(true, "rwm"), (false, "w")], "rm"),
        (&[(false, "rwm"), (true, "m")], "m"),
    ] {
        rules(lines).enforce(&cgroup.0).unwrap();
        assert_eq!(cgroup.may(&script), may, "{lines:?}");
        assert_eq!(cgroup.programs().len(), 1, "{lines:?}");
    }
    rules(&[(true, "rwm")]).enforce(&cgroup.0).unwrap();
    assert_eq!(cgroup.may(&script), "rwbm");
    assert!(cgroup.programs().is_empty());
}

#[test]
fn a_container_without_rules_has_the_default_devices() {
    let cgroup = Cgroup::make("default");
    // kmsg is nobody's default.
    let script = "(: < /dev/zero) && printf z; (: < /dev/null) && printf n; \
        (: < /dev/kmsg) 2>&- && printf k";
    assert_eq!(cgroup.may(script), "znk", "nothing is denied before");
    Devices::prepare(None).unwrap().enforce(&cgroup.0).unwrap();
    assert_eq!(cgroup.may(script), "zn");
}

#[test]
fn cgroups_below_are_bound_and_strangers_programs_stay() {
    let folder = tempfile::tempdir().unwrap();
    let script = zero(folder.path());
    let cgroup = Cgroup::make("outer");
    let stranger = Rules::new(vec![Rule::everything(true), {
        let mut rule = Rule::everything(false);
        rule.access = rule::Access::MAKE;
        rule
    }]);
    let stranger = bpf::load("sd_devices", &program::assemble(&stranger)).unwrap();
    let outer = std::fs::File::open(&cgroup.0).unwrap();
    bpf::attach(outer.as_fd(), stranger.as_fd()).unwrap();
    for _ in 0..2 {
        rules(&[(false, "rwm"), (true, "rm")])
            .enforce(&cgroup.0)
            .unwrap();
    }
    assert_eq!(cgroup.programs().len(), 2);
    let below = Cgroup(cgroup.0.join("below"));
    std::fs::create_dir(&below.0).unwrap();
    assert_eq!(below.may(&script), "r");
    rules(&[(true, "rwm")]).enforce(&cgroup.0).unwrap();
    assert_eq!(below.may(&script), "rwb", "the stranger's denies making");
    assert_eq!(cgroup.programs().len(), 1);
}

#[test]
fn a_program_goes_with_its_cgroup() {
    let cgroup = Cgroup::make("gone");
    let devices = rules(&[(false, "rwm")]);
    devices.enforce(&cgroup.0).unwrap();
    drop(devices);
    let [id] = cgroup.programs()[..] else {
        panic!("one program");
    };
    assert!(bpf::open(id).is_ok());
    drop(cgroup);
    let end = Instant::now() + Duration::from_secs(10);
    while bpf::open(id).is_ok() {
        assert!(Instant::now() < end, "the program is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_kernel_takes_long_lists() {
    // Of the worst kind for its verifier: all different, no access whole.
    let rules = (0..2000).map(|number| {
        let mut rule = Rule::everything(number % 2 == 0);
        rule.kind = Some(rule::Kind::Char);
        rule.major = Some(number % 50);
        rule.minor = Some(number);
        rule.access = rule::Access::READ;
        rule
    });
    let program = program::assemble(&Rules::new(rules.collect()));
    bpf::load(NAME, &program).unwrap();
}

#[test]
fn what_a_machine_lacks_is_told() {
    let told = |number, works| {
        let error = io::Error::from_raw_os_error(number);
        missing(&error, || works).unwrap_or_default()
    };
    assert!(told(libc::ENOSYS, false).contains("CONFIG_BPF_SYSCALL"));
    assert!(told(libc::EINVAL, false).contains("CONFIG_CGROUP_BPF"));
    assert!(told(libc::EPERM, false).contains("not permitted"));
    // Our own fault.
    assert_eq!(told(libc::EINVAL, true), "");
    assert_eq!(told(libc::E2BIG, true), "");
}
