//! A kill between the call that starts a container under containerd's shim and its answer. The shim gives its call of runc up with
//! the client that asked for it, and says "created" of what it may have started: a program that may have run never runs again,
//! and one that can't have run is no end of anything.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use tokio::task::JoinHandle;

use crate::daemon::{Client, Daemon, LIMIT};
use crate::kill::{ended, nothing_left};
use crate::leftovers::{processes, remove_cgroup};
use crate::lost::kill_shim;
use crate::words::{pod, remove, run, shell, status};

const HANDLERS: &str = "[handlers.cut]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\n\
    runtime_binary = \"@dir@/runtime\"\n";

/// What `runc start` has done when it hangs.
#[derive(Clone, Copy)]
enum Cut {
    /// Nothing.
    Before,
    /// Nothing, and the process that waits has died, as it does of a `runc delete` or a `runc start` that are killed in turn.
    Died,
    /// It has let the container go, and not yet noted so: the state that runc shows is still "created".
    After,
}

impl Cut {
    fn script(self) -> &'static str {
        match self {
            Cut::Before => ":",
            Cut::Died => "kill -9 $(cat $bundles/$id/init.pid)",
            Cut::After => "cat $root/$id/exec.fifo >/dev/null",
        }
    }
}

/// A runtime like runc, of which `start` hangs when the file `closed` is there.
fn make_runtime(daemon: &Daemon, cut: Cut) {
    let (dir, what) = (daemon.path().display(), cut.script());
    let script = format!(
        "#!/bin/sh\nfor word; do [ \"$id\" = --root ] && root=$word; id=$word; done\nbundles={dir}/r/cri/bundles\n\
         case \" $* \" in *\" start \"*)\n\
         if [ -e {dir}/closed ]; then {what}; touch {dir}/cut; exec sleep 60; fi;;\nesac\nexec runc \"$@\"\n"
    );
    let path = daemon.path().join("runtime");
    std::fs::write(&path, script).expect("the runtime");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("it can be run");
}

/// A container whose start hangs.
struct Hanging {
    daemon: Daemon,
    client: Client,
    parent: String,
    pod: String,
    container: String,
    notes: PathBuf,
    start: JoinHandle<Result<(), tonic::Status>>,
}

impl Hanging {
    async fn new(name: &str, cut: Cut) -> Self {
        let mut daemon = Daemon::prepare(HANDLERS);
        make_runtime(&daemon, cut);
        daemon.begin().await;
        let mut client = daemon.client.clone();
        let parent = format!("berth-begun-{name}-{}", std::process::id());
        let config = pod("begun", &daemon.path().join("logs"), &parent);
        let pod = run(&mut client, &config, "cut").await.expect("a pod");
        let notes = daemon.path().join("notes");
        std::fs::create_dir(&notes).expect("a directory");
        let script =
            "echo start >>/notes/starts; until [ -e /notes/go ]; do sleep 0.02; done; exit 5";
        let mut once = shell("once", script);
        once.mounts.push(Mount {
            container_path: "/notes".to_owned(),
            host_path: notes.to_string_lossy().into_owned(),
            ..Mount::default()
        });
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(once),
            sandbox_config: Some(config),
        };
        let made = client.create_container(request).await.expect("a container");
        let container = made.into_inner().container_id;
        std::fs::write(daemon.path().join("closed"), "").expect("the gate closes");
        let start = tokio::spawn(start(client.clone(), container.clone()));
        let hanging = Self {
            daemon,
            client,
            parent,
            pod,
            container,
            notes,
            start,
        };
        let cut = hanging.daemon.path().join("cut");
        wait_for_async("the start to hang", LIMIT, async || {
            cut.exists().then_some(()).ok_or("it does not")
        })
        .await;
        hanging
    }

    /// From now on `runc start` starts.
    fn open(&self) {
        std::fs::remove_file(self.daemon.path().join("closed")).expect("the gate opens");
    }

    fn starts(&self) -> String {
        std::fs::read_to_string(self.notes.join("starts")).unwrap_or_default()
    }

    async fn wait_for_program(&self) {
        wait_for_async("the program", LIMIT, async || {
            match self.starts().as_str() {
                "start\n" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    }

    fn let_it_end(&self) {
        std::fs::write(self.notes.join("go"), "").expect("a file");
    }

    async fn state(&mut self) -> ContainerState {
        let status = status(&mut self.client, &self.container).await;
        status.expect("a status").state()
    }

    /// It has not run, and can be started as if nothing had been.
    async fn starts_anew(mut self) {
        assert_eq!(self.state().await, ContainerState::ContainerCreated);
        assert_eq!(self.starts(), "");
        self.open();
        let started = start(self.client.clone(), self.container.clone()).await;
        started.expect("starts");
        self.let_it_end();
        self.ends_once(5, "Error").await;
    }

    /// It has run once, ended so, and can't be started again.
    async fn ends_once(mut self, code: i32, reason: &str) {
        let ended = ended(&mut self.client, &self.container).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (code, reason));
        assert!(ended.started_at > 0 && ended.finished_at >= ended.started_at);
        let again = start(self.client.clone(), self.container.clone()).await;
        again.expect_err("it has run");
        assert_eq!(self.starts(), "start\n");
        self.end().await;
    }

    async fn end(mut self) {
        let removed = remove(&mut self.client, &self.pod).await;
        removed.expect("it can be removed");
        nothing_left(&self.daemon, &self.parent).await;
        self.daemon.stop();
        remove_cgroup(&self.parent);
    }

    /// The server is killed, and the next one looks.
    async fn restart(mut self) -> Self {
        self.daemon.kill();
        (&mut self.start)
            .await
            .expect("a call")
            .expect_err("nobody answers");
        self.daemon.launch().await;
        self
    }

    /// The shim is killed.
    async fn lose_shim(mut self) -> Self {
        kill_shim(&self.pod, "-address");
        (&mut self.start)
            .await
            .expect("a call")
            .expect_err("its shim is gone");
        self
    }
}

async fn start(mut client: Client, container_id: String) -> Result<(), tonic::Status> {
    let request = StartContainerRequest { container_id };
    client.start_container(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_let_go_can_be_started() {
    let hanging = Hanging::new("before", Cut::Before).await;
    hanging.restart().await.starts_anew().await;
}

/// The shim says that it has ended with 137: that was the process that waited, and is nobody's code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_has_anything_run_when_the_process_that_waited_has_died() {
    let hanging = Hanging::new("died", Cut::Died).await;
    hanging.restart().await.starts_anew().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_let_go_runs_on() {
    let hanging = Hanging::new("after", Cut::After).await;
    hanging.wait_for_program().await;
    let mut hanging = hanging.restart().await;
    assert_eq!(hanging.state().await, ContainerState::ContainerRunning);
    // The next server is told no more by the shim than the first.
    hanging.daemon.kill();
    hanging.daemon.launch().await;
    assert_eq!(hanging.state().await, ContainerState::ContainerRunning);
    hanging.let_it_end();
    hanging.ends_once(5, "Error").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_dies_before_it_lets_go_costs_no_run() {
    let hanging = Hanging::new("lost", Cut::Before).await;
    let mut hanging = hanging.lose_shim().await;
    assert_eq!(hanging.state().await, ContainerState::ContainerCreated);
    assert_eq!(hanging.starts(), "");
    hanging.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_when_its_shim_died_was_killed() {
    let hanging = Hanging::new("killed", Cut::After).await;
    hanging.wait_for_program().await;
    hanging.lose_shim().await.ends_once(137, "Error").await;
}

/// How it has ended, only the shim could have known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_ended_when_its_shim_died_has_no_code() {
    let hanging = Hanging::new("unknown", Cut::After).await;
    hanging.wait_for_program().await;
    hanging.let_it_end();
    let program = "until [ -e /notes/go ]";
    wait_for_async("its end", LIMIT, async || {
        let left = processes(program);
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
    hanging.lose_shim().await.ends_once(255, "Unknown").await;
}
