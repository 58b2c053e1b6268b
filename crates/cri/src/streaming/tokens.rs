//! Unguessable names for streams that were announced and not yet opened.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a client may take from the RPC to the connection.
const LIFETIME: Duration = Duration::from_secs(60);
/// More open announcements than this drop the oldest.
const LIMIT: usize = 1000;

/// What a URL stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Exec {
        container: String,
        command: Vec<String>,
        streams: Streams,
    },
    Attach {
        container: String,
        streams: Streams,
    },
    PortForward {
        sandbox: String,
        /// Those of a client that names them beforehand.
        ports: Vec<u16>,
    },
}

/// Which streams were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Request {
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }
}

#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, (Request, Instant)>>);

impl Tokens {
    pub(super) fn put(&self, request: Request) -> String {
        let token = hex::encode(rand::random::<[u8; 16]>());
        let now = Instant::now();
        let mut open = self.0.lock();
        open.retain(|_, (_, since)| now.duration_since(*since) < LIFETIME);
        if open.len() >= LIMIT
            && let Some(oldest) = open
                .iter()
                .min_by_key(|(_, (_, since))| *since)
                .map(|(token, _)| token.clone())
        {
            open.remove(&oldest);
        }
        open.insert(token.clone(), (request, now));
        token
    }

    pub(super) fn take(&self, token: &str) -> Option<Request> {
        let (request, since) = self.0.lock().remove(token)?;
        (since.elapsed() < LIFETIME).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once() {
        let tokens = Tokens::default();
        let request = Request::PortForward {
            sandbox: "s".to_owned(),
            ports: Vec::new(),
        };
        let token = tokens.put(request.clone());
        assert_eq!(token.len(), 32);
        assert_eq!(tokens.take("nope"), None);
        assert_eq!(tokens.take(&token), Some(request));
        assert_eq!(tokens.take(&token), None);
    }
}
