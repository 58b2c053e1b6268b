//! Expressions that are chosen to take long, to take memory, or to overflow a stack.

use std::time::{Duration, Instant};

use berth_cel::{Bindings, Decl, DeclKind, Env, Value};
use serde_json::{Value as Json, json};

use crate::harness::spent;

/// How long one evaluation may take at most in a debug build on a busy machine; without bounds each of these takes hours.
const PATIENCE: Duration = Duration::from_secs(30);

fn env() -> Env {
    Env::new().data("self", Decl::of(DeclKind::Dyn)).mutation()
}

fn stopped(data: &Json, source: &str) {
    let begun = Instant::now();
    let variables = Bindings::new().with("self", Value::json(data));
    let (error, _) = spent(&env(), &variables, source);
    let shown: String = source.chars().take(80).collect();
    assert!(
        error.is_some_and(|error| error.is_cost_limit()),
        "{shown} was not stopped"
    );
    assert!(
        begun.elapsed() < PATIENCE,
        "{shown} took {:?}",
        begun.elapsed()
    );
}

fn repeated(part: &str, count: usize) -> String {
    part.repeat(count)
}

#[test]
fn loops_within_loops_are_stopped() {
    let data = json!((0..1_000).collect::<Vec<i32>>());
    stopped(
        &data,
        "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))",
    );
    stopped(&data, "self.map(a, self.map(b, self.map(c, a))).size() > 0");
    stopped(&data, "lists.range(9223372036854775807).size() > 0");
    stopped(
        &data,
        "lists.range(900000).map(x, lists.range(900000)).size() > 0",
    );
    stopped(
        &data,
        "self.transformMap(i, v, self.transformMap(j, w, self)).size() > 0",
    );
}

#[test]
fn growth_is_stopped() {
    let data = json!({"list": (0..1_000).collect::<Vec<i32>>(), "text": "a".repeat(1_000_000), "words": vec!["aaaaaaaaaa"; 1_000]});
    // Doubles with each link of the chain.
    stopped(
        &data,
        &format!("[self.list]{}.size() > 0", repeated(".map(a, a + a)", 40)),
    );
    stopped(
        &data,
        &format!("[self.text]{}.size() > 0", repeated(".map(a, a + a)", 40)),
    );
    stopped(&data, "self.text.replace('', self.text).size() > 0");
    stopped(&data, "self.text.replace('a', self.text).size() > 0");
    stopped(
        &data,
        "self.words.map(w, self.text).join(self.text).size() > 0",
    );
    stopped(
        &data,
        "'%s%s%s%s%s%s%s%s'.format([dyn(self.text), self.text, self.text, self.text, self.words.map(w, self.text), 1, 2, 3]).size() > 0",
    );
    stopped(&data, "self.words.map(w, self.text.split('')).size() > 0");
    stopped(
        &data,
        &format!(
            "{{'a': self.list}}{}.size() > 0",
            repeated(".transformMap(k, v, v + v)", 40)
        ),
    );
    stopped(
        &data,
        "self.words.all(w, self.words.all(v, strings.quote(self.text) != w))",
    );
}

#[test]
fn what_costs_nothing_by_the_reference_is_paid_for() {
    let deep: Json = (0..500)
        .map(|i| (format!("k{i}"), json!(vec![i; 50])))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let data = json!({"a": deep, "b": deep, "many": vec![1; 100_000], "text": "ä".repeat(500_000)});
    stopped(&data, "self.many.all(x, self.a == self.b)");
    stopped(&data, "self.many.all(x, [self.a] == [self.b])");
    stopped(&data, "self.many.all(x, self.text.size() == 500000)");
    stopped(
        &data,
        "self.many.all(x, optional.of(self.a) == optional.of(self.b))",
    );
    stopped(&data, "self.many.all(x, !(self.text in {'x': 1}))");
    stopped(
        &data,
        "self.many.distinct().size() == 0 || self.many.map(x, self.many).flatten().size() > 1",
    );
    stopped(&data, "self.many.map(x, [x]).distinct().size() == 0");
}

#[test]
fn regular_expressions_are_paid_for() {
    let data = json!({"many": (0..100_000).collect::<Vec<i32>>(), "text": "a".repeat(100_000)});
    stopped(
        &data,
        "self.many.all(x, 'a'.matches('(a{0,900}){20}' + string(x)) || true)",
    );
    stopped(
        &data,
        "self.many.all(x, self.text.matches('(a*)*b') || true)",
    );
    stopped(
        &data,
        "self.many.all(x, 'a'.matches('(\\\\pL{900})' + string(x)) || true)",
    );
    let variables = Bindings::new().with("self", Value::json(&data));
    let (error, _) = spent(
        &env(),
        &variables,
        "'a'.matches('((a{1000}){1000}){' + '1000}')",
    );
    assert!(error.is_some_and(|error| error.to_string().contains("expression too large")));
}

#[test]
fn deep_expressions_are_refused_on_a_small_stack() {
    let sources = [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        "1".to_owned() + &"+1".repeat(10_000),
        "self".to_owned() + &".a".repeat(10_000),
        "self".to_owned() + &"[0]".repeat(10_000),
        "self".to_owned() + &".map(x, x)".repeat(5_000),
        "-(".repeat(5_000) + "1",
        "true ? ".repeat(5_000) + "1",
        "!(1<(".repeat(2_000) + "1",
        "a||b&&c<d+e*(".repeat(2_000) + "1",
        // Each level as long as it may be, within each other.
        (0..100).fold("1".to_owned(), |inner, _| {
            format!("({inner}{})", "+1".repeat(100))
        }),
        "optional.of(1)".to_owned() + &".optMap(x, x)".repeat(2_000),
    ];
    let refused = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || {
            sources
                .iter()
                .map(|source| env().compile(source).is_err())
                .collect::<Vec<bool>>()
        });
    assert_eq!(refused.unwrap().join().unwrap(), vec![true; 12]);
}

#[test]
fn the_deepest_expressions_that_compile_are_evaluated_on_a_small_stack() {
    let nested = |open: &str, close: &str, count: usize| {
        format!("{}1{}", open.repeat(count), close.repeat(count))
    };
    let sources = [
        nested("[", "]", 110),
        nested("(", ")", 110),
        nested("{'a': ", "}", 110),
        "1".to_owned() + &"+1".repeat(240),
        "[1]".to_owned() + &".map(x, x)".repeat(200),
        "optional.of(1)".to_owned() + &".optMap(x, x)".repeat(40),
        (0..60).fold("1".to_owned(), |inner, _| format!("[1].map(x, {inner})")),
        (0..100).map(|_| "true").collect::<Vec<_>>().join(" && "),
        (0..5_000)
            .map(|_| "(1 == 1)")
            .collect::<Vec<_>>()
            .join(" && "),
    ];
    let fine = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let data = json!(1);
            let variables = Bindings::new().with("self", Value::json(&data));
            sources
                .iter()
                .map(|source| spent(&env(), &variables, source).0)
                .collect::<Vec<_>>()
        });
    assert_eq!(fine.unwrap().join().unwrap(), vec![None; 9]);
}

#[test]
fn types_that_double_do_not_stall_the_checker() {
    let begun = Instant::now();
    for source in [
        format!("[1]{}", ".map(x, {x: x})".repeat(60)),
        format!("[1]{}.size() == 'a'", ".map(x, {x: x})".repeat(60)),
        format!("[[]{}] == 1", ", []".repeat(5_000)),
        format!("[{}] == []", vec!["[] == []"; 3_000].join(", ")),
        format!("[[]]{} == 1", ".map(x, [x, x])".repeat(100)),
    ] {
        // Whether it compiles is not the question.
        let _ = env().compile(&source);
    }
    assert!(begun.elapsed() < PATIENCE, "took {:?}", begun.elapsed());
    let long = "1 + ".repeat(50_000);
    assert!(
        env()
            .compile(&long)
            .unwrap_err()
            .to_string()
            .contains("expression code point size exceeds limit")
    );
}
