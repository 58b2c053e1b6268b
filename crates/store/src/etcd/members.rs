//! The members of the etcd cluster, of which one is used until it fails.

use std::future::Future;
use std::time::Duration;

use etcd_client::{Client, KvClient, WatchClient};
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::EtcdConfig;
use super::failure::Failure;
use crate::OpenError;

/// How long a call may take, all tries together. etcd itself gives up after seven seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one try of a read may take: another member may be quicker.
const READ_TIMEOUT: Duration = Duration::from_secs(4);
/// Between tries.
const PAUSE: Duration = Duration::from_millis(100);

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It can be repeated whatever became of it.
    Read,
    /// It can be repeated only when it surely was not carried out.
    Write,
}

/// A member's clients, which share a connection.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) kv: KvClient,
    pub(super) watch: WatchClient,
}

/// All members.
pub(super) struct Members {
    members: Vec<Member>,
    active: watch::Sender<usize>,
}

impl Members {
    /// Clients for all members. None is connected to yet.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub(super) async fn of(config: &EtcdConfig) -> Result<Self, OpenError> {
        let options = config.connect_options()?;
        let mut members = Vec::new();
        for url in &config.endpoints {
            let client = Client::connect([url], Some(options.clone()))
                .await
                .map_err(|error| OpenError::Etcd {
                    endpoints: url.clone(),
                    detail: error.to_string(),
                })?;
            members.push(Member {
                // As etcd's own client: a page may be as large as its objects are.
                kv: client.kv_client().max_decoding_message_size(usize::MAX),
                watch: client.watch_client().max_decoding_message_size(usize::MAX),
            });
        }
        // Servers begin with different members, so that not all load is on the first.
        let first = usize::try_from(std::process::id()).unwrap_or(0) % members.len().max(1);
        Ok(Self {
            members,
            active: watch::Sender::new(first),
        })
    }

    /// The member in use, and its number.
    pub(super) fn active(&self) -> (usize, Member) {
        let at = *self.active.borrow();
        (at, self.members[at].clone())
    }

    /// Goes on to the next member, unless somebody has already left this one.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        self.active.send_if_modified(|active| {
            let leaves = *active == at && next != at;
            if leaves {
                *active = next;
            }
            leaves
        });
    }

    /// Waits until this member is no longer the one in use.
    pub(super) async fn left(&self, at: usize) {
        let mut active = self.active.subscribe();
        if active.wait_for(|active| *active != at).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Makes a call, on one member after the other as long as that is safe.
    ///
    /// # Errors
    /// Of the last try.
    pub(super) async fn call<T, F>(
        &self,
        kind: Kind,
        mut make: impl FnMut(Member) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut may_have_been = false;
        loop {
            let (at, member) = self.active();
            let limit = match kind {
                Kind::Read => deadline.min(Instant::now() + READ_TIMEOUT),
                Kind::Write => deadline,
            };
            let failure = match tokio::time::timeout_at(limit, make(member)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::of(&error),
                Err(_) => Failure::Unknown("no answer in time".to_owned()),
            };
            may_have_been |= matches!(failure, Failure::Unknown(_));
            if failure.moves_on() {
                self.leave(at);
            }
            let again = failure.moves_on() && (kind == Kind::Read || !may_have_been);
            if !again || Instant::now() + PAUSE >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
