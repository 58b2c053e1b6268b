//! `/stats/summary`, in the stock form. What is not measured is left out.

mod form;
mod pod;

use std::path::PathBuf;
use std::time::Duration;

use berth_cri_api::v1::{FilesystemUsage, ImageFsInfoRequest};
use berth_supervise::unblock;
use http::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::reply::{Body, json as json_reply};
use crate::agent::Agent;
use crate::cri::{Limit, within};
use crate::usage::{self, FsUsage, Rates, Scene, filesystem};
use form::{cpu, io, memory, nanos, network, of_cgroup, of_fs, put};
use pod::of_pod;

/// The runtime has so long to say where images are.
const LIMIT: Duration = Duration::from_secs(5);

/// The answer.
pub(super) async fn summary(agent: &Agent) -> Response<Body> {
    let scene = usage::gather(agent).await;
    let images = image_filesystems(agent).await;
    let root = agent.config.root_dir.clone();
    let places = images.0.iter().chain(&images.1);
    let places: Vec<PathBuf> = places.map(mountpoint).chain([root]).collect();
    let mut disks = unblock(move || places.iter().map(|p| filesystem(p)).collect::<Vec<_>>()).await;
    let node = disks.pop().flatten();
    let mut disks = disks.into_iter();
    let layer_fs = disks.next().flatten().or(node);
    let wanted: Vec<String> = scene.pods.iter().map(|pod| pod.uid.clone()).collect();
    agent.usage.rates.keep(|name| {
        let uid = name.split('/').next().unwrap_or_default();
        uid.is_empty() || wanted.iter().any(|w| w == uid)
    });
    let pods: Vec<Value> = scene
        .pods
        .iter()
        .map(|pod| {
            of_pod(
                &agent.usage.rates,
                pod,
                &scene,
                &agent.usage.disks.of(&pod.uid),
                node,
                layer_fs,
            )
        })
        .collect();
    let mut about = of_node(&agent.usage.rates, &scene, &agent.config.node_name);
    put(
        &mut about,
        "fs",
        node.map(|fs| of_fs(fs, scene.at, None, None)),
    );
    let runtime = |list: &[FilesystemUsage], fs: Option<FsUsage>| {
        let used = list.first()?;
        Some(of_fs(
            fs?,
            scene.at,
            used.used_bytes.as_ref().map(|v| v.value),
            used.inodes_used.as_ref().map(|v| v.value),
        ))
    };
    let mut both = Map::new();
    put(&mut both, "imageFs", runtime(&images.0, layer_fs));
    put(
        &mut both,
        "containerFs",
        runtime(&images.1, disks.next().flatten()).or_else(|| runtime(&images.0, layer_fs)),
    );
    about.insert("runtime".to_owned(), Value::Object(both));
    json_reply(&json!({"node": about, "pods": pods}))
}

fn mountpoint(fs: &FilesystemUsage) -> PathBuf {
    PathBuf::from(fs.fs_id.as_ref().map_or("/", |id| id.mountpoint.as_str()))
}

/// Where images are, and where containers write; none when the runtime does not say.
async fn image_filesystems(agent: &Agent) -> (Vec<FilesystemUsage>, Vec<FilesystemUsage>) {
    let request = within(Limit(Some(LIMIT)), ImageFsInfoRequest {});
    let answer = agent.cri.images().image_fs_info(request).await;
    let mut answer = answer.map(tonic::Response::into_inner).unwrap_or_default();
    answer.image_filesystems.truncate(1);
    answer.container_filesystems.truncate(1);
    (answer.image_filesystems, answer.container_filesystems)
}

fn of_node(rates: &Rates, scene: &Scene, name: &str) -> Map<String, Value> {
    let (machine, time) = (&scene.machine, nanos(scene.at));
    let mut out = Map::new();
    put(&mut out, "nodeName", Some(name));
    let booted = usage::boot_time().and_then(|at| Timestamp::from_second(at).ok());
    put(&mut out, "startTime", booted.map(|at| at.to_string()));
    let psi = &machine.pressures;
    put(
        &mut out,
        "cpu",
        cpu(rates, "/node", time, Some(machine.cpu_ns), psi.cpu),
    );
    let figures = [
        Some(machine.available),
        Some(machine.usage),
        Some(machine.working_set()),
        Some(machine.rss),
        Some(machine.page_faults),
        Some(machine.major_page_faults),
    ];
    put(&mut out, "memory", memory(time, figures, psi.memory));
    put(&mut out, "io", io(scene.at, psi));
    put(&mut out, "network", network(scene.at, &machine.interfaces));
    let swap = json!({
        "time": scene.at.to_string(),
        "swapAvailableBytes": machine.swap_free,
        "swapUsageBytes": machine.swap_total.saturating_sub(machine.swap_free),
    });
    put(&mut out, "swap", Some(swap));
    let mut rlimit = Map::new();
    put(&mut rlimit, "time", Some(scene.at.to_string()));
    put(&mut rlimit, "maxpid", machine.max_processes);
    put(&mut rlimit, "curproc", machine.processes);
    put(&mut out, "rlimit", Some(rlimit));
    if let Some((_, pods)) = scene.groups.first() {
        let booted = booted.map(|at| at.to_string());
        let mut system = of_cgroup(rates, "/pods", scene.at, pods);
        put(&mut system, "name", Some("pods"));
        put(&mut system, "startTime", booted);
        put(
            &mut out,
            "systemContainers",
            Some(vec![Value::Object(system)]),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::scenes::scene;
    use crate::usage::DiskUsage;
    use berth_tree::Usage as TreeUsage;

    const FS: FsUsage = FsUsage {
        capacity: 100,
        available: 60,
        used: 30,
        inodes: 9,
        inodes_free: 4,
    };

    #[test]
    fn a_pod_has_its_own_figures_and_its_containers() {
        let (rates, scene) = (Rates::default(), scene());
        let mut disk = DiskUsage::default();
        let used = TreeUsage {
            bytes: 7,
            inodes: 2,
            hidden: false,
        };
        disk.volumes.insert("cache".to_owned(), used);
        disk.logs.insert("plain".to_owned(), used);
        let pod = of_pod(&rates, &scene.pods[0], &scene, &disk, Some(FS), Some(FS));
        assert_eq!(pod["podRef"]["uid"], "uid-web");
        assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 9_000_000_000_u64);
        assert_eq!(pod["memory"]["workingSetBytes"], 90);
        assert_eq!(pod["network"]["rxBytes"], 1);
        assert_eq!(pod["network"]["interfaces"][0]["name"], "eth0");
        assert_eq!(pod["volume"][0]["name"], "cache");
        assert_eq!(pod["volume"][0]["usedBytes"], 7);
        assert_eq!(pod["ephemeral-storage"]["usedBytes"], 14);
        assert_eq!(pod["process_stats"]["process_count"], 3);
        let container = &pod["containers"][0];
        assert_eq!(container["memory"]["rssBytes"], 4000);
        assert_eq!(container["logs"]["usedBytes"], 7);
        // No pressure was measured: it is not there, and not 0.
        assert!(pod.get("io").is_none() && container["cpu"].get("psi").is_none());
    }

    #[test]
    fn a_guests_figures_have_the_time_at_which_they_were_taken() {
        let (rates, scene) = (Rates::default(), scene());
        let pod = of_pod(
            &rates,
            &scene.pods[1],
            &scene,
            &DiskUsage::default(),
            None,
            None,
        );
        let container = &pod["containers"][0];
        assert_eq!(container["memory"]["workingSetBytes"], 77);
        assert_eq!(container["cpu"]["time"], "2023-11-14T22:13:15Z");
        assert!(pod.get("ephemeral-storage").is_none());
    }

    #[test]
    fn the_node_has_what_the_machine_uses() {
        let node = of_node(&Rates::default(), &scene(), "n1");
        assert_eq!(node["nodeName"], "n1");
        assert_eq!(node["memory"]["workingSetBytes"], 600);
        assert_eq!(node["swap"]["swapUsageBytes"], 5);
        let fs = of_fs(FS, Timestamp::UNIX_EPOCH, None, None);
        assert_eq!(
            (&fs["usedBytes"], &fs["inodesUsed"]),
            (&json!(30), &json!(5))
        );
    }
}
