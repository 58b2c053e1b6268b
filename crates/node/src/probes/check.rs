//! One probe, once.

use std::time::Duration;

use berth_cri_api::v1::ExecSyncRequest;
use k8s_openapi::api::core::v1::{Container, Probe};
use prost::Message;
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::agent::Agent;
use crate::cri::{Limit, within};
use crate::http_probe;

/// Of a command's output so much is told, as by the stock kubelet.
const OUTPUT_LIMIT: usize = 10 << 10;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; 1 is SERVING.
#[derive(Clone, PartialEq, Eq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn check(
    agent: &Agent,
    c: &Container,
    probe: &Probe,
    id: &str,
    ip: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        return run(agent, exec.command.clone().unwrap_or_default(), id, limit).await;
    }
    if let Some(get) = &probe.http_get {
        return http_probe::get(c, get, ip, limit, true).await.map(drop);
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = http_probe::port(c, &tcp.port)?;
        let host = tcp.host.as_deref().filter(|h| !h.is_empty()).or(ip);
        let host = host.ok_or("the pod has no address")?;
        let connect = TcpStream::connect((host, port));
        return match tokio::time::timeout(limit, connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(format!("dial tcp {host}:{port}: {e}")),
            Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        let host = ip.ok_or("the pod has no address")?;
        let work = health(host, grpc.port, service);
        return match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(format!(
                "timeout: health rpc did not complete within {limit:?}"
            )),
        };
    }
    Err("missing probe handler".to_owned())
}

async fn run(agent: &Agent, cmd: Vec<String>, id: &str, limit: Duration) -> Result<(), String> {
    let request = ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: cmd.clone(),
        timeout: i64::try_from(limit.as_secs()).unwrap_or(1),
    };
    let mut runtime = agent.cri.runtime();
    // The runtime ends the command; a little more time lets it say so.
    let request = within(Limit(None), request);
    let call = tokio::time::timeout(limit + Duration::from_secs(2), runtime.exec_sync(request));
    let answer = match call.await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(e)) => {
            return Err(if e.code() == tonic::Code::DeadlineExceeded {
                format!(
                    "command timed out: {cmd:?} timed out after {}s",
                    limit.as_secs()
                )
            } else {
                e.message().to_owned()
            });
        }
        Err(_) => {
            return Err(format!(
                "command timed out: {cmd:?} timed out after {}s",
                limit.as_secs()
            ));
        }
    };
    if answer.exit_code == 0 {
        return Ok(());
    }
    let mut said = answer.stdout;
    said.extend(answer.stderr);
    said.truncate(OUTPUT_LIMIT);
    Err(String::from_utf8_lossy(&said).into_owned())
}

async fn health(host: &str, port: i32, service: String) -> Result<(), String> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let endpoint =
        Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|e| e.to_string())?;
    let channel = endpoint
        .connect()
        .await
        .map_err(|e| format!("failed to connect service \"{host}:{port}\": {e}"))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let answer = client
        .unary(
            tonic::Request::new(HealthCheckRequest { service }),
            path,
            codec,
        )
        .await
        .map_err(|e| format!("health rpc probe failed: {}", e.message()))?;
    match answer.into_inner().status {
        1 => Ok(()),
        status => Err(format!(
            "service unhealthy (responded with status {status})"
        )),
    }
}
