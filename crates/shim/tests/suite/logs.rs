//! Logs of real containers.

use crate::harness::{Pod, RUNTIMES, Settings, eventually, within};

#[tokio::test]
async fn both_streams_are_logged_before_the_exit_is_told() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod
            .run(
                &["sh", "-c", "echo one; echo two >&2; printf three"],
                &Settings::default(),
            )
            .await;
        within(pod.shim().wait(&id)).await.expect("wait");
        let mut log = pod.log(&id);
        log.sort();
        assert_eq!(
            log,
            ["stderr F two", "stdout F one", "stdout P three"],
            "{runtime}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn a_terminals_output_is_logged() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let settings = Settings {
            terminal: true,
            stdin: true,
            ..Settings::default()
        };
        let id = pod
            .run(
                &[
                    "sh",
                    "-c",
                    "[ -t 0 ] && [ -t 1 ] && echo terminal; echo bye",
                ],
                &settings,
            )
            .await;
        assert_eq!(
            within(pod.shim().wait(&id)).await.expect("wait").code,
            0,
            "{runtime}"
        );
        let log = pod.log(&id).join("\n");
        assert!(
            log.contains("terminal") && log.contains("bye"),
            "{runtime}: {log}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn rotation_loses_nothing() {
    let pod = Pod::start("runc").await;
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let id = pod.run(&["sh", "-c", script], &Settings::default()).await;
    let path = pod.log_path(&id);
    let mut parts = Vec::new();
    for n in 0..5 {
        let lines = || std::fs::read_to_string(&path).map_or(0, |t| t.lines().count());
        let ended = || berth_shim::client::recorded_exit(&pod.dir.path().join(&id)).is_some();
        eventually("some lines", || lines() > 20 || ended()).await;
        let old = path.with_extension(format!("log.{n}"));
        std::fs::rename(&path, &old).expect("rename");
        pod.shim().reopen_log(&id).await.expect("reopen");
        parts.push(old);
    }
    within(pod.shim().wait(&id)).await.expect("wait");
    parts.push(path);
    let text: String = parts
        .iter()
        .map(|p| std::fs::read_to_string(p).expect("part"))
        .collect();
    let got: Vec<&str> = text
        .lines()
        .map(|l| l.splitn(4, ' ').nth(3).expect("text"))
        .collect();
    let want: Vec<String> = (0..3000).map(|i| format!("line {i}")).collect();
    assert_eq!(got, want);
    pod.end().await;
}

#[tokio::test]
async fn a_flood_is_whole_and_costs_little_memory() {
    let pod = Pod::start("runc").await;
    let script = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 100000000";
    let id = pod.run(&["sh", "-c", script], &Settings::default()).await;
    let shim = pod.shim().shim_pid(&id).await.expect("pid");
    within(pod.shim().wait(&id)).await.expect("wait");
    let log = std::fs::File::open(pod.log_path(&id)).expect("log");
    let mut bytes = 0_usize;
    for line in std::io::BufRead::lines(std::io::BufReader::new(log)) {
        let line = line.expect("line");
        let mut fields = line.splitn(4, ' ').skip(2);
        let full = fields.next() == Some("F");
        bytes += fields.next().expect("text").len() + usize::from(full);
    }
    assert_eq!(bytes, 100_000_000);
    let status = std::fs::read_to_string(format!("/proc/{shim}/status")).expect("status");
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .expect("peak");
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().expect("number");
    let limit = if cfg!(debug_assertions) {
        40_000
    } else {
        8_000
    };
    assert!(peak < limit, "peak of {peak} kB");
    pod.end().await;
}
