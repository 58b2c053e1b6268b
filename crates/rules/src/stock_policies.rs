//! The policies of namespaces for API servers that are not berth's: as ValidatingAdmissionPolicies and MutatingAdmissionPolicies,
//! with bindings, which say the same in the same words.
//!
//! What nodes say of their handlers no policy can see: a class counts for what it declares, else for what its handler's name says.
//! Nor can it see which pods use a class that is made again; berth's nodes go by the demand that a pod is given here.
//!
//! No match condition looks at `namespaceObject`: stock servers evaluate these without the namespace, so that each one that does
//! fails, and with it every pod of the cluster.

use berth_core::isolation::{DECLARED, Isolation, MINIMUM, by_name};
use serde_json::{Value, json};

use crate::admission::namespace_policy::{ALLOWED, DEFAULT};

const GROUP: &str = "admissionregistration.k8s.io";
/// What the names of all end with.
const DOMAIN: &str = "node.berth.dev";

/// Handlers whose names say what they are; those that begin with `kata-` are recognized by that.
const NAMED: [&str; 15] = [
    "runc",
    "crun",
    "youki",
    "berth",
    "nvidia",
    "nvidia-cdi",
    "nvidia-legacy",
    "spin",
    "wasmtime",
    "wasmedge",
    "wasmer",
    "slight",
    "wws",
    "lunatic",
    "kata",
];
const SANDBOXED: [&str; 2] = ["runsc", "gvisor"];

/// All policies and bindings, in the order in which they are to be applied. `mutating_version` is that of the group in which the
/// server has MutatingAdmissionPolicies.
#[must_use]
pub fn render(mutating_version: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mutating = format!("{GROUP}/{mutating_version}");
    for (name, spec) in [
        ("default-runtime-class", default_class()),
        ("minimum-isolation", given_demand()),
    ] {
        all.extend(policy(
            &mutating,
            "MutatingAdmissionPolicy",
            name,
            spec,
            json!({}),
        ));
    }
    let deny = json!({"validationActions": ["Deny"]});
    // Every class that there is; without any, pods with a class are refused anyway.
    let classes = json!({"validationActions": ["Deny"], "paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"}});
    for (name, spec, binding) in [
        ("allowed-runtime-classes", allowed_classes(), &deny),
        ("minimum-isolation", demand(), &deny),
        ("minimum-isolation-of-class", demand_of_class(), &classes),
        ("minimum-isolation-of-namespace", namespaces(), &deny),
        ("isolation-of-class", declared(), &deny),
    ] {
        let version = format!("{GROUP}/v1");
        all.extend(policy(
            &version,
            "ValidatingAdmissionPolicy",
            name,
            spec,
            binding.clone(),
        ));
    }
    all
}

/// A policy and its binding.
fn policy(
    version: &str,
    kind: &str,
    name: &str,
    mut spec: Value,
    mut binding: Value,
) -> [Value; 2] {
    let name = format!("{name}.{DOMAIN}");
    let metadata = json!({"name": name, "labels": {"app.kubernetes.io/managed-by": "berth"}});
    spec["failurePolicy"] = json!("Fail");
    binding["policyName"] = json!(name);
    [
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}),
        json!({"apiVersion": version, "kind": format!("{kind}Binding"), "metadata": metadata, "spec": binding}),
    ]
}

fn matching(rules: &[(&str, &[&str], &[&str])]) -> Value {
    let rules = rules.iter().map(|(group, operations, resources)| {
        json!({"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": resources})
    });
    json!({"matchPolicy": "Equivalent", "resourceRules": rules.collect::<Vec<_>>()})
}

fn variable(name: &str, expression: impl Into<String>) -> Value {
    json!({"name": name, "expression": expression.into()})
}

fn condition(name: &str, expression: impl Into<String>) -> Value {
    variable(name, expression)
}

fn validation(expression: impl Into<String>, message: &str) -> Value {
    json!({"expression": expression.into(), "messageExpression": message, "reason": "Forbidden"})
}

/// An annotation of an object in CEL; empty where it is not there.
fn annotation(object: &str, key: &str) -> String {
    format!("{object}.metadata.?annotations['{key}'].orValue('')")
}

/// How strong a level is in CEL: -1 for what is none.
fn rank(level: &str) -> String {
    format!("{{'process': 0, 'sandbox': 1, 'vm': 2}}[?{level}].orValue(-1)")
}

/// What a demand or declaration may be, in CEL.
const LEVELS: &str = "['', 'process', 'sandbox', 'vm']";
/// The subresource of a request in CEL; empty for the object itself.
const SUBRESOURCE: &str = "request.?subResource.orValue('')";

const CREATED: (&str, &[&str], &[&str]) = ("", &["CREATE"], &["pods"]);

fn default_class() -> Value {
    let default = annotation("namespaceObject", DEFAULT);
    json!({
        "matchConstraints": matching(&[CREATED]),
        "matchConditions": [condition("names-no-class", "!has(object.spec.runtimeClassName)")],
        "reinvocationPolicy": "IfNeeded",
        "variables": [variable("default", format!("{default}.trim()"))],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "variables.default == '' ? Object{} : Object{spec: Object.spec{runtimeClassName: variables.default}}"}}],
    })
}

/// Nodes and schedulers of berth's go by it.
fn given_demand() -> Value {
    let floor = annotation("namespaceObject", MINIMUM);
    let own = annotation("object", MINIMUM);
    json!({
        "matchConstraints": matching(&[CREATED]),
        "reinvocationPolicy": "IfNeeded",
        "variables": [
            variable("floor", floor),
            variable("own", own),
            variable("demandsLess", format!(
                "variables.own in {LEVELS} && {} > {}", rank("variables.floor"), rank("variables.own"))),
        ],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": format!(
            "variables.demandsLess ? Object{{metadata: Object.metadata{{annotations: {{'{MINIMUM}': variables.floor}}}}}} : Object{{}}")}}],
    })
}

/// Pods, and what is added to them later.
const PODS: [(&str, &[&str], &[&str]); 2] =
    [CREATED, ("", &["UPDATE"], &["pods/ephemeralcontainers"])];

fn class() -> Value {
    variable(
        "class",
        "has(object.spec.runtimeClassName) ? object.spec.runtimeClassName : ''",
    )
}

fn allowed_classes() -> Value {
    let list = annotation("namespaceObject", ALLOWED);
    let is_there = format!(
        "has(namespaceObject.metadata.annotations) && '{ALLOWED}' in namespaceObject.metadata.annotations"
    );
    let message = format!(
        "'pod rejected: ' + (variables.class == '' ? 'a pod without RuntimeClass' : 'RuntimeClass \"' + variables.class + '\"') \
         + ' is not allowed in namespace \"' + request.namespace + '\"; allowed are ' \
         + variables.allowed.map(c, c == '' ? 'none' : '\"' + c + '\"').join(', ') + ' (annotation {ALLOWED})'"
    );
    json!({
        "matchConstraints": matching(&PODS),
        "variables": [
            class(),
            variable("isListed", is_there),
            variable("allowed", format!("{list}.split(',').map(c, c.trim())")),
        ],
        "validations": [validation("!variables.isListed || variables.class in variables.allowed", &message)],
    })
}

/// What is demanded of a pod, and by whom.
fn demanded() -> Vec<Value> {
    vec![
        class(),
        variable("floor", annotation("namespaceObject", MINIMUM)),
        variable("own", annotation("object", MINIMUM)),
        variable(
            "isOwn",
            format!("{} > {}", rank("variables.own"), rank("variables.floor")),
        ),
        variable(
            "minimum",
            "variables.isOwn ? variables.own : variables.floor",
        ),
        variable(
            "who",
            "variables.isOwn ? 'the pod' : 'namespace \"' + request.namespace + '\"'",
        ),
    ]
}

/// What is no level is refused elsewhere, so that a pod is told of one thing.
fn demands_something() -> Value {
    let strong = "['sandbox', 'vm']";
    let expression = format!(
        "variables.floor in {LEVELS} && variables.own in {LEVELS} && (variables.floor in {strong} || variables.own in {strong})"
    );
    variable("demands", expression)
}

/// What a pod without a class, and the demands themselves, are refused for; demands of pods never change.
fn demand() -> Value {
    let changes = format!(
        "request.operation != 'UPDATE' || {} == {}",
        annotation("object", MINIMUM),
        annotation("oldObject", MINIMUM)
    );
    let weaker = format!(
        "'pod rejected: a pod without RuntimeClass isolates by process, and ' + variables.who + ' demands at least ' + variables.minimum + ' (annotation {MINIMUM})'"
    );
    let unclear = format!(
        "'pod rejected: namespace \"' + request.namespace + '\" admits no pod until its annotation {MINIMUM} is one of process, sandbox, vm (it is \"' + variables.floor + '\")'"
    );
    let own = format!(
        "'pod rejected: annotation {MINIMUM} is \"' + variables.own + '\", which is none of process, sandbox, vm'"
    );
    let unchangeable = format!("'annotation {MINIMUM} of a pod can\\'t be changed'");
    let judged = format!(
        "request.operation == 'CREATE' && {SUBRESOURCE} == '' || {SUBRESOURCE} == 'ephemeralcontainers'"
    );
    let mut variables = demanded();
    variables.push(variable("judged", judged));
    json!({
        "matchConstraints": matching(&[
            CREATED,
            ("", &["UPDATE"], &["pods", "pods/status", "pods/resize", "pods/ephemeralcontainers"]),
            ("", &["CREATE"], &["pods/binding"]),
        ]),
        "variables": variables,
        "validations": [
            validation(changes, &unchangeable),
            validation(
                format!("{SUBRESOURCE} != 'binding' || {} == ''", annotation("object", MINIMUM)),
                &unchangeable,
            ),
            validation(format!("!variables.judged || variables.floor in {LEVELS}"), &unclear),
            validation(format!("!variables.judged || variables.own in {LEVELS}"), &own),
            validation(
                format!("!variables.judged || variables.class != '' || {} < 1", rank("variables.minimum")),
                &weaker,
            ),
        ],
    })
}

/// A pod by its class: asked once for each class that there is.
fn demand_of_class() -> Value {
    let list = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        format!("[{}]", names.join(", "))
    };
    let of_process = NAMED
        .iter()
        .filter(|name| by_name(name) == Some(Isolation::Process));
    let of_process: Vec<&str> = of_process.copied().collect();
    let by_name = format!(
        "params.handler in {} ? 'process' : params.handler in {} ? 'sandbox' : params.handler == 'kata' || params.handler.startsWith('kata-') ? 'vm' : ''",
        list(&of_process),
        list(&SANDBOXED),
    );
    let message = format!(
        "variables.found != '' && {known} < 0 \
         ? 'pod rejected: RuntimeClass \"' + variables.class + '\": annotation {DECLARED} is \"' + variables.found + '\", which is none of process, sandbox, vm' \
         : variables.found == '' \
         ? 'pod rejected: nobody knows how RuntimeClass \"' + variables.class + '\" (handler \"' + params.handler + '\") isolates, and ' \
           + variables.who + ' demands at least ' + variables.minimum + ' (annotation {MINIMUM}); an administrator declares it by the annotation {DECLARED} of the class' \
         : 'pod rejected: RuntimeClass \"' + variables.class + '\" isolates by ' + variables.found + ', and ' + variables.who \
           + ' demands at least ' + variables.minimum + ' (annotation {MINIMUM})'",
        known = rank("variables.found"),
    );
    let mut variables = demanded();
    variables.push(demands_something());
    variables.push(variable(
        "found",
        format!(
            "{declared} != '' ? {declared} : {by_name}",
            declared = annotation("params", DECLARED)
        ),
    ));
    json!({
        "paramKind": {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"},
        "matchConstraints": matching(&PODS),
        "variables": variables,
        "validations": [validation(
            format!(
                "variables.class != params.metadata.name || !variables.demands || {} < 1 || {} >= {}",
                rank("variables.minimum"), rank("variables.found"), rank("variables.minimum")
            ),
            &message,
        )],
    })
}

/// A demand is a level, and who lowers it may write classes.
fn namespaces() -> Value {
    let (new, old) = (
        annotation("object", MINIMUM),
        annotation("oldObject", MINIMUM),
    );
    let has_old = "request.operation == 'UPDATE'";
    let strength = |level: &str| {
        format!("{{'': 0, 'process': 0, 'sandbox': 1, 'vm': 2}}[?{level}].orValue(3)")
    };
    let may =
        "authorizer.group('node.k8s.io').resource('runtimeclasses').check('update').allowed()";
    let lowering = format!(
        "'lowering {MINIMUM} from ' + (variables.old == '' ? 'none' : variables.old) + ' to ' + (variables.new == '' ? 'none' : variables.new) \
         + ' takes the right to update runtimeclasses.node.k8s.io, which user \"' + request.userInfo.username + '\" does not have'"
    );
    let label = format!(
        "'metadata.labels[{MINIMUM}]: Forbidden: a label of this name has no effect, the annotation has'"
    );
    json!({
        "matchConstraints": matching(&[("", &["CREATE", "UPDATE"], &["namespaces", "namespaces/status", "namespaces/finalize"])]),
        "variables": [
            variable("new", new),
            variable("old", format!("{has_old} ? {old} : ''")),
            variable("label", format!("object.metadata.?labels['{MINIMUM}'].hasValue()")),
            variable("hadLabel", format!("{has_old} && oldObject.metadata.?labels['{MINIMUM}'].hasValue()")),
        ],
        "validations": [
            validation(format!("{} < 3 || variables.new == variables.old", strength("variables.new")), &unsupported(MINIMUM)),
            validation("!variables.label || variables.hadLabel", &label),
            validation(format!("{} >= {} || {may}", strength("variables.new"), strength("variables.old")), &lowering),
        ],
    })
}

/// What is said of a new value that is no level, in CEL.
fn unsupported(key: &str) -> String {
    format!(
        "'metadata.annotations[{key}]: Unsupported value: \"' + variables.new + '\": supported values: \"process\", \"sandbox\", \"vm\"'"
    )
}

/// What a class declares is a level.
fn declared() -> Value {
    let (new, old) = (
        annotation("object", DECLARED),
        annotation("oldObject", DECLARED),
    );
    json!({
        "matchConstraints": matching(&[("node.k8s.io", &["CREATE", "UPDATE"], &["runtimeclasses"])]),
        "variables": [variable("new", new), variable("old", format!("request.operation == 'UPDATE' ? {old} : ''"))],
        "validations": [validation(format!("variables.new in {LEVELS} || variables.new == variables.old"), &unsupported(DECLARED))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_its_binding() {
        let all = render("v1beta1");
        assert_eq!(all.len(), 14);
        for pair in all.chunks(2) {
            let [policy, binding] = pair else {
                panic!("{pair:?}")
            };
            assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
            assert_eq!(binding["apiVersion"], policy["apiVersion"]);
            assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        }
        assert_eq!(all[0]["apiVersion"], "admissionregistration.k8s.io/v1beta1");
        assert_eq!(all[4]["apiVersion"], "admissionregistration.k8s.io/v1");
    }

    /// Stock servers evaluate them without the namespace.
    #[test]
    fn no_match_condition_looks_at_the_namespace() {
        for object in render("v1") {
            let conditions = object["spec"]["matchConditions"].to_string();
            assert!(!conditions.contains("namespaceObject"), "{object:#}");
        }
    }

    #[test]
    fn names_are_what_the_rules_say() {
        for name in NAMED {
            assert!(by_name(name).is_some(), "{name}");
        }
        for name in SANDBOXED {
            assert_eq!(by_name(name), Some(Isolation::Sandbox), "{name}");
        }
    }
}
