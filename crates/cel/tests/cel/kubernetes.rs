//! Kubernetes' own functions, and what only its environment has.

use berth_cel::{
    Authorizer, Bindings, Budget, Check, Decision, Decl, Env, Lazy, PER_OBJECT_LIMIT, Question,
    Type, Value,
};
use serde_json::json;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::harness::{all_true, fails, value};

#[test]
fn lists_and_sets() {
    all_true(&[
        "[1, 2, 2].isSorted() && ![2, 1].isSorted() && ['a', 'b'].isSorted()",
        "[1, 2, 3].sum() == 6 && [1.5, 2.5].sum() == 4.0 && [duration('1s'), duration('2s')].sum() == duration('3s')",
        "[1, 3, 2].max() == 3 && [1, 3, 2].min() == 1 && ['b', 'a'].min() == 'a'",
        "['a', 'b', 'b'].indexOf('b') == 1 && ['a', 'b', 'b'].lastIndexOf('b') == 2 && [1].indexOf(2) == -1",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3]",
        "[dyn(1), [2, dyn([3])]].flatten(2) == [1, 2, 3]",
        "[3, 1, 2].sort() == [1, 2, 3] && lists.range(3) == [0, 1, 2] && [1, 2].reverse() == [2, 1]",
        "[1, 2, 1].distinct() == [1, 2] && [1, 2].first().value() == 1 && [].last().hasValue() == false",
        "sets.contains([1, 2, 3], [2, 1]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])",
        "!sets.intersects([1], []) && sets.contains([], [])",
    ]);
    fails(&[
        ("[1].filter(x, false).max()", "max called on empty list"),
        ("[1, 2].slice(1, 5)", "cannot slice(1, 5), list is length 2"),
    ]);
}

#[test]
fn quantities() {
    all_true(&[
        "quantity('1.5Gi').isGreaterThan(quantity('1Gi')) && quantity('200M').compareTo(quantity('0.2G')) == 0",
        "isQuantity('1.3Gi') && !isQuantity('200K') && !isQuantity('Three')",
        "quantity('50k').add(quantity('20k')) == quantity('70k') && quantity('50k').sub(20000) == quantity('30k')",
        "quantity('50k').add(20).sub(quantity('100k')).sub(-50000) == quantity('20')",
        "quantity('50000000G').isInteger() && !quantity('9999999999999999999999999999999999999G').isInteger()",
        "quantity('50k').asInteger() == 50000 && quantity('50k').sub(20000).asApproximateFloat() == 30000.0",
        "quantity('100m').sign() == 1 && quantity('0').sign() == 0 && quantity('-1').sign() == -1",
        "type(quantity('1')) == kubernetes.Quantity",
    ]);
    fails(&[(
        "quantity('1.5').asInteger()",
        "cannot convert value to integer",
    )]);
}

#[test]
fn addresses_and_networks() {
    all_true(&[
        "isIP('127.0.0.1') && isIP('::1') && !isIP('127.0.0.256') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%en0')",
        "ip('127.0.0.1').isLoopback() && ip('fe80::1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast()",
        "ip('192.168.0.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast() && ip('0.0.0.0').isUnspecified()",
        "ip('127.0.0.1').family() == 4 && ip('::1').family() == 6 && string(ip('2001:db8::0001')) == '2001:db8::1'",
        "ip.isCanonical('127.0.0.1') && !ip.isCanonical('2001:db8::0001')",
        "cidr('192.168.0.0/16').containsIP('192.168.0.1') && cidr('192.168.0.0/16').containsIP(ip('192.168.0.1'))",
        "cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24') && !cidr('192.168.0.0/24').containsCIDR('192.168.0.0/16')",
        "cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24') && cidr('::1/128').prefixLength() == 128",
        "cidr('192.168.0.1/24').ip() == ip('192.168.0.1') && string(cidr('10.0.0.0/8')) == '10.0.0.0/8'",
        "isCIDR('::/0') && !isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0/08') && !isCIDR('10.0.0.0')",
        "type(ip('127.0.0.1')) == net.IP",
    ]);
}

#[test]
fn urls_formats_and_versions() {
    all_true(&[
        "url('https://user@example.com:80/p?k=a&k=b').getHost() == 'example.com:80'",
        "url('https://example.com/p?k=a&k=b c').getQuery() == {'k': ['a', 'b c']} && url('/path').getScheme() == ''",
        "isURL('https://example.com') && !isURL('../relative') && !isURL('example.com')",
        "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('My_Label').hasValue()",
        "format.named('uuid').value().validate('not-a-uuid').value() == ['does not match the UUID format']",
        "!format.named('nothing').hasValue() && !format.date().validate('2026-11-29').hasValue()",
        "!format.dns1123LabelPrefix().validate('my-').hasValue()",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.2.3-rc.1').compareTo(semver('1.2.3')) == -1",
        "isSemver('1.2.3') && !isSemver('v1.2') && isSemver('v1.2', true) && semver('v01.2', true).major() == 1",
    ]);
}

#[test]
fn mutations_make_objects() {
    let made = value(
        "Object{spec: Object.spec{replicas: 1 + 1, ?x: optional.none()}, metadata: Object.metadata{labels: {'a': 'b'}}}",
    );
    assert_eq!(
        made,
        Ok(json!({"spec": {"replicas": 2}, "metadata": {"labels": {"a": "b"}}}))
    );
    let patches = value(
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: Object.x{y: 1}}]",
    );
    assert_eq!(
        patches,
        Ok(json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": {"y": 1}}]))
    );
    for (source, error) in [
        (
            "JSONPatch{op: 1}",
            "expected type of field 'op' is 'string' but provided type is 'int'",
        ),
        ("JSONPatch{oops: 'a'}", "undefined field 'oops'"),
        (
            "Other{a: 1}",
            "undeclared reference to 'Other' (in container '')",
        ),
    ] {
        assert!(value(source).unwrap_err().contains(error), "{source}");
    }
    let env = Env::new().mutation();
    let program = env.compile("Object{spec: Object.metadata{a: 1}}").unwrap();
    let Value::Message(message) = program
        .evaluate(&Bindings::new(), &mut Budget::new(PER_OBJECT_LIMIT))
        .unwrap()
    else {
        panic!("no object");
    };
    assert_eq!(
        message.check_names().unwrap_err().to_string(),
        "unexpected type name \"Object.metadata\", expected \"Object.spec\", which matches field name path from root Object type"
    );
    // Without mutations, neither is there.
    assert!(Env::new().compile("Object{}").is_err());
    assert!(Env::new().compile("jsonpatch.escapeKey('a')").is_err());
}

struct Asked(Cell<u32>);

impl Authorizer for Asked {
    fn authorize(&self, question: &Question) -> Decision {
        self.0.set(self.0.get() + 1);
        let allowed = question.verb == "get"
            && question.resource == "pods"
            && question.namespace == "default";
        Decision {
            allowed,
            reason: format!("asked for {}", question.resource),
            error: None,
        }
    }
}

#[test]
fn an_authorizer_is_asked() {
    let env = Env::new().authorizer(true);
    let asked = Asked(Cell::new(0));
    let evaluate = |source: &str| {
        let program = env.compile(source).unwrap();
        let request = Question {
            resource: "pods".to_owned(),
            namespace: "default".to_owned(),
            ..Question::default()
        };
        let variables = Bindings::new()
            .with("authorizer", Value::Check(Rc::new(Check::new(&asked))))
            .with(
                "authorizer.requestResource",
                Value::Check(Rc::new(Check::resource(&asked, request))),
            );
        program
            .evaluate(&variables, &mut Budget::new(PER_OBJECT_LIMIT))
            .map(|value| value.as_bool())
    };
    for (source, expected) in [
        (
            "authorizer.group('').resource('pods').namespace('default').check('get').allowed()",
            true,
        ),
        (
            "authorizer.group('').resource('pods').check('get').allowed()",
            false,
        ),
        ("authorizer.requestResource.check('get').allowed()", true),
        (
            "authorizer.requestResource.check('get').reason() == 'asked for pods'",
            true,
        ),
        ("authorizer.path('/healthz').check('get').allowed()", false),
        (
            "authorizer.serviceAccount('default', 'x').group('').resource('pods').check('get').errored()",
            false,
        ),
    ] {
        assert_eq!(evaluate(source), Ok(Some(expected)), "{source}");
    }
    let before = asked.0.get();
    // Two checks fit into an expression, the third does not.
    let three = "[1, 2, 3].all(x, !authorizer.path('/x').check('get').allowed())";
    assert!(evaluate(three).unwrap_err().is_cost_limit());
    assert_eq!(asked.0.get() - before, 2);
    assert_eq!(
        evaluate("authorizer.path(' ').check('get').allowed()")
            .unwrap_err()
            .to_string(),
        "path must not be empty"
    );
}

/// `variables`: each is evaluated when it is asked for.
struct Variables {
    made: Rc<Cell<u32>>,
}

impl<'a> Lazy<'a> for Variables {
    fn field(
        &self,
        name: &str,
        budget: &mut Budget,
    ) -> Option<Result<Value<'a>, berth_cel::EvalError>> {
        self.made.set(self.made.get() + 1);
        budget.spend(100);
        (name == "total").then_some(Ok(Value::Int(7)))
    }
}

#[test]
fn variables_are_made_when_they_are_asked_for() {
    let decl = Decl::object(
        "variables",
        [
            ("total", Decl::of(berth_cel::DeclKind::Typed(Type::Int))),
            (
                "other",
                Decl::of(berth_cel::DeclKind::Typed(Type::list(Type::Int))),
            ),
        ],
    );
    let env = Env::new().data("variables", Arc::new(decl));
    let made = Rc::new(Cell::new(0));
    let variables = Bindings::new().with(
        "variables",
        Value::Lazy(Rc::new(Variables { made: made.clone() })),
    );
    let mut budget = Budget::new(1_000);
    let result = env
        .compile("false && variables.total == 7")
        .unwrap()
        .evaluate(&variables, &mut budget)
        .unwrap();
    assert_eq!((result.as_bool(), made.get()), (Some(false), 0));
    let result = env
        .compile("variables.total == 7")
        .unwrap()
        .evaluate(&variables, &mut budget)
        .unwrap();
    assert_eq!((result.as_bool(), made.get()), (Some(true), 1));
    assert!(budget.left() <= 900);
    assert!(env.compile("variables.totl == 7").is_err());
    assert!(env.compile("variables.other.all(x, x > 'a')").is_err());
}

#[test]
fn requests_and_namespaces_are_named_as_in_json() {
    let request = Arc::new(berth_cel::request_decl());
    let namespace = Arc::new(berth_cel::namespace_decl());
    let env = Env::new()
        .data("request", request.clone())
        .data("namespaceObject", namespace.clone());
    let asked = serde_json::json!({"namespace": "n", "name": "a", "operation": "CREATE"});
    let there = serde_json::json!({"metadata": {"name": "n", "UID": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}});
    let values = Bindings::new()
        .with("request", Value::typed(&asked, &request).unwrap())
        .with("namespaceObject", Value::typed(&there, &namespace).unwrap());
    for expression in [
        "request.namespace == namespaceObject.metadata.name",
        "has(request.namespace) && !has(namespaceObject.metadata.namespace)",
        "namespaceObject.metadata.creationTimestamp < timestamp('2026-01-02T00:00:00Z')",
        "namespaceObject != null && namespaceObject.metadata.UID == 'u'",
    ] {
        let program = env.compile(expression).unwrap();
        let result = program.evaluate(&values, &mut Budget::new(1_000)).unwrap();
        assert_eq!(result.as_bool(), Some(true), "{expression}");
    }
    for expression in [
        "request.__namespace__ == 'n'",
        "namespaceObject.metadata.uid == 'u'",
        "namespaceObject.metadata.name == 1",
    ] {
        assert!(env.compile(expression).is_err(), "{expression}");
    }
}
