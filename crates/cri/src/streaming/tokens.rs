//! Unguessable names for streams that were announced and not yet opened.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a client may take from the RPC to the connection.
const LIFETIME: Duration = Duration::from_secs(60);
/// As many announcements may be open.
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
    /// A new token; `None` when too many are open. None of them is dropped for it: they are other clients'.
    pub(super) fn put(&self, request: Request, now: Instant) -> Option<String> {
        // 128 random bits: nobody guesses one within its life.
        let token = hex::encode(rand::random::<[u8; 16]>());
        let mut open = self.0.lock();
        if open.len() >= LIMIT {
            open.retain(|_, (_, since)| now.duration_since(*since) < LIFETIME);
        }
        if open.len() >= LIMIT {
            return None;
        }
        open.insert(token.clone(), (request, now));
        Some(token)
    }

    /// What a token of this kind of stream stands for; the token is used up.
    pub(super) fn take(&self, kind: &str, token: &str, now: Instant) -> Option<Request> {
        let mut open = self.0.lock();
        // One that is shown at another kind's path stays its owner's.
        if open.get(token)?.0.path() != kind {
            return None;
        }
        let (request, since) = open.remove(token)?;
        (now.duration_since(since) < LIFETIME).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(sandbox: &str) -> Request {
        Request::PortForward {
            sandbox: sandbox.to_owned(),
            ports: Vec::new(),
        }
    }

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.put(request("s"), now).unwrap();
        assert_eq!(token.len(), 32);
        assert_eq!(tokens.take("portforward", "nope", now), None);
        assert_eq!(tokens.take("exec", &token, now), None);
        assert_eq!(tokens.take("portforward", &token, now), Some(request("s")));
        assert_eq!(tokens.take("portforward", &token, now), None);
        let token = tokens.put(request("s"), now).unwrap();
        assert_eq!(tokens.take("portforward", &token, now + LIFETIME), None);
    }

    #[test]
    fn too_many_are_refused_and_none_is_pushed_out() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let first = tokens.put(request("first"), now).unwrap();
        for _ in 1..LIMIT {
            tokens.put(request("other"), now).unwrap();
        }
        assert_eq!(tokens.put(request("more"), now), None);
        assert_eq!(
            tokens.take("portforward", &first, now),
            Some(request("first"))
        );
        tokens.put(request("more"), now).unwrap();
        assert_eq!(tokens.put(request("more"), now), None);
        tokens.put(request("later"), now + LIFETIME).unwrap();
    }
}
