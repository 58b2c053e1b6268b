//! ServiceCIDRs: the one of the server's own ranges, and the conditions and finalizers of all.
//!
//! | a ServiceCIDR | has |
//! |---|---|
//! | in use | the finalizer, and the condition Ready |
//! | that is being deleted | no Ready condition from the first moment on; the finalizer as long as an address is in no other |
//!
//! The stock servers share this work with the controller manager, which does the same when it runs.

use std::net::IpAddr;
use std::time::Duration;

use berth_api::status::ApiError;
use berth_rules::kinds::service::range::ServiceRange;
use berth_store::Expect;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use super::write::{fresh, now};
use crate::allocation::{ADDRESSES, CIDRS, ServiceSettings};
use crate::storage::{Storage, Stored};

/// The ServiceCIDR of the flags.
const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long after a deletion other servers may still give addresses from it.
const GRACE: Duration = Duration::from_secs(10);

/// Makes the ServiceCIDR of this server's ranges when it is not there, and adds a second range to it. Other differences
/// are the administrator's: Services have addresses of it.
///
/// # Errors
/// When the store cannot be written.
pub(super) async fn keep_default(
    storage: &Storage,
    services: &ServiceSettings,
) -> Result<(), ApiError> {
    let cidrs = services.cidrs();
    let Some(stored) = storage.get(CIDRS, "", DEFAULT) else {
        let object = fresh(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": DEFAULT, "generation": 1, "finalizers": [FINALIZER]},
            "spec": {"cidrs": cidrs},
            "status": {"conditions": [ready(true, "", "Kubernetes default Service CIDR is ready")]},
        }));
        storage
            .put(CIDRS, "", DEFAULT, Expect::Absent, object)
            .await?;
        return Ok(());
    };
    let mut object = stored.value()?;
    let has = object["spec"]["cidrs"].as_array().map_or(0, Vec::len);
    if has == 1 && cidrs.len() == 2 && object["spec"]["cidrs"][0] == *cidrs[0] {
        object["spec"]["cidrs"] = json!(cidrs);
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + 1);
        put(storage, &stored, object).await?;
    }
    Ok(())
}

/// Keeps up conditions and finalizers.
///
/// # Errors
/// When an object cannot be read, or the store cannot be written.
pub(super) async fn keep_all(storage: &Storage) -> Result<(), ApiError> {
    for stored in storage.list(CIDRS, None) {
        let value = stored.value()?;
        let typed: ServiceCIDR = stored.decode()?;
        if typed.metadata.deletion_timestamp.is_none() {
            keep_ready(storage, &stored, value).await?;
        } else if typed
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|f| f == FINALIZER)
        {
            keep_ending(storage, &stored, value, &typed).await?;
        }
    }
    Ok(())
}

async fn keep_ready(storage: &Storage, stored: &Stored, mut object: Value) -> Result<(), ApiError> {
    let before = object.clone();
    let finalizers = list(&mut object, "/metadata", "finalizers");
    if !finalizers.contains(&json!(FINALIZER)) {
        finalizers.push(json!(FINALIZER));
    }
    let conditions = list(&mut object, "/status", "conditions");
    if !conditions.iter().any(|c| c["type"] == "Ready") {
        conditions.push(ready(true, "", "Kubernetes Service CIDR is ready"));
    }
    if object == before {
        return Ok(());
    }
    put(storage, stored, object).await
}

async fn keep_ending(
    storage: &Storage,
    stored: &Stored,
    mut object: Value,
    typed: &ServiceCIDR,
) -> Result<(), ApiError> {
    let ended = typed.metadata.deletion_timestamp.as_ref();
    let since = ended.map_or(0, |at| {
        jiff::Timestamp::now().as_second() - at.0.as_second()
    });
    let waits = since < i64::try_from(GRACE.as_secs()).unwrap_or(i64::MAX);
    if waits || in_use(storage, typed)? {
        let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
                   ServiceCIDR";
        let conditions = list(&mut object, "/status", "conditions");
        if conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "False")
        {
            return Ok(());
        }
        conditions.retain(|c| c["type"] != "Ready");
        conditions.push(ready(false, "Terminating", why));
        return put(storage, stored, object).await;
    }
    let finalizers = list(&mut object, "/metadata", "finalizers");
    finalizers.retain(|f| f != FINALIZER);
    if finalizers.is_empty() {
        let expect = Expect::Revision(stored.revision);
        storage.remove(CIDRS, "", &stored.name, expect).await?;
        return Ok(());
    }
    put(storage, stored, object).await
}

/// Whether an address of it is in no other ServiceCIDR.
fn in_use(storage: &Storage, ending: &ServiceCIDR) -> Result<bool, ApiError> {
    let ranges = |object: &ServiceCIDR| -> Vec<ServiceRange> {
        let spec = object.spec.as_ref();
        let cidrs = spec.and_then(|spec| spec.cidrs.as_ref());
        cidrs
            .into_iter()
            .flatten()
            .filter_map(|cidr| ServiceRange::parse(cidr).ok())
            .collect()
    };
    let others: Vec<ServiceRange> = storage
        .read_all::<ServiceCIDR>(CIDRS, None)?
        .iter()
        .filter(|other| other.metadata.deletion_timestamp.is_none())
        .flat_map(ranges)
        .collect();
    let own = ranges(ending);
    let covers = |ranges: &[ServiceRange], ip: IpAddr| ranges.iter().any(|r| r.covers(ip));
    Ok(storage
        .list(ADDRESSES, None)
        .iter()
        .filter_map(|stored| stored.name.parse().ok())
        .any(|ip: IpAddr| covers(&own, ip) && !covers(&others, ip)))
}

fn ready(is: bool, reason: &str, message: &str) -> Value {
    json!({
        "type": "Ready", "status": if is { "True" } else { "False" }, "reason": reason, "message": message,
        "lastTransitionTime": now(),
    })
}

/// A list inside an object; made when absent.
fn list<'a>(object: &'a mut Value, at: &str, field: &str) -> &'a mut Vec<Value> {
    let at = at.trim_start_matches('/');
    if !object[at].is_object() {
        object[at] = json!({});
    }
    let field = &mut object[at][field];
    if !field.is_array() {
        *field = json!([]);
    }
    match field {
        Value::Array(items) => items,
        _ => unreachable!("it was made a list above"),
    }
}

async fn put(storage: &Storage, stored: &Stored, object: Value) -> Result<(), ApiError> {
    let expect = Expect::Revision(stored.revision);
    // Who was quicker is answered at the next look.
    storage
        .put(CIDRS, "", &stored.name, expect, object)
        .await
        .map(|_| ())
}
