//! The grammar of API paths: `/api/v1/...` and `/apis/GROUP/VERSION/...`.
//!
//! A path is split at its slashes first and decoded after that, so that an encoded slash can't make a segment; a segment
//! that would read as several, or as none, is refused.

use berth_api::status::ApiError;
use percent_encoding::percent_decode_str;

/// Subresources of namespaces that must not be taken for resources inside one.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// A path, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ApiPath {
    /// One that names no resource, decoded.
    Plain(String),
    /// One that does.
    Resource(ResourcePath),
}

/// The parts of a resource's path. Empty strings stand for "none".
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResourcePath {
    pub(super) group: String,
    pub(super) version: String,
    /// The old form `/api/v1/watch/pods`.
    pub(super) watch: bool,
    pub(super) namespace: String,
    /// `namespaces/NAMESPACE/RESOURCE`, as against `namespaces/NAMESPACE`.
    pub(super) in_namespace: bool,
    pub(super) resource: String,
    pub(super) name: String,
    pub(super) subresource: String,
    /// What follows the subresource, as it was sent; a slash at its end alone is something, too.
    pub(super) behind: Option<String>,
}

impl ResourcePath {
    /// Whether it names Namespaces.
    pub(super) fn is_of_namespace(&self) -> bool {
        self.group.is_empty() && self.resource == "namespaces"
    }
}

/// The segments of a path, decoded one by one as they are read.
struct Segments<'a> {
    raw: &'a str,
    all: Vec<&'a str>,
    at: usize,
}

impl<'a> Segments<'a> {
    fn of(raw: &'a str) -> Self {
        Self {
            raw,
            all: raw.trim_matches('/').split('/').collect(),
            at: 0,
        }
    }

    fn left(&self) -> usize {
        self.all.len() - self.at
    }

    /// A segment further on, without reading it; none when it can't be decoded.
    fn peek(&self, ahead: usize) -> Option<String> {
        let raw = self.all.get(self.at + ahead)?;
        percent_decode_str(raw).decode_utf8().ok().map(Into::into)
    }

    /// The next segment; empty at the end.
    fn next(&mut self) -> Result<String, ApiError> {
        let Some(raw) = self.all.get(self.at) else {
            return Ok(String::new());
        };
        self.at += 1;
        let refused =
            |why: &str| ApiError::BadRequest(format!("the path {:?} contains {why}", self.raw));
        let segment = percent_decode_str(raw)
            .decode_utf8()
            .map_err(|_| refused("a segment that is not UTF-8"))?;
        match segment.as_ref() {
            "" => Err(refused("an empty segment")),
            "." | ".." => Err(refused("a relative segment")),
            s if s.contains('/') => Err(refused("an encoded slash")),
            s if s.contains(char::is_control) => Err(refused("a control character")),
            s => Ok(s.to_owned()),
        }
    }

    /// What is left, as it was sent.
    fn rest(&self) -> Option<String> {
        let trimmed = self.raw.trim_start_matches('/');
        let skipped: usize = self.all[..self.at].iter().map(|s| s.len() + 1).sum();
        let rest = trimmed.get(skipped..)?;
        (!rest.trim_matches('/').is_empty() || self.left() > 0).then(|| rest.to_owned())
    }
}

/// Reads a path as it was sent.
///
/// # Errors
/// `BadRequest` for one that can't be decoded or has segments that could be read in two ways.
pub(super) fn read(raw: &str) -> Result<ApiPath, ApiError> {
    let plain = || -> Result<ApiPath, ApiError> {
        let path = percent_decode_str(raw).decode_utf8().map_err(|_| {
            ApiError::BadRequest(format!("the path {raw:?} is not UTF-8 when it is decoded"))
        })?;
        Ok(ApiPath::Plain(path.into_owned()))
    };
    let mut segments = Segments::of(raw);
    let grouped = match segments.peek(0).as_deref() {
        Some("api") => false,
        Some("apis") => true,
        _ => return plain(),
    };
    if segments.left() <= 2 + usize::from(grouped) {
        return plain();
    }
    segments.next()?;
    let mut path = ResourcePath::default();
    if grouped {
        path.group = segments.next()?;
    }
    path.version = segments.next()?;
    if segments.left() > 1 && segments.peek(0).as_deref() == Some("watch") {
        segments.next()?;
        path.watch = true;
    }
    if segments.left() > 1 && segments.peek(0).as_deref() == Some("namespaces") {
        path.namespace = segments.peek(1).unwrap_or_default();
        let inner = segments.peek(2);
        let own = |s: &str| NAMESPACE_SUBRESOURCES.contains(&s);
        if inner.is_some_and(|inner| !own(&inner)) {
            segments.next()?;
            path.namespace = segments.next()?;
            path.in_namespace = true;
        }
    }
    path.resource = segments.next()?;
    path.name = segments.next()?;
    path.subresource = segments.next()?;
    path.behind = segments.rest();
    Ok(ApiPath::Resource(path))
}

#[cfg(test)]
mod tests;
