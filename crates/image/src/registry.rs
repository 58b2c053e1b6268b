//! A client for the OCI distribution protocol, with mirrors, resumed downloads and retries.
//!
//! Not on `oci-client`: that knows one host per reference, so neither containerd's `hosts.toml` (mirrors
//! with paths, headers and certificates of their own) nor going on at another mirror in the middle of a
//! pull can be had with it, and its downloads don't go on where they broke off.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::{ACCEPT, MANIFEST_MAX};
use crate::reference::Reference;
use crate::types::{Auth, Progress, ProgressFn};

mod auth;
mod client;
mod connection;
mod failure;
mod guard;
pub(crate) mod hosts;

use connection::Connection;
use failure::{Attempt, Next};
#[cfg(test)]
pub(crate) use guard::is_local;
use hosts::{Capability, Endpoint};

/// How often something is tried at one host while its failures look temporary.
const TRIES: u32 = 5;

/// A pull's view of the hosts that serve one repository.
pub(crate) struct Registry {
    reference: Reference,
    connections: Vec<Connection>,
    progress: ProgressFn,
}

/// A manifest or an index as served.
pub(crate) struct Served {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Registry {
    pub(crate) fn new(
        reference: Reference,
        endpoints: Vec<Endpoint>,
        auth: Option<Auth>,
        progress: ProgressFn,
    ) -> Result<Self, ImageError> {
        let connections = endpoints
            .into_iter()
            .map(|endpoint| Connection::new(endpoint, &reference, auth.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            reference,
            connections,
            progress,
        })
    }

    /// The digest that the reference stands for now, without its document. None when no host says it that
    /// way; asking for the document then tells why.
    pub(crate) async fn head(&self) -> Option<Digest> {
        let target = self.reference.target();
        for connection in self.able(Capability::Resolve) {
            let path = format!("manifests/{target}");
            match connection
                .request(Method::HEAD, &path, &[("accept", ACCEPT)])
                .await
            {
                Ok(response) if response.status() == StatusCode::OK => {
                    return content_digest(&response);
                }
                _ => {}
            }
        }
        None
    }

    /// A manifest or index by tag or digest, verified.
    pub(crate) async fn manifest(&self, target: &str) -> Result<Served, ImageError> {
        let what = format!("manifest {target}");
        let capability = if target.starts_with("sha256:") {
            Capability::Pull
        } else {
            Capability::Resolve
        };
        let mut turns = self.turns(capability, what.clone())?;
        loop {
            match manifest_from(turns.connection(), target, &what).await {
                Ok(served) => return Ok(served),
                Err(attempt) => turns.failed(attempt).await?,
            }
        }
    }

    /// Opens a blob from the byte `from` on; tells where the answer really begins.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<(Response, u64), ImageError> {
        let what = format!("blob {digest}");
        let mut turns = self.turns(Capability::Pull, what.clone())?;
        loop {
            match blob_from(turns.connection(), digest, from, &what).await {
                Ok(opened) => return Ok(opened),
                Err(attempt) => turns.failed(attempt).await?,
            }
        }
    }

    /// Says that something is tried again, and waits before it.
    pub(crate) async fn pause(&self, what: &str, reason: &str, tries: u32) {
        tracing::debug!(what, reason, "trying again");
        (self.progress)(Progress::Retrying {
            what: what.to_owned(),
            reason: reason.to_owned(),
        });
        tokio::time::sleep(backoff(tries)).await;
    }

    pub(crate) fn progress(&self, progress: Progress) {
        (self.progress)(progress);
    }

    fn able(&self, capability: Capability) -> impl Iterator<Item = &Connection> {
        self.connections
            .iter()
            .filter(move |c| c.endpoint().can(capability))
    }

    fn turns(&self, capability: Capability, what: String) -> Result<Turns<'_>, ImageError> {
        let able: Vec<&Connection> = self.able(capability).collect();
        if able.is_empty() {
            return Err(ImageError::Registry {
                reference: self.reference.to_string(),
                registry: self.reference.registry().to_owned(),
                detail: format!(
                    "has no host that may be asked for {what}; look into its hosts.toml"
                ),
            });
        }
        Ok(Turns {
            registry: self,
            able,
            at: 0,
            tries: 0,
            what,
        })
    }
}

/// Tries hosts in their order, each again while its failure looks temporary.
struct Turns<'a> {
    registry: &'a Registry,
    able: Vec<&'a Connection>,
    at: usize,
    tries: u32,
    what: String,
}

impl<'a> Turns<'a> {
    /// Whose turn it is.
    fn connection(&self) -> &'a Connection {
        self.able[self.at]
    }

    /// Goes on after a failure, or gives it back as the last one.
    async fn failed(
        &mut self,
        Attempt {
            error,
            next,
            answer,
        }: Attempt,
    ) -> Result<(), ImageError> {
        self.tries += 1;
        let last = self.at + 1 == self.able.len();
        let again = match next {
            Next::Host => false,
            // Another host is better than waiting for one that is not there.
            Next::AgainIfLast => last && self.tries < 3,
            Next::Again => self.tries < TRIES,
        };
        let reason = error.report();
        if again {
            self.registry
                .pause(&self.what, &reason, self.tries - 1)
                .await;
            return Ok(());
        }
        tracing::debug!(
            host = self.connection().host(),
            what = self.what,
            reason,
            "registry host gave nothing"
        );
        (self.at, self.tries) = (self.at + 1, 0);
        match self.able.get(self.at) {
            Some(next) if !(answer && next.endpoint().only_unanswered) => Ok(()),
            _ => Err(error),
        }
    }
}

async fn manifest_from(
    connection: &Connection,
    target: &str,
    what: &str,
) -> Result<Served, Attempt> {
    let path = format!("manifests/{target}");
    let response = connection
        .request(Method::GET, &path, &[("accept", ACCEPT)])
        .await?;
    let response = connection.expect(response, what, &[StatusCode::OK]).await?;
    let announced = content_digest(&response);
    let bytes = connection.bounded(response, MANIFEST_MAX).await?;
    let digest = Digest::of(&bytes);
    let expected = target.parse().ok().or(announced);
    match expected {
        Some(expected) if expected != digest => Err(Attempt::next(ImageError::Mismatch {
            what: format!("{what} from {}", connection.host()),
            expected: expected.to_string(),
            actual: digest.to_string(),
        })),
        _ => Ok(Served { digest, bytes }),
    }
}

async fn blob_from(
    connection: &Connection,
    digest: &Digest,
    from: u64,
    what: &str,
) -> Result<(Response, u64), Attempt> {
    let path = format!("blobs/{digest}");
    let range = format!("bytes={from}-");
    let headers: &[(&str, &str)] = if from > 0 { &[("range", &range)] } else { &[] };
    let response = connection.request(Method::GET, &path, headers).await?;
    let fine = [
        StatusCode::OK,
        StatusCode::PARTIAL_CONTENT,
        StatusCode::RANGE_NOT_SATISFIABLE,
    ];
    let response = connection.expect(response, what, &fine).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(from) => Ok((response, from)),
        StatusCode::OK => Ok((response, 0)),
        // It won't do ranges after all.
        _ => {
            let response = connection.request(Method::GET, &path, &[]).await?;
            Ok((
                connection.expect(response, what, &[StatusCode::OK]).await?,
                0,
            ))
        }
    }
}

/// 0.2 s, doubled each time, up to 5 s, with up to a quarter more so that many clients don't come at once.
fn backoff(tries: u32) -> Duration {
    let base = Duration::from_millis(200 << tries.min(5)).min(Duration::from_secs(5));
    base + base.mul_f64(rand::random::<f64>() / 4.0)
}

fn content_digest(response: &Response) -> Option<Digest> {
    response
        .headers()
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The first byte of a partial answer: `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}
