//! The API server is asked who a token belongs to and whether a user may: TokenReview and SubjectAccessReview.
//!
//! Answers are kept as the stock kubelet keeps them. No answer is kept when there was none, and nobody is let in then.

use std::time::{Duration, Instant};

use berth_supervise::{Brief, Outage};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::cache::Cache;
use super::caller::Caller;

/// `authentication.webhook.cacheTTL`, and the two of `authorization.webhook`.
const AUTHENTICATED: Duration = Duration::from_secs(120);
const AUTHORIZED: Duration = Duration::from_secs(300);
const UNAUTHORIZED: Duration = Duration::from_secs(30);
/// A token that the API server does not know may be known to it in a moment.
const UNKNOWN: Duration = Duration::from_secs(10);
const MOST_ANSWERS: usize = 1024;
/// A review that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// No token is longer; what is longer is not sent on.
const TOKEN_LIMIT: usize = 16 << 10;

/// What a caller asks for, as attributes of the Node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attributes {
    pub(super) verb: &'static str,
    pub(super) subresource: &'static str,
}

/// The API server gave no answer; the reason is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer;

type TokenHash = [u8; SHA256_OUTPUT_LEN];

/// Asks, and remembers.
pub(crate) struct Reviews {
    client: Client,
    node_name: String,
    /// By hash: tokens themselves are nowhere kept.
    tokens: Cache<TokenHash, Option<Caller>>,
    access: Cache<(Caller, Attributes), bool>,
    outage: Mutex<Outage>,
}

impl Reviews {
    pub(crate) fn new(client: Client, node_name: String) -> Self {
        Self {
            client,
            node_name,
            tokens: Cache::new(MOST_ANSWERS),
            access: Cache::new(MOST_ANSWERS),
            outage: Mutex::new(Outage::new(
                "cannot ask the API server who may use the node's server",
            )),
        }
    }

    /// Whose token it is; `None` when it is nobody's.
    pub(super) async fn caller(&self, token: &str) -> Result<Option<Caller>, NoAnswer> {
        if token.len() > TOKEN_LIMIT {
            return Ok(None);
        }
        let hash = digest(&SHA256, token.as_bytes());
        let key: TokenHash = hash.as_ref().try_into().map_err(|_| NoAnswer)?;
        if let Some(known) = self.tokens.get(&key, Instant::now()) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let answer = self.ask(review).await?;
        let caller = answer
            .status
            .filter(|s| s.authenticated == Some(true))
            .and_then(|s| s.user)
            .and_then(|user| {
                let name = user.username.filter(|name| !name.is_empty())?;
                Some(Caller::new(name, user.groups.unwrap_or_default()))
            });
        let keep = match caller {
            Some(_) => AUTHENTICATED,
            None => UNKNOWN,
        };
        self.tokens.put(key, caller.clone(), Instant::now(), keep);
        Ok(caller)
    }

    /// Whether the caller may.
    pub(super) async fn permits(
        &self,
        caller: &Caller,
        attributes: &Attributes,
    ) -> Result<bool, NoAnswer> {
        let key = (caller.clone(), attributes.clone());
        if let Some(known) = self.access.get(&key, Instant::now()) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.user.clone()),
                groups: Some(caller.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(String::new()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(attributes.subresource.to_owned()),
                    name: Some(self.node_name.clone()),
                    verb: Some(attributes.verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let status = self.ask(review).await?.status.ok_or(NoAnswer)?;
        let allowed = status.allowed && status.denied != Some(true);
        let keep = if allowed { AUTHORIZED } else { UNAUTHORIZED };
        self.access.put(key, allowed, Instant::now(), keep);
        Ok(allowed)
    }

    async fn ask<K>(&self, review: K) -> Result<K, NoAnswer>
    where
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let params = PostParams::default();
        match tokio::time::timeout(LIMIT, api.create(&params, &review)).await {
            Ok(Ok(answer)) => {
                self.outage.lock().works();
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.outage.lock().failed(Brief(&error));
                Err(NoAnswer)
            }
            Err(_) => {
                self.outage.lock().failed("it did not answer in 10 s");
                Err(NoAnswer)
            }
        }
    }
}
