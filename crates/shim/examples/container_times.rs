//! Prints what each step of a container's life costs through the shim.
//!
//! `container_times RUNTIME SHIM [ROUNDS]`, as root, with busybox-static installed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_oci::runtime::{RuntimeCommand, RuntimeKind, probe};
use berth_oci::{Container, Host, Namespace, Sandbox};
use berth_shim::client::{CreateRequest, RuntimeOptions, Shim, ShimConfig};

type Failure = Box<dyn std::error::Error>;

const STEPS: [&str; 7] = [
    "launch",
    "create",
    "start",
    "exec",
    "kill+wait",
    "delete",
    "shutdown",
];

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times
        .get(times.len() / 2)
        .copied()
        .unwrap_or_default()
        .as_secs_f64()
        * 1000.0
}

fn bundle(dir: &Path, id: &str, kind: RuntimeKind) -> Result<PathBuf, Failure> {
    let bundle = dir.join(id);
    std::fs::create_dir_all(bundle.join("rootfs/bin"))?;
    for d in ["proc", "sys", "dev"] {
        std::fs::create_dir_all(bundle.join("rootfs").join(d))?;
    }
    std::fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox"))?;
    let mut container = Container {
        id: id.to_owned(),
        ..Container::default()
    };
    container.process.args = ["/bin/busybox", "sleep", "1000"]
        .map(str::to_owned)
        .to_vec();
    let sandbox = Sandbox {
        id: id.to_owned(),
        network: Namespace::Private,
        ..Sandbox::default()
    };
    let spec = berth_oci::sandbox_spec(&Host::detect(), kind, &sandbox, &container)?;
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)?;
    Ok(bundle)
}

/// One life; the time of each step.
async fn round(
    config: &ShimConfig,
    dir: &Path,
    id: &str,
    runtime: &Path,
    kind: RuntimeKind,
) -> Result<Vec<Duration>, Failure> {
    let bundle = bundle(dir, id, kind)?;
    let mut times = Vec::new();
    let mut last = Instant::now();
    let mut lap = || {
        times.push(last.elapsed());
        last = Instant::now();
    };
    let shim = Shim::launch(config, id, &bundle).await?;
    lap();
    let request = CreateRequest {
        id: id.to_owned(),
        bundle: bundle.clone(),
        rootfs: Vec::new(),
        terminal: false,
        stdin: false,
        stdin_once: false,
        log: Some(bundle.join("0.log")),
        options: RuntimeOptions::Command(RuntimeCommand::new(kind, runtime, dir.join("r"))),
    };
    shim.create(&request).await?;
    lap();
    shim.start(id).await?;
    lap();
    let spec: berth_oci::Spec =
        serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    let process = berth_oci::exec_process(&spec, &["/bin/busybox".into(), "true".into()], false);
    shim.exec_sync(id, &process, Duration::ZERO).await?;
    lap();
    if id == "t0" {
        let pid = shim.shim_pid(id).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        for line in status
            .lines()
            .filter(|l| l.starts_with("VmRSS") || l.starts_with("Rss"))
        {
            println!("{line}");
        }
    }
    shim.kill(id, 9, true).await?;
    shim.wait(id).await?;
    lap();
    shim.delete(id).await?;
    lap();
    shim.shutdown(id, true).await?;
    lap();
    Ok(times)
}

/// The same by the runtime alone.
fn bare(dir: &Path, id: &str, runtime: &Path, kind: RuntimeKind) -> Result<Vec<Duration>, Failure> {
    let bundle = bundle(dir, id, kind)?;
    let command = RuntimeCommand::new(kind, runtime, dir.join("b"));
    let log = bundle.join("log.json");
    let mut times = vec![Duration::ZERO];
    let path = bundle.to_string_lossy();
    let calls: [&[&str]; 5] = [
        &["create", "--bundle", &path, id],
        &["start", id],
        &["exec", id, "/bin/busybox", "true"],
        &["kill", id, "9"],
        &["delete", "--force", id],
    ];
    for args in calls {
        let start = Instant::now();
        let mut call = std::process::Command::new(runtime);
        call.args(command.global_args(&log)).args(args);
        for stream in [std::process::Command::stdout, std::process::Command::stderr] {
            stream(&mut call, std::process::Stdio::null());
        }
        call.stdin(std::process::Stdio::null()).status()?;
        times.push(start.elapsed());
    }
    times.push(Duration::ZERO);
    Ok(times)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let runtime = args.next().ok_or("which runtime?")?;
    let shim = PathBuf::from(args.next().ok_or("which shim?")?);
    let rounds: usize = args.next().map_or(Ok(10), |n| n.parse())?;
    let found = probe(Path::new(&runtime), &[])?;
    let dir = tempfile::Builder::new().prefix("bt").tempdir_in("/run")?;
    let config = ShimConfig {
        command: vec![shim],
        own: true,
        namespace: "times".to_owned(),
        socket_dir: dir.path().join("s"),
        address: String::new(),
    };
    let mut columns = vec![Vec::new(); STEPS.len()];
    let mut alone = vec![Vec::new(); STEPS.len()];
    for n in 0..rounds {
        let times = bare(dir.path(), &format!("b{n}"), &found.binary, found.kind)?;
        alone
            .iter_mut()
            .zip(times)
            .for_each(|(column, time)| column.push(time));
        let times = round(
            &config,
            dir.path(),
            &format!("t{n}"),
            &found.binary,
            found.kind,
        )
        .await?;
        columns
            .iter_mut()
            .zip(times)
            .for_each(|(column, time)| column.push(time));
    }
    println!("{:>10} {:>11} {:>11}", "", "through us", "bare");
    for ((name, times), alone) in STEPS.iter().zip(&mut columns).zip(&mut alone) {
        println!(
            "{name:>10} {:8.2} ms {:8.2} ms",
            median(times),
            median(alone)
        );
    }
    Ok(())
}
