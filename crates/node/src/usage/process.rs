//! Processes that work for a sandbox outside of its pod's cgroup: shims, what they keep running, monitors beside the pod.
//!
//! They are known by the sandbox's or a container's ID in their command line, which every shim gets, whoever made the
//! runtime. Command lines of processes in pods are not read: a pod could write there what it likes, and make the reader wait
//! for memory that it never gives.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use berth_cost::Amount;

/// No more processes than this are looked at; with more there is no answer, rather than a wrong one.
const MAX_PROCESSES: usize = 100_000;
/// So much of a command line is looked at.
const COMMAND_BYTES: u64 = 64 << 10;
/// Runtimes' IDs are 64 digits; what is shorter than this is no ID.
const MIN_ID: usize = 32;
/// A thread's kernel stack (THREAD_SIZE) on the processors that Kubernetes runs on.
const STACK_BYTES: u64 = 16 << 10;
/// USER_HZ is 100 wherever Linux shows it.
const TICK_NS: u64 = 10_000_000;

/// One such process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Pid and start time: together they name it.
    pub(crate) name: String,
    /// CPU time, and memory as its proportional share (Pss): what it alone uses, and its part of what several use.
    pub(crate) amount: Amount,
    /// Page tables and kernel stacks.
    pub(crate) kernel: u64,
}

/// Finds them by the IDs of sandboxes and containers; what an ID leads to is the caller's.
pub(crate) fn outside(
    proc: &Path,
    ids: &HashMap<String, usize>,
) -> Option<HashMap<usize, Vec<Process>>> {
    let mut found: HashMap<usize, Vec<Process>> = HashMap::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(proc).ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        seen += 1;
        if seen > MAX_PROCESSES {
            return None;
        }
        let dir = entry.path();
        // Whoever ends while this goes on is not there.
        let Some(cgroups) = read(&dir, "cgroup", 16 << 10) else {
            continue;
        };
        if is_in_pod(&cgroups) {
            continue;
        }
        let command = read(&dir, "cmdline", COMMAND_BYTES).unwrap_or_default();
        let Some(whose) = id_in(&command, ids) else {
            continue;
        };
        if let Some(process) = measure(&dir, pid) {
            found.entry(whose).or_default().push(process);
        }
    }
    Some(found)
}

/// Bytes that are no UTF-8 are replaced: a command line may have any.
fn read(dir: &Path, file: &str, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(dir.join(file)).ok()?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether one of its cgroups is a pod's, by the names that kubelets give.
fn is_in_pod(cgroups: &str) -> bool {
    let paths = cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .flat_map(|path| path.split('/'))
        .any(|part| part == "kubepods" || part == "kubepods.slice")
}

fn id_in(command: &str, ids: &HashMap<String, usize>) -> Option<usize> {
    let words = command.split(|c: char| !c.is_ascii_hexdigit());
    words
        .filter(|word| word.len() >= MIN_ID)
        .find_map(|word| ids.get(word).copied())
}

fn measure(dir: &Path, pid: &str) -> Option<Process> {
    let stat = read(dir, "stat", 4096)?;
    // The name before it may have spaces and brackets.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (user, system, start) = (field(14)?, field(15)?, field(22)?);
    let status = read(dir, "status", 16 << 10)?;
    let memory = read(dir, "smaps_rollup", 16 << 10).and_then(|text| kib(&text, "Pss:"));
    let memory = memory.or_else(|| Some(kib(&status, "RssAnon:")? + kib(&status, "RssShmem:")?))?;
    let threads = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
    let stacks = threads.unwrap_or(1_u64).saturating_mul(STACK_BYTES);
    Some(Process {
        name: format!("{pid}@{start}"),
        amount: Amount {
            cpu_ns: user.saturating_add(system).saturating_mul(TICK_NS),
            memory,
        },
        kernel: stacks.saturating_add(kib(&status, "VmPTE:").unwrap_or(0)),
    })
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What the kernel allocates for a network namespace, as far as it tells: the structure itself, and not what is hung into it
/// (tables, interfaces, counters), which it charges to nobody and does not count.
pub(crate) fn network_namespace_bytes() -> u64 {
    let text = read(Path::new("/proc"), "slabinfo", 1 << 20).unwrap_or_default();
    let row = text
        .lines()
        .find_map(|line| line.strip_prefix("net_namespace "));
    let size = row.and_then(|row| row.split_whitespace().nth(2)?.parse().ok());
    size.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn fake(root: &Path, pid: u32, cgroup: &str, command: &str) {
        let dir = root.join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let stat = format!("{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 30 20 900 900 20 0 2 0 77 0 0");
        for (file, text) in [
            ("cgroup", cgroup),
            ("cmdline", command),
            ("stat", &stat),
            (
                "status",
                "Threads:\t2\nVmPTE:\t      44 kB\nRssAnon:\t 100 kB\nRssShmem:\t 1 kB\n",
            ),
            (
                "smaps_rollup",
                "00-ff ---p [rollup]\nRss: 900 kB\nPss:                 250 kB\nPss_Dirty: 1 kB\n",
            ),
        ] {
            std::fs::write(dir.join(file), text).unwrap();
        }
    }

    #[test]
    fn a_shim_is_found_by_the_id_and_measured() {
        let dir = tempfile::tempdir().unwrap();
        let shim = format!("berth\0shim\0-namespace\0k8s.io\0-id\0{ID}\0");
        fake(dir.path(), 10, "0::/system.slice/berth.service\n", &shim);
        fake(dir.path(), 11, "0::/\n", "sleep\0forever\0");
        let ids = HashMap::from([(ID.to_owned(), 3)]);
        let found = outside(dir.path(), &ids).unwrap();
        let [process] = &found[&3][..] else {
            panic!("one process");
        };
        assert_eq!(process.name, "10@77");
        assert_eq!(
            process.amount,
            Amount {
                cpu_ns: 500_000_000,
                memory: 250 << 10
            }
        );
        assert_eq!(process.kernel, (44 << 10) + 2 * STACK_BYTES);
    }

    #[test]
    fn what_is_in_a_pod_is_nobodys_shim_whatever_it_calls_itself() {
        let dir = tempfile::tempdir().unwrap();
        let ids = HashMap::from([(ID.to_owned(), 0)]);
        for (pid, cgroup) in [
            (1, "5:memory:/kubepods/podu/x\n0::/\n"),
            (
                2,
                "0::/kubepods.slice/kubepods-podu.slice/cri-containerd-x.scope\n",
            ),
            (3, "4:cpu:/\n3:pids:/kubepods/burstable/podu/x/nested\n"),
        ] {
            fake(dir.path(), pid, cgroup, &format!("shim\0-id\0{ID}\0"));
        }
        // Shorter, or with another digit: not the ID.
        fake(dir.path(), 4, "0::/\n", &format!("shim\0{}\0", &ID[..40]));
        fake(dir.path(), 5, "0::/\n", &format!("shim\0{ID}a\0"));
        assert!(outside(dir.path(), &ids).unwrap().is_empty());
        fake(
            dir.path(),
            6,
            "0::/\n",
            &format!("qemu\0-name\0sandbox-{ID},debug=on\0"),
        );
        assert_eq!(outside(dir.path(), &ids).unwrap()[&0].len(), 1);
    }

    #[test]
    fn a_process_that_ends_meanwhile_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), 7, "0::/\n", &format!("shim\0{ID}\0"));
        std::fs::remove_file(dir.path().join("7/stat")).unwrap();
        let ids = HashMap::from([(ID.to_owned(), 0)]);
        assert!(outside(dir.path(), &ids).unwrap().is_empty());
    }
}
