//! Requests in flight: one client must not keep others waiting.

use super::*;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

#[tokio::test]
async fn a_thousand_requests_of_one_user_do_not_starve_others() {
    let api = Api::start_with(|config| {
        with_users(config);
        // So few that without fair shares the first requests would take them all.
        config.limits.max_requests_inflight = 60;
        config.limits.max_mutating_requests_inflight = 0;
    })
    .await;
    let (refusals, mut refused) = tokio::sync::mpsc::unbounded_channel();
    let mut connections = Vec::new();
    for _ in 0..5 {
        let (mut sender, socket) = http2_with_end(&api).await;
        for _ in 0..200 {
            let answer = sender.send_request(request("POST", REVIEWS, "mallory", never()));
            let refusals = refusals.clone();
            tokio::spawn(async move {
                if let Ok(response) = answer.await {
                    let _ = refusals.send(response);
                }
            });
        }
        connections.push((sender, socket));
    }
    // More than have a place in the queue are refused, and told when to come again.
    for _ in 0..700 {
        let response = tokio::time::timeout(PATIENCE, refused.recv()).await;
        let response = response.expect("a refusal in time").unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
    }
    for _ in 0..3 {
        others_are_served(&api).await;
    }
    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.code, 200);
    let rejected = "apiserver_flowcontrol_rejected_requests_total{priority_level=\"global-default\",flow_schema=\"global-default\",reason=\"queue-full\"}";
    assert!(metrics.text.contains(rejected), "{}", metrics.text);
    // When they are gone nothing of them is left.
    for (_, socket) in connections {
        socket.shutdown(std::net::Shutdown::Both).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    let seats =
        "apiserver_flowcontrol_current_executing_seats{priority_level=\"global-default\"} 0";
    while !api.get("/metrics").await.text.contains(seats) {
        assert!(Instant::now() < deadline, "seats are given back");
    }
}
