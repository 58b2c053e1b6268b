//! Compiles and evaluates expressions in short.

use berth_cel::{Bindings, Budget, Decl, DeclKind, Env, EvalError, PER_OBJECT_LIMIT, Value};
use serde_json::{Value as Json, json};

/// The value of an expression over `self`, as JSON: `Err` is what went wrong, compiling or evaluating.
pub(crate) fn value_over(data: &Json, source: &str) -> Result<Json, String> {
    let env = Env::new().data("self", Decl::of(DeclKind::Dyn)).mutation();
    let program = env.compile(source).map_err(|error| error.to_string())?;
    let variables = Bindings::new().with("self", Value::json(data));
    let mut budget = Budget::new(PER_OBJECT_LIMIT);
    let value = program
        .evaluate(&variables, &mut budget)
        .map_err(|error| error.to_string())?;
    value.to_json().map_err(|error| error.to_string())
}

/// The value of an expression that needs no data.
pub(crate) fn value(source: &str) -> Result<Json, String> {
    value_over(&Json::Null, source)
}

/// Asserts that each expression is true.
pub(crate) fn all_true(sources: &[&str]) {
    let data = json!({"a": 1, "list": [1, 2, 3], "map": {"k": "v"}, "text": "hällo", "nothing": null, "half": 0.5});
    for source in sources {
        assert_eq!(value_over(&data, source), Ok(Json::Bool(true)), "{source}");
    }
}

/// Asserts what an expression runs into.
pub(crate) fn fails(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        assert_eq!(value(source), Err((*expected).to_owned()), "{source}");
    }
}

/// The messages of a compile error.
pub(crate) fn messages(env: &Env, source: &str) -> Vec<String> {
    match env.compile(source) {
        Ok(_) => Vec::new(),
        Err(error) => error
            .issues()
            .iter()
            .map(|issue| issue.message.clone())
            .collect(),
    }
}

/// Evaluates something expensive: the error, and what was spent.
pub(crate) fn spent(env: &Env, variables: &Bindings<'_>, source: &str) -> (Option<EvalError>, u64) {
    let program = env
        .compile(source)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut budget = Budget::new(PER_OBJECT_LIMIT);
    let (result, used) = program.evaluate_counted(variables, &mut budget);
    (result.err(), used)
}
