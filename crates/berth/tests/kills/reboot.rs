//! A reboot: all processes at once, and with them mounts, namespaces, cgroups, interfaces and the run directory. What is on disk
//! stays.

use std::path::Path;
use std::process::Command;

use berth_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use berth_cri_api::v1::{ContainerState, ListContainersRequest};
use berth_testkit::{wait_for, wait_for_async};
use hyper_util::rt::TokioIo;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::transport::Endpoint;

use crate::LIMIT;
use crate::left::{RUNC, cgroups, of_machine};
use crate::load::Load;
use crate::machine::{Machine, Part};
use crate::plan::{Plan, Work};
use crate::seen::PodSeen;

const CODE: i32 = 60;

/// Pods in all states, and a reboot under them.
pub(crate) async fn reboot(machine: &mut Machine, load: &Load) {
    let plan = |name: &str, work, class| Plan::new(name, work, class, CODE);
    let steady = [
        plan("steady-runc", Work::Steady, None),
        plan("steady-inside", Work::Steady, Some("inside")),
        plan("steady-stranger", Work::Steady, Some("stranger")),
    ];
    let cut = [
        plan("cut-runc", Work::RunOnce, None),
        plan("cut-stranger", Work::RunOnce, Some("stranger")),
    ];
    let again = plan("again", Work::RunThenEnd, None);
    let done = plan("done", Work::Once, None);
    // One that ends when nobody is there who could tell it, and one that is made then.
    let untold = plan("untold", Work::Gate, None);
    let late = plan("late", Work::Once, None);
    let lasting = [&steady[..], &cut, std::slice::from_ref(&again)].concat();
    for plan in lasting.iter().chain([&done, &untold]) {
        load.create(plan).await;
    }
    for plan in lasting.iter().chain([&untold]) {
        let runs = |seen: &PodSeen| seen.is_ready() && load.note(plan, 0) == "run\n";
        load.wait(plan, "to run", runs).await;
    }
    load.wait(&done, "to be over", PodSeen::is_over).await;
    load.note_ids(crate::bundles::ids(machine));
    machine.kill(Part::Node);
    load.create(&late).await;
    std::fs::write(machine.notes().join("gate"), "").expect("the gate opens");
    wait_for_exit(machine, &untold.name).await;

    power_off(machine, load);
    std::fs::remove_dir_all(machine.run()).expect("the run directory goes");
    for part in [Part::Server, Part::Cri, Part::Node] {
        machine.launch(part);
    }
    for plan in &steady {
        let again = |seen: &PodSeen| seen.is_ready() && load.note(plan, 0) == "run\nrun\n";
        load.wait(plan, "to run again", again).await;
    }
    for plan in cut.iter().chain([&again, &done, &untold, &late]) {
        load.wait(plan, "to be over", PodSeen::is_over).await;
    }
    for plan in [&done, &untold, &late] {
        load.judge(plan, false);
    }
    for plan in &cut {
        expect(load, plan, 1, "Failed");
    }
    expect(load, &again, 2, "Succeeded");
    load.note_ids(crate::bundles::ids(machine));
    for plan in lasting.iter().chain([&done, &untold, &late]) {
        load.delete(&plan.name).await;
    }
    for plan in &steady {
        load.wait(plan, "to be gone", |seen| seen.is_gone).await;
        expect(load, plan, 2, "");
    }
}

/// A pod of which the reboot has ended a run: how that ended is known, and it ran so often.
fn expect(load: &Load, plan: &Plan, runs: usize, phase: &str) {
    let (seen, note) = (load.seen.pod(&plan.name), load.note(plan, 0));
    let first = seen.ends.values().find(|end| end.message != "2");
    let known = first.is_some_and(|end| matches!(end.code, 137 | 255));
    let is_so = phase.is_empty() || seen.phase() == phase;
    if !known || !is_so || note.lines().count() != runs {
        load.fault(format!(
            "{plan:?} after the reboot: {note:?} {:?} {:#?}",
            seen.phase(),
            seen.ends
        ));
    }
}

/// Waits until the runtime knows that a pod's container has ended.
async fn wait_for_exit(machine: &Machine, pod: &str) {
    let socket = machine.socket();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://cri").connect_with_connector_lazy(connect);
    let client = RuntimeServiceClient::new(channel);
    wait_for_async("the end of a container", LIMIT, || {
        let mut client = client.clone();
        async move {
            let listed = client.list_containers(ListContainersRequest::default());
            let listed = listed.await.map_err(|e| e.to_string())?.into_inner();
            let label = "io.kubernetes.pod.name";
            let mut all = listed.containers.into_iter();
            let one = all.find(|c| c.labels.get(label).is_some_and(|name| name == pod));
            let state = one.ok_or("it is not listed")?.state();
            match state == ContainerState::ContainerExited {
                true => Ok(()),
                false => Err(format!("{state:?}")),
            }
        }
    })
    .await;
}

/// Takes away what a machine without power does not have.
fn power_off(machine: &mut Machine, load: &Load) {
    for part in [Part::Server, Part::Cri] {
        machine.kill(part);
    }
    wait_for("the end of all processes", LIMIT, || {
        let left = of_machine(machine);
        for (pid, _) in &left {
            // Gone already is as good.
            let _ = kill(
                Pid::from_raw(i32::try_from(*pid).expect("a pid")),
                Signal::SIGKILL,
            );
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("{left:#?}")),
        }
    });
    let dir = machine.dir().to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| point.starts_with(&dir)) {
        // One below another may have gone with it.
        let _ = umount2(Path::new(point), MntFlags::MNT_DETACH);
    }
    // What containerd's shim has in /run.
    for id in load.ids() {
        let _ = std::fs::remove_dir_all(Path::new(RUNC).join(id));
    }
    for socket in load.sockets() {
        let _ = std::fs::remove_file(socket);
    }
    let bridge = machine.bridge();
    let ip = Command::new("ip").args(["link", "del", &bridge]).status();
    assert!(ip.expect("ip runs").success());
    wait_for("the end of all cgroups", LIMIT, || {
        let mut left = cgroups(load);
        // The deepest first.
        left.sort_by_key(|path| std::cmp::Reverse(path.len()));
        for cgroup in &left {
            let _ = std::fs::remove_dir(cgroup);
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("{left:#?}")),
        }
    });
}
