//! Flags that bound what clients may use of the API server.

use std::time::Duration;

use berth_apiserver::limits::{Deadlines, Limits};

/// Flags of the API server's limits; those that the stock server has too bear its names.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LimitArgs {
    /// Requests at once that only read; with those that write they are divided among the priority levels
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = at_least_one())]
    max_requests_inflight: u32,
    /// Requests at once that write
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_mutating_requests_inflight: u32,
    /// How long a request may take that is not a watch or a connection to a pod, e.g. 60s or 1m0s
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    request_timeout: Duration,
    /// Seconds after which a watch ends that names no time itself, at the earliest; at the latest after twice as many
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = at_least_one())]
    min_request_timeout: u32,
    /// Requests at once on one HTTP/2 connection
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = at_least_one())]
    http2_max_streams_per_connection: u32,
    /// Connections in total; further ones wait
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one())]
    max_connections: u32,
    /// Connections of one address without an authenticated request; the oldest makes room for a new one
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one())]
    max_unauthenticated_connections: u32,
    /// Connections of one user outside group system:masters
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one())]
    max_connections_per_user: u32,
    /// Watches and connections to pods in total, those of group system:masters not counted
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_watches: u32,
    /// Watches and connections to pods of one user outside group system:masters
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_watches_per_user: u32,
}

impl LimitArgs {
    /// The limits.
    pub(crate) fn limits(&self) -> Limits {
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Limits {
            max_requests_inflight: self.max_requests_inflight,
            max_mutating_requests_inflight: self.max_mutating_requests_inflight,
            request_timeout: self.request_timeout,
            min_request_timeout: Duration::from_secs(u64::from(self.min_request_timeout)),
            http2_max_streams_per_connection: self.http2_max_streams_per_connection,
            max_connections: count(self.max_connections),
            max_unauthenticated_connections: count(self.max_unauthenticated_connections),
            max_connections_per_user: count(self.max_connections_per_user),
            max_watches: count(self.max_watches),
            max_watches_per_user: count(self.max_watches_per_user),
            deadlines: Deadlines::default(),
        }
    }
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// A duration as Go writes it, in whole hours, minutes, seconds and milliseconds: `1m0s`, `90s`, `500ms`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration like 60s, 1m30s or 1h, longer than zero");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return Err(wrong()),
        };
        total = unit
            .checked_mul(number)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = &rest[end..];
    }
    if total.is_zero() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("60s", 60), ("1m0s", 60), ("1h2m3s", 3723)] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        for text in ["", "60", "0s", "s", "-1s", "1d", "99999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_flags_begin_with_the_defaults_of_the_server() {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            limits: LimitArgs,
        }
        let command = <Command as clap::Parser>::parse_from(["berth"]);
        let defaults = format!("{:?}", Limits::default());
        assert_eq!(format!("{:?}", command.limits.limits()), defaults);
    }
}
