//! The sandbox and what is in it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use containerd_shim_protos::events::task::TaskExit;
use protobuf::MessageField;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use ttrpc::Code;

use crate::arguments::Arguments;
use crate::console::ConsoleSocket;
use crate::guest::{Guest, Hands, inside_command};
use crate::message::{self, Exit, failed, refuse, stamp};
use crate::process::{Paths, Process, stdio};
use crate::publisher::Publisher;
use crate::{cgroups, journal, network, rootfs};

/// How containers end whose virtual machine is switched off.
const KILLED: u32 = 137;

pub(crate) struct Pod {
    pub(crate) arguments: Arguments,
    pub(crate) events: Publisher,
    pub(crate) shutdown: Notify,
    pub(crate) off: watch::Sender<Option<Exit>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    guest: Option<Guest>,
    /// Where the sandbox's cgroup is; the containers' are below it.
    cgroup: String,
    containers: BTreeMap<String, Container>,
    /// Processes that ended before anybody knew their PID.
    early: HashMap<u32, Exit>,
}

struct Container {
    rootfs: PathBuf,
    cgroup: String,
    processes: BTreeMap<String, Process>,
}

impl Pod {
    pub(crate) fn new(arguments: Arguments, events: Publisher) -> Self {
        Self {
            arguments,
            events,
            shutdown: Notify::new(),
            off: watch::Sender::new(None),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn shared(&self) -> PathBuf {
        self.arguments.shared(&self.arguments.id)
    }

    /// The VMM's PID, which all containers have.
    pub(crate) fn pid(&self) -> u32 {
        self.state().guest.as_ref().map_or(0, |guest| guest.pid)
    }

    /// Where the guest's network namespace is mounted, if it has one.
    fn network(&self) -> PathBuf {
        self.shared().join("network")
    }

    /// Switches the virtual machine on, in the pod's network namespace if there is one.
    pub(crate) fn boot(self: &Arc<Self>, namespace: Option<&Path>) -> io::Result<()> {
        let shared = self.shared();
        std::fs::create_dir_all(shared.join("shared"))?;
        let wish = std::fs::read_to_string(self.dir().join("tap")).ok();
        let pod = namespace.filter(|_| wish.is_some());
        let wire = pod.map(|pod| network::plug(pod, &self.network()));
        let wire = wire.transpose()?;
        let pod = Arc::clone(self);
        let exits = move |exit| match exit {
            Some((pid, code)) => pod.ended(pid, code),
            None => pod.all_ended(),
        };
        let guest = Guest::boot(&self.arguments.dir, &self.arguments.id, wire, exits)?;
        self.state().guest = Some(guest);
        if let Some(first) = wish.and_then(|first| first.trim().parse().ok()) {
            let outcome = match network::connect(&self.network(), first) {
                Ok(()) => "connected".to_owned(),
                Err(error) => error.kind().to_string(),
            };
            // The directory of the shim is the sandbox's bundle.
            let spec: Value = serde_json::from_slice(&std::fs::read("config.json")?)?;
            let pod = &spec["annotations"]["io.kubernetes.cri.sandbox-name"];
            let call = json!({"call": "FirstPacket", "pod": pod, "outcome": outcome});
            journal::call(self.dir(), &call);
        }
        while self.dir().join("slow").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Puts the VMM where the sandbox's cgroup was said to be.
    pub(crate) fn place(&self) {
        let (pid, cgroup) = (self.pid(), self.state().cgroup.clone());
        if pid != 0 && !cgroup.is_empty() && self.dir().join("place").exists() {
            cgroups::enter(&cgroup, pid);
            let call = json!({"call": "Place", "id": self.arguments.id});
            journal::call(self.dir(), &call);
        }
    }

    /// Switches it off.
    pub(crate) fn stop(&self) {
        let guest = self.state().guest.take();
        if let Some(mut guest) = guest {
            guest.stop();
        }
    }

    /// Stops, and removes all that is the sandbox's.
    pub(crate) fn clean(&self) {
        self.stop();
        let state = self.state();
        for container in state.containers.values() {
            rootfs::unmount(&container.rootfs);
            cgroups::remove(&container.cgroup);
        }
        cgroups::remove(&state.cgroup);
        drop(state);
        network::unplug(&self.network());
        let _ = std::fs::remove_dir_all(self.shared());
        let _ = std::fs::remove_file(self.arguments.socket(&self.arguments.id));
    }

    fn ended(&self, pid: u32, code: u32) {
        let exit = (code, SystemTime::now());
        let mut state = self.state();
        for (id, container) in &state.containers {
            for (exec_id, process) in &container.processes {
                if process.pid == pid && process.exit.borrow().is_none() {
                    process.exit.send_replace(Some(exit));
                    self.publish_exit(id, exec_id, exit);
                    return;
                }
            }
        }
        state.early.insert(pid, exit);
    }

    fn all_ended(&self) {
        let exit = (KILLED, SystemTime::now());
        for (id, container) in &self.state().containers {
            for (exec_id, process) in &container.processes {
                if process.pid != 0 && process.exit.borrow().is_none() {
                    process.exit.send_replace(Some(exit));
                    self.publish_exit(id, exec_id, exit);
                }
            }
        }
        self.off.send_replace(Some((0, exit.1)));
    }

    fn publish_exit(&self, id: &str, exec_id: &str, exit: Exit) {
        let event = TaskExit {
            container_id: id.to_owned(),
            // The first process is called as its container.
            id: if exec_id.is_empty() { id } else { exec_id }.to_owned(),
            exit_status: exit.0,
            exited_at: MessageField::some(stamp(exit.1)),
            ..TaskExit::default()
        };
        self.events.publish("/tasks/exit", "TaskExit", &event);
    }

    fn hands(&self) -> ttrpc::Result<Hands> {
        let state = self.state();
        let guest = state.guest.as_ref();
        guest
            .map(Guest::hands)
            .ok_or_else(|| refuse(Code::FAILED_PRECONDITION, "the sandbox is not running"))
    }

    /// Creates a container. Blocks.
    pub(crate) fn create(self: &Arc<Self>, request: &CreateTaskRequest) -> ttrpc::Result<()> {
        let bundle = PathBuf::from(&request.bundle);
        let text = std::fs::read(bundle.join("config.json")).map_err(failed)?;
        let mut spec: Value = serde_json::from_slice(&text).map_err(failed)?;
        let record = json!({
            "id": request.id,
            "bundle": request.bundle,
            "annotations": spec["annotations"],
            "spec": spec,
            "rootfs": message::mounts(&request.rootfs),
            "options": message::any(&request.options),
            "terminal": request.terminal,
            "stdin": request.stdin,
            "stdout": request.stdout,
            "stderr": request.stderr,
        });
        journal::record(&self.arguments.dir, &request.id, &record).map_err(failed)?;
        let kind = spec["annotations"]["io.kubernetes.cri.container-type"].as_str();
        let cgroup = spec["linux"]["cgroupsPath"].as_str().unwrap_or_default();
        if kind != Some("container") && self.pid() == 0 {
            self.boot(network_of(&spec)).map_err(failed)?;
            self.state().cgroup = cgroup.to_owned();
        }
        let rootfs = bundle.join("rootfs");
        if request.rootfs.is_empty() {
            // Against the directory of the shim, which is the sandbox's bundle.
            let path = PathBuf::from(spec["root"]["path"].as_str().unwrap_or("rootfs"));
            let here = std::env::current_dir().map_err(failed)?;
            spec["root"]["path"] = json!(here.join(path));
        } else {
            rootfs::mount_all(&request.rootfs, &rootfs).map_err(failed)?;
            spec["root"]["path"] = json!(rootfs);
        }
        let made = self.create_in_guest(request, &mut spec, rootfs.clone());
        self.place();
        if made.is_err() {
            rootfs::unmount(&rootfs);
        }
        made
    }

    fn create_in_guest(
        &self,
        request: &CreateTaskRequest,
        spec: &mut Value,
        rootfs: PathBuf,
    ) -> ttrpc::Result<()> {
        let sandbox_cgroup = self.state().cgroup.clone();
        if !sandbox_cgroup.is_empty() {
            // As in a guest, whose cgroups nobody outside sees.
            spec["linux"]["cgroupsPath"] = json!(format!("{sandbox_cgroup}/guest-{}", request.id));
        }
        let cgroup = spec["linux"]["cgroupsPath"].as_str().unwrap_or_default();
        let cgroup = cgroup.to_owned();
        share_pids(spec);
        if self.network().exists() {
            join_network(spec, &self.network());
        }
        let bundle = self.shared().join(&request.id);
        std::fs::create_dir_all(&bundle).map_err(failed)?;
        std::fs::write(bundle.join("config.json"), spec.to_string()).map_err(failed)?;
        let paths = Paths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
        };
        let mut process = Process::new(request.terminal, paths, Vec::new());
        let mut words = vec!["create".to_owned(), "--bundle".to_owned()];
        words.push(bundle.to_string_lossy().into_owned());
        self.begin(&request.id, words, &mut process, "init")?;
        let mut processes = BTreeMap::new();
        processes.insert(String::new(), process);
        let container = Container {
            rootfs,
            cgroup,
            processes,
        };
        self.state()
            .containers
            .insert(request.id.clone(), container);
        Ok(())
    }

    /// Lets runc begin a process, whose streams it gets.
    fn begin(
        &self,
        id: &str,
        mut words: Vec<String>,
        process: &mut Process,
        name: &str,
    ) -> ttrpc::Result<()> {
        let pid_file = self.shared().join(id).join(format!("{name}.pid"));
        words.push("--pid-file".to_owned());
        words.push(pid_file.to_string_lossy().into_owned());
        let mut streams = process.paths.open().map_err(failed)?;
        let console = if process.terminal {
            let socket = ConsoleSocket::bind(&self.arguments.dir.join("s")).map_err(failed)?;
            words.push("--console-socket".to_owned());
            words.push(socket.path().to_string_lossy().into_owned());
            Some(socket)
        } else {
            None
        };
        words.push(id.to_owned());
        let mut command = self.runc(&words)?;
        if console.is_none() {
            command
                .stdin(stdio(streams.stdin.take()))
                .stdout(stdio(streams.stdout.take()))
                .stderr(stdio(streams.stderr.take()));
        }
        self.run(command)?;
        let pid = std::fs::read_to_string(&pid_file).map_err(failed)?;
        let pid: u32 = pid.trim().parse().map_err(failed)?;
        if let Some(console) = console {
            process.master = Some(console.attach(streams).map_err(failed)?);
        }
        process.pid = pid;
        if let Some(exit) = self.state().early.remove(&pid) {
            process.exit.send_replace(Some(exit));
        }
        Ok(())
    }

    fn runc(&self, words: &[String]) -> ttrpc::Result<Command> {
        let mut command = inside_command("runc").map_err(failed)?;
        command
            .arg("--root")
            .arg(self.shared().join("runc"))
            .arg("--log")
            .arg(self.shared().join("runc.log"))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }

    fn run(&self, command: Command) -> ttrpc::Result<()> {
        let log = self.shared().join("runc.log");
        let _ = std::fs::remove_file(&log);
        let words: Vec<_> = command.get_args().map(|w| w.to_string_lossy()).collect();
        let what = words.join(" ");
        let status = self.hands()?.run(command).map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        Err(failed(format!("{what}: {status}: {}", said.trim())))
    }

    /// Lets a created process run. Blocks.
    pub(crate) fn start(&self, id: &str, exec_id: &str) -> ttrpc::Result<()> {
        if exec_id.is_empty() {
            let command = self.runc(&["start".to_owned(), id.to_owned()])?;
            self.run(command)?;
        } else {
            let taken = |process: &mut Process| {
                let paths = process.paths.clone();
                let copy = Process::new(process.terminal, paths, process.spec.clone());
                (copy, process.exit.clone())
            };
            let (mut process, exit) = self.with(id, exec_id, taken)?;
            // Whoever waits does so by this one.
            process.exit = exit;
            let spec = self.shared().join(id).join(format!("{exec_id}.json"));
            std::fs::write(&spec, &process.spec).map_err(failed)?;
            let mut words = ["exec", "--detach", "--process"]
                .map(str::to_owned)
                .to_vec();
            words.push(spec.to_string_lossy().into_owned());
            self.begin(id, words, &mut process, exec_id)?;
            self.with(id, exec_id, |slot| *slot = process)?;
            // It may have ended between being begun and being known.
            let pid = self.with(id, exec_id, |process| process.pid)?;
            let early = self.state().early.remove(&pid);
            if let Some((code, _)) = early {
                self.ended(pid, code);
            }
        }
        self.with(id, exec_id, |process| process.started = true)
    }

    /// Registers an exec.
    pub(crate) fn exec(&self, request: &ExecProcessRequest) -> ttrpc::Result<()> {
        let paths = Paths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
        };
        let process = Process::new(request.terminal, paths, request.spec.value.clone());
        let mut state = self.state();
        let container = state
            .containers
            .get_mut(&request.id)
            .ok_or_else(|| unknown(&request.id, ""))?;
        container.processes.insert(request.exec_id.clone(), process);
        Ok(())
    }

    /// Looks at or changes a process.
    pub(crate) fn with<T>(
        &self,
        id: &str,
        exec_id: &str,
        work: impl FnOnce(&mut Process) -> T,
    ) -> ttrpc::Result<T> {
        let mut state = self.state();
        let container = state.containers.get_mut(id);
        let process = container.and_then(|container| container.processes.get_mut(exec_id));
        process.map(work).ok_or_else(|| unknown(id, exec_id))
    }

    /// Signals a process; with `all` the whole container, also when an exec is named. Blocks.
    pub(crate) fn kill(
        &self,
        id: &str,
        exec_id: &str,
        signal: u32,
        all: bool,
    ) -> ttrpc::Result<()> {
        let (pid, over) = self.with(id, exec_id, |process| {
            (process.pid, process.exit.borrow().is_some())
        })?;
        if over && !all {
            return Err(refuse(Code::NOT_FOUND, "process already finished"));
        }
        if !all && !exec_id.is_empty() {
            let mut command = Command::new(std::env::current_exe().map_err(failed)?);
            command.args(["signal", &signal.to_string(), &pid.to_string()]);
            return self.run(command);
        }
        let mut words = vec!["kill".to_owned()];
        if all {
            words.push("--all".to_owned());
        }
        words.push(id.to_owned());
        words.push(signal.to_string());
        let command = self.runc(&words)?;
        self.run(command)
    }

    /// Forgets a process that has ended, with an empty exec id the container. Blocks.
    pub(crate) fn delete(&self, id: &str, exec_id: &str) -> ttrpc::Result<Exit> {
        let (exit, begun) = self.with(id, exec_id, |process| {
            (*process.exit.borrow(), process.started)
        })?;
        if begun && exit.is_none() {
            return Err(refuse(
                Code::FAILED_PRECONDITION,
                "cannot delete a running process",
            ));
        }
        if exec_id.is_empty() {
            // With the virtual machine it is gone anyway.
            if self.pid() != 0 {
                let command = self.runc(&["delete".into(), "--force".into(), id.into()])?;
                let _ = self.run(command);
            }
            let gone = self.state().containers.remove(id);
            if let Some(container) = gone {
                rootfs::unmount(&container.rootfs);
                cgroups::remove(&container.cgroup);
            }
            let _ = std::fs::remove_dir_all(self.shared().join(id));
            self.place();
        } else if let Some(container) = self.state().containers.get_mut(id) {
            container.processes.remove(exec_id);
        }
        Ok(exit.unwrap_or((0, SystemTime::now())))
    }

    /// The containers by their ids.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.state().containers.contains_key(id)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.arguments.dir
    }
}

/// As Kata: whatever path a PID namespace has, it is the guest's; whoever names none has one of its own.
fn share_pids(spec: &mut Value) {
    let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() else {
        return;
    };
    let is_pid = |namespace: &Value| namespace["type"] == "pid";
    let named = namespaces.iter().find(|namespace| is_pid(namespace));
    let shared = named.is_some_and(|namespace| namespace["path"].is_string());
    namespaces.retain(|namespace| !is_pid(namespace));
    if !shared {
        namespaces.push(json!({"type": "pid"}));
    }
}

fn network_of(spec: &Value) -> Option<&Path> {
    let namespaces = spec["linux"]["namespaces"].as_array()?;
    let mut of_network = namespaces.iter().filter(|one| one["type"] == "network");
    of_network
        .find_map(|one| one["path"].as_str())
        .map(Path::new)
}

/// Has a container in the guest's network namespace.
fn join_network(spec: &mut Value, path: &Path) {
    let namespaces = spec["linux"]["namespaces"].as_array_mut();
    for one in namespaces.into_iter().flatten() {
        if one["type"] == "network" {
            one["path"] = json!(path);
        }
    }
}

pub(crate) fn unknown(id: &str, exec_id: &str) -> ttrpc::Error {
    let text = if exec_id.is_empty() {
        format!("container not found: {id}")
    } else {
        format!("process {exec_id} of container {id} not found")
    };
    refuse(Code::NOT_FOUND, text)
}
