//! Logs of pods, as far as the server answers itself.

use std::collections::BTreeMap;

use berth_apiserver::proxy::NodeClientConfig;

use super::harness::{Api, PODS, pod};

#[tokio::test]
async fn a_pod_without_a_node_has_no_logs_yet() {
    let identity = rcgen::generate_simple_self_signed(vec!["server".to_owned()]).unwrap();
    let api = Api::start_with(|config| {
        config.nodes = Some(NodeClientConfig {
            certificate: identity.cert.pem().into_bytes(),
            key: identity.signing_key.serialize_pem().into_bytes(),
            ca: None,
            issuer: None,
            local_nodes: BTreeMap::new(),
        });
    })
    .await;
    api.post(PODS, pod("p")).await.expect(201);
    let answer = api.get(&format!("{PODS}/p/log")).await;
    assert_eq!((answer.code, answer.text.as_str()), (204, ""));
    assert_eq!(api.get(&format!("{PODS}/q/log")).await.code, 404);
}
