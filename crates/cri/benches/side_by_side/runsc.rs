//! gVisor through berth, beside the sum of the same calls of `runsc` on copies of the same bundles.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Options;
use crate::bare::{self, Runtime};
use crate::daemon::Daemon;
use crate::report::{at_most, beside, heading, median};

/// What a round's calls took together.
struct Sums {
    start: Duration,
    end: Duration,
}

pub(crate) async fn measure(options: &Options, berth: &mut Daemon) {
    nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
    berth.life("warm-g", "runsc").await;
    // Its bundles are the pattern of the bare rounds.
    let (pattern, _) = berth.start("pattern", "runsc").await;
    let dir = std::env::temp_dir().join(format!("bbare{}", std::process::id()));
    let mut runsc = Runtime::of_bundle(options, &pattern.id);
    runsc.0.root = dir.join("root");
    let (mut starts, mut ends, mut bare_starts, mut bare_ends) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let life = berth.life(&format!("g{round}"), "runsc").await;
        starts.push(life.run + life.create + life.start);
        ends.push(life.stop + life.remove);
        let sandbox = copy(options, &dir, &pattern.id, &format!("s{round}"), None);
        let container = copy(
            options,
            &dir,
            &pattern.container,
            &format!("c{round}"),
            Some(&format!("s{round}")),
        );
        let sums = bare_round(&runsc, round, &sandbox, &container);
        bare_starts.push(sums.start);
        bare_ends.push(sums.end);
    }
    let own = Runtime::of_bundle(options, &pattern.container);
    let (mut execs, mut bare_execs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        execs.push(berth.exec(&pattern).await);
        bare_execs.push(own.call(&["exec", &pattern.container, "true"]));
    }
    berth.end(&pattern).await;
    let _ = std::fs::remove_dir_all(&dir);
    heading(
        &format!(
            "one pod, one container, runsc; ms, medians of {}",
            options.rounds
        ),
        "bare calls",
    );
    let whole = |starts: &[Duration], ends: &[Duration]| -> Vec<Duration> {
        starts.iter().zip(ends).map(|(a, b)| *a + *b).collect()
    };
    beside(
        "RunPodSandbox, CreateContainer, StartContainer",
        median(&starts),
        median(&bare_starts),
        None,
    );
    beside(
        "StopPodSandbox, RemovePodSandbox",
        median(&ends),
        median(&bare_ends),
        None,
    );
    beside(
        "all five",
        median(&whole(&starts, &ends)),
        median(&whole(&bare_starts, &bare_ends)),
        Some(1.25),
    );
    let (ours, alone) = (median(&execs), median(&bare_execs));
    beside("ExecSync", ours, alone, None);
    at_most("ExecSync beyond the bare exec", ours - alone, None, 5.0);
}

/// A bundle with another id, on the root filesystem of the pattern.
fn copy(options: &Options, dir: &Path, from: &str, id: &str, sandbox: Option<&str>) -> PathBuf {
    let pattern = bare::bundle(options, from);
    let text = std::fs::read(pattern.join("config.json")).expect("the pattern's config.json");
    let mut spec: Value = serde_json::from_slice(&text).expect("JSON");
    spec["root"]["path"] = json!(pattern.join("rootfs"));
    spec["linux"]["cgroupsPath"] = json!(format!("{}/{id}", options.cgroup));
    let name = "io.kubernetes.cri.sandbox-id";
    spec["annotations"][name] = json!(sandbox.unwrap_or(id));
    let bundle = dir.join(id);
    std::fs::create_dir_all(&bundle).expect("a bundle");
    let text = serde_json::to_vec(&spec).expect("JSON");
    std::fs::write(bundle.join("config.json"), text).expect("config.json");
    bundle
}

/// The calls that a pod's life takes. Waiting for the end of what was killed is not counted.
fn bare_round(runsc: &Runtime, round: usize, sandbox: &Path, container: &Path) -> Sums {
    let (s, c) = (format!("s{round}"), format!("c{round}"));
    let mut start = Duration::ZERO;
    for (id, bundle) in [(&s, sandbox), (&c, container)] {
        let bundle = bundle.to_string_lossy();
        start += runsc.call(&["create", "--bundle", &bundle, id]);
        start += runsc.call(&["start", id]);
    }
    let mut end = Duration::ZERO;
    for id in [&c, &s] {
        end += runsc.call(&["kill", id, "9"]);
        // A sandbox that is gone already can't be waited for.
        runsc.run(&["wait", id]);
        end += runsc.call(&["delete", id]);
    }
    Sums { start, end }
}
