//! Why a webhook gave no answer, in the words of the stock server's client.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use rustls::CertificateError;

/// As much as an error shows of a webhook's own words.
const MAX_SHOWN: usize = 1024;

/// A call that has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The webhook has no place for another request; the client is to come again.
    #[error("too many requests wait for it")]
    Busy,
    /// What was sent or came back is of no use.
    #[error("{0}")]
    Unusable(String),
    /// The configuration cannot be used.
    #[error("could not get REST client: {0}")]
    Client(String),
    /// There is no answer.
    #[error("failed to call webhook: Post {url:?}: {why}")]
    Send {
        /// Where it was sent to.
        url: String,
        /// Why.
        why: String,
    },
    /// The answer is none, or a refusal.
    #[error("failed to call webhook: {0}")]
    Answer(String),
}

/// What the transport says of a call that did not come about.
pub(crate) fn transport(error: &(dyn Error + 'static)) -> String {
    let mut at = Some(error);
    let mut last = error.to_string();
    while let Some(error) = at {
        if let Some(tls) = find_tls(error) {
            return describe_tls(tls);
        }
        last = error.to_string();
        at = error.source();
    }
    last
}

/// An I/O error holds the TLS error, and does not name it as its source.
fn find_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref::<rustls::Error>().or_else(|| {
        let io = error.downcast_ref::<std::io::Error>()?;
        let inner: &'a (dyn Error + 'static) = io.get_ref()?;
        find_tls(inner)
    })
}

fn describe_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            .to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
            .to_owned(),
        rustls::Error::InvalidCertificate(why) => {
            format!("tls: failed to verify certificate: x509: {why}")
        }
        other => format!("tls: {other}"),
    }
}

pub(super) fn deadline() -> String {
    "context deadline exceeded".to_owned()
}

/// What an answer with another code than 200 counts as.
pub(super) fn of_code(code: StatusCode, body: &[u8]) -> CallError {
    let shown = String::from_utf8_lossy(&body[..body.len().min(MAX_SHOWN)]);
    let shown = shown.trim();
    CallError::Answer(match code.as_u16() {
        401 => "the server has asked for the client to provide credentials".to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later"
            .to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        300..=399 => format!("the server answered with a redirect ({code}), which is not followed"),
        500.. => {
            format!("an error on the server ({shown:?}) has prevented the request from succeeding")
        }
        _ => format!("the server rejected our request for an unknown reason ({code})"),
    })
}

/// Whole seconds, rounded up, as the webhook is told how long it has.
pub(super) fn seconds(timeout: Duration) -> u64 {
    let whole = timeout.as_secs();
    whole
        .saturating_add(u64::from(timeout.subsec_nanos() > 0))
        .max(1)
}
