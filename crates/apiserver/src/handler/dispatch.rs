//! From the request that was authorized to the verb that carries it out.

use berth_api::status::ApiError;
use futures::future::BoxFuture;

use crate::heavy;
use crate::http_types::Response;
use crate::registry::{Resource, ResourceHandler, SubresourceHandler};
use crate::request::{ResourceRequest, Verb};
use crate::rest::Call;
use crate::rest::update::Part;

/// Refuses what the row does not list: subresources, and verbs of the resource or subresource.
///
/// # Errors
/// `NoSuchPath` for a subresource, `MethodNotAllowed` for a verb.
pub(super) fn check_served(row: &Resource, asked: &ResourceRequest) -> Result<(), ApiError> {
    let target = &asked.target;
    let verbs = if target.subresource.is_empty() {
        row.verbs.as_slice()
    } else {
        let subresource = row.subresource(&target.subresource);
        subresource.ok_or(ApiError::NoSuchPath)?.verbs
    };
    let over_all = row.namespaced() && target.namespace.is_empty();
    if !verbs.contains(&asked.verb.as_str())
        || (over_all && !matches!(asked.verb, Verb::List | Verb::Watch))
    {
        return Err(ApiError::MethodNotAllowed);
    }
    Ok(())
}

/// One type for the futures of all verbs. A future is copied on its way from where it is made to where it runs: those that
/// are large (writes, above all) are boxed, so that a GET copies little.
pub(super) fn boxed(call: Call) -> BoxFuture<'static, Result<Response, ApiError>> {
    let weight = call.weight();
    let work = Box::pin(dispatch(call));
    if weight <= heavy::LARGE_BYTES {
        return work;
    }
    Box::pin(heavy::run(weight, work))
}

async fn dispatch(call: Call) -> Result<Response, ApiError> {
    let named = !call.name().is_empty();
    let stored = matches!(
        call.row.handler,
        ResourceHandler::Stored | ResourceHandler::ReadOnly
    );
    if call.verb == Verb::Get && named && stored && call.subresource().is_empty() {
        return call.get().await;
    }
    Box::pin(dispatch_others(call)).await
}

/// All but the GET of an object.
async fn dispatch_others(call: Call) -> Result<Response, ApiError> {
    if changes_stored(&call) {
        call.api.storage.catch_up().await?;
    }
    if !call.subresource().is_empty() {
        return subresource(&call).await;
    }
    let named = !call.name().is_empty();
    match call.row.handler {
        ResourceHandler::Stored | ResourceHandler::ReadOnly => {}
        ResourceHandler::Review(asked) if call.verb == Verb::Create && !named => {
            return call.review(asked).await;
        }
        ResourceHandler::Binding if call.verb == Verb::Create && !named => {
            return call.bind().await;
        }
        ResourceHandler::Measured(what) => {
            return match call.verb {
                Verb::Get if named => call.get_measured(what).await,
                Verb::List => call.list_measured(what).await,
                Verb::Get
                | Verb::Watch
                | Verb::Create
                | Verb::Update
                | Verb::Patch
                | Verb::Delete
                | Verb::DeleteCollection => Err(ApiError::MethodNotAllowed),
            };
        }
        ResourceHandler::Review(_) | ResourceHandler::Binding => {
            return Err(ApiError::MethodNotAllowed);
        }
    }
    match (call.verb, named) {
        (Verb::Watch, false) => call.watch().await,
        (Verb::List, false) => call.list().await,
        (Verb::Create, false) => call.create().await,
        (Verb::DeleteCollection, false) => call.delete_collection().await,
        (Verb::Get, true) => call.get().await,
        (Verb::Update, true) => call.put(Part::Main).await,
        (Verb::Patch, true) => call.patch(Part::Main).await,
        (Verb::Delete, true) => call.delete().await,
        (Verb::Watch | Verb::List | Verb::Create | Verb::DeleteCollection, true)
        | (Verb::Get | Verb::Update | Verb::Patch | Verb::Delete, false) => {
            Err(ApiError::MethodNotAllowed)
        }
    }
}

/// Whether something is asked of an object that must be there already.
fn changes_stored(call: &Call) -> bool {
    match call.verb {
        Verb::Update | Verb::Patch | Verb::Delete => true,
        Verb::Create => {
            !call.subresource().is_empty() || matches!(call.row.handler, ResourceHandler::Binding)
        }
        Verb::Get | Verb::List | Verb::Watch | Verb::DeleteCollection => false,
    }
}

async fn subresource(call: &Call) -> Result<Response, ApiError> {
    let sub = call
        .row
        .subresource(call.subresource())
        .ok_or(ApiError::NoSuchPath)?;
    let create = call.verb == Verb::Create;
    let part = match sub.handler {
        SubresourceHandler::Binding if create => return call.bind().await,
        SubresourceHandler::Eviction if create => return call.evict().await,
        SubresourceHandler::Token if create => return call.token().await,
        SubresourceHandler::Status => Part::Status,
        SubresourceHandler::EphemeralContainers => Part::EphemeralContainers,
        SubresourceHandler::Resize => Part::Resize,
        SubresourceHandler::Finalize => Part::Finalize,
        SubresourceHandler::Approval => Part::Approval,
        SubresourceHandler::Scale => return scale(call).await,
        SubresourceHandler::Binding
        | SubresourceHandler::Eviction
        | SubresourceHandler::Token
        | SubresourceHandler::Connect => return Err(ApiError::MethodNotAllowed),
    };
    match call.verb {
        Verb::Get => call.get().await,
        Verb::Update => call.put(part).await,
        Verb::Patch => call.patch(part).await,
        Verb::List | Verb::Watch | Verb::Create | Verb::Delete | Verb::DeleteCollection => {
            Err(ApiError::MethodNotAllowed)
        }
    }
}

async fn scale(call: &Call) -> Result<Response, ApiError> {
    match call.verb {
        Verb::Get => call.get_scale().await,
        Verb::Update => call.put_scale().await,
        Verb::Patch => call.patch_scale().await,
        Verb::List | Verb::Watch | Verb::Create | Verb::Delete | Verb::DeleteCollection => {
            Err(ApiError::MethodNotAllowed)
        }
    }
}
