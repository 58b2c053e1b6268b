//! Figures of scenes, and of a sandbox whose cost is known.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use berth_cost::{State, cost};
use berth_cri_api::v1::{ContainerStats, CpuUsage, MemoryUsage, UInt64Value};
use jiff::Timestamp;

use super::*;
use crate::usage::hierarchy::Hierarchy;
use crate::usage::{MachineUsage, cgroup};

const MIB: u64 = 1 << 20;
/// So many MiB are touched by a process that has this in its environment.
const TOUCH: &str = "BERTH_TEST_TOUCH_MIB";

fn reported(cpu_ns: u64, memory: u64, at: i64) -> ContainerStats {
    let of = |value| Some(UInt64Value { value });
    ContainerStats {
        cpu: Some(CpuUsage {
            timestamp: at,
            usage_core_nano_seconds: of(cpu_ns),
            ..CpuUsage::default()
        }),
        memory: Some(MemoryUsage {
            timestamp: at,
            working_set_bytes: of(memory),
            ..MemoryUsage::default()
        }),
        ..ContainerStats::default()
    }
}

fn container(
    id: &str,
    cgroup: Option<CgroupUsage>,
    reported: Option<ContainerStats>,
) -> ContainerScene {
    ContainerScene {
        name: "c".to_owned(),
        id: id.to_owned(),
        image: String::new(),
        started: None,
        path: String::new(),
        cgroup,
        reported,
    }
}

fn pod(sandbox_id: &str, cgroup: Option<CgroupUsage>, containers: Vec<ContainerScene>) -> PodScene {
    PodScene {
        pod: Arc::default(),
        namespace: "ns".to_owned(),
        name: "p".to_owned(),
        uid: "u".to_owned(),
        sandbox_id: sandbox_id.to_owned(),
        handler: "runsc".to_owned(),
        sandbox_created: None,
        path: String::new(),
        cgroup,
        sandbox_cgroup: None,
        containers,
        interfaces: Vec::new(),
        processes: None,
    }
}

fn usage(cpu_ns: u64, memory: u64) -> CgroupUsage {
    CgroupUsage {
        cpu_ns: Some(cpu_ns),
        working_set: Some(memory),
        ..CgroupUsage::default()
    }
}

fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap()
}

#[test]
fn a_guest_that_says_nothing_or_what_is_old_is_not_measured() {
    let whole = || Some(usage(9, 900));
    let of = |reported| {
        of_pod(
            &pod("s", whole(), vec![container("c", None, reported)]),
            &[],
            1,
            now(),
            5,
        )
    };
    let fresh = of(Some(reported(4, 300, now()))).unwrap();
    assert_eq!(
        (fresh.containers.memory, fresh.shares_kernel, fresh.kernel),
        (300, false, 5)
    );
    assert_eq!(of(None), None);
    assert_eq!(of(Some(ContainerStats::default())), None);
    assert_eq!(of(Some(reported(4, 300, now() - 2 * MAX_AGE_NS))), None);
    // Without a cgroup of the pod's, or without containers, there is nothing to compare.
    let lonely = pod(
        "s",
        None,
        vec![container("c", None, Some(reported(4, 300, now())))],
    );
    assert_eq!(of_pod(&lonely, &[], 1, now(), 5), None);
    assert_eq!(
        of_pod(&pod("s", whole(), Vec::new()), &[], 1, now(), 5),
        None
    );
}

#[test]
fn a_containers_word_does_not_count_where_the_kernel_counts_it() {
    let own = container(
        "c",
        Some(usage(4, 300)),
        Some(reported(1_000_000, 1, now())),
    );
    let figures = of_pod(&pod("s", Some(usage(9, 900)), vec![own]), &[], 1, now(), 0).unwrap();
    assert!(figures.shares_kernel);
    assert_eq!(
        figures.containers,
        Amount {
            cpu_ns: 4,
            memory: 300
        }
    );
}

/// Holds so much memory until its input ends. Without the variable it is the test that it holds none.
#[test]
fn hold_memory() {
    let Ok(mib) = std::env::var(TOUCH) else {
        return;
    };
    let mut stdin = std::io::stdin();
    let mut go = [0];
    stdin.read_exact(&mut go).unwrap();
    let memory = vec![1_u8; mib.parse::<usize>().unwrap() << 20];
    println!(
        "touched {}",
        memory
            .iter()
            .step_by(4096)
            .map(|b| u64::from(*b))
            .sum::<u64>()
    );
    let _ = stdin.read(&mut go);
    drop(memory);
}

/// A process that has touched so many MiB, after `place` has put it somewhere.
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    /// It writes more at its end.
    _output: BufReader<ChildStdout>,
}

impl Holder {
    fn start(mib: u64, argument: &str, place: impl Fn(u32)) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "cost::figures::tests::hold_memory",
                "--nocapture",
                argument,
            ])
            .env(TOUCH, mib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        place(child.id());
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"g").unwrap();
        stdin.flush().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.by_ref().lines();
        let touched = lines.any(|line| line.unwrap().contains("touched"));
        assert!(touched, "the process has not touched its memory");
        Self {
            child,
            stdin: Some(stdin),
            _output: output,
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// A cgroup in all trees that count, removed at the end.
struct Group {
    dirs: Vec<PathBuf>,
    path: PathBuf,
}

impl Group {
    fn make(hierarchy: &Hierarchy, path: PathBuf) -> Self {
        if hierarchy.is_v2() {
            for above in path.ancestors().skip(1) {
                let control = hierarchy
                    .unified(above)
                    .unwrap()
                    .join("cgroup.subtree_control");
                std::fs::create_dir_all(control.parent().unwrap()).unwrap();
                std::fs::write(control, "+memory +cpu +pids").unwrap();
            }
        }
        let controllers = ["memory", "cpuacct", "pids"];
        let dirs = controllers.iter().filter_map(|c| hierarchy.dir(c, &path));
        let dirs: Vec<PathBuf> = dirs.collect();
        for dir in &dirs {
            std::fs::create_dir_all(dir).unwrap();
        }
        Self { dirs, path }
    }

    fn add(&self, pid: u32) {
        for dir in &self.dirs {
            std::fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.dirs {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// In a pod's cgroup a sentry-like process that has touched 48 MiB, of which its guest claims 16 as the containers'; beside it,
/// outside of the cgroup, a shim-like one that has touched 24 MiB. Real processes, real cgroups, the real /proc.
#[test]
fn a_sandbox_of_known_cost_is_measured_as_such() {
    let hierarchy = Hierarchy::detect("/sys/fs/cgroup".as_ref());
    assert!(
        hierarchy.has("".as_ref()),
        "this test needs cgroups that it can write"
    );
    let id = format!("{:064x}", (u128::from(std::process::id()) << 64) | 0xc057);
    let top = Group::make(
        &hierarchy,
        PathBuf::from(format!("kubepods/podcost{}", std::process::id())),
    );
    let sandbox = Group::make(&hierarchy, top.path.join(&id));
    let sentry = Holder::start(48, "sentry", |pid| sandbox.add(pid));
    let shim = Holder::start(24, &id, |_| {});
    let scene = |guest_cpu: u64| {
        let guest = reported(guest_cpu, 16 * MIB, now());
        let mut pod = pod(
            &id,
            Some(cgroup::read(&hierarchy, &top.path)),
            vec![container("c1", None, Some(guest))],
        );
        pod.sandbox_cgroup = Some(cgroup::read(&hierarchy, &sandbox.path));
        Scene {
            at: Timestamp::now(),
            machine: MachineUsage::default(),
            groups: Vec::new(),
            pods: vec![pod],
            is_current: true,
        }
    };
    let look = |guest_cpu| super::read(&scene(guest_cpu)).unwrap().remove(0).unwrap();
    let before = look(0);
    let now = look(0);
    let found = cost(&before, &now).unwrap();
    assert_eq!(found.state, State::Idle);
    let near = |found: u64, mib: u64, more: u64| {
        assert!(
            found >= mib * MIB && found <= (mib + more) * MIB,
            "{found} is not {mib} MiB"
        );
    };
    // What the sentry-like process has by itself was there before it was in the cgroup; the kernel's part of it is charged.
    near(found.memory.sandbox, 48 - 16, 3);
    // The shim-like one has its program, too: a test binary, which it shares with the others that run.
    near(found.memory.shim, 24, 24);
    // Page tables for 24 MiB and two stacks at least; a network namespace's structure.
    near(found.memory.kernel, 0, 1);
    assert!(found.memory.kernel > 24 * MIB / 512, "{:?}", found.memory);
    assert_eq!(found.memory.pause, 0);
    drop((sentry, shim));
}
