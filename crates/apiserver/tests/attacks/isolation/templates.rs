//! Templates of workloads: a warning that their pods will be refused.

use serde_json::{Value, json};

use super::namespace;
use crate::harness::{Api, CLASSES, class};

#[tokio::test]
async fn templates_are_warned_of() {
    let api = Api::start_with(|config| {
        config.pod_template_paths = vec!["rollouts.example.com=.spec.template".parse().unwrap()];
    })
    .await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    namespace(&api, "n", Some("sandbox")).await;
    let template = |class: Option<&str>| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"runtimeClassName": class, "containers": [{"name": "c", "image": "i"}]}});
    let job = |mut template: Value| {
        template["spec"]["restartPolicy"] = json!("Never");
        json!({"template": template})
    };
    let selected =
        |template| json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let crd = json!({"metadata": {"name": "rollouts.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "rollouts", "singular": "rollout", "kind": "Rollout", "listKind": "RolloutList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        crd,
    )
    .await
    .expect(201);
    let rollouts = "/apis/example.com/v1/namespaces/n/rollouts";
    for _ in 0..200 {
        if api.get(rollouts).await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    type Wrap = fn(Value) -> Value;
    let all: [(&str, Wrap); 6] = [
        (
            "/apis/apps/v1/namespaces/n/deployments",
            |t| json!({"spec": t}),
        ),
        (
            "/apis/apps/v1/namespaces/n/daemonsets",
            |t| json!({"spec": t}),
        ),
        (
            "/apis/apps/v1/namespaces/n/statefulsets",
            |t| json!({"spec": t}),
        ),
        ("/apis/batch/v1/namespaces/n/jobs", |t| json!({"spec": t})),
        (
            "/apis/batch/v1/namespaces/n/cronjobs",
            |t| json!({"spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": t}}}),
        ),
        (
            rollouts,
            |t| json!({"apiVersion": "example.com/v1", "kind": "Rollout", "spec": t}),
        ),
    ];
    for (path, wrap) in all {
        for (name, class, warned) in [("weak", None, true), ("strong", Some("gvisor"), false)] {
            let spec = if path.contains("batch") {
                job(template(class))
            } else {
                selected(template(class))
            };
            let mut body = wrap(spec);
            body["metadata"] = json!({"name": name});
            let answer = api.post(path, body).await;
            let said = answer.warnings().join("\n");
            assert_eq!(
                said.contains("pods of this template will be refused: pod rejected: a pod without RuntimeClass isolates by process"),
                warned, "{path} {said}"
            );
            answer.expect(201);
        }
    }
}
