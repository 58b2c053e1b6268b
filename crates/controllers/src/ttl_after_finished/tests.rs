//! What is asked of a server.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::due::tests::{condition, job};
use super::*;

/// Method, path and body of each request.
type Requests = Arc<Mutex<Vec<(Method, String, Value)>>>;

fn noon() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

fn finished(ttl: i32) -> Job {
    job(
        Some(ttl),
        condition("Complete", "True", "2026-01-01T11:59:00Z"),
    )
}

/// A server that has this Job, and answers a deletion with a status.
fn server(live: Option<Job>, deletion: StatusCode) -> (Client, Requests) {
    let requests = Requests::default();
    let record = Arc::clone(&requests);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (record, live) = (Arc::clone(&record), live.clone());
        async move {
            let method = request.method().clone();
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await?;
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let failure = |code: StatusCode| {
                let reason = if code == StatusCode::NOT_FOUND {
                    "NotFound"
                } else {
                    "Other"
                };
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no",
                    "reason": reason, "code": code.as_u16()});
                (code, status)
            };
            let (code, object) = match (&method, live) {
                (_, None) => failure(StatusCode::NOT_FOUND),
                (&Method::DELETE, Some(_)) if deletion != StatusCode::OK => failure(deletion),
                (_, Some(job)) => (StatusCode::OK, serde_json::to_value(job)?),
            };
            record.lock().push((method, path, body));
            let body = Body::from(serde_json::to_vec(&object)?);
            Ok::<_, tower::BoxError>(Response::builder().status(code).body(body)?)
        }
    });
    (Client::new(service, "default"), requests)
}

#[tokio::test]
async fn a_job_is_deleted_in_the_foreground_in_the_state_that_was_judged() {
    let (client, requests) = server(Some(finished(60)), StatusCode::OK);
    remove(&client, &finished(60), noon).await.expect("deleted");
    let requests = requests.lock();
    let path = "/apis/batch/v1/namespaces/n/jobs/j";
    let asked: Vec<_> = requests.iter().map(|r| (&r.0, r.1.as_str())).collect();
    assert_eq!(asked, [(&Method::GET, path), (&Method::DELETE, path)]);
    let options = &requests[1].2;
    assert_eq!(options["propagationPolicy"], "Foreground");
    assert_eq!(
        options["preconditions"],
        json!({"uid": "u", "resourceVersion": "7"})
    );
}

#[tokio::test]
async fn a_job_that_is_another_by_now_is_kept() {
    let mut remade = finished(0);
    remade.metadata.uid = Some("another".to_owned());
    let mut unfinished = finished(0);
    unfinished.status = None;
    let mut endless = finished(0);
    endless
        .spec
        .as_mut()
        .expect("a spec")
        .ttl_seconds_after_finished = None;
    for live in [
        Some(finished(61)),
        Some(remade),
        Some(unfinished),
        Some(endless),
        None,
    ] {
        let (client, requests) = server(live, StatusCode::OK);
        remove(&client, &finished(0), noon)
            .await
            .expect("left alone");
        let requests = requests.lock();
        assert!(requests.iter().all(|r| r.0 == Method::GET), "{requests:?}");
    }
}

#[tokio::test]
async fn a_conflict_is_no_failure_and_a_refusal_is_one() {
    for (code, fails) in [(404, false), (409, false), (403, true), (500, true)] {
        let code = StatusCode::from_u16(code).expect("a code");
        let (client, _) = server(Some(finished(0)), code);
        let removed = remove(&client, &finished(0), noon).await;
        assert_eq!(removed.is_err(), fails, "{code}");
    }
}
