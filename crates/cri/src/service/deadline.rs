//! Calls whose time is over: DEADLINE_EXCEEDED, as gRPC has it.
//!
//! Calls that fail are logged with their reasons here, too.
//!
//! tonic ends them, too, but as CANCELLED, which clients take for a call that they took back. This layer lies inside
//! tonic's own and counts from a moment earlier, so its answer is the one that is sent.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

/// The header that tells how long a client waits.
const HEADER: &str = "grpc-timeout";

/// A service whose calls have the time that their clients give them.
#[derive(Debug, Clone)]
pub(crate) struct Deadline<S>(pub(crate) S);

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let given = given(request.headers());
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let method = method.to_owned();
        let answer = self.0.call(request);
        let Some(given) = given else {
            return Box::pin(async move { answer.await.inspect(|answer| log(&method, answer)) });
        };
        // Its clock runs from here on, not from when it is looked at.
        let answer = tokio::time::timeout(given, answer);
        Box::pin(async move {
            let answer = answer.await.unwrap_or_else(|_| {
                let told = format!("the client's deadline of {given:?} is over");
                Ok(Status::deadline_exceeded(told).into_http())
            });
            answer.inspect(|answer| log(&method, answer))
        })
    }
}

/// Says why a call has failed. Whoever asks for what is gone, or for what isn't built, asks often.
fn log<B>(method: &str, answer: &Response<B>) {
    let Some(status) = Status::from_header_map(answer.headers()) else {
        return;
    };
    let (code, reason) = (status.code(), status.message());
    match code {
        Code::Ok => {}
        Code::NotFound | Code::Unimplemented => tracing::debug!(method, reason, "call failed"),
        // A command of a pod's probe, which comes again each second.
        Code::DeadlineExceeded if method == "ExecSync" => {
            tracing::debug!(method, reason, "call failed");
        }
        code => tracing::warn!(method, code = code.description(), reason, "call failed"),
    }
}

/// `TimeoutValue TimeoutUnit`: up to eight digits and one of H M S m u n.
fn given(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = plain.then(|| digits.parse().ok())??;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_grpc_writes_them() {
        for (text, want) in [
            ("1m", Some(Duration::from_millis(1))),
            ("2H", Some(Duration::from_secs(7200))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("100000000S", None),
            ("5", None),
            ("m", None),
            ("-1S", None),
            ("1h", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(HEADER),
                text.parse().unwrap(),
            )]);
            assert_eq!(given(&headers), want, "{text}");
        }
        assert_eq!(given(&HeaderMap::new()), None);
    }
}
