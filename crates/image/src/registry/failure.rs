//! From what a host did to what a person reads and what is done next.

use std::error::Error as _;
use std::io;

use reqwest::StatusCode;

use super::guard::LeadsInside;
use crate::error::ImageError;
use crate::reference::Reference;

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This host won't do it.
    Host,
    /// This host is not there; it may be on its way up.
    AgainIfLast,
    /// It looks temporary.
    Again,
}

/// A failed attempt at one host.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) error: ImageError,
    pub(super) next: Next,
    /// The host has understood the request, whatever it made of it.
    pub(super) answer: bool,
}

impl Attempt {
    pub(super) fn next(error: ImageError) -> Self {
        Self {
            error,
            next: Next::Host,
            answer: true,
        }
    }
}

/// A request that got no answer, or whose answer broke off.
pub(super) fn transport(reference: &Reference, host: &str, error: &reqwest::Error) -> Attempt {
    let (detail, next) = explain(error);
    let error = ImageError::Registry {
        reference: reference.to_string(),
        registry: host.to_owned(),
        detail,
    };
    Attempt {
        error,
        next,
        answer: false,
    }
}

/// Says what became of a transfer.
pub(super) fn explain(error: &reqwest::Error) -> (String, Next) {
    let mut deepest = error.to_string();
    let mut source = error.source();
    let mut io_kind = None;
    let mut tls = None;
    let mut inside = None;
    while let Some(cause) = source {
        deepest = cause.to_string();
        inside = inside.or_else(|| {
            cause
                .downcast_ref::<LeadsInside>()
                .map(LeadsInside::to_string)
        });
        tls = tls.or_else(|| cause.downcast_ref::<rustls::Error>().cloned());
        source = match cause.downcast_ref::<io::Error>() {
            Some(error) => {
                io_kind = Some(error.kind());
                // Its source() passes over what it wraps.
                error
                    .get_ref()
                    .map(|wrapped| wrapped as &(dyn std::error::Error + 'static))
            }
            None => cause.source(),
        };
    }
    if let Some(inside) = inside {
        return (format!("leads to this machine: {inside}"), Next::Host);
    }
    if let Some(tls) = tls {
        return (explain_tls(&tls), Next::Host);
    }
    if deepest.contains("dns error")
        || deepest.contains("failed to lookup")
        || deepest.contains("Name or service")
    {
        return (format!("is not known: {deepest}"), Next::AgainIfLast);
    }
    match io_kind {
        Some(io::ErrorKind::ConnectionRefused) => (
            "refused the connection; is it running, and is the port right?".to_owned(),
            Next::AgainIfLast,
        ),
        _ if error.is_connect() && error.is_timeout() => {
            ("did not answer in time".to_owned(), Next::AgainIfLast)
        }
        _ if error.is_connect() => (format!("can't be reached: {deepest}"), Next::AgainIfLast),
        _ if error.is_timeout() => ("stopped sending".to_owned(), Next::Again),
        _ if error.is_redirect() => (format!("redirects badly: {deepest}"), Next::Host),
        _ if error.is_builder() => (format!("can't be asked: {deepest}"), Next::Host),
        _ => (format!("broke off: {deepest}"), Next::Again),
    }
}

fn explain_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => {
            "refused TLS; is it plain HTTP? Then write server = \"http://...\" into its \
             hosts.toml"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(reason) => format!(
            "has a certificate that is not trusted ({reason}); name its CA in its hosts.toml (ca = \"...\"), or \
             skip_verify = true"
        ),
        other => format!("and this side could not agree on TLS: {other}"),
    }
}

/// An answer with a status that is none of the expected ones. `body` is its beginning.
pub(super) fn status(
    reference: &Reference,
    host: &str,
    what: &str,
    status: StatusCode,
    body: &str,
) -> Attempt {
    let (reference, registry) = (reference.to_string(), host.to_owned());
    let said = message(body);
    let detail = |text: String| {
        if said.is_empty() {
            text
        } else {
            format!("{text}: {said}")
        }
    };
    match status {
        StatusCode::NOT_FOUND => Attempt::next(ImageError::Unknown {
            reference,
            registry,
            what: what.to_owned(),
        }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Attempt::next(ImageError::Denied {
            reference,
            registry,
            detail: detail(status.to_string()),
        }),
        _ => {
            let temporary = status.is_server_error()
                || matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                );
            let detail = detail(format!("answered {status} for {what}"));
            let error = ImageError::Registry {
                reference,
                registry,
                detail,
            };
            Attempt {
                error,
                next: if temporary { Next::Again } else { Next::Host },
                answer: true,
            }
        }
    }
}

/// The registry's own words: `{"errors":[{"code","message"}]}`, or a short text.
fn message(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let text = parsed.as_ref().and_then(|v| {
        let error = v.get("errors")?.get(0)?;
        Some(
            error
                .get("message")
                .or_else(|| error.get("code"))?
                .as_str()?
                .to_owned(),
        )
    });
    let text = match text {
        Some(text) => text,
        None if parsed.is_none() && !body.trim_start().starts_with('<') => body.to_owned(),
        None => String::new(),
    };
    text.chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_words() {
        assert_eq!(
            message(r#"{"errors":[{"code":"X","message":"no such thing"}]}"#),
            "no such thing"
        );
        assert_eq!(message(r#"{"errors":[{"code":"DENIED"}]}"#), "DENIED");
        assert_eq!(message("<html>oops</html>"), "");
        assert_eq!(message("slow\u{1b}[31m down\n"), "slow[31m down");
    }

    #[test]
    fn what_is_tried_again() {
        let reference: Reference = "example.com/x".parse().unwrap();
        let next = |code: u16| {
            status(
                &reference,
                "h",
                "w",
                StatusCode::from_u16(code).unwrap(),
                "",
            )
            .next
        };
        for code in [500, 502, 503, 429, 408] {
            assert_eq!(next(code), Next::Again, "{code}");
        }
        for code in [400, 401, 403, 404, 416] {
            assert_eq!(next(code), Next::Host, "{code}");
        }
    }
}
