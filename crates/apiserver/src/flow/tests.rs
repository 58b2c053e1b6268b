use std::time::Duration;

use super::*;
use crate::http_types;
use crate::user::AUTHENTICATED;
use http::StatusCode;

fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        groups: vec![AUTHENTICATED.to_owned()],
        ..User::default()
    }
}

fn asked<'a>(verb: &'a str, resource: &'a str) -> Asked<'a> {
    Asked {
        verb,
        is_resource: true,
        group: "",
        resource,
        subresource: "",
        namespace: "default",
        path: "",
        width: 1,
    }
}

fn control(seats: u32) -> FlowControl {
    FlowControl::new(&Limits {
        max_requests_inflight: seats,
        max_mutating_requests_inflight: 0,
        max_watches_per_user: 2,
        request_timeout: Duration::from_millis(200),
        ..Limits::default()
    })
}

/// Four seats for users, of which one user has three.
const SEATS: u32 = 49;

#[tokio::test]
async fn who_has_many_requests_waits_and_others_do_not() {
    let control = control(SEATS);
    let get = asked("get", "pods");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(control.admit(&user("greedy"), &get).await.unwrap());
    }
    {
        let greedy = user("greedy");
        let mut waiting = std::pin::pin!(control.admit(&greedy, &get));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
    }
    let other = control.admit(&user("other"), &get).await.unwrap();
    // Nobody who gave up waiting keeps a seat.
    drop(held);
    drop(other);
    let gate = &control.gates[&Level::GlobalDefault];
    let state = gate.state.lock();
    assert_eq!(
        (state.queues.seats_in_use(), state.queues.waiting()),
        (0, 0)
    );
    assert!(state.waiting.is_empty());
}

#[tokio::test]
async fn a_freed_seat_goes_to_who_waits() {
    let control = control(SEATS);
    let mut held = Vec::new();
    for name in ["a", "a", "a", "b"] {
        held.push(
            control
                .admit(&user(name), &asked("get", "pods"))
                .await
                .unwrap(),
        );
    }
    let (c, get) = (user("c"), asked("get", "pods"));
    let mut waiting = std::pin::pin!(control.admit(&c, &get));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    held.pop();
    waiting.await.unwrap();
}

#[tokio::test]
async fn who_waits_too_long_is_refused_with_the_stock_words() {
    let control = control(SEATS);
    let get = asked("get", "pods");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(control.admit(&user("a"), &get).await.unwrap());
    }
    let error = control.admit(&user("a"), &get).await.unwrap_err();
    assert_eq!(error.code(), 429);
    assert_eq!(
        error.to_string(),
        "Too many requests, please try again later."
    );
    // Without credentials nobody waits: there is one seat.
    held.push(control.admit(&User::anonymous(), &get).await.unwrap());
    let anonymous = User::anonymous();
    let mut refused = std::pin::pin!(control.admit(&anonymous, &get));
    let std::task::Poll::Ready(Err(error)) = futures::poll!(refused.as_mut()) else {
        panic!("refused at once");
    };
    assert_eq!(error.code(), 429);
    // Administrators and heartbeats pass.
    for _ in 0..100 {
        held.push(control.admit(&User::master("admin"), &get).await.unwrap());
    }
    let node = User {
        groups: vec!["system:nodes".to_owned()],
        ..user("system:node:a")
    };
    control
        .admit(&node, &asked("patch", "nodes"))
        .await
        .unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    control.measures().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "apiserver_flowcontrol_rejected_requests_total{priority_level=\"global-default\",flow_schema=\"global-default\",reason=\"time-out\"} 1",
        "apiserver_flowcontrol_rejected_requests_total{priority_level=\"catch-all\",flow_schema=\"catch-all\",reason=\"concurrency-limit\"} 1",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 104",
        "apiserver_flowcontrol_current_executing_seats{priority_level=\"global-default\"} 3",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_seat_lasts_as_long_as_the_answer_and_a_place_as_the_watch() {
    let control = control(SEATS);
    let seats = |control: &FlowControl| {
        let state = control.gates[&Level::GlobalDefault].state.lock();
        state.queues.seats_in_use()
    };
    let mut response = http_types::text(StatusCode::OK, "x");
    let permit = control
        .admit(&user("a"), &asked("list", "pods"))
        .await
        .unwrap();
    permit.accompany(&mut response);
    assert_eq!(seats(&control), 1);
    let held = held_by(&mut response);
    drop(response);
    assert_eq!(seats(&control), 1);
    drop(held);
    assert_eq!(seats(&control), 0);
    let mut watches = Vec::new();
    for _ in 0..2 {
        let mut response = http_types::text(StatusCode::OK, "x");
        let permit = control
            .admit(&user("a"), &asked("watch", "pods"))
            .await
            .unwrap();
        permit.accompany(&mut response);
        watches.push(response);
    }
    assert_eq!(seats(&control), 0);
    let refused = control.admit(&user("a"), &asked("watch", "pods")).await;
    assert_eq!(refused.unwrap_err().code(), 429);
    control
        .admit(&user("b"), &asked("watch", "pods"))
        .await
        .unwrap();
    watches.pop();
    control
        .admit(&user("a"), &asked("watch", "pods"))
        .await
        .unwrap();
}
