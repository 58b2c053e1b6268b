//! Lists, whole or page by page.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_api::status::ApiError;
use berth_store::{Range, Revision};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::Call;
use super::render::ListMeta;
use crate::http_types::Response;
use crate::query::{Options, VersionMatch};
use crate::selector::Selector;
use crate::storage::{Stored, key};

/// Objects read from the store at once for a page of the past. Few, for each may have the most bytes that an object has.
const CHUNK: usize = 16;
/// Reads of such objects at a time, whoever asks.
static READS: Semaphore = Semaphore::const_new(4);

/// Objects that are looked at at once where a webhook has to convert them first.
const SELECTED_AT_ONCE: usize = 100;

/// Bytes of a page of the past: its objects are read from the store for this list alone.
const PAST: usize = 16 << 20;

/// A list of more bytes is written while it is sent, so that what it takes of the memory does not grow with it.
const STREAMED: usize = 512 << 10;

/// Where a list goes on: after this key, at this revision, or ([`PRESENT`]) as it is when it is asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    rv: Revision,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
/// The revision of a token that goes on with the present, after the moment that the list began with is no longer kept.
const PRESENT: Revision = -1;

impl Continue {
    fn new(revision: Revision, start: &str) -> Self {
        Self {
            v: TOKEN_VERSION.to_owned(),
            rv: revision,
            start: start.to_owned(),
        }
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|error| invalid_token(&format!(": {error}")))?;
        let token: Self =
            serde_json::from_slice(&bytes).map_err(|error| invalid_token(&format!(": {error}")))?;
        if token.v != TOKEN_VERSION {
            return Err(invalid_token(
                ": server does not recognize this encoded version",
            ));
        }
        if token.rv == 0 {
            let why = ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
            return Err(invalid_token(why));
        }
        if token.start.is_empty() {
            let why = ": encoded start key empty (version meta.k8s.io/v1)";
            return Err(invalid_token(why));
        }
        Ok(token)
    }
}

fn invalid_token(why: &str) -> ApiError {
    ApiError::BadRequest(format!(
        "invalid continue token: continue key is not valid{why}"
    ))
}

/// Whether a list of a namespace (empty: of all) can go on after the part of a key: a token of another list does not
/// lead anywhere.
fn goes_on_in(namespace: &str, start: &str) -> bool {
    let tail = if namespace.is_empty() {
        Some(start)
    } else {
        start
            .strip_prefix(namespace)
            .and_then(|rest| rest.strip_prefix('/'))
    };
    tail.is_some_and(|tail| !tail.is_empty())
}

/// A list before it is rendered.
pub(crate) struct Listed {
    pub(crate) items: Vec<Arc<Stored>>,
    pub(crate) meta: ListMeta,
}

impl Call {
    /// Answers a list.
    pub(crate) async fn list(self) -> Result<Response, ApiError> {
        let listed = self.collect().await?;
        self.respond_list(listed).await
    }

    /// A list as the answer, in whatever form the client accepts.
    pub(super) async fn respond_list(self, mut listed: Listed) -> Result<Response, ApiError> {
        let size: usize = listed.items.iter().map(|item| item.bytes.len()).sum();
        if size > STREAMED {
            return self.stream_list(listed).await;
        }
        listed.items = self.shown_all(listed.items).await?;
        let items: Vec<&Stored> = listed.items.iter().map(Arc::as_ref).collect();
        let bytes = self.list_bytes(&items, &listed.meta)?;
        self.respond_bytes(StatusCode::OK, bytes)
    }

    /// The selector of the request.
    pub(crate) fn selector(&self) -> Result<Selector, ApiError> {
        if let Some(known) = self.row.strategy.selectable_in(self.version()) {
            let mut names = self.selection.field_names();
            let foreign = |name: &&str| {
                !matches!(*name, "metadata.name" | "metadata.namespace")
                    && known.iter().all(|label| label != name)
            };
            if let Some(name) = names.find(foreign) {
                return Err(ApiError::BadRequest(format!(
                    "field label not supported: {name}"
                )));
            }
        }
        Selector::new(
            self.namespace(),
            &self.selection,
            &self.cache().field_labels(),
        )
    }

    /// The objects that the request selects.
    pub(crate) async fn collect(&self) -> Result<Listed, ApiError> {
        self.query.check(Options::List)?;
        let selector = self.selector()?;
        let revision = self.query.list_revision()?;
        if !self.query.continue_token.is_empty() {
            if revision.is_some_and(|r| r > 0) {
                return Err(ApiError::BadRequest(
                    "specifying resource version is not allowed when using continue".to_owned(),
                ));
            }
            let token = Continue::decode(&self.query.continue_token)?;
            if !goes_on_in(self.namespace(), &token.start) {
                return Err(invalid_token(": it is of another list"));
            }
            return self.go_on(&selector, token).await;
        }
        match (self.query.version_match, revision) {
            (Some(VersionMatch::Exact), Some(revision)) => {
                self.page(&selector, revision, None).await
            }
            // Pages of a given version are that version, as they were before resourceVersionMatch came.
            (None, Some(revision)) if revision > 0 && self.query.limit > 0 => {
                self.page(&selector, revision, None).await
            }
            (Some(_) | None, _) => {
                self.freshen().await?;
                self.present(&selector, None).await
            }
        }
    }

    /// The next page of a list. Its past is gone when the store has forgotten it, and by the clock: a client that waits
    /// is told so after the same time whatever was written meanwhile.
    async fn go_on(&self, selector: &Selector, token: Continue) -> Result<Listed, ApiError> {
        if token.rv < 0 {
            self.freshen().await?;
            return self.present(selector, Some(&token.start)).await;
        }
        if token.rv < self.api.storage.history() {
            return Err(ApiError::ExpiredContinue {
                token: Continue::new(PRESENT, &token.start).encode(),
            });
        }
        self.page(selector, token.rv, Some(token.start)).await
    }

    /// From the cache, as it is now, after a key.
    async fn present(&self, selector: &Selector, after: Option<&str>) -> Result<Listed, ApiError> {
        let applied = self.api.storage.applied();
        let limit = self.query.limit;
        if limit > 0 && !selector.is_filtered() {
            let (items, left, revision) =
                self.cache().first(self.namespace(), after, limit, applied);
            let last = items.last().filter(|_| left > 0);
            let meta = ListMeta {
                revision,
                continue_token: last.map(|last| next(revision, last)),
                remaining: last.map(|_| left),
            };
            return Ok(Listed { items, meta });
        }
        let (items, revision) = self.cache().snapshot(Some(self.namespace()), applied);
        let skipped = after.map_or(0, |after| {
            items.partition_point(|i| tail(i).as_str() <= after)
        });
        let mut items = items.into_iter().skip(skipped);
        let mut selected: Vec<Arc<Stored>> = if self.selecting_converter(selector).is_none() {
            items.filter(|i| selector.matches(i.as_ref())).collect()
        } else {
            // No more is converted than a page takes.
            let most = if limit > 0 { limit } else { usize::MAX };
            let mut selected = Vec::new();
            while selected.len() <= most {
                let some: Vec<Arc<Stored>> = items.by_ref().take(SELECTED_AT_ONCE).collect();
                if some.is_empty() {
                    break;
                }
                selected.extend(self.selected(selector, some).await?);
            }
            selected
        };
        let mut meta = ListMeta {
            revision,
            ..ListMeta::default()
        };
        if limit > 0 && selected.len() > limit {
            selected.truncate(limit);
            meta.continue_token = selected.last().map(|last| next(revision, last));
        }
        Ok(Listed {
            items: selected,
            meta,
        })
    }

    /// How many objects there are after one by now. For a page of the past that is an estimate, as which clients are to
    /// take it anyway: to count there would cost as much as to read all that follows.
    fn left(&self, last: Option<&Arc<Stored>>) -> usize {
        let Some(last) = last.map(|last| tail(last)) else {
            return 1;
        };
        let items = self.cache().list(Some(self.namespace()));
        let before = items.partition_point(|item| tail(item) <= last);
        (items.len() - before).max(1)
    }

    /// At a revision of the past, after a key.
    async fn page(
        &self,
        selector: &Selector,
        revision: Revision,
        after: Option<String>,
    ) -> Result<Listed, ApiError> {
        self.api.storage.wait_for(revision).await?;
        let cache = self.cache();
        if cache.changed_at() <= revision {
            // Nothing of this kind has changed since: the present is that past.
            let mut listed = self.present(selector, after.as_deref()).await?;
            listed.meta.revision = revision;
            listed.meta.continue_token = listed
                .meta
                .continue_token
                .and_then(|_| listed.items.last().map(|last| next(revision, last)));
            return Ok(listed);
        }
        let limit = match self.query.limit {
            0 => usize::MAX,
            limit => limit,
        };
        let mut items: Vec<Arc<Stored>> = Vec::new();
        let mut bytes = 0;
        // Should the past be forgotten by now, the list can go on with the present.
        let expired = |error| match (error, &after) {
            (ApiError::Expired(_), Some(start)) => ApiError::ExpiredContinue {
                token: Continue::new(PRESENT, start).encode(),
            },
            (error, _) => error,
        };
        let mut cursor = after
            .as_ref()
            .map(|start| format!("{}{start}", key::prefix(&self.row.storage, None)));
        loop {
            let range = Range {
                prefix: key::prefix(&self.row.storage, Some(self.namespace())),
                after: cursor.take(),
                limit: CHUNK,
                revision,
            };
            let _turn = READS
                .acquire()
                .await
                .map_err(|_| ApiError::Internal("the server is shutting down".to_owned()))?;
            let read = self.api.storage.range_at(&self.row.storage, range).await;
            let (page, _, more) = read.map_err(expired)?;
            let last = page.last().cloned();
            for item in self.selected(selector, page).await? {
                bytes += item.bytes.len();
                if bytes > PAST && self.query.limit == 0 {
                    return Err(ApiError::RequestEntityTooLarge(format!(
                        "the list as it was at resourceVersion {revision} has more than {PAST} bytes; read it in pages \
                         (limit), or as it is now"
                    )));
                }
                if items.len() == limit || bytes > PAST {
                    let token = items.last().map(|last| next(revision, last));
                    let remaining = (!selector.is_filtered()).then(|| self.left(items.last()));
                    return Ok(Listed {
                        items,
                        meta: ListMeta {
                            revision,
                            continue_token: token,
                            remaining,
                        },
                    });
                }
                items.push(item);
            }
            match last {
                Some(last) if more => {
                    cursor = Some(key::object(&self.row.storage, &last.namespace, &last.name));
                }
                _ => break,
            }
        }
        Ok(Listed {
            items,
            meta: ListMeta {
                revision,
                ..ListMeta::default()
            },
        })
    }
}

fn tail(item: &Stored) -> String {
    if item.namespace.is_empty() {
        item.name.to_string()
    } else {
        format!("{}/{}", item.namespace, item.name)
    }
}

fn next(revision: Revision, last: &Stored) -> String {
    Continue::new(revision, &tail(last)).encode()
}

/// Reads any text as a token: one that is taken leads nowhere outside of its list.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_token(text: &str) {
    // As it is, and as what a token has in it.
    for text in [text.to_owned(), URL_SAFE_NO_PAD.encode(text)] {
        let Ok(token) = Continue::decode(&text) else {
            continue;
        };
        if goes_on_in("team", &token.start) {
            assert!(token.start.starts_with("team/"));
        }
        assert!(Continue::decode(&token.encode()).is_ok());
    }
}
