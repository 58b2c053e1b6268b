//! Traces, as a collector gets them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use berth_apiserver::authn::StaticToken;
use berth_apiserver::user::User;
use berth_trace::{Tracer, TracingConfig};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use serde_json::json;
use tonic::transport::server::TcpIncoming;

use crate::harness::{Api, CONFIG_MAPS};
use crate::hook_server::HookServer;

/// Takes spans, decoded from protobuf.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        for resource in resources {
            let named = resource.resource.unwrap().attributes;
            assert!(named.iter().any(|a| a.key == "service.name"));
            let scopes = resource.scope_spans.into_iter();
            self.0.lock().extend(scopes.flat_map(|scope| scope.spans));
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = incoming.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        (collector, address)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().clone()
    }
}

fn tracer(address: SocketAddr, rate: u32) -> Tracer {
    Tracer::start(&TracingConfig {
        endpoint: address.to_string(),
        sampling_rate_per_million: rate,
        headers: Vec::new(),
        resource: Vec::new(),
    })
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn headers(sampled: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/json".to_owned()),
        ("traceparent", format!("00-{TRACE}-{PARENT}-{sampled}")),
    ]
}

async fn post(api: &Api, name: &str, headers: &[(&'static str, String)]) {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let answer = api
        .raw("POST", CONFIG_MAPS, &headers, body.to_string())
        .await;
    answer.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_has_its_stages_in_one_trace() {
    let (collector, address) = Collector::start().await;
    let hook = HookServer::start(|_| json!({"allowed": true})).await;
    let api = Api::start_with(|c| c.tracer = tracer(address, 0)).await;
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "w"}, "webhooks": [{"name": "w.example.com", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": format!("https://localhost:{}/", hook.address.port()),
        "caBundle": base64(&hook.ca_pem)},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]}]});
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    api.post(hooks, webhook).await.expect(201);
    // Of what nobody samples nothing is sent; an administrator's trace is followed.
    post(&api, "plain", &headers("00")[..1]).await;
    post(&api, "followed", &headers("01")).await;
    api.stop().await;
    let spans = collector.spans();
    let trace = |span: &Span| hex::encode(&span.trace_id);
    assert!(spans.iter().all(|span| trace(span) == TRACE), "{spans:?}");
    let root = spans
        .iter()
        .find(|s| hex::encode(&s.parent_span_id) == PARENT)
        .unwrap();
    assert_eq!(root.name, "POST /api/v1/namespaces/{:namespace}/configmaps");
    assert_eq!(root.kind, 2, "a server's");
    let attribute = |key: &str| {
        root.attributes
            .iter()
            .find(|a| a.key == key)
            .unwrap()
            .value
            .clone()
    };
    assert!(format!("{:?}", attribute("http.response.status_code")).contains("201"));
    for stage in [
        "authenticate",
        "authorize",
        "admit",
        "validate",
        "webhook",
        "store",
    ] {
        let span = spans
            .iter()
            .find(|s| s.name == stage)
            .unwrap_or_else(|| panic!("{stage}: {spans:?}"));
        assert_eq!(span.parent_span_id, root.span_id, "{stage}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano);
    }
    let webhook = spans.iter().find(|s| s.name == "webhook").unwrap();
    let got = hook.got.lock();
    let told = got.last().unwrap().headers["traceparent"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        told,
        format!("00-{TRACE}-{}-01", hex::encode(&webhook.span_id))
    );
    assert!(
        got.iter()
            .any(|got| !got.headers.contains_key("traceparent"))
    );
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_decides_what_is_recorded() {
    for (rate, recorded) in [(0, 0), (1_000_000, 1)] {
        let (collector, address) = Collector::start().await;
        let api = Api::start_with(|c| {
            c.tracer = tracer(address, rate);
            let user = User {
                name: "jane".to_owned(),
                ..User::default()
            };
            c.authn.static_tokens.push(StaticToken {
                token: "jane".to_owned(),
                user,
            });
        })
        .await;
        let traceparent = format!("00-{TRACE}-{PARENT}-01");
        let headers = [
            ("authorization", "Bearer jane"),
            ("traceparent", traceparent.as_str()),
        ];
        api.raw_without_credentials("GET", CONFIG_MAPS, &headers, "")
            .await
            .expect(403);
        api.stop().await;
        let spans = collector.spans();
        let roots: Vec<&Span> = spans
            .iter()
            .filter(|s| s.parent_span_id.is_empty())
            .collect();
        assert_eq!(roots.len(), recorded, "{spans:?}");
        for root in roots {
            assert_ne!(hex::encode(&root.trace_id), TRACE);
            assert_eq!(hex::encode(&root.links[0].trace_id), TRACE);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_stops_nobody() {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let api = Api::start_with(|c| c.tracer = tracer(nowhere, 1_000_000)).await;
    for n in 0..20 {
        post(&api, &format!("m{n}"), &headers("01")).await;
    }
    api.stop().await;
}

/// The create is part of the trace of the pod's start, which nobody but the server chooses.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_created_begins_the_trace_of_its_start() {
    let (collector, address) = Collector::start().await;
    let api = Api::start_with(|c| c.tracer = tracer(address, 1_000_000)).await;
    let wanted = "0af76519-16cd-43dd-8448-eb211c80319c";
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": wanted},
            "spec": {"containers": [{"name": "c", "image": "i"}]}})
    };
    let headers: Vec<(&'static str, String)> = headers("00");
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let answer = api.raw("POST", pods, &headers, pod("p").to_string()).await;
    let created = answer.expect(201);
    let uid = created["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_ne!(uid, wanted);
    // One that is refused begins nothing.
    let answer = api.raw("POST", pods, &headers, pod("p").to_string()).await;
    answer.expect(409);
    api.stop().await;
    let spans = collector.spans();
    let (trace, root) = berth_trace::pod(&uid);
    let create: Vec<&Span> = spans.iter().filter(|s| s.name == "create pod").collect();
    let [create] = create[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(create.trace_id, trace.bytes());
    assert_eq!(create.parent_span_id, root.bytes());
    // The administrator has said that his own request is not to be recorded.
    assert!(create.links.is_empty());
    assert!(spans.iter().all(|s| hex::encode(&s.trace_id) != TRACE));
    for stage in ["admit", "validate", "store"] {
        let mut of_pod = spans.iter().filter(|s| s.trace_id == trace.bytes());
        let stage = of_pod.find(|s| s.name == stage).unwrap();
        assert_eq!(stage.parent_span_id, create.span_id);
    }
}
