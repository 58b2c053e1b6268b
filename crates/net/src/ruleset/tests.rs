//! Scripts from one ruleset to another, as text and in a real kernel.

use super::*;

fn table() -> Table {
    Table::new("test", "x0").unwrap()
}

fn chain(rules: &[&str]) -> Chain {
    Chain {
        hook: None,
        rules: rules.iter().map(|r| (*r).to_owned()).collect(),
    }
}

fn map(elements: &[(&str, &str)]) -> Set {
    let own = |(key, to): &(&str, &str)| ((*key).to_owned(), (*to).to_owned());
    Set {
        spec: "type inet_service : verdict;".to_owned(),
        is_map: true,
        dynamic: false,
        elements: elements.iter().map(own).collect(),
    }
}

fn ruleset(chains: &[(&str, Chain)], sets: &[(&str, Set)]) -> Ruleset {
    Ruleset {
        chains: chains
            .iter()
            .map(|(n, c)| ((*n).to_owned(), c.clone()))
            .collect(),
        sets: sets
            .iter()
            .map(|(n, s)| ((*n).to_owned(), s.clone()))
            .collect(),
    }
}

#[test]
fn only_what_has_changed_is_written() {
    let old = ruleset(
        &[("a", chain(&["accept"])), ("b", chain(&["drop"]))],
        &[("m", map(&[("1", "goto a"), ("2", "goto b")]))],
    );
    assert_eq!(old.changes(&old, &table()), "");
    let new = ruleset(
        &[("a", chain(&["accept"])), ("c", chain(&["return"]))],
        &[("m", map(&[("1", "goto a"), ("2", "goto c")]))],
    );
    let lines = [
        "add chain inet berth-test-x0 c {  }",
        "flush chain inet berth-test-x0 b",
        "delete element inet berth-test-x0 m { 2 : goto b }",
        "add rule inet berth-test-x0 c return",
        "add element inet berth-test-x0 m { 2 : goto c }",
        "delete chain inet berth-test-x0 b",
    ];
    assert_eq!(
        new.changes(&old, &table()).lines().collect::<Vec<_>>(),
        lines
    );
}

#[test]
fn what_packets_wrote_outlives_a_rebuild_and_nothing_else_does() {
    let mut sessions = map(&[]);
    sessions.dynamic = true;
    let new = ruleset(&[("a", chain(&[]))], &[("sessions", sessions)]);
    let before = Names {
        chains: vec!["a".to_owned(), "old".to_owned()],
        sets: vec!["sessions".to_owned(), "gone".to_owned()],
        maps: vec!["m".to_owned()],
    };
    let script = new.rebuild(&before, &table());
    for line in [
        "flush chain inet berth-test-x0 old",
        "delete chain inet berth-test-x0 old",
        "delete set inet berth-test-x0 gone",
        "delete map inet berth-test-x0 m",
    ] {
        assert!(script.lines().any(|l| l == line), "{line}\n{script}");
    }
    assert!(!script.contains("flush set inet berth-test-x0 sessions"));
    assert!(!script.contains("delete chain inet berth-test-x0 a\n"));
}

#[test]
fn a_comment_is_one_word_whatever_is_in_it() {
    assert_eq!(
        comment("ns/web:http\"; flush ruleset\n"),
        "comment \"ns/web:httpflushruleset\""
    );
    assert!(comment(&"x".repeat(500)).len() <= 128 + 10);
}
