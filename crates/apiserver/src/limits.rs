//! What clients may use of a server: connections, requests in flight, watches, time.
//!
//! Flags with the names of the stock server set what it has too; the others are berth's own. docs/limits.md has the
//! table.

use std::time::Duration;

/// The bounds of an API server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Seats for requests that read (`--max-requests-inflight`). Together with
    /// [`Limits::max_mutating_requests_inflight`] they are divided among the priority levels, as on the stock server.
    pub max_requests_inflight: u32,
    /// Seats for requests that write (`--max-mutating-requests-inflight`).
    pub max_mutating_requests_inflight: u32,
    /// How long a request may take that is not a watch, a log or a connection to a pod (`--request-timeout`).
    pub request_timeout: Duration,
    /// The least time after which a watch ends that names no time itself; it ends after this time and up to as much
    /// again, drawn by lot so that clients don't come back all at once (`--min-request-timeout`).
    pub min_request_timeout: Duration,
    /// Requests at once on one HTTP/2 connection (`--http2-max-streams-per-connection`).
    pub http2_max_streams_per_connection: u32,
    /// Connections in total (`--max-connections`).
    pub max_connections: usize,
    /// Connections of one address on which nobody has been authenticated yet (`--max-unauthenticated-connections`).
    pub max_unauthenticated_connections: usize,
    /// Connections of one user (`--max-connections-per-user`).
    pub max_connections_per_user: usize,
    /// Watches in total (`--max-watches`).
    pub max_watches: usize,
    /// Watches and connections to pods of one user (`--max-watches-per-user`).
    pub max_watches_per_user: usize,
    /// Times within which a client must do its part.
    pub deadlines: Deadlines,
}

/// Times within which a client must do its part.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the first bytes of a connection, and for the head of an HTTP/1 request; an HTTP/1 connection without a
    /// request is closed after as long.
    pub header: Duration,
    /// After which a connection without any request is closed.
    pub idle: Duration,
    /// A body may be as slow as it likes for this long; then it must come at [`Deadlines::body_rate`].
    pub body: Duration,
    /// Bytes of a body for each second.
    pub body_rate: u32,
    /// Within which a client must take the next part of an answer that waits for it.
    pub stall: Duration,
    /// After which a quiet HTTP/2 connection is asked whether it still lives.
    pub ping_interval: Duration,
    /// Within which it must answer.
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            http2_max_streams_per_connection: 250,
            max_connections: 4096,
            max_unauthenticated_connections: 256,
            max_connections_per_user: 512,
            max_watches: 10_000,
            max_watches_per_user: 1000,
            deadlines: Deadlines::default(),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            body: Duration::from_secs(10),
            body_rate: 1024,
            stall: Duration::from_secs(30),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(15),
        }
    }
}

impl Limits {
    /// Seats of all priority levels together.
    #[must_use]
    pub fn seats(&self) -> u32 {
        self.max_requests_inflight
            .saturating_add(self.max_mutating_requests_inflight)
            .max(1)
    }

    /// How long a request may wait in a queue: a quarter of what it may take, as on the stock server.
    #[must_use]
    pub fn queue_wait(&self) -> Duration {
        self.request_timeout / 4
    }
}
