//! Which servers are asked: those of the node's resolv.conf, but never this one itself.
//!
//! A resolver on the node may have been told to ask this server for everything. That would go round for ever, so each
//! server is asked once for a name that nobody else can know; when that question comes in here, the server leads back and is
//! left out until the file changes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use berth_supervise::Outage;
use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use tracing::warn;

use super::exchange::{self, AskError};
use crate::question::Question;

/// Most servers of the file that are used, as in libc.
const MAX_SERVERS: usize = 3;
/// How often it is looked whether the file has changed.
const LOOK: Duration = Duration::from_secs(5);
/// A server that failed comes after the others for this long.
const REST: Duration = Duration::from_secs(10);

pub(super) struct Resolvers {
    path: PathBuf,
    port: u16,
    own: Vec<IpAddr>,
    state: Mutex<State>,
    /// One at a time reads the file and asks whether servers lead back here.
    reading: tokio::sync::Mutex<()>,
    /// The label of the names that are asked for to find that out.
    mark: String,
    /// Bits of the servers that were found to lead back.
    back: AtomicUsize,
}

#[derive(Default)]
struct State {
    servers: Vec<SocketAddr>,
    looked: Option<Instant>,
    modified: Option<SystemTime>,
    /// Servers that failed the last time, and when.
    failures: HashMap<SocketAddr, (Instant, Outage)>,
}

impl Resolvers {
    pub(super) fn new(path: PathBuf, port: u16, own: Vec<IpAddr>) -> Self {
        Self {
            path,
            port,
            own,
            state: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            mark: format!("berth-loop-{:032x}", rand::random::<u128>()),
            back: AtomicUsize::new(0),
        }
    }

    /// The servers in the order in which to ask them.
    pub(super) async fn servers(&self) -> Vec<SocketAddr> {
        if self.is_due() {
            let reading = self.reading.lock().await;
            if self.is_due() {
                self.read().await;
            }
            drop(reading);
        }
        let state = self.state.lock();
        let rests = |server: &SocketAddr| {
            let failure = state.failures.get(server);
            failure.is_some_and(|(at, _)| at.elapsed() < REST)
        };
        let mut servers = state.servers.clone();
        servers.sort_by_key(rests);
        servers
    }

    fn is_due(&self) -> bool {
        let state = self.state.lock();
        state.looked.is_none_or(|at| at.elapsed() >= LOOK)
    }

    async fn read(&self) {
        let modified = std::fs::metadata(&self.path).and_then(|data| data.modified());
        let modified = modified.ok();
        let is_same = {
            let mut state = self.state.lock();
            let first = state.looked.is_none();
            state.looked = Some(Instant::now());
            !first && state.modified == modified
        };
        if is_same {
            return;
        }
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot read the node's resolv.conf; names outside the cluster are not resolved");
                String::new()
            }
        };
        let (mut servers, refused) = servers(&text, self.port, &self.own);
        if !refused.is_empty() {
            warn!(path = %self.path.display(), ?refused, "the node's resolv.conf names this DNS server itself; it is not asked");
        }
        self.back.store(0, Ordering::SeqCst);
        let asked = servers.iter().enumerate().map(|(index, server)| {
            let name = Name::from_ascii(format!("{}-{index}.", self.mark));
            async move {
                // Whatever is answered: what counts is whether the question comes in here.
                let name = name.ok()?;
                let question = Question::new(&name, RecordType::HINFO, false, false);
                let _answered = exchange::ask(*server, &question).await;
                Some(())
            }
        });
        futures::future::join_all(asked).await;
        let back = self.back.load(Ordering::SeqCst);
        let mut index = 0;
        servers.retain(|server| {
            let leads_back = back & (1 << index) != 0;
            index += 1;
            if leads_back {
                warn!(%server, "this resolver of the node asks the cluster's DNS server for everything; it is not asked, or questions would go round for ever");
            }
            !leads_back
        });
        let mut state = self.state.lock();
        state.servers = servers;
        state.modified = modified;
        state.failures.clear();
    }

    /// Whether a name is one of those that find out who leads back; it is noted.
    pub(super) fn is_loop(&self, name: &Name) -> bool {
        let Some(label) = name.iter().next() else {
            return false;
        };
        let label = String::from_utf8_lossy(label).to_ascii_lowercase();
        let Some(rest) = label.strip_prefix(&self.mark) else {
            return false;
        };
        let index = rest.strip_prefix('-').and_then(|n| n.parse::<u32>().ok());
        if let Some(index) = index.filter(|index| *index < 8) {
            self.back.fetch_or(1 << index, Ordering::SeqCst);
        }
        true
    }

    pub(super) fn worked(&self, server: SocketAddr) {
        if let Some((_, mut outage)) = self.state.lock().failures.remove(&server) {
            outage.works();
        }
    }

    pub(super) fn failed(&self, server: SocketAddr, error: &AskError) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (at, outage) = state.failures.entry(server).or_insert_with(|| {
            let what = format!("the node's resolver {server} does not answer");
            (now, Outage::new(what))
        });
        *at = now;
        outage.failed(error);
    }
}

/// The servers that a resolv.conf names, and those of them that are this server itself.
fn servers(text: &str, port: u16, own: &[IpAddr]) -> (Vec<SocketAddr>, Vec<IpAddr>) {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        // An address with a zone (fe80::1%eth0) can't be asked without it, and isn't needed often enough.
        words.next().filter(|_| is_server)?.parse::<IpAddr>().ok()
    });
    let (refused, usable): (Vec<IpAddr>, Vec<IpAddr>) = named.partition(|ip| own.contains(ip));
    let usable = usable.into_iter().take(MAX_SERVERS);
    (
        usable.map(|ip| SocketAddr::new(ip, port)).collect(),
        refused,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_server_is_never_asked() {
        let own = ["10.96.0.10".parse().unwrap()];
        let text = "# x\nnameserver 10.96.0.10\nnameserver 192.0.2.1 # y\nsearch a\nnameserver nonsense\n\
                    nameserver ::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let (usable, refused) = servers(text, 53, &own);
        let usable: Vec<String> = usable.iter().map(ToString::to_string).collect();
        assert_eq!(usable, ["192.0.2.1:53", "[::1]:53", "192.0.2.2:53"]);
        assert_eq!(refused, own);
    }
}
