//! The labels of what is counted, which bound how many numbers there are.

use prometheus_client::encoding::EncodeLabelSet;

use crate::query::PatchKind;
use crate::request::{ApiRequest, ResourceRequest, Verb};

/// The labels of a request, as the stock server's metrics have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    /// The verb as the stock metrics name it: GET, LIST, WATCH, POST, PUT, PATCH, APPLY, DELETE, DELETECOLLECTION, CONNECT.
    pub(super) verb: &'static str,
    pub(super) dry_run: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    /// `resource` for one object, `namespace` or `cluster` for collections.
    pub(super) scope: &'static str,
    pub(super) component: &'static str,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Answered {
    #[prometheus(flatten)]
    pub(super) request: Request,
    pub(super) code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Resource {
    pub(super) resource: String,
}

/// What is kept of a request where more labels would be too many.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kept {
    pub(super) verb: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) scope: &'static str,
    pub(super) component: &'static str,
}

/// A request that the server gave up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Terminated {
    #[prometheus(flatten)]
    pub(super) request: Kept,
    pub(super) code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Watched {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Service {
    pub(super) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    pub(super) major: &'static str,
    pub(super) minor: &'static str,
    pub(super) git_version: &'static str,
    pub(super) platform: String,
}

impl Kept {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            verb: request.verb,
            group: request.group.clone(),
            version: request.version.clone(),
            resource: request.resource.clone(),
            subresource: request.subresource.clone(),
            scope: request.scope,
            component: request.component,
        }
    }
}

/// What a request is counted as.
pub(crate) struct RequestLabels(pub(super) Request);

impl RequestLabels {
    /// Those of a request; one that could not be read has none. Resources and subresources that nothing serves are counted
    /// as one, whatever the answer, so that nobody can fill the memory with made-up names.
    pub(crate) fn of(request: Option<&ApiRequest>) -> Self {
        let labels = Request {
            verb: request.map_or("", verb),
            component: "apiserver",
            ..Request::default()
        };
        Self(match request {
            Some(ApiRequest::Resource(request)) if request.target.is_served() => Request {
                dry_run: if request.options.dry_run { "All" } else { "" },
                group: request.target.group.clone(),
                version: request.target.version.clone(),
                resource: request.target.resource.clone(),
                subresource: request.target.subresource.clone(),
                scope: scope(request),
                ..labels
            },
            Some(ApiRequest::Resource(_) | ApiRequest::Path(_)) | None => labels,
        })
    }

    pub(crate) fn verb(&self) -> &str {
        self.0.verb
    }

    pub(crate) fn resource(&self) -> &str {
        &self.0.resource
    }
}

/// The verb, unless it is a method that a client made up.
fn verb(request: &ApiRequest) -> &'static str {
    let request = match request {
        ApiRequest::Resource(request) => request,
        ApiRequest::Path(request) if request.reads() => return "GET",
        ApiRequest::Path(_) => return "other",
    };
    if request.connect.is_some() {
        return "CONNECT";
    }
    match request.verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch if request.patch == Some(PatchKind::Apply) => "APPLY",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
    }
}

fn scope(request: &ResourceRequest) -> &'static str {
    let target = &request.target;
    if !target.name.is_empty() || request.verb == Verb::Create {
        "resource"
    } else if !target.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}
