//! Admission policies in CEL: what they see, what they refuse, and what they change.

use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, PODS, as_user, bind, pod};
use crate::hook_server::{HookServer, VALIDATING, configuration, rule};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

pub(crate) fn rules(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["*"], "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]}]})
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

async fn validating(api: &Api, name: &str, spec: Value) -> Value {
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    api.post(&format!("{GROUP}/validatingadmissionpolicies"), policy)
        .await
        .expect(201)
}

async fn bind_validating(api: &Api, policy: &str, mut spec: Value) {
    spec["policyName"] = json!(policy);
    if spec["validationActions"].is_null() {
        spec["validationActions"] = json!(["Deny"]);
    }
    let binding = json!({"metadata": {"name": format!("{policy}-binding")}, "spec": spec});
    api.post(
        &format!("{GROUP}/validatingadmissionpolicybindings"),
        binding,
    )
    .await
    .expect(201);
}

async fn mutating(api: &Api, name: &str, spec: Value) {
    let mut spec = spec;
    if spec["reinvocationPolicy"].is_null() {
        spec["reinvocationPolicy"] = json!("Never");
    }
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    api.post(&format!("{GROUP}/mutatingadmissionpolicies"), policy)
        .await
        .expect(201);
    let binding =
        json!({"metadata": {"name": format!("{name}-binding")}, "spec": {"policyName": name}});
    api.post(&format!("{GROUP}/mutatingadmissionpolicybindings"), binding)
        .await
        .expect(201);
}

#[tokio::test]
async fn a_violated_validation_refuses_with_its_message_and_reason() {
    let api = Api::start().await;
    let spec = json!({"matchConstraints": rules("", "configmaps"),
        "matchConditions": [{"name": "mine", "expression": "object == null || object.metadata.name.startsWith('my-')"}],
        "variables": [{"name": "keys", "expression": "has(object.data) ? object.data.size() : 0"},
            {"name": "many", "expression": "variables.keys > 1"}],
        "validations": [
            {"expression": "request.operation == 'DELETE' || !variables.many", "messageExpression": "'at most 1 key, not ' + string(variables.keys)"},
            {"expression": "request.operation == 'DELETE' || !has(object.data) || !('bad' in object.data)", "message": "no bad", "reason": "Forbidden"},
            {"expression": "request.operation != 'UPDATE' || oldObject.data == object.data"},
            {"expression": "request.operation != 'DELETE' || oldObject.metadata.name != 'my-kept'"}]});
    validating(&api, "keys", spec).await;
    // Without a binding it is about nothing.
    api.post(CONFIG_MAPS, config_map("my-a", json!({"a": "1", "b": "2"})))
        .await
        .expect(201);
    bind_validating(&api, "keys", json!({})).await;
    let status = api
        .post(CONFIG_MAPS, config_map("my-b", json!({"a": "1", "b": "2"})))
        .await
        .expect(422);
    assert_eq!(
        status["message"],
        "configmaps \"my-b\" is forbidden: ValidatingAdmissionPolicy 'keys' with binding 'keys-binding' denied request: at most 1 key, not 2"
    );
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(
        status["details"]["causes"][0]["message"],
        "ValidatingAdmissionPolicy 'keys' with binding 'keys-binding' denied request: at most 1 key, not 2"
    );
    let status = api
        .post(CONFIG_MAPS, config_map("my-b", json!({"bad": "1"})))
        .await
        .expect(403);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("denied request: no bad"),
        "{status}"
    );
    api.post(
        CONFIG_MAPS,
        config_map("your-b", json!({"a": "1", "b": "2"})),
    )
    .await
    .expect(201);
    api.post(CONFIG_MAPS, config_map("my-kept", json!({"a": "1"})))
        .await
        .expect(201);
    let one = format!("{CONFIG_MAPS}/my-kept");
    let status = api
        .merge(&one, json!({"data": {"a": "2"}}))
        .await
        .expect(422);
    assert!(
        status["message"].as_str().unwrap().ends_with(
            "failed expression: request.operation != 'UPDATE' || oldObject.data == object.data"
        ),
        "{status}"
    );
    api.delete(&one).await.expect(422);
    api.delete(&format!("{CONFIG_MAPS}/my-a")).await.expect(200);
}

/// The fields of a namespace have the types of the reference, and what is of the cluster has no namespace.
#[tokio::test]
async fn a_namespace_is_typed() {
    let api = Api::start().await;
    let spec = json!({"matchConstraints": rules("", "*"), "matchConditions": [{"name": "mine", "expression": "object != null && object.metadata.name.startsWith('my-')"}],
        "validations": [
        {"expression": "namespaceObject == null || namespaceObject.metadata.creationTimestamp > timestamp('2020-01-01T00:00:00Z')", "message": "old"},
        {"expression": "namespaceObject == null || namespaceObject.metadata.?labels['kubernetes.io/metadata.name'].orValue('') == request.namespace", "message": "label"},
        {"expression": "namespaceObject == null || namespaceObject.metadata.UID.size() == 36 && namespaceObject.status.phase == 'Active'", "message": "uid"},
        {"expression": "namespaceObject != null || object.kind == 'Namespace'", "message": "none"}]});
    validating(&api, "typed", spec).await;
    bind_validating(&api, "typed", json!({})).await;
    api.post(CONFIG_MAPS, config_map("my-a", json!({})))
        .await
        .expect(201);
    api.post(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "my-namespace"}}),
    )
    .await
    .expect(201);
    let volume = json!({"metadata": {"name": "my-volume"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"}}});
    let status = api
        .post("/api/v1/persistentvolumes", volume)
        .await
        .expect(422);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("denied request: none"),
        "{status}"
    );
}

/// As on a stock server, which takes such conditions and evaluates them with a null.
#[tokio::test]
async fn match_conditions_see_no_namespace() {
    let api = Api::start().await;
    let named = "namespaceObject.metadata.name == 'default'";
    let validates = |resource: &str, condition: &str| {
        json!({"matchConstraints": rules("", resource), "matchConditions": [{"name": "c", "expression": condition}],
            "validations": [{"expression": "namespaceObject != null", "message": "null"}]})
    };
    validating(&api, "reads", validates("configmaps", named)).await;
    bind_validating(&api, "reads", json!({})).await;
    let said = |status: Value| status["message"].as_str().unwrap().to_owned();
    let why = format!("expression '{named}' resulted in error: no such key: metadata");
    let message = said(
        api.post(CONFIG_MAPS, config_map("a", json!({})))
            .await
            .expect(422),
    );
    assert!(message.contains(&why), "{message}");
    // One that only asks whether it is there sees that it is not; what comes after has it.
    validating(&api, "asks", validates("pods", "namespaceObject == null")).await;
    bind_validating(&api, "asks", json!({})).await;
    api.post(PODS, pod("p")).await.expect(201);
    let label = json!({"matchConstraints": rules("", "secrets"), "matchConditions": [{"name": "c", "expression": named}],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'a': namespaceObject.metadata.name}}}"}}]});
    mutating(&api, "labels", label).await;
    let secret = json!({"metadata": {"name": "s"}});
    let message = said(
        api.post("/api/v1/namespaces/default/secrets", secret)
            .await
            .expect(403),
    );
    assert!(message.contains(&why), "{message}");
    let hook = HookServer::start(|_| json!({"allowed": true})).await;
    let mut asked = hook.hook("n.example.com", rule("services"));
    asked["matchConditions"] = json!([{"name": "c", "expression": named}]);
    api.post(VALIDATING, configuration("n", &[asked]))
        .await
        .expect(201);
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let message = said(
        api.post("/api/v1/namespaces/default/services", service)
            .await
            .expect(403),
    );
    assert!(message.contains(&why), "{message}");
    assert_eq!(hook.requests().len(), 0);
}

#[tokio::test]
async fn a_binding_says_where_and_what_then() {
    let api = Api::start().await;
    api.post(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "other", "labels": {"env": "test"}}}),
    )
    .await
    .expect(201);
    let other = "/api/v1/namespaces/other/configmaps";
    let spec = json!({"matchConstraints": rules("", "configmaps"), "validations": [
        {"expression": "namespaceObject.metadata.labels['env'] == 'prod'", "message": "not there"}]});
    validating(&api, "env", spec).await;
    bind_validating(
        &api,
        "env",
        json!({"validationActions": ["Warn", "Audit"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"env": "test"}}}}),
    )
    .await;
    let answer = api.post(other, config_map("x", json!({}))).await;
    assert!(
        answer.warnings().iter().any(|w| w.contains("Validation failed for ValidatingAdmissionPolicy 'env' with binding 'env-binding': not there")),
        "{:?}",
        answer.warnings()
    );
    answer.expect(201);
    let answer = api.post(CONFIG_MAPS, config_map("x", json!({}))).await;
    assert!(
        !answer
            .warnings()
            .iter()
            .any(|w| w.contains("Validation failed")),
        "{:?}",
        answer.warnings()
    );
    answer.expect(201);
}

#[tokio::test]
async fn parameters_are_objects_of_any_kind() {
    let api = Api::start().await;
    let spec = json!({"matchConstraints": rules("", "pods"), "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.containers.all(c, c.image.startsWith(params.data.registry))",
            "messageExpression": "'images of ' + params.data.registry + ' only'"}]});
    validating(&api, "images", spec).await;
    bind_validating(&api, "images", json!({"paramRef": {"selector": {"matchLabels": {"images": "yes"}}, "parameterNotFoundAction": "Deny"}})).await;
    let status = api.post(PODS, pod("a")).await.expect(422);
    assert!(status["message"].as_str().unwrap().ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"), "{status}");
    let mut param = config_map("param", json!({"registry": "busy"}));
    param["metadata"]["labels"] = json!({"images": "yes"});
    api.post(CONFIG_MAPS, param).await.expect(201);
    api.post(PODS, pod("a")).await.expect(201);
    let mut second = config_map("second", json!({"registry": "other/"}));
    second["metadata"]["labels"] = json!({"images": "yes"});
    api.post(CONFIG_MAPS, second).await.expect(201);
    let status = api.post(PODS, pod("b")).await.expect(422);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("images of other/ only"),
        "{status}"
    );
    // A kind that isn't there.
    let spec = json!({"matchConstraints": rules("", "secrets"), "paramKind": {"apiVersion": "example.com/v1", "kind": "Nothing"},
        "validations": [{"expression": "params.x == 1"}]});
    validating(&api, "nothing", spec).await;
    bind_validating(
        &api,
        "nothing",
        json!({"paramRef": {"name": "x", "parameterNotFoundAction": "Allow"}}),
    )
    .await;
    let secret = json!({"metadata": {"name": "s"}});
    let status = api
        .post("/api/v1/namespaces/default/secrets", secret)
        .await
        .expect(422);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("failed to find resource referenced by paramKind"),
        "{status}"
    );
}

#[tokio::test]
async fn an_expression_without_a_value_is_for_the_failure_policy() {
    let api = Api::start().await;
    for (name, policy, resource) in [
        ("closed", "Fail", "configmaps"),
        ("open", "Ignore", "secrets"),
    ] {
        let spec = json!({"failurePolicy": policy, "matchConstraints": rules("", resource),
            "validations": [{"expression": "object.nothing == 1"}]});
        validating(&api, name, spec).await;
        bind_validating(&api, name, json!({})).await;
    }
    let status = api
        .post(CONFIG_MAPS, config_map("x", json!({})))
        .await
        .expect(422);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("expression 'object.nothing == 1' resulted in error: no such key: nothing"),
        "{status}"
    );
    api.post(
        "/api/v1/namespaces/default/secrets",
        json!({"metadata": {"name": "s"}}),
    )
    .await
    .expect(201);
}

#[tokio::test]
async fn the_authorizer_answers_for_the_one_who_asks() {
    let api = Api::start().await;
    let spec = json!({"matchConstraints": rules("", "configmaps"), "validations": [
        {"expression": "authorizer.group('').resource('nodes').check('delete').allowed()", "message": "nodes"},
        {"expression": "authorizer.requestResource.check('custom').allowed()", "message": "custom"}]});
    validating(&api, "may", spec).await;
    bind_validating(&api, "may", json!({})).await;
    bind(&api, "jane", "edit", "jane").await;
    let status = as_user(
        &api,
        "jane",
        &[],
        "POST",
        CONFIG_MAPS,
        Some(config_map("x", json!({}))),
    )
    .await
    .expect(422);
    assert!(
        status["message"].as_str().unwrap().ends_with(": nodes"),
        "{status}"
    );
    api.post(CONFIG_MAPS, config_map("x", json!({})))
        .await
        .expect(201);
}

#[tokio::test]
async fn what_is_no_expression_is_refused() {
    let api = Api::start().await;
    let policies = format!("{GROUP}/validatingadmissionpolicies");
    for (field, value, path) in [
        (
            "validations",
            json!([{"expression": "object.x ="}]),
            "spec.validations[0].expression",
        ),
        (
            "validations",
            json!([{"expression": "1 + 1"}]),
            "spec.validations[0].expression",
        ),
        (
            "validations",
            json!([{"expression": "variables.nothing"}]),
            "spec.validations[0].expression",
        ),
        (
            "validations",
            json!([{"expression": "params.x == 1"}]),
            "spec.validations[0].expression",
        ),
        (
            "validations",
            json!([{"expression": "true", "messageExpression": "1"}]),
            "spec.validations[0].messageExpression",
        ),
        (
            "variables",
            json!([{"name": "a", "expression": "request.nothing"}]),
            "spec.variables[0].expression",
        ),
        (
            "validations",
            json!([{"expression": "namespaceObject == null || namespaceObject.metadata.uid == ''"}]),
            "spec.validations[0].expression",
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "nothing()"}]),
            "spec.matchConditions[0].expression",
        ),
        (
            "auditAnnotations",
            json!([{"key": "a", "valueExpression": "1"}]),
            "spec.auditAnnotations[0].valueExpression",
        ),
    ] {
        let mut spec = json!({"matchConstraints": rules("", "configmaps"), "validations": [{"expression": "true"}]});
        spec[field] = value;
        let policy = json!({"metadata": {"name": "x"}, "spec": spec});
        let status = api.post(&policies, policy).await.expect(422);
        let fields: Vec<&str> = status["details"]["causes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["field"].as_str().unwrap())
            .collect();
        assert_eq!(fields, [path], "{status}");
    }
    let hook = HookServer::start(|_| json!({"allowed": true})).await;
    let mut broken = hook.hook("m.example.com", rule("configmaps"));
    broken["matchConditions"] = json!([{"name": "a", "expression": "object.x ="}]);
    let status = api
        .post(VALIDATING, configuration("v", &[broken]))
        .await
        .expect(422);
    assert_eq!(
        status["details"]["causes"][0]["field"],
        "webhooks[0].matchConditions[0].expression"
    );
}

#[tokio::test]
async fn match_conditions_choose_for_webhooks() {
    let api = Api::start().await;
    let hook = HookServer::start(|_| json!({"allowed": false})).await;
    let mut chosen = hook.hook("c.example.com", rule("configmaps"));
    chosen["matchConditions"] = json!([
        {"name": "not-jane", "expression": "request.userInfo.username != 'jane'"},
        {"name": "data", "expression": "object.data.k == 'v'"}]);
    api.post(VALIDATING, configuration("v", &[chosen.clone()]))
        .await
        .expect(201);
    api.post(CONFIG_MAPS, config_map("a", json!({"k": "v"})))
        .await
        .expect(400);
    api.post(CONFIG_MAPS, config_map("a", json!({"k": "w"})))
        .await
        .expect(201);
    bind(&api, "jane", "edit", "jane").await;
    as_user(
        &api,
        "jane",
        &[],
        "POST",
        CONFIG_MAPS,
        Some(config_map("b", json!({}))),
    )
    .await
    .expect(201);
    let status = api
        .post(CONFIG_MAPS, config_map("c", json!({})))
        .await
        .expect(403);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("resulted in error: no such key"),
        "{status}"
    );
    chosen["failurePolicy"] = json!("Ignore");
    api.merge(&format!("{VALIDATING}/v"), json!({"webhooks": [chosen]}))
        .await
        .expect(200);
    api.post(CONFIG_MAPS, config_map("c", json!({})))
        .await
        .expect(201);
    assert_eq!(hook.requests().len(), 1);
}

#[tokio::test]
async fn policies_change_objects() {
    let api = Api::start().await;
    let apply = json!({"matchConstraints": rules("", "pods"), "variables": [{"name": "team", "expression": "object.metadata.namespace + '-team'"}],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'team': variables.team}}, spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh', image: 'mesh', restartPolicy: 'Always'}]}}"}}]});
    mutating(&api, "mesh", apply).await;
    let patch = json!({"matchConstraints": rules("", "pods"), "matchConditions": [{"name": "new", "expression": "request.operation == 'CREATE'"}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/seen'), value: string(object.spec.initContainers.size())}]"}}]});
    mutating(&api, "seen", patch).await;
    let made = api.post(PODS, pod("p")).await.expect(201);
    assert_eq!(
        made["metadata"]["labels"],
        json!({"team": "default-team", "example.com/seen": "1"})
    );
    let mesh = &made["spec"]["initContainers"][0];
    assert_eq!(
        (&mesh["name"], &mesh["terminationMessagePath"]),
        (&json!("mesh"), &json!("/dev/termination-log"))
    );
    // As often as it is laid over the object, it is there once.
    let again = api
        .merge(
            &format!("{PODS}/p"),
            json!({"metadata": {"annotations": {"a": "b"}}}),
        )
        .await
        .expect(200);
    assert_eq!(again["spec"]["initContainers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_mutation_that_cannot_be_made_refuses() {
    let api = Api::start().await;
    for (name, resource, expression) in [
        (
            "atomic",
            "pods",
            "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', command: ['sh']}]}}",
        ),
        (
            "path",
            "secrets",
            "Object{metadata: Object.spec{labels: {}}}",
        ),
        (
            "broken",
            "configmaps",
            "Object{metadata: Object.metadata{labels: {'a': object.nothing}}}",
        ),
    ] {
        let spec = json!({"matchConstraints": rules("", resource), "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]});
        mutating(&api, name, spec).await;
    }
    let said = |status: Value| status["message"].as_str().unwrap().to_owned();
    let message = said(api.post(PODS, pod("p")).await.expect(403));
    assert_eq!(
        message,
        "policy 'atomic' with binding 'atomic-binding' denied request: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].command"
    );
    let secret = json!({"metadata": {"name": "s"}});
    let message = said(
        api.post("/api/v1/namespaces/default/secrets", secret)
            .await
            .expect(403),
    );
    assert!(
        message.contains("type mismatch: unexpected type name"),
        "{message}"
    );
    let message = said(
        api.post(CONFIG_MAPS, config_map("x", json!({})))
            .await
            .expect(403),
    );
    assert!(message.contains("no such key: nothing"), "{message}");
}

#[tokio::test]
async fn reviews_and_policies_themselves_are_not_judged() {
    let api = Api::start().await;
    let spec =
        json!({"matchConstraints": rules("*", "*"), "validations": [{"expression": "false"}]});
    validating(&api, "all", spec).await;
    bind_validating(&api, "all", json!({})).await;
    api.post(CONFIG_MAPS, config_map("x", json!({})))
        .await
        .expect(422);
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    api.post(
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        review,
    )
    .await
    .expect(201);
    api.delete(&format!(
        "{GROUP}/validatingadmissionpolicybindings/all-binding"
    ))
    .await
    .expect(200);
    api.delete(&format!("{GROUP}/validatingadmissionpolicies/all"))
        .await
        .expect(200);
    api.post(CONFIG_MAPS, config_map("x", json!({})))
        .await
        .expect(201);
}
