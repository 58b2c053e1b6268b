//! One trace for a pod's start, over all five parts; and `berth trace`, without any collector.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use berth_testkit::wait_for;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Wire;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use tonic::transport::server::TcpIncoming;

use crate::cluster::{Cluster, FOREVER, LIMIT, berth, class, pod, words};

/// Spans, each with its service's name.
type Spans = Arc<Mutex<Vec<(String, Span)>>>;

#[derive(Clone, Default)]
struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for part in request.into_inner().resource_spans {
            let attributes = part.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|a| a.key == "service.name");
            let Some(Wire::StringValue(name)) = name.and_then(|a| a.value?.value) else {
                return Err(tonic::Status::invalid_argument("no service.name"));
            };
            let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut all = self.0.lock().expect("nobody panicked");
            all.extend(spans.map(|span| (name.clone(), span)));
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a runtime of its own, which ends with it.
fn collector() -> (Spans, SocketAddr, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let collector = Collector::default();
    let spans = Arc::clone(&collector.0);
    let address = runtime.block_on(async {
        let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let incoming = incoming.expect("a port");
        let address = incoming.local_addr().expect("its address");
        let server =
            tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector));
        tokio::spawn(server.serve_with_incoming(incoming));
        address
    });
    (spans, address, runtime)
}

#[test]
fn a_pods_start_is_one_trace_over_all_parts() {
    let (spans, address, _runtime) = collector();
    let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}");
    let cluster = Cluster::through(vec!["env", endpoint.leak()], &[]);
    cluster.apply(&pod("web", None, FOREVER));
    cluster.wait_ready(&["web"]);
    let uid = cluster.json(&["pod", "web"])["metadata"]["uid"].clone();
    let trace = uid.as_str().expect("a uid").replace('-', "");
    let all = ["apiserver", "cri", "node", "scheduler", "shim"];
    let found = wait_for("spans of all parts", LIMIT, || {
        let spans = spans.lock().expect("nobody panicked").clone();
        let of_pod = |(_, span): &(String, Span)| hex(&span.trace_id) == trace;
        let spans: Vec<_> = spans.into_iter().filter(of_pod).collect();
        let parts: BTreeSet<&str> = spans.iter().map(|(part, _)| part.as_str()).collect();
        let whole = parts.iter().eq(&all) && spans.iter().any(|(_, s)| s.name == "start pod");
        whole
            .then(|| spans.clone())
            .ok_or_else(|| format!("{spans:?}"))
    });
    // One tree: every span hangs somewhere below the node's, whose id all parts know.
    let by_id: HashMap<&[u8], &Span> = found.iter().map(|(_, s)| (&*s.span_id, s)).collect();
    let roots: Vec<&Span> = by_id
        .values()
        .copied()
        .filter(|s| s.parent_span_id.is_empty())
        .collect();
    let [root] = roots[..] else {
        panic!("{found:?}")
    };
    assert_eq!(root.name, "start pod");
    let path = |span: &Span| {
        let (mut names, mut at) = (vec![span.name.clone()], span);
        while !at.parent_span_id.is_empty() {
            at = by_id
                .get(&*at.parent_span_id)
                .unwrap_or_else(|| panic!("{at:?} in {found:?}"));
            names.insert(0, at.name.clone());
            assert!(names.len() < 10);
        }
        names.join("/")
    };
    let paths: BTreeSet<String> = found.iter().map(|(_, span)| path(span)).collect();
    for wanted in [
        "start pod/create pod/admit",
        "start pod/create pod/store",
        "start pod/schedule/queue",
        "start pod/schedule/bind",
        "start pod/admit",
        "start pod/volumes",
        "start pod/sandbox/RunPodSandbox/namespaces",
        "start pod/sandbox/RunPodSandbox/bundle",
        "start pod/sandbox/RunPodSandbox/network",
        "start pod/sandbox/RunPodSandbox/shim",
        "start pod/create main/CreateContainer",
        "start pod/start main/StartContainer/create task/create",
        "start pod/start main/StartContainer/start task/start",
        "start pod/ready",
        "start pod/write status",
    ] {
        assert!(paths.contains(wanted), "{wanted} in {paths:#?}");
    }
    assert!(
        paths
            .iter()
            .any(|path| path.starts_with("start pod/image ")),
        "{paths:#?}"
    );
    for (_, span) in &found {
        assert!(
            span.end_time_unix_nano >= span.start_time_unix_nano,
            "{span:?}"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `berth trace` with these words.
fn trace(cluster: &Cluster, arguments: &[&str]) -> std::process::Output {
    let mut command = berth();
    command.arg("trace").args(arguments);
    command.arg("--data-dir").arg(cluster.data());
    command
        .env("COLUMNS", "100")
        .output()
        .expect("berth trace runs")
}

#[test]
fn berth_trace_shows_where_the_time_went() {
    let cluster = Cluster::start();
    cluster.apply(&class("small", "runc"));
    cluster.apply(&pod("web", Some("small"), FOREVER));
    cluster.wait_ready(&["web"]);
    // The node has the answer to its status a moment after everybody else reads it.
    let report = wait_for("the start to be over", LIMIT, || {
        let output = trace(&cluster, &["web", "-o", "json"]);
        assert!(output.status.success(), "{}", words(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        if report["outcome"] == "Ready" {
            Ok(report)
        } else {
            Err(report.to_string())
        }
    });
    assert_eq!(report["runtimeClass"], "small");
    assert_eq!(report["handler"], "runc");
    let all = report["microseconds"].as_u64().expect("a number");
    let stages = report["stages"].as_array().expect("stages");
    for part in ["node", "cri", "shim"] {
        assert!(stages.iter().any(|s| s["part"] == part), "{part}: {report}");
    }
    for stage in stages {
        let (begin, took) = (&stage["beginMicroseconds"], &stage["microseconds"]);
        let end = begin
            .as_u64()
            .zip(took.as_u64())
            .map(|(begin, took)| begin + took);
        // A stage's end and that of all are looked at one after the other.
        assert!(end.is_some_and(|end| end <= all + 1000), "{stage} of {all}");
    }
    let output = trace(&cluster, &["web", "-n", "default"]);
    let chart = words(&output);
    assert!(
        chart.starts_with("Pod default/web on node n1: Ready after "),
        "{chart}"
    );
    assert!(chart.contains("class small, handler runc"), "{chart}");
    let network = chart.lines().find(|line| line.contains("network (cri)"));
    assert!(network.is_some_and(|line| line.contains('█')), "{chart}");

    // One line in the log for the start, with the class, the handler and the time of each stage.
    let log = cluster.log();
    let started: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("pod started"))
        .collect();
    let [started] = started[..] else {
        panic!("{log}")
    };
    for word in [
        "INFO",
        "default/web",
        "small",
        "runc",
        "sandbox ",
        "start main ",
    ] {
        assert!(started.contains(word), "{word}: {started}");
    }

    // Of a pod that is deleted its node still knows.
    cluster.kube(&["delete", "pod", "web", "--now"]);
    let output = trace(&cluster, &["web"]);
    assert!(words(&output).contains("\"web\" not found") && !output.status.success());
    let output = trace(&cluster, &["web", "--node", "n1"]);
    assert!(
        words(&output).starts_with("Pod default/web"),
        "{}",
        words(&output)
    );
    let output = trace(&cluster, &["other", "--node", "n1"]);
    assert!(words(&output).contains("is not kept"), "{}", words(&output));
    let log = cluster.log();
    let ended: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("pod ended"))
        .collect();
    assert_eq!(ended.len(), 1, "{log}");
    assert!(
        ended[0].contains("Deleted") && ended[0].contains("main "),
        "{}",
        ended[0]
    );
    assert!(!log.contains("Some(\""), "{log}");
}
