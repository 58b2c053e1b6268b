//! How long a call to the container runtime may take: a runtime that hangs holds up the pods that need it, and is
//! told apart from one that works.
//!
//! A call that is a stage of a pod's start is told so ([`traced`]).
//!
//! The limits are the stock kubelet's (`runtimeRequestTimeout`, two minutes; twice that for a sandbox, whose network and
//! VM take time). A pull has none: it goes on as long as the registry sends.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::Service;

use super::traced;

/// An ordinary call.
const CALL: Duration = Duration::from_secs(120);
/// `RunPodSandbox`.
const SANDBOX: Duration = Duration::from_secs(240);

/// A call's own limit, in the request's extensions: for one that waits as long as its caller says (`StopContainer`,
/// `ExecSync`). `None` is without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

impl Limit {
    /// For a call that waits so many seconds (0 or less: none) and then does its work.
    pub(crate) fn after(seconds: i64) -> Self {
        let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Self(wait.checked_add(CALL))
    }
}

/// The request with a limit of its own.
pub(crate) fn within<T>(limit: Limit, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(limit);
    request
}

/// A channel whose calls end: `DEADLINE_EXCEEDED`, naming the call.
#[derive(Debug, Clone)]
pub(crate) struct Deadlines(pub(crate) Channel);

impl Service<Request<Body>> for Deadlines {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let method = method.to_owned();
        let own = request.extensions().get::<Limit>().copied();
        let Limit(limit) = own.unwrap_or_else(|| usual(&method));
        let stage = berth_trace::current();
        if let Some(stage) = &stage {
            traced::ask(stage, request.headers_mut());
        }
        let answer = self.0.call(request);
        let answer = async move {
            let answer = answer.await?;
            if let Some(stage) = &stage {
                traced::take(stage, answer.headers());
            }
            Ok(answer)
        };
        Box::pin(async move {
            let Some(limit) = limit else {
                return answer.await;
            };
            tokio::time::timeout(limit, answer)
                .await
                .unwrap_or_else(|_| {
                    let reason =
                        format!("the container runtime did not answer {method} within {limit:?}");
                    Ok(Status::deadline_exceeded(reason).into_http())
                })
        })
    }
}

fn usual(method: &str) -> Limit {
    Limit(match method {
        "PullImage" | "GetContainerEvents" => None,
        "RunPodSandbox" => Some(SANDBOX),
        _ => Some(CALL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_and_events_are_the_only_calls_without_a_limit() {
        assert_eq!(usual("PullImage"), Limit(None));
        assert_eq!(usual("GetContainerEvents"), Limit(None));
        assert_eq!(usual("RunPodSandbox"), Limit(Some(SANDBOX)));
        for method in ["ListContainers", "StartContainer", "Version", "New"] {
            assert_eq!(usual(method), Limit(Some(CALL)), "{method}");
        }
    }

    #[test]
    fn a_stop_has_its_grace_period_and_the_time_of_a_call() {
        assert_eq!(Limit::after(30), Limit(Some(Duration::from_secs(150))));
        assert_eq!(Limit::after(0), Limit(Some(CALL)));
        assert_eq!(Limit::after(-1), Limit(Some(CALL)));
        // A grace period of ages is no panic.
        assert!(Limit::after(i64::MAX).0.is_some());
    }

    /// A runtime that takes the connection and never says a word.
    #[tokio::test]
    async fn a_runtime_that_hangs_is_named_with_the_call() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("cri.sock");
        let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
        let cri = super::super::Cri::lazy(&socket);
        let silent = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        let limit = Limit(Some(Duration::from_millis(50)));
        let request = berth_cri_api::v1::VersionRequest::default();
        let error = cri
            .runtime()
            .version(within(limit, request))
            .await
            .expect_err("no answer");
        silent.abort();
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(
            error.message(),
            "the container runtime did not answer Version within 50ms"
        );
    }
}
