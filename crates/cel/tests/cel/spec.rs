//! The language itself, after cel-spec's conformance cases.

use crate::harness::{all_true, fails, value, value_over};
use serde_json::json;

#[test]
fn literals_are_read() {
    all_true(&[
        "0x1F == 31",
        "-0x1 == -1",
        "dyn(1u) == 1",
        "0xAu == 10u",
        "1.5e2 == 150.0",
        ".5 == 0.5",
        "-9223372036854775808 < 0",
        r#"'\x41\u0042\U00000043\104' == "ABCD""#,
        r#"r'\n' == '\\n'"#,
        r#"'''a'b''' == "a'b""#,
        "\"\"\"a\nb\"\"\" == 'a\\nb'",
        r"b'\xff\101' == b'\377A'",
        r"b'ä' == b'\xc3\xa4'",
        "true != false",
        "null == null",
        "[1, 2,] == [1, 2]",
        "{'a': 1,} == {'a': 1}",
        "1 + 1 == 2 // a comment\n",
    ]);
    for wrong in [
        "'a",
        "9223372036854775808",
        "'\\q'",
        "1 +",
        "a b",
        "(",
        "[1",
        "{1}",
        "`a`",
        "@",
        "0x",
        "'\\ud800'",
        "1.e5",
        "loop",
    ] {
        assert!(value(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn numbers_overflow_and_compare_across_types() {
    all_true(&[
        "dyn(1) == 1.0 && dyn(1u) == 1 && dyn(1.0) == 1u",
        "1 < 1.5 && 2u > 1 && -1 < 0u && 1.5 < 2u",
        "9223372036854775807 < 9223372036854775808u",
        "9007199254740993 > 9007199254740992.0",
        "dyn(1) in [1.0, 2.0]",
        "{1: 'a'}[dyn(1.0)] == 'a'",
        "7 / 2 == 3 && -7 / 2 == -3 && -7 % 2 == -1",
        "1.0 / 0.0 > 1e300",
        "!(0.0 / 0.0 == 0.0 / 0.0)",
        "--1 == 1 && -(-1) == 1 && !!true",
        "2 + 3 * 4 == 14 && (2 + 3) * 4 == 20",
        "1 - 1 == 0 && 1 -1 == 0",
    ]);
    fails(&[
        ("9223372036854775807 + 1", "integer overflow"),
        ("-9223372036854775808 - 1", "integer overflow"),
        ("-(-9223372036854775808)", "integer overflow"),
        ("-9223372036854775808 / -1", "integer overflow"),
        ("1u - 2u", "unsigned integer overflow"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("int(1e19)", "integer overflow"),
        ("uint(-1)", "unsigned integer overflow"),
    ]);
}

#[test]
fn logic_absorbs_errors() {
    all_true(&[
        "true || 1 / 0 == 0",
        "1 / 0 == 0 || true",
        "!(1 / 0 == 0 && false)",
        "[0, 1].exists(x, 1 / x == 1)",
        "![0, 1].all(x, 1 / x == 2)",
        "true ? true : 1 / 0 == 0",
        "[1, 2, 3].all(x, x > 0) && [].all(x, false)",
        "[1, 2, 3].exists_one(x, x > 2) && [1, 2, 3].existsOne(x, x == 1)",
        "!{'a': 1}.exists(k, k == 'b')",
    ]);
    fails(&[
        ("false || 1 / 0 == 0", "division by zero"),
        ("[0, 1].all(x, 1 / x == 1)", "division by zero"),
        ("[1, 0].exists_one(x, 1 / x == 1)", "division by zero"),
    ]);
}

#[test]
fn fields_and_indexes() {
    all_true(&[
        "has(self.a) && !has(self.b) && has(self.nothing) && self.nothing == null",
        "self.list[1] == 2 && self.list[dyn(1.0)] == 2",
        "self.map['k'] == 'v' && self.map.k == 'v'",
        "self.?b.?c.orValue(3) == 3 && self.?a.orValue(0) == 1",
        "self.list[?5].hasValue() == false && self.list[?0].value() == 1",
        "self[?'a'].or(optional.of(2)) == optional.of(1)",
        "optional.none().or(optional.of(2)).value() == 2",
        "self.?map.k == optional.of('v')",
        "optional.of(2).optMap(x, x * 2) == optional.of(4)",
        "optional.of({'a': 1}).optFlatMap(m, m.?a).value() == 1",
        "[1, ?optional.of(2), ?optional.none()] == [1, 2]",
        "{?'a': optional.of(1), ?'b': optional.none()} == {'a': 1}",
        "optional.ofNonZeroValue('').hasValue() == false",
        "optional.unwrap([optional.of(1), optional.none()]) == [1]",
        "2 in self.list && 'k' in self.map && !('x' in self.map)",
        "size(self.text) == 5 && self.text.size() == 5 && size(self.list) == 3",
    ]);
    let data = json!({"list": [1], "nothing": null});
    for (source, error) in [
        ("self.missing", "no such key: missing"),
        ("self.list[1]", "index out of bounds: 1"),
        ("self.list[-1]", "index out of bounds: -1"),
        ("self.list.x", "no such overload"),
        ("self.nothing.x", "no such key: x"),
        ("{'a': 1, 'a': 2}", "duplicate key in map: String(\"a\")"),
        ("optional.none().value()", "optional.none() dereference"),
    ] {
        assert_eq!(value_over(&data, source), Err(error.to_owned()), "{source}");
    }
}

#[test]
fn comprehensions_of_one_and_two_variables() {
    all_true(&[
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6]",
        "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "[1, 2, 3].filter(x, x % 2 == 1) == [1, 3]",
        "{'b': 1, 'a': 2}.map(k, k).sort() == ['a', 'b']",
        "[[1], [2, 3]].map(l, l.map(x, x + l[0])) == [[2], [4, 5]]",
        "[5, 6].all(i, v, v == i + 5) && {'a': 1}.exists(k, v, k == 'a' && v == 1)",
        "[1, 2].transformList(i, v, i + v) == [1, 3]",
        "{'a': 1, 'b': 2}.transformList(k, v, v > 1, k) == ['b']",
        "{'a': 1, 'b': 2}.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}",
        "{'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'}",
        "[1, 2].existsOne(i, v, i == 0)",
        // The inner variable hides the outer one, and a declared name.
        "[1].map(x, [2].map(x, x)) == [[2]] && [3].all(self, self == 3)",
        "[3, 1, 2].sortBy(x, -x) == [3, 2, 1]",
    ]);
    fails(&[(
        "{'a': 'x', 'b': 'x'}.transformMapEntry(k, v, {v: k})",
        "insert failed: key x already exists",
    )]);
}

#[test]
fn types_and_conversions() {
    all_true(&[
        "type(1) == int && type(1u) == uint && type('') == string && type(b'') == bytes && type(1.0) == double",
        "type([]) == list && type({}) == map && type(null) == null_type && type(type(1)) == type",
        "type(duration('1s')) == google.protobuf.Duration && type(optional.none()) == optional_type",
        "type(self.half) == double && type(self.a) == int",
        "int('42') == 42 && int(42.9) == 42 && int(-42.9) == -42 && int(3u) == 3",
        "uint('42') == 42u && double('1.5') == 1.5 && double(2) == 2.0",
        "string(1.5) == '1.5' && string(1.0) == '1' && string(true) == 'true' && string(12u) == '12'",
        "string(1e30) == '1e+30' && string(b'abc') == 'abc' && bytes('abc') == b'abc'",
        "bool('true') && !bool('0')",
        "string(duration('90m')) == '5400s' && int(duration('1s')) == 1000000000",
        "timestamp('2026-11-29T20:08:41Z') - duration('1h') == timestamp('2026-11-29T19:08:41Z')",
        "timestamp('2026-11-29T20:08:41Z') - timestamp('2026-11-29T20:08:40Z') == duration('1s')",
        "string(timestamp('2026-11-29T21:08:41.5+01:00')) == '2026-11-29T20:08:41.5Z'",
        "timestamp('2026-11-29T23:30:00Z').getHours('Europe/Berlin') == 0",
        "timestamp('2026-11-29T20:08:41Z').getMonth() == 10 && timestamp('2026-11-29T20:08:41Z').getDate() == 29",
        "duration('90m').getHours() == 1 && duration('1500ms').getMilliseconds() == 1500",
        "int(timestamp(5)) == 5 && timestamp(0) < timestamp(1)",
    ]);
    fails(&[
        ("int('x')", "type conversion error from 'x' to 'int'"),
        ("bool('x')", "type conversion error from 'x' to 'bool'"),
        (
            "string(b'\\xff')",
            "invalid UTF-8 in bytes, cannot convert to string",
        ),
        ("timestamp(9223372036854775807)", "timestamp overflow"),
        (
            "timestamp('9999-12-31T23:59:59Z') + duration('1s')",
            "timestamp overflow",
        ),
        (
            "timestamp(0).getHours('Nowhere')",
            "unknown time zone Nowhere",
        ),
    ]);
}

#[test]
fn strings_of_extension_version_two() {
    all_true(&[
        "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')",
        "'hällo'.charAt(1) == 'ä' && 'hello'.charAt(5) == ''",
        "'hello mellow'.indexOf('ello') == 1 && 'hello mellow'.indexOf('ello', 2) == 7 && 'a'.indexOf('b') == -1",
        "'hällo ällo'.lastIndexOf('ällo') == 6 && 'hello mellow'.lastIndexOf('ello', 6) == 1",
        "'hello'.indexOf('') == 0 && 'hello'.lastIndexOf('') == 5 && 'a'.indexOf('a', 3) == -1",
        "'TacoCat'.lowerAscii() == 'tacocat' && 'TacoCÆt'.upperAscii() == 'TACOCÆT'",
        "'hello hello'.replace('he', 'we') == 'wello wello' && 'hello hello'.replace('he', 'we', 1) == 'wello hello'",
        "'ab'.replace('', '-') == '-a-b-' && 'hello hello'.replace('he', 'we', 0) == 'hello hello'",
        "'a b c'.split(' ') == ['a', 'b', 'c'] && 'a b c'.split(' ', 2) == ['a', 'b c'] && 'ab'.split('') == ['a', 'b']",
        "'a b c'.split(' ', 0) == [] && 'abc'.split('', 2) == ['a', 'bc']",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && 'häl'.substring(1, 2) == 'ä'",
        "'  \\ttrim\\n'.trim() == 'trim'",
        "['x', 'y'].join() == 'xy' && ['x', 'y'].join(', ') == 'x, y' && [].join() == ''",
        "strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
        "'%s is %d, %.2f, %x, %o, %b, %e, %%'.format([dyn('it'), 7, 1.005, 255, 8, 5, 1234.5]) == 'it is 7, 1.00, ff, 10, 101, 1.234500e+03, %'",
        "'%s'.format([[dyn(1), 'a', 1.5]]) == '[1, \"a\", 1.500000]'",
        "'%s'.format([{'b': dyn(1), 'a': [true]}]) == '{\"a\": [true], \"b\": 1}'",
        "'%X'.format(['hi']) == '6869' && '%d'.format([-5]) == '-5'",
        "'hello'.matches('^h.*o$') && matches('x', 'x') && !'hello'.matches('^o')",
        "'abc 123 def 456'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'123 456'.findAll('[0-9]+') == ['123', '456'] && '123 456'.findAll('[0-9]+', 1) == ['123']",
    ]);
    fails(&[
        ("'abc'.charAt(4)", "index out of range: 4"),
        (
            "'abc'.substring(2, 1)",
            "invalid substring range. start: 2, end: 1",
        ),
        ("'abc'.substring(4)", "index out of range: 4"),
        (
            "'%d'.format(['x'])",
            "error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("'%s %s'.format(['x'])", "index 1 out of range"),
    ]);
}
