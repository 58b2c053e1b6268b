//! What those that wait cost, and what they spare.

use super::{WAITING, end, report, table, waiting};
use crate::client::{pod, shell};
use crate::server::Server;

/// What a path of the metrics server says.
fn scrape(server: &Server, request: &str) -> String {
    use std::io::{Read, Write};
    let address = server.metrics_address();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_waits_and_what_it_costs() {
    let mut server = Server::start_with(table(WAITING)).await;
    waiting(&mut server, "runsc", 2).await;
    waiting(&mut server, "runc", 1).await;
    let config = pod(&server, "one");
    let id = server.run(&config, "runsc").await;
    server.stop_pod(&id).await;
    waiting(&mut server, "runsc", 2).await;
    let text = scrape(&server, "GET /metrics");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        "berth_cri_warm_sandboxes{handler=\"runsc\",state=\"waiting\"} 2\n",
        "berth_cri_warm_sandboxes{handler=\"runsc\",state=\"wanted\"} 2\n",
        "berth_cri_warm_sandboxes{handler=\"runc\",state=\"waiting\"} 1\n",
        "berth_cri_warm_sandboxes{handler=\"runc\",state=\"making\"} 0\n",
        "berth_cri_warm_taken_total{handler=\"runsc\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let memory = |handler: &str| -> u64 {
        let start = format!("berth_cri_warm_memory_bytes{{handler=\"{handler}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().parse().unwrap()
    };
    // Each gVisor has some 20 MB, each shim some 3.
    assert!((10 << 20..400 << 20).contains(&memory("runsc")), "{text}");
    assert!((1 << 20..40 << 20).contains(&memory("runc")), "{text}");
    assert!(scrape(&server, "GET /").starts_with("HTTP/1.1 404"));
    assert!(scrape(&server, "POST /metrics").starts_with("HTTP/1.1 405"));
    end(server).await;
}

/// The shortest times of several pods, in milliseconds: RunPodSandbox, and all until a container runs.
async fn times(server: &mut Server, cold: bool) -> (f64, f64) {
    let mut best = (f64::MAX, f64::MAX);
    for number in 0..6 {
        waiting(server, "runsc", 2).await;
        let mut config = pod(server, &format!("timed{cold}{number}"));
        if cold {
            // As little as can be that a waiting one can't be given.
            let limit = (
                "kubernetes.io/ingress-bandwidth".to_owned(),
                "none".to_owned(),
            );
            config.annotations = [limit].into();
        }
        let began = std::time::Instant::now();
        let id = server.run(&config, "runsc").await;
        let run = began.elapsed().as_secs_f64() * 1e3;
        server
            .launch(&id, &config, shell("c", "exec sleep 1000"))
            .await;
        let whole = began.elapsed().as_secs_f64() * 1e3;
        best = (best.0.min(run), best.1.min(whole));
        server.stop_pod(&id).await;
    }
    best
}

/// Ratios of the best of several, which a busy machine changes little.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_one_spares_most_of_the_time() {
    let mut server = Server::start_with(table(WAITING)).await;
    let warm = times(&mut server, false).await;
    let cold = times(&mut server, true).await;
    let counts = report(&mut server, "runsc").await;
    assert_eq!(
        (&counts["taken"], &counts["cold"]["bandwidth"]),
        (&6.into(), &6.into())
    );
    eprintln!(
        "RunPodSandbox {:.1} ms, cold {:.1}; to running {:.1} ms, cold {:.1}",
        warm.0, cold.0, warm.1, cold.1
    );
    assert!(warm.0 * 4.0 < cold.0, "{warm:?} {cold:?}");
    assert!(warm.1 < cold.1 * 0.75, "{warm:?} {cold:?}");
    end(server).await;
}
