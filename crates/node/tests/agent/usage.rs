//! What the node's server tells of usage, and whom.

use http::StatusCode;
use serde_json::{Value, json};

use super::port_10250::{API_SERVER, get};
use super::{POD, World, pod};

const PATHS: [&str; 5] = [
    "/metrics/resource",
    "/metrics/cadvisor",
    "/metrics/probes",
    "/stats/summary",
    "/stats/overhead",
];

async fn world() -> World {
    let world = World::started().await;
    {
        let mut state = world.cri.state.lock();
        state.pod_stats = true;
        state.memory_used = 4096;
        state.interfaces = 3000;
    }
    world.api.put(POD, pod(&json!({})));
    world.ready().await;
    world
}

#[tokio::test]
async fn all_of_it_is_for_those_who_may_read_it() {
    let world = world().await;
    for path in PATHS {
        let (status, text) = get(&world, API_SERVER, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        let (status, text) = get(&world, Some("somebody"), path).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {text}");
        let (status, _) = get(&world, None, path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn the_runtimes_figures_are_told_with_stock_names_and_bounded() {
    let world = world().await;
    let (_, text) = get(&world, API_SERVER, "/metrics/resource").await;
    let of = "container=\"c\",namespace=\"default\",pod=\"web\"";
    let has = |text: &str, start: &str| text.lines().any(|line| line.starts_with(start));
    for start in [
        format!("container_cpu_usage_seconds_total{{{of}}} 1.500000000 "),
        format!("container_memory_working_set_bytes{{{of}}} 4096 "),
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 4096 ".to_owned(),
        "resource_scrape_error 0".to_owned(),
    ] {
        assert!(has(&text, &start), "{start}\n{text}");
    }
    let (_, text) = get(&world, API_SERVER, "/metrics/cadvisor").await;
    assert!(has(&text, "machine_cpu_cores{"), "{text}");
    let interfaces = text.lines().filter(|line| {
        line.starts_with("container_network_receive_bytes_total") && line.contains("pod=\"web\"")
    });
    assert_eq!(interfaces.count(), 16, "{text}");
    assert!(text.contains("interface=\"x\\\"0\""), "{text}");
    let (_, text) = get(&world, API_SERVER, "/stats/summary").await;
    let summary: Value = serde_json::from_str(&text).unwrap();
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"]["uid"], "u1");
    assert_eq!(pod["network"]["rxBytes"], 11);
    assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 4096);
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64() > Some(0));
}

#[tokio::test]
async fn a_container_that_has_ended_is_not_told_of() {
    let world = world().await;
    let running = world.cri.running("c");
    let (_, text) = get(&world, API_SERVER, "/metrics/cadvisor").await;
    assert!(text.contains(&format!("name=\"{}\"", running[0])), "{text}");
    world.cri.exit(&running[0], 0);
    let name = format!("name=\"{}\"", running[0]);
    berth_testkit::wait_for_async("the ended container to go", super::LIMIT, || async {
        let (status, text) = get(&world, API_SERVER, "/metrics/cadvisor").await;
        assert_eq!(status, StatusCode::OK, "{text}");
        if text.contains(&name) {
            Err(text)
        } else {
            Ok(())
        }
    })
    .await;
}
