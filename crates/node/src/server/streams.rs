//! exec, attach and port-forward: the runtime gives a URL, and the connection is spliced to it.

use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::{AttachRequest, ExecRequest, ExecSyncRequest, PortForwardRequest};
use berth_lifecycle::RunState;
use berth_supervise::Chain;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::connections::Connection;
use super::reply::{Body, NotServed, empty, passed, text};
use crate::agent::Agent;
use crate::cri::{Limit, within};
use crate::pods::PodHandle;

/// The query, decoded, in order.
pub(super) fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    let raw = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(raw.as_bytes())
        .into_owned()
        .collect()
}

/// The pod by name; the one that is not going away when there are two.
pub(super) fn find(agent: &Agent, ns: &str, name: &str) -> Result<Arc<PodHandle>, NotServed> {
    let mut fits: Vec<_> = agent
        .handles()
        .into_iter()
        .filter(|h| {
            let pod = h.pod.borrow();
            pod.metadata.name.as_deref() == Some(name)
                && pod.metadata.namespace.as_deref() == Some(ns)
        })
        .collect();
    fits.sort_by_key(|h| h.is_gone() || h.pod.borrow().metadata.deletion_timestamp.is_some());
    fits.into_iter()
        .next()
        .ok_or_else(|| NotServed::not_found(format!("pod {:?} not found", format!("{name}_{ns}"))))
}

fn running(agent: &Agent, ns: &str, pod: &str, container: &str) -> Result<String, NotServed> {
    let handle = find(agent, ns, pod)?;
    let seen = handle.observed.read();
    match seen.latest(container) {
        Some(c) if c.state == RunState::Running => Ok(c.id.clone()),
        Some(_) => Err(NotServed::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("container {container:?} in pod {pod:?} is not running"),
        )),
        None => Err(NotServed::not_found(format!(
            "container {container:?} not found in pod {:?}",
            format!("{pod}_{ns}")
        ))),
    }
}

fn flag(query: &[(String, String)], names: [&str; 2]) -> bool {
    query
        .iter()
        .any(|(k, v)| names.contains(&k.as_str()) && matches!(v.as_str(), "1" | "true"))
}

pub(super) async fn exec(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    ns: &str,
    pod: &str,
    container: &str,
) -> Result<Response<Body>, NotServed> {
    let q = query(&request);
    let tty = flag(&q, ["tty", "tty"]);
    let call = ExecRequest {
        container_id: running(agent, ns, pod, container)?,
        cmd: commands(&q, "command"),
        tty,
        stdin: flag(&q, ["input", "stdin"]),
        stdout: flag(&q, ["output", "stdout"]),
        // With a terminal there is one output.
        stderr: !tty && flag(&q, ["error", "stderr"]),
    };
    if call.cmd.is_empty() {
        return Err(NotServed::bad(
            "you must specify at least one command".to_owned(),
        ));
    }
    if !(call.stdin || call.stdout || call.stderr) {
        return Err(NotServed::bad(
            "you must specify at least 1 of stdin, stdout, stderr".to_owned(),
        ));
    }
    let answer = agent.cri.runtime().exec(call).await;
    let url = answer.map_err(|e| NotServed::cri(&e))?.into_inner().url;
    pass(agent, request, &url).await
}

fn commands(query: &[(String, String)], name: &str) -> Vec<String> {
    query
        .iter()
        .filter(|(k, _)| k == name)
        .map(|(_, v)| v.clone())
        .collect()
}

pub(super) async fn attach(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    ns: &str,
    pod: &str,
    container: &str,
) -> Result<Response<Body>, NotServed> {
    let q = query(&request);
    // The container's own terminal decides, not the caller.
    let handle = find(agent, ns, pod)?;
    let tty = handle.pod.borrow().spec.iter().any(|s| {
        s.containers
            .iter()
            .chain(s.init_containers.iter().flatten())
            .any(|c| c.name == container && c.tty == Some(true))
            || s.ephemeral_containers
                .iter()
                .flatten()
                .any(|c| c.name == container && c.tty == Some(true))
    });
    let call = AttachRequest {
        container_id: running(agent, ns, pod, container)?,
        stdin: flag(&q, ["input", "stdin"]),
        tty,
        stdout: flag(&q, ["output", "stdout"]),
        stderr: !tty && flag(&q, ["error", "stderr"]),
    };
    let answer = agent.cri.runtime().attach(call).await;
    let url = answer.map_err(|e| NotServed::cri(&e))?.into_inner().url;
    pass(agent, request, &url).await
}

pub(super) async fn port_forward(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    ns: &str,
    pod: &str,
) -> Result<Response<Body>, NotServed> {
    let handle = find(agent, ns, pod)?;
    let sandbox = handle
        .observed
        .read()
        .sandbox()
        .filter(|s| s.ready)
        .map(|s| s.id.clone())
        .ok_or_else(|| {
            NotServed::not_found(format!(
                "pod {:?} has no running sandbox",
                format!("{pod}_{ns}")
            ))
        })?;
    let ports = query(&request)
        .iter()
        .filter(|(k, _)| k == "port" || k == "ports")
        .flat_map(|(_, v)| v.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|p| p.parse().ok())
        .collect();
    let call = PortForwardRequest {
        pod_sandbox_id: sandbox,
        port: ports,
    };
    let answer = agent.cri.runtime().port_forward(call).await;
    let url = answer.map_err(|e| NotServed::cri(&e))?.into_inner().url;
    pass(agent, request, &url).await
}

/// `/run`: a command without a stream; its output is the answer.
pub(super) async fn run(
    agent: &Arc<Agent>,
    request: &Request<Incoming>,
    ns: &str,
    pod: &str,
    container: &str,
) -> Result<Response<Body>, NotServed> {
    let line = commands(&query(request), "cmd").join(" ");
    let call = ExecSyncRequest {
        container_id: running(agent, ns, pod, container)?,
        cmd: line.split_whitespace().map(str::to_owned).collect(),
        timeout: 0,
    };
    // It runs as long as its client waits.
    let call = within(Limit(None), call);
    let answer = agent.cri.runtime().exec_sync(call).await;
    let answer = answer.map_err(|e| NotServed::cri(&e))?.into_inner();
    let mut out = answer.stdout;
    out.extend(answer.stderr);
    let status = if answer.exit_code == 0 {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    Ok(text(status, out))
}

/// The reason is for the log: the URL holds the stream's token.
fn unreachable(error: &dyn std::fmt::Display) -> NotServed {
    warn!(%error, "cannot reach the container runtime's streaming server");
    NotServed::new(
        StatusCode::BAD_GATEWAY,
        "cannot reach the container runtime's streaming server".to_owned(),
    )
}

/// The runtime's streaming server has so long to take a connection and to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// [`splice`], within its time.
async fn pass(
    agent: &Agent,
    request: Request<Incoming>,
    url: &str,
) -> Result<Response<Body>, NotServed> {
    match tokio::time::timeout(ANSWER_LIMIT, splice(agent, request, url)).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(&"it did not answer in time")),
    }
}

/// Sends the request on to `url` and, once both sides have upgraded, passes bytes both ways.
async fn splice(
    agent: &Agent,
    mut request: Request<Incoming>,
    url: &str,
) -> Result<Response<Body>, NotServed> {
    let uri: Uri = url.parse().map_err(|e| unreachable(&e))?;
    let host = uri
        .host()
        .ok_or_else(|| unreachable(&"it names no host"))?
        .trim_matches(['[', ']'])
        .to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|e| unreachable(&e))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| unreachable(&e))?;
    let shutdown = agent.tasks.stop_token();
    agent.tasks.spawn_isolated("stream", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            result = connection.with_upgrades() => if let Err(error) = result {
                debug!(error = %Chain(&error), "connection to the runtime's streaming server");
            }
        }
    });

    let place = request.extensions().get::<Connection>().cloned();
    let ours = hyper::upgrade::on(&mut request);
    let mut onward = Request::builder()
        .method(request.method().clone())
        .uri(uri.path_and_query().map_or("/", |p| p.as_str()))
        .body(empty())
        .map_err(|e| unreachable(&e))?;
    *onward.headers_mut() = request.headers().clone();
    onward.headers_mut().remove(http::header::AUTHORIZATION);
    if let Some(authority) = uri.authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        onward.headers_mut().insert(HOST, value);
    }
    let mut answer = sender
        .send_request(onward)
        .await
        .map_err(|e| unreachable(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        return Ok(Response::from_parts(parts, passed(body)));
    }
    let theirs = hyper::upgrade::on(&mut answer);
    let copy = async move {
        if let Some(place) = &place {
            place.upgraded();
        }
        match tokio::try_join!(ours, theirs) {
            Ok((ours, theirs)) => {
                let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                match tokio::io::copy_bidirectional(&mut ours, &mut theirs).await {
                    Ok((sent, received)) => debug!(sent, received, "stream ended"),
                    Err(error) => debug!(%error, "stream broke off"),
                }
            }
            Err(error) => debug!(%error, "upgrade"),
        }
        drop(place);
    };
    let shutdown = agent.tasks.stop_token();
    agent.tasks.spawn_isolated("stream", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = copy => {}
        }
    });
    let (parts, _) = answer.into_parts();
    Ok(Response::from_parts(parts, empty()))
}
