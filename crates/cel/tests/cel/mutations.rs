//! Good expressions with some changes: whatever comes out compiles or doesn't, and is evaluated or isn't.

use berth_cel::{Bindings, Budget, Decl, DeclKind, Env, Regexp, Value};
use proptest::prelude::*;
use serde_json::json;

const SEEDS: [&str; 12] = [
    "self.list.all(x, x > 0 && self.?map.k.orValue('') != \"a\\n\" || !has(self.a))",
    "self.list.map(x, x % 2 == 0, x * -1).sortBy(y, -y).slice(0, 1) == [2u, 1.5e3, b'\\xff']",
    "{'a': 1, ?'b': optional.of(2)}.transformMapEntry(k, v, {v: k})[1] in ['x', r'\\d']",
    "'%s %.3f %x'.format([self.text, 1.5, 255]).split(' ', 2).join('-').replace('', '+', 3)",
    "Object{spec: Object.spec{a: [1, 2], ?b: optional.none()}}",
    "self.text.matches('^[a-z]+\\\\d{1,3}(?i:x|y)*?$') ? duration('1h30m') : duration('-1.5s')",
    "timestamp('2026-11-29T20:08:41Z').getHours('Europe/Berlin') + int('0') - 0x1F",
    "quantity('1.5Gi').add(1).isGreaterThan(quantity('2k')) && cidr('10.0.0.0/8').containsIP('10.1.2.3')",
    "url('https://a:1/b?c=d').getQuery().size() == 1 && semver('1.2.3-rc.1').major() == 1",
    "optional.of(1).optMap(x, x + 1).or(optional.none()).value() == 2",
    "'''a'b'''.findAll(\"[']\", -1) == [\"\"\"'\"\"\"]",
    "((1 + 2) * 3 - -4) / 5 % 6 < 7 && 1 != 2 // end",
];

fn changed() -> impl Strategy<Value = String> {
    let change = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0_u8..4,
        "[ -~äé\\n]{0,3}",
    );
    (0..SEEDS.len(), prop::collection::vec(change, 0..6)).prop_map(|(seed, changes)| {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (at, length, kind, new) in changes {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            let end = (at + length.index(8)).min(text.len());
            match kind {
                0 => {
                    text.drain(at..end);
                }
                1 => {
                    text.splice(at..end, new.chars());
                }
                2 => {
                    let part: Vec<char> = text[at..end].to_vec();
                    text.splice(at..at, part);
                }
                _ => {
                    text.splice(at..at, new.chars());
                }
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn changed_expressions_do_no_harm(source in changed()) {
        let data = json!({"list": [1, 2, 3], "map": {"k": "v"}, "text": "abc1", "a": null});
        let env = Env::new().data("self", Decl::of(DeclKind::Dyn)).mutation();
        match env.compile(&source) {
            Ok(program) => {
                let estimate = program.cost();
                prop_assert!(estimate.min <= estimate.max, "{source}: {estimate:?}");
                let variables = Bindings::new().with("self", Value::json(&data));
                let mut budget = Budget::new(100_000);
                if let Ok(value) = program.evaluate(&variables, &mut budget) {
                    let _ = value.to_json();
                }
            }
            Err(error) => {
                prop_assert!(!error.issues().is_empty());
                prop_assert!(error.to_string().starts_with("ERROR: <input>:"));
            }
        }
    }

    #[test]
    fn any_pattern_compiles_or_does_not(pattern in "[ -~]{0,20}|(\\\\[A-Za-z0-9]|[()\\[\\]{}*+?|^$.,0-9a-c&~:-]){0,12}") {
        if let Ok(regexp) = Regexp::compile(&pattern) {
            let _ = regexp.matches("abc 123 [] {} &&");
        }
    }
}
