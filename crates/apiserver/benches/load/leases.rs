//! A Lease that is renewed while CustomResourceDefinitions are published: how long a renewal takes, beside one on a server
//! that does nothing else. Who holds a Lease gives up what it leads when renewals take too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::objects::get;
use crate::server::{Https, Sent, Server};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION_COUNT: usize = 40;
/// Renewals on a server that does nothing else.
const QUIET: usize = 400;
/// Between two renewals.
const INTERVAL: Duration = Duration::from_millis(10);
const DISCOVERED: Duration = Duration::from_secs(60);

fn group(number: usize) -> String {
    format!("g{number}.example.com")
}

/// A definition as large as those of operators are: about 1,100 properties, 110 KB.
fn definition(number: usize) -> Sent {
    let described = |kind: &str, at: usize| json!({"type": kind, "description": format!("What the part {at} of a widget is for, in a sentence of usual length.")});
    let section = |at: usize| {
        let fields = (0..50).map(|field| (format!("field{field}"), described("string", field)));
        let fields: serde_json::Map<String, Value> = fields.collect();
        (
            format!("section{at}"),
            json!({"type": "object", "description": "A section.", "properties": fields}),
        )
    };
    let sections: serde_json::Map<String, Value> = (0..22).map(section).collect();
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": sections},
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}});
    let group = group(number);
    let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}});
    ("POST", DEFINITIONS.to_owned(), object.to_string())
}

/// Renews the Lease until it is told to stop, or as often as asked; the milliseconds of each renewal.
async fn renew(server: &Server, client: &Https, goes_on: impl Fn(usize) -> bool) -> Vec<f64> {
    let mut took = Vec::new();
    while goes_on(took.len()) {
        let renewal = json!({"spec": {"leaseTransitions": took.len()}});
        let begun = Instant::now();
        let sent = ("PATCH", format!("{LEASES}/held"), renewal.to_string());
        let response = server.open(client, sent).await;
        response
            .into_body()
            .collect()
            .await
            .expect("a whole answer");
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(INTERVAL.saturating_sub(begun.elapsed())).await;
    }
    took.sort_by(f64::total_cmp);
    took
}

/// Publishes the definitions, and asks for the documents as clients do that have seen a new kind.
async fn publish(server: &Server, count: usize) {
    for number in 0..count {
        server.send(number, definition(number)).await;
        server.send(number, get("/openapi/v2")).await;
    }
    let last = format!("/apis/{}/v1", group(count - 1));
    let begun = Instant::now();
    loop {
        let groups = server.send(0, get("/openapi/v3")).await;
        let groups: Value = serde_json::from_slice(&groups).expect("an index");
        if groups["paths"][last.trim_start_matches('/')].is_object() {
            break;
        }
        assert!(begun.elapsed() < DISCOVERED, "{last} is not published");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for number in 0..count {
        let path = format!("/openapi/v3/apis/{}/v1", group(number));
        server.send(number, get(&path)).await;
    }
}

fn say(name: &str, took: &[f64]) {
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{name:<56} {:>9.1} ms  (median {:.1}, longest {:.1} ms, of {})",
        at(99),
        at(50),
        at(100),
        took.len()
    );
}

pub(crate) async fn run(servers: &[Arc<Server>], scale: usize) {
    for server in servers {
        let client = server.connection();
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "held"},
            "spec": {"holderIdentity": "load", "leaseDurationSeconds": 15}});
        server
            .send(0, ("POST", LEASES.to_owned(), lease.to_string()))
            .await;
        let quiet = renew(server, &client, |count| count < QUIET / scale).await;
        let published = Arc::new(AtomicBool::new(false));
        let count = DEFINITION_COUNT / scale;
        let publishing = {
            let (server, published) = (Arc::clone(server), Arc::clone(&published));
            tokio::spawn(async move {
                let begun = Instant::now();
                publish(&server, count).await;
                published.store(true, Ordering::Relaxed);
                begun.elapsed()
            })
        };
        let busy = renew(server, &client, |_| !published.load(Ordering::Relaxed)).await;
        let took = publishing.await.expect("all are published");
        say(&format!("a Lease renewed, p99, {}", server.name), &quiet);
        say(
            &format!("  while {count} definitions of 110 KB are published"),
            &busy,
        );
        println!(
            "{:<56} {:>9.2} s",
            "  definitions and their documents, together",
            took.as_secs_f64()
        );
    }
}
