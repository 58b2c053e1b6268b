//! 1,000 watchers of one kind, while objects of that kind are created: whether each hears of each, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;

use crate::objects::{CONFIG_MAPS, create_config_map, delete_all, get};
use crate::server::Server;

const WATCHERS: usize = 1000;
const CONNECTIONS: usize = 20;
const CREATES: usize = 5000;
/// Creates a second that are sent; the goal.
const PACE: f64 = 1000.0;
/// Of arrivals, in hundreds of microseconds; the last takes what is longer.
const BUCKETS: usize = 50_000;
const PATIENCE: Duration = Duration::from_secs(20);

struct Seen {
    begun: Instant,
    /// When each create was sent, in microseconds from the beginning.
    sent: Vec<AtomicU64>,
    arrivals: Vec<AtomicUsize>,
    count: AtomicUsize,
    last: AtomicU64,
}

impl Seen {
    fn micros(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// Counts the events of some bytes of a watch; gives what is left of a line.
    fn take(&self, bytes: &[u8]) -> usize {
        const NAME: &[u8] = b"\"name\":\"w-";
        let now = self.micros();
        let (mut at, mut count) = (0, 0);
        while let Some(length) = memchr::memchr(b'\n', &bytes[at..]) {
            let line = &bytes[at..at + length];
            at += length + 1;
            // The metadata comes last.
            let mut parts = line.windows(NAME.len());
            let Some(found) = parts.rposition(|part| part == NAME) else {
                continue;
            };
            let digits = line[found + NAME.len()..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0, |all, byte| all * 10 + usize::from(byte - b'0'));
            let took = now.saturating_sub(self.sent[number].load(Ordering::Relaxed)) / 100;
            let bucket = usize::try_from(took).unwrap().min(BUCKETS - 1);
            self.arrivals[bucket].fetch_add(1, Ordering::Relaxed);
            count += 1;
        }
        self.count.fetch_add(count, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
        at
    }

    /// The time after which this share of the events had arrived, in milliseconds.
    fn percentile(&self, share: f64) -> f64 {
        let wanted = self.count.load(Ordering::Relaxed) as f64 * share;
        let mut seen = 0;
        for (bucket, count) in self.arrivals.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen as f64 >= wanted {
                return (bucket + 1) as f64 / 10.0;
            }
        }
        f64::INFINITY
    }
}

pub(crate) async fn run(servers: &[Arc<Server>], scale: usize) {
    for server in servers {
        measure(server, CREATES / scale).await;
        server.send(0, delete_all(CONFIG_MAPS)).await;
    }
}

async fn measure(server: &Arc<Server>, creates: usize) {
    let seen = Arc::new(Seen {
        begun: Instant::now(),
        sent: (0..creates).map(|_| AtomicU64::new(0)).collect(),
        arrivals: (0..BUCKETS).map(|_| AtomicUsize::new(0)).collect(),
        count: AtomicUsize::new(0),
        last: AtomicU64::new(0),
    });
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| server.connection()).collect();
    let mut watchers = Vec::new();
    for number in 0..WATCHERS {
        let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=300");
        let client = &connections[number % CONNECTIONS];
        let mut body = server.open(client, get(&path)).await.into_body();
        let seen = Arc::clone(&seen);
        watchers.push(tokio::spawn(async move {
            let mut left: Vec<u8> = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                // A piece of the stream ends with a line nearly always.
                if left.is_empty() {
                    let taken = seen.take(&data);
                    left.extend_from_slice(&data[taken..]);
                    continue;
                }
                left.extend_from_slice(&data);
                let taken = seen.take(&left);
                left.drain(..taken);
            }
        }));
    }
    let begun = seen.micros();
    let mut creations = Vec::new();
    for number in 0..creates {
        let due = Duration::from_secs_f64(number as f64 / PACE) + Duration::from_micros(begun);
        tokio::time::sleep(due.saturating_sub(seen.begun.elapsed())).await;
        let (server, seen) = (Arc::clone(server), Arc::clone(&seen));
        creations.push(tokio::spawn(async move {
            seen.sent[number].store(seen.micros(), Ordering::Relaxed);
            server.send(number, create_config_map(number)).await;
        }));
    }
    for creation in creations {
        creation.await.unwrap();
    }
    let created = seen.micros() - begun;
    let wanted = creates * WATCHERS;
    let patience = Instant::now();
    while seen.count.load(Ordering::Relaxed) < wanted && patience.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let arrived = seen.last.load(Ordering::Relaxed).saturating_sub(begun);
    for watcher in watchers {
        watcher.abort();
    }
    let per_second = |micros: u64| creates as f64 / (micros as f64 / 1e6);
    println!(
        "{:<56} {:>9.0} /s  (goal 1000; {:.0}/s until the last watcher heard of the last)",
        format!(
            "ConfigMaps created with {WATCHERS} watchers, {}",
            server.name
        ),
        per_second(created),
        per_second(arrived)
    );
    println!(
        "{:<56} {:>9}     (goal 0, of {wanted})",
        "  events missed",
        wanted - seen.count.load(Ordering::Relaxed)
    );
    println!(
        "{:<56} {:>9.1} ms  (goal 50; median {:.1} ms)",
        "  until an event arrived, p99",
        seen.percentile(0.99),
        seen.percentile(0.5)
    );
}
