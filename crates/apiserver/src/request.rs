//! What a request asks for, read once.
//!
//! [`ApiRequest::read`] turns method, path, query and headers into a typed value. Authorization (through
//! [`crate::attributes`]), dispatch, the verbs and the proxy use this value and nothing else, so that what was authorized is
//! what is executed. What could be read in two ways is refused here: a repeated parameter, an empty path segment, a slash
//! hidden in a name, `/watch/` before anything but a read without subresource. A path of the wrong scope for its kind
//! leads nowhere ([`Target::row`]), whoever asks.

mod connect;
mod path;
mod verb;

use std::sync::Arc;

use berth_api::status::ApiError;
use http::{HeaderMap, Method, Uri, header};

use self::path::ResourcePath;
use crate::query::{Parameters, PatchKind, Query};
use crate::registry::{Connect, Resource, Subresource, Table};
use crate::selector::Selection;

pub(crate) use connect::ConnectRequest;
pub use verb::Verb;

/// A request, as everything behind the reading sees it.
pub enum ApiRequest {
    /// For objects.
    Resource(Box<ResourceRequest>),
    /// For discovery, OpenAPI, health and whatever else names no resource.
    Path(PathRequest),
}

/// A request for a path that names no resource.
pub struct PathRequest {
    /// The HTTP method in lower case, which is what authorization calls the verb here.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The query.
    pub(crate) parameters: Parameters,
}

/// A request for objects of a resource.
pub struct ResourceRequest {
    /// What is to be done.
    pub verb: Verb,
    /// What to.
    pub target: Target,
    /// Which objects of a collection.
    pub(crate) selection: Selection,
    /// The other query parameters.
    pub(crate) options: Query,
    /// The kind of a patch; none for other verbs and for a `Content-Type` that is no patch.
    pub(crate) patch: Option<PatchKind>,
    /// What a connect subresource needs to know.
    pub(crate) connect: Option<ConnectRequest>,
}

/// The resource, object and subresource that a path names. Empty strings stand for "none".
#[derive(Clone, Debug)]
pub struct Target {
    /// Group; empty for the core group.
    pub group: String,
    /// Version, e.g. `v1`.
    pub version: String,
    /// Namespace; empty for cluster-scoped kinds and lists over all namespaces. A Namespace is in itself.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Name of the object.
    pub name: String,
    /// Subresource, e.g. `status`.
    pub subresource: String,
    row: Option<Arc<Resource>>,
}

impl Target {
    /// What serves it.
    ///
    /// # Errors
    /// `NoSuchPath` when nothing does: no such resource, or not at this scope.
    pub fn row(&self) -> Result<&Arc<Resource>, ApiError> {
        self.row.as_ref().ok_or(ApiError::NoSuchPath)
    }

    /// Whether there is such a resource, and subresource, at this scope.
    #[must_use]
    pub fn is_served(&self) -> bool {
        let has = |row: &Arc<Resource>| row.subresource(&self.subresource).is_some();
        (self.row.as_ref()).is_some_and(|row| self.subresource.is_empty() || has(row))
    }
}

impl ApiRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// `BadRequest` for what could be read in two ways or not at all, `MethodNotAllowed` for methods that no resource has.
    pub fn read(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        table: &Table,
    ) -> Result<Self, ApiError> {
        match path::read(uri.path())? {
            path::ApiPath::Plain(path) => Ok(Self::Path(PathRequest {
                method: method.as_str().to_ascii_lowercase(),
                path,
                parameters: Parameters::of(uri),
            })),
            path::ApiPath::Resource(path) => {
                let request = ResourceRequest::read(method, uri.query(), headers, path, table)?;
                Ok(Self::Resource(Box::new(request)))
            }
        }
    }
}

impl ApiRequest {
    /// Whether its answer takes as long as the client likes: watches and connections.
    #[must_use]
    pub fn is_long_running(&self) -> bool {
        match self {
            Self::Resource(request) => request.verb == Verb::Watch || self.is_connection(),
            Self::Path(_) => false,
        }
    }

    /// Whether a node or a pod answers it, and not this server.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        match self {
            Self::Resource(request) => request.connect.is_some(),
            Self::Path(_) => false,
        }
    }
}

impl PathRequest {
    /// Whether it only reads.
    #[must_use]
    pub fn reads(&self) -> bool {
        matches!(self.method.as_str(), "get" | "head")
    }
}

impl ResourceRequest {
    fn read(
        method: &Method,
        query: Option<&str>,
        headers: &HeaderMap,
        path: ResourcePath,
        table: &Table,
    ) -> Result<Self, ApiError> {
        // A server behind a proxy may do anything with OPTIONS: whoever sends it needs the right that a POST takes.
        let only_passed_on = *method == Method::OPTIONS;
        let verb = if only_passed_on {
            Verb::Create
        } else {
            verb_of(method)?
        };
        let parameters = Parameters::decode(query.unwrap_or_default());
        let watches = path.watch;
        let behind = path.behind.clone();
        let mut target = target(path, table);
        if watches {
            if verb != Verb::Get {
                return Err(ApiError::MethodNotAllowed);
            }
            if !target.subresource.is_empty() {
                target.row = None;
            }
        }
        let connect = subresource(&target).and_then(Subresource::connect);
        if only_passed_on && connect != Some(Connect::Proxy) {
            return Err(ApiError::MethodNotAllowed);
        }
        if behind.is_some() && connect.is_none_or(|kind| !kind.has_path()) {
            target.row = None;
        }
        if let (Some(kind), false) = (connect, watches) {
            let upgrade = headers.contains_key(header::UPGRADE);
            return Ok(Self {
                verb: connect::verb(kind, verb),
                target,
                selection: Selection::default(),
                options: Query::default(),
                patch: None,
                connect: Some(ConnectRequest::read(
                    kind, upgrade, parameters, behind, query,
                )?),
            });
        }
        let options = Query::read(&parameters)?;
        let collection = target.name.is_empty();
        let verb = match verb {
            Verb::Get if watches => Verb::Watch,
            Verb::Get if collection && options.watch => Verb::Watch,
            Verb::Get if collection => Verb::List,
            Verb::Delete if collection => Verb::DeleteCollection,
            verb => verb,
        };
        let selection = match verb {
            Verb::List | Verb::Watch => {
                let name = std::mem::take(&mut target.name);
                Selection::read(&options.label_selector, &options.field_selector)?.named(name)
            }
            Verb::DeleteCollection => {
                Selection::read(&options.label_selector, &options.field_selector)?
            }
            _ => Selection::default(),
        };
        Ok(Self {
            verb,
            target,
            selection,
            options,
            patch: (verb == Verb::Patch).then(|| patch_kind(headers)).flatten(),
            connect: None,
        })
    }

    /// The name that the request is limited to; empty when it is for more than one object, or for one without a name yet.
    #[must_use]
    pub fn name(&self) -> &str {
        limited_to(&self.target, self.verb, &self.selection)
    }

    /// The verbs that the user must have, beginning with the request's own: a connection that is upgraded can carry
    /// anything, so that whoever may only read through a proxy must not open one.
    pub fn needed_verbs(&self) -> impl Iterator<Item = Verb> {
        let upgrade = self.connect.as_ref().is_some_and(|c| c.upgrade);
        let more = (upgrade && self.verb != Verb::Create).then_some(Verb::Create);
        std::iter::once(self.verb).chain(more)
    }
}

/// The name that a verb on a target is limited to.
pub(crate) fn limited_to<'a>(target: &'a Target, verb: Verb, selection: &'a Selection) -> &'a str {
    match verb {
        Verb::List | Verb::Watch => selection.name().unwrap_or_default(),
        _ => &target.name,
    }
}

/// Whether the client wants the head of the answer alone.
pub(crate) fn is_head(method: &Method) -> bool {
    method == Method::HEAD
}

fn verb_of(method: &Method) -> Result<Verb, ApiError> {
    match *method {
        Method::POST => Ok(Verb::Create),
        Method::GET | Method::HEAD => Ok(Verb::Get),
        Method::PUT => Ok(Verb::Update),
        Method::PATCH => Ok(Verb::Patch),
        Method::DELETE => Ok(Verb::Delete),
        _ => Err(ApiError::MethodNotAllowed),
    }
}

fn patch_kind(headers: &HeaderMap) -> Option<PatchKind> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    PatchKind::from_content_type(value)
}

fn target(path: ResourcePath, table: &Table) -> Target {
    let row = table
        .find(&path.group, &path.version, &path.resource)
        .filter(|row| in_scope(row, &path))
        .cloned();
    Target {
        row,
        group: path.group,
        version: path.version,
        namespace: path.namespace,
        resource: path.resource,
        name: path.name,
        subresource: path.subresource,
    }
}

/// Whether a kind is served at the path's scope: `namespaces/X/...` for what lives in a namespace, `namespaces/X` for
/// Namespaces alone, and no namespace for the others and for lists over all namespaces.
fn in_scope(row: &Resource, path: &ResourcePath) -> bool {
    if row.namespaced() {
        return path.in_namespace || (path.namespace.is_empty() && path.name.is_empty());
    }
    path.namespace.is_empty() || (path.is_of_namespace() && !path.in_namespace)
}

fn subresource(target: &Target) -> Option<&Subresource> {
    target.row.as_ref()?.subresource(&target.subresource)
}

#[cfg(test)]
mod tests;
