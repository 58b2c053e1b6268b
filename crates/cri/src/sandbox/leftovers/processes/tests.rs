use std::process::{Child, Command, Stdio};

use berth_shim::client::SHIM_ID;

use super::*;
use crate::engine::new_id;

/// A process that ends when it is dropped, or by a line.
struct Running(Child);

impl Running {
    fn new(mut command: Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().unwrap())
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn id(&self) -> ProcessId {
        Process::read(Path::new("/proc"), self.0.id()).unwrap().id
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn owner(ids: &[&str]) -> Owner {
    Owner {
        sandbox: ids[0].to_owned(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        others: BTreeSet::new(),
        directories: Vec::new(),
        recorded: ShimProcesses::default(),
        spared: Vec::new(),
    }
}

fn recorded(below: &[ProcessId]) -> ShimProcesses {
    ShimProcesses {
        boot: boot(),
        shim: None,
        below: below.to_vec(),
    }
}

const WAIT: &str = "read line";

#[test]
fn what_a_shim_has_started_ends_and_what_only_names_its_pod_does_not() {
    let (id, other) = (new_id(), new_id());
    let marked = |id: &str, script: &str| {
        let mut command = Running::shell(script);
        command.env(SHIM_ID, id);
        Running::new(command)
    };
    let mut monitor = marked(&id, WAIT);
    let mut of_another = marked(&other, WAIT);
    let mut admin = Running::new({
        let mut command = Running::shell(WAIT);
        command.arg(format!("inspectp {id}"));
        command
    });
    let top = tempfile::tempdir().unwrap();
    let directory = top.path().canonicalize().unwrap().join(&id);
    std::fs::create_dir(&directory).unwrap();
    let mut user = Running::new({
        let mut command = Running::shell(WAIT);
        command
            .arg(directory.join("shared"))
            .current_dir(&directory);
        command
    });
    let owner = Owner {
        directories: vec![directory.clone()],
        ..owner(&[&id])
    };
    let left = end(&owner, Duration::ZERO);
    assert!(!monitor.alive());
    assert!(of_another.alive() && admin.alive() && user.alive());
    let [left] = left.as_slice() else {
        panic!("{left:?}")
    };
    assert!(
        left.starts_with(&format!("process {} (sh) names", user.0.id())) && left.contains(&id),
        "{left}"
    );
    drop(user);
    assert_eq!(end(&owner, Duration::ZERO), [""; 0]);
}

#[test]
fn recorded_processes_are_known_by_their_start_not_by_their_pid() {
    let mut known = Running::new(Running::shell(WAIT));
    let mut reused = Running::new(Running::shell(WAIT));
    let old = ProcessId {
        started: reused.id().started - 1,
        ..reused.id()
    };
    let id = new_id();
    let mut wanted = owner(&[&id]);
    wanted.recorded = recorded(&[known.id(), old]);
    assert!(old.open().is_none() && known.id().open().is_some());
    // Of another boot the same numbers mean nothing.
    wanted.recorded.boot = "another".to_owned();
    end(&wanted, Duration::ZERO);
    assert!(known.alive() && wanted.recorded.shim().is_none());
    wanted.recorded.boot = boot();
    // One that another pod's shim has become is spared, whatever was noted.
    wanted.spared = vec![known.id()];
    end(&wanted, Duration::ZERO);
    assert!(known.alive());
    wanted.spared.clear();
    assert_eq!(end(&wanted, Duration::ZERO), [""; 0]);
    assert!(!known.alive() && reused.alive());
}

#[test]
fn children_end_with_their_parent_and_berth_itself_never() {
    let id = new_id();
    // The child has another environment, and would live on.
    let script = "exec 3<&0; env -i sh -c 'echo $$ >&2; read line <&3' & wait";
    let mut command = Running::shell(script);
    command.stderr(Stdio::piped());
    let mut parent = Running::new(command);
    let mut line = String::new();
    let stderr = parent.0.stderr.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    let child = Process::read(Path::new("/proc"), child).unwrap().id;
    assert!(is_alive(&table(Path::new("/proc")), child));
    let mut wanted = owner(&[&id]);
    let own = Process::read(Path::new("/proc"), std::process::id())
        .unwrap()
        .id;
    wanted.recorded = recorded(&[parent.id(), own]);
    assert_eq!(end(&wanted, Duration::ZERO), [""; 0]);
    assert!(!parent.alive());
    let table = table(Path::new("/proc"));
    assert!(!is_alive(&table, child));
}

#[test]
fn patience_lets_a_process_end_by_itself() {
    let id = new_id();
    let mut command = Running::shell("sleep 0.3; exit 3");
    command.env(SHIM_ID, &id);
    let mut slow = Running::new(command);
    assert_eq!(end(&owner(&[&id]), Duration::from_secs(30)), [""; 0]);
    assert_eq!(slow.0.wait().unwrap().code(), Some(3));
}

#[test]
fn a_shim_is_noted_with_what_is_below_it_and_nobody_else_s_process_is() {
    let id = new_id();
    let mut command = Running::shell("exec 3<&0; sh -c 'echo $$ >&2; read line <&3' & wait");
    command.env(SHIM_ID, &id).stderr(Stdio::piped());
    let mut shim = Running::new(command);
    let mut line = String::new();
    let stderr = shim.0.stderr.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    let none = BTreeSet::new();
    let look_at =
        |pid: u32, before: &ShimProcesses| look(pid, &id, Path::new("/bin/no-shim"), &none, before);
    let seen = look_at(shim.0.id(), &ShimProcesses::default()).unwrap();
    assert_eq!(seen.shim(), Some(shim.id()));
    assert_eq!(
        seen.below
            .iter()
            .map(|process| process.pid)
            .collect::<Vec<_>>(),
        [child]
    );
    // What was seen before counts as long as it lives.
    let other = Running::new(Running::shell(WAIT));
    let gone = ProcessId {
        started: 1,
        ..other.id()
    };
    let again = look_at(shim.0.id(), &recorded(&[other.id(), gone])).unwrap();
    assert!(again.below.contains(&other.id()) && !again.below.contains(&gone));
    assert_eq!(again.below.len(), 2);
    // A process that is not the shim is none, whatever the shim says; by its binary it may be.
    assert_eq!(look_at(other.0.id(), &seen), None);
    let by_binary =
        |process: &Running, binary| look(process.0.id(), &id, Path::new(binary), &none, &seen);
    assert!(by_binary(&other, "/bin/sh").is_some());
    assert_eq!(by_binary(&other, "/bin/cat"), None);
    // Another pod's shim has the same binary, and its own mark.
    let mut command = Running::shell(WAIT);
    command.env(SHIM_ID, new_id());
    assert_eq!(by_binary(&Running::new(command), "/bin/sh"), None);
}

/// A directory in place of /proc, since cgroups of any name are not ours to make everywhere.
fn fake(processes: &[(u32, u32, &str, &str)]) -> tempfile::TempDir {
    let proc = tempfile::tempdir().unwrap();
    for (pid, parent, cgroup, environ) in processes {
        let dir = proc.path().join(pid.to_string());
        std::fs::create_dir(&dir).unwrap();
        let rest = "1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 77 0";
        let stat = format!("{pid} (odd) name (x) S {parent} {rest}");
        std::fs::write(dir.join("stat"), stat.replace("odd) name (x", "odd) (x")).unwrap();
        std::fs::write(dir.join("cgroup"), cgroup).unwrap();
        std::fs::write(dir.join("environ"), environ).unwrap();
        std::fs::write(dir.join("cmdline"), "").unwrap();
    }
    proc
}

#[test]
fn cgroups_of_other_pods_are_out_of_reach() {
    let (id, container, other) = (new_id(), new_id(), new_id());
    let mark = format!("A=b\0{SHIM_ID}={id}\0");
    let own = format!("0::/kubepods/podx/{id}\n");
    let scope = format!("1:name=systemd:/kubepods.slice/cri-berth-{container}.scope\n0::/\n");
    let foreign = format!("4:memory:/kubepods/pody/{other}/deeper\n0::/\n");
    // Below its own cgroup a container may make one of any name.
    let hidden = format!("0::/kubepods/podx/{container}/{other}\n");
    let posing = format!("0::/kubepods/pody/{other}/{id}\n");
    let processes = [
        (10, 1, own.as_str(), ""),
        (11, 1, scope.as_str(), ""),
        // In another pod: neither its environment (which a pod chooses) nor its parent counts.
        (12, 1, foreign.as_str(), mark.as_str()),
        (13, 10, foreign.as_str(), ""),
        (14, 1, "0::/system.slice\n", mark.as_str()),
        (15, 14, "0::/system.slice\n", ""),
        (16, 1, "0::/system.slice\n", ""),
        // A part of the id is not the id, nor is a longer one.
        (17, 1, &format!("0::/{}\n", &id[..63]), ""),
        (18, 1, &format!("0::/{id}a\n"), ""),
        (19, 1, &hidden, ""),
        (20, 1, &posing, mark.as_str()),
    ];
    let proc = fake(&processes);
    let mut wanted = owner(&[&id, &container]);
    wanted.others = BTreeSet::from([other]);
    let all = table(proc.path());
    assert_eq!(all.len(), processes.len());
    assert_eq!(all[&10].name, "odd) (x");
    let found = find(proc.path(), &all, &wanted);
    let found: Vec<u32> = found.iter().map(|process| process.id.pid).collect();
    assert_eq!(found, [10, 11, 14, 15, 19]);
}

#[test]
fn a_local_user_s_words_hold_no_pod_up() {
    let id = new_id();
    let directory = PathBuf::from(format!("/run/kata/{id}"));
    let apart = "0::/user.slice\n";
    let proc = fake(&[
        (20, 1, apart, ""),
        (21, 1, apart, ""),
        (22, 1, apart, ""),
        (23, 1, apart, ""),
    ]);
    // A user's, also with a set-user-ID program, a monitor that gave up its rights (in a jail, or with a socket), root's.
    for (pid, uids) in [
        (20, "1000 0 0 0"),
        (21, "1000 1000 1000 1000"),
        (22, "1000 1000 1000 1000"),
        (23, "0 0 0 0"),
    ] {
        let process = proc.path().join(pid.to_string());
        std::fs::write(
            process.join("cmdline"),
            format!("x\0--dir={}/y\0", directory.display()),
        )
        .unwrap();
        std::fs::write(process.join("status"), format!("Name:\tx\nUid:\t{uids}\n")).unwrap();
        std::fs::create_dir(process.join("fd")).unwrap();
        std::os::unix::fs::symlink("/home", process.join("cwd")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", process.join("fd/3")).unwrap();
    }
    std::os::unix::fs::symlink(directory.join("root"), proc.path().join("21/root")).unwrap();
    std::os::unix::fs::symlink(directory.join("sock"), proc.path().join("22/fd/4")).unwrap();
    let wanted = Owner {
        directories: vec![directory],
        ..owner(&[&id])
    };
    let reported = unproven(proc.path(), &table(proc.path()), &wanted);
    let pids: Vec<&str> = reported
        .iter()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(pids, ["21", "22", "23"]);
}
