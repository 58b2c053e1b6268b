//! The runtime's own metrics, for Prometheus: `GET /metrics` on an address of its own, where one is configured. Counts only,
//! by handler and reason: nothing of pods.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::{Shared, blocking};
use crate::warm;

/// Connections at a time; what comes behind waits in the kernel.
const CONNECTIONS_MAX: usize = 16;
/// How long one may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head of a request.
const HEAD_LIMIT: usize = 16 << 10;
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until shutdown.
pub(crate) async fn serve(engine: Shared, listener: TcpListener, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let Some((place, accepted)) = shutdown.run_until_cancelled(next).await else {
            return;
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "the metrics server cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&engine);
        engine.tasks.connection(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .max_buf_size(HEAD_LIMIT)
                .serve_connection(TokioIo::new(socket), service);
            let _ = tokio::time::timeout(PATIENCE, serving).await;
            drop(place);
        });
    }
}

fn text(engine: &Shared) -> String {
    let (mut text, tracer) = (warm::text(engine), &engine.config.tracer);
    if tracer.is_on() {
        let name = "berth_trace_spans_dropped_total";
        text.push_str(&format!(
            "# HELP {name} Spans that the collector did not take in time.\n# TYPE {name} counter\n{name} {}\n",
            tracer.dropped()
        ));
    }
    text
}

async fn answer<B>(
    engine: Shared,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match blocking(move || Ok(text(&engine))).await {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        (_, "/metrics") => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method not allowed\n".to_owned(),
        ),
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
    Ok(response)
}
