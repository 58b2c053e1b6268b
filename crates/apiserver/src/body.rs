//! Reading the body of a request: so many bytes, and not too slowly.

use berth_api::status::ApiError;
use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::Instant;

use crate::limits::Deadlines;

/// Largest body: as much as the stock server takes.
const BODY_MAX: usize = 3 << 20;

/// Reads a body whole.
///
/// # Errors
/// `RequestEntityTooLarge` past 3 MiB, `Timeout` when it comes more slowly than it may, `BadRequest` when it breaks off.
pub(crate) async fn read<B>(body: B, deadlines: &Deadlines) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let too_large = || {
        ApiError::RequestEntityTooLarge(format!("Request entity too large: limit is {BODY_MAX}"))
    };
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    let begun = Instant::now();
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let read = first.len() + joined.len();
        let frame = match tokio::time::timeout_at(due(begun, read, deadlines), body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(_) => {
                return Err(ApiError::Timeout(format!(
                    "the body of the request came too slowly: {read} bytes in {} s",
                    begun.elapsed().as_secs()
                )));
            }
        };
        let frame =
            frame.map_err(|e| ApiError::BadRequest(format!("the body could not be read: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read + data.len() > BODY_MAX {
            return Err(too_large());
        }
        if read == 0 {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// When the next part of a body is due after so many bytes.
fn due(begun: Instant, read: usize, deadlines: &Deadlines) -> Instant {
    let paid = Duration::from_secs(read as u64) / deadlines.body_rate.max(1);
    begun + deadlines.body + paid
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    /// A body of so many parts of so many bytes, one in 20 ms.
    fn slow(parts: usize, size: usize) -> impl Body<Data = Bytes, Error = Infallible> {
        let parts = futures::stream::iter(0..parts).then(move |_| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(Frame::data(Bytes::from(vec![b'x'; size])))
        });
        StreamBody::new(parts)
    }

    async fn error(body: impl Body<Data = Bytes, Error = Infallible>) -> String {
        let deadlines = Deadlines {
            body: Duration::from_millis(100),
            ..Deadlines::default()
        };
        let read = read(body, &deadlines).await;
        read.map(|bytes| bytes.len()).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_body_must_come_on() {
        let deadlines = Deadlines {
            body: Duration::from_millis(100),
            ..Deadlines::default()
        };
        let whole = read(slow(20, 10_000), &deadlines).await.unwrap();
        assert_eq!(whole.len(), 200_000);
        let error = error(slow(1000, 1)).await;
        let text = "Timeout: the body of the request came too slowly: ";
        assert!(error.starts_with(text), "{error}");
    }

    #[test]
    fn what_has_come_buys_time() {
        let begun = Instant::now();
        let deadlines = Deadlines::default();
        let after = |read| due(begun, read, &deadlines).duration_since(begun).as_secs();
        assert_eq!([after(0), after(1024), after(102_400)], [10, 11, 110]);
    }

    #[tokio::test]
    async fn a_body_has_a_size() {
        let body = |size| Full::new(Bytes::from(vec![0; size]));
        let deadlines = Deadlines::default();
        let read_whole = read(body(BODY_MAX), &deadlines).await.unwrap();
        assert_eq!(read_whole.len(), BODY_MAX);
        let text = "Request entity too large: limit is 3145728";
        assert_eq!(error(body(BODY_MAX + 1)).await, text);
        // A body that does not say how long it is.
        let parts = (0..4).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 1 << 20]))));
        assert_eq!(
            error(StreamBody::new(futures::stream::iter(parts))).await,
            text
        );
    }
}
