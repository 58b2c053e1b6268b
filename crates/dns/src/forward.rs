//! Questions about names that are not the cluster's: the node's resolver is asked.
//!
//! The attack here is a forged answer. A question goes out once however many ask it at the same time (so that nobody gets many
//! tries at once), from a port of its own, with a random id and a random case of its letters; what does not fit in all of
//! that is no answer ([`exchange`]). What comes is kept under the question that was asked and nothing else.

mod exchange;
mod resolvers;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData};
use parking_lot::Mutex;

use crate::cache::Cache;
use crate::query::Answer;
use crate::question::Question;
use resolvers::Resolvers;

/// Most questions that wait for the resolver at the same time.
const MAX_WAITING: usize = 1024;
/// How long a client waits at most.
const LIMIT: Duration = Duration::from_secs(6);
/// How long answers are kept at most, whatever they say.
const LONGEST: u32 = 3600;
const LONGEST_NEGATIVE: u32 = 30;
/// How long a failure is kept, so that a name that cannot be resolved is not asked for at every turn.
const FAILED: Duration = Duration::from_secs(1);

type Asked = Shared<BoxFuture<'static, Answer>>;

/// Asks the node's resolver; cheap to clone.
#[derive(Clone)]
pub(crate) struct Forwarder {
    shared: Arc<State>,
}

struct State {
    resolvers: Resolvers,
    cache: Mutex<Cache>,
    /// Questions that are being asked.
    asked: Mutex<HashMap<Question, WeakShared<BoxFuture<'static, Answer>>>>,
}

impl Forwarder {
    /// Asks port `port` of the servers in `resolv_conf`; `own` is where this server is reached itself, which is never asked.
    pub(crate) fn new(resolv_conf: PathBuf, port: u16, own: Vec<IpAddr>) -> Self {
        Self {
            shared: Arc::new(State {
                resolvers: Resolvers::new(resolv_conf, port, own),
                cache: Mutex::default(),
                asked: Mutex::default(),
            }),
        }
    }

    /// Reads the configuration ahead of the first question.
    pub(crate) async fn prepare(&self) {
        self.shared.resolvers.servers().await;
    }

    /// The answer, if it is known.
    pub(crate) fn cached(&self, question: &Question) -> Option<Answer> {
        self.shared.cache.lock().get(question, Instant::now())
    }

    /// Whether this is the question by which it is found out whether the resolver leads back here.
    pub(crate) fn is_loop(&self, name: &Name) -> bool {
        self.shared.resolvers.is_loop(name)
    }

    /// The answer, from whoever has to be asked.
    pub(crate) async fn ask(&self, question: Question) -> Answer {
        if let Some(answer) = self.cached(&question) {
            return answer;
        }
        match self.join(question) {
            Some(asked) => asked.await,
            None => Answer::code(ResponseCode::ServFail),
        }
    }

    /// Joins those who wait for the same answer, or is the first; none when too many wait already.
    fn join(&self, question: Question) -> Option<Asked> {
        let mut asked = self.shared.asked.lock();
        if let Some(same) = asked.get(&question).and_then(WeakShared::upgrade) {
            return Some(same);
        }
        if asked.len() >= MAX_WAITING {
            // Those whose clients have all gone.
            asked.retain(|_, weak| weak.upgrade().is_some());
            if asked.len() >= MAX_WAITING {
                return None;
            }
        }
        let state = Arc::clone(&self.shared);
        let key = question.clone();
        let work = async move { state.resolve(question).await }
            .boxed()
            .shared();
        if let Some(weak) = work.downgrade() {
            asked.insert(key, weak);
        }
        Some(work)
    }
}

impl State {
    async fn resolve(&self, question: Question) -> Answer {
        let servers = self.resolvers.servers().await;
        let asked = tokio::time::timeout(LIMIT, self.ask_all(&question, &servers));
        let found = asked.await.ok().flatten();
        let answer = found.unwrap_or_else(|| Answer::code(ResponseCode::ServFail));
        let time = time_to_keep(&answer);
        let mut cache = self.cache.lock();
        cache.put(question.clone(), &answer, time, Instant::now());
        drop(cache);
        self.asked.lock().remove(&question);
        answer
    }

    /// Every server in turn, twice; the answer of one that failed is better than none.
    async fn ask_all(&self, question: &Question, servers: &[SocketAddr]) -> Option<Answer> {
        let mut last = None;
        for _ in 0..2 {
            for server in servers {
                match exchange::ask(*server, question).await {
                    Ok(answer) => {
                        self.resolvers.worked(*server);
                        match answer.code {
                            ResponseCode::ServFail | ResponseCode::Refused => last = Some(answer),
                            _ => return Some(answer),
                        }
                    }
                    Err(error) => {
                        self.resolvers.failed(*server, &error);
                    }
                }
            }
            if last.is_some() {
                break;
            }
        }
        last
    }
}

/// The least time that a record of it says; for one that says there is nothing, what the zone's SOA says (RFC 2308).
fn time_to_keep(answer: &Answer) -> Duration {
    let seconds = match answer.code {
        ResponseCode::NoError if !answer.answers.is_empty() => {
            let least = answer.answers.iter().map(|record| record.ttl).min();
            least.unwrap_or(0).min(LONGEST)
        }
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let soa = answer
                .authorities
                .iter()
                .find_map(|record| match &record.data {
                    RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                    _ => None,
                });
            soa.unwrap_or(0).min(LONGEST_NEGATIVE)
        }
        _ => return FAILED,
    };
    Duration::from_secs(u64::from(seconds))
}
