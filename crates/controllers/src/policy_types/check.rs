//! From a policy and the types of what it matches to warnings.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use berth_cel::{Decl, DeclKind, Env, namespace_decl, request_decl, variables_decl};
use k8s_openapi::api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicy};

/// Bytes of one warning, and of all of a policy: they are stored with it.
const MAX_WARNING_BYTES: usize = 16 << 10;
const MAX_ALL_BYTES: usize = 256 << 10;

static REQUEST: LazyLock<Arc<Decl>> = LazyLock::new(|| Arc::new(request_decl()));
static NAMESPACE: LazyLock<Arc<Decl>> = LazyLock::new(|| Arc::new(namespace_decl()));

/// What a policy is checked against.
#[derive(Clone, Default)]
pub(super) struct Typed {
    /// The kinds that it matches: their name in warnings, and their type.
    pub(super) objects: Vec<(String, Arc<Decl>)>,
    /// The type of its parameters; none when it isn't known.
    pub(super) params: Option<Arc<Decl>>,
}

/// What can't work, by the field of the policy.
pub(super) fn warnings(
    policy: &ValidatingAdmissionPolicy,
    typed: &Typed,
) -> Vec<ExpressionWarning> {
    let Some(spec) = &policy.spec else {
        return Vec::new();
    };
    let environments: Vec<(&str, Env)> = typed
        .objects
        .iter()
        .map(|(name, object)| (name.as_str(), environment(policy, object, typed)))
        .collect();
    let mut warnings = Vec::new();
    let mut left = MAX_ALL_BYTES;
    let mut check = |field: String, expression: &str| {
        let found = environments.iter().filter_map(|(name, env)| {
            let error = env.compile(expression).err()?;
            Some(format!("{name}: {error}\n"))
        });
        let found: Vec<String> = found.collect();
        let warning = shortened(found.join("\n"), MAX_WARNING_BYTES.min(left));
        if !warning.is_empty() {
            left -= warning.len();
            warnings.push(ExpressionWarning {
                field_ref: field,
                warning,
            });
        }
    };
    for (at, validation) in spec.validations.iter().flatten().enumerate() {
        let field = format!("spec.validations[{at}]");
        check(format!("{field}.expression"), &validation.expression);
        let message = validation.message_expression.as_deref();
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            check(format!("{field}.messageExpression"), message);
        }
    }
    warnings
}

fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// What the expressions of a policy see where it is asked about objects of a type.
fn environment(policy: &ValidatingAdmissionPolicy, object: &Arc<Decl>, typed: &Typed) -> Env {
    let spec = policy.spec.as_ref();
    let mut env = Env::new()
        .data("object", Arc::clone(object))
        .data("oldObject", Arc::clone(object))
        .data("namespaceObject", Arc::clone(&NAMESPACE))
        .data("request", Arc::clone(&REQUEST))
        .authorizer(true);
    if spec.is_some_and(|spec| spec.param_kind.is_some()) {
        let any = || Arc::new(Decl::of(DeclKind::Dyn));
        env = env.data("params", typed.params.clone().unwrap_or_else(any));
    }
    let mut types = BTreeMap::new();
    let variables = spec.and_then(|spec| spec.variables.as_deref());
    for variable in variables.unwrap_or_default() {
        let env = env.clone().data("variables", variables_decl(&types));
        let program = env.compile(&variable.expression).ok();
        types.insert(
            variable.name.clone(),
            program.map(|program| program.output().clone()),
        );
    }
    env.data("variables", variables_decl(&types))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: Value) -> ValidatingAdmissionPolicy {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a policy")
    }

    fn typed() -> Typed {
        let schema = json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "port": {"x-kubernetes-int-or-string": true}}}}});
        let of = |kind: &str| {
            let decl = Decl::named_from_schema(kind, &schema, false).expect("a type");
            (format!("apps/v1, Kind={kind}"), Arc::new(decl))
        };
        Typed {
            objects: vec![of("Deployment"), of("ReplicaSet")],
            params: Some(of("Limit").1),
        }
    }

    fn found(spec: Value) -> Vec<(String, String)> {
        let warnings = warnings(&policy(spec), &typed());
        let pairs = warnings.into_iter().map(|w| (w.field_ref, w.warning));
        pairs.collect()
    }

    #[test]
    fn what_fits_its_types_is_not_mentioned() {
        let good = json!({"paramKind": {"apiVersion": "v1", "kind": "Limit"},
            "variables": [{"name": "n", "expression": "object.spec.replicas"}, {"name": "m", "expression": "variables.n + 1"}],
            "validations": [
                {"expression": "variables.m > 1 && object.spec.replicas < params.spec.replicas", "messageExpression": "'at ' + string(variables.n)"},
                {"expression": "object.spec.port == 'http' || object.spec.port == 80"},
                {"expression": "namespaceObject.metadata.labels['a'] == request.userInfo.username && authorizer.requestResource.check('x').allowed()"}]});
        assert_eq!(found(good), []);
    }

    #[test]
    fn what_does_not_is_told_for_each_type() {
        let got = found(json!({"validations": [
            {"expression": "object.spec.replicas > '5'", "messageExpression": "'n ' + object.spec.replicas"},
            {"expression": "object.spec.frob > 1"}]}));
        let fields: Vec<&str> = got.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.validations[0].expression",
                "spec.validations[0].messageExpression",
                "spec.validations[1].expression"
            ]
        );
        for (at, part) in [
            (
                0,
                "found no matching overload for '_>_' applied to '(int, string)'",
            ),
            (
                1,
                "found no matching overload for '_+_' applied to '(string, int)'",
            ),
            (2, "undefined field 'frob'"),
        ] {
            assert!(got[at].1.contains(part), "{}", got[at].1);
            assert!(
                got[at]
                    .1
                    .starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:")
            );
            assert!(got[at].1.contains("\n\napps/v1, Kind=ReplicaSet: ERROR: "));
        }
    }

    #[test]
    fn a_variable_that_is_none_may_be_anything() {
        let got = found(
            json!({"variables": [{"name": "n", "expression": "object.frob"}],
            "validations": [{"expression": "variables.n > 1"}, {"expression": "variables.other"}]}),
        );
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].0, "spec.validations[1].expression");
    }

    #[test]
    fn parameters_are_there_where_the_policy_has_some() {
        let got = found(json!({"validations": [{"expression": "params.spec.replicas == 1"}]}));
        assert_eq!(got.len(), 1);
        let kind = json!({"apiVersion": "v1", "kind": "Other"});
        let spec =
            json!({"paramKind": kind, "validations": [{"expression": "params.any.thing == 1"}]});
        let mut untyped = typed();
        untyped.params = None;
        assert_eq!(warnings(&policy(spec), &untyped), []);
    }

    #[test]
    fn warnings_have_bounds() {
        let long = format!("object.spec.{} == 1", "é".repeat(4_000));
        let many: Vec<Value> = (0..300).map(|_| json!({"expression": long})).collect();
        let got = found(json!({"validations": many}));
        assert!(!got.is_empty());
        assert!(got.iter().map(|(_, warning)| warning.len()).sum::<usize>() <= MAX_ALL_BYTES);
        assert!(
            got.iter()
                .all(|(_, warning)| warning.len() <= MAX_WARNING_BYTES)
        );
    }
}
