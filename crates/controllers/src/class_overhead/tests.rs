use berth_cost::{ClassReport, Quantiles, StateReport};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use super::*;

const MIB: u64 = 1 << 20;

fn class(memory: Option<&str>) -> RuntimeClass {
    let mut class = RuntimeClass {
        handler: "runsc".to_owned(),
        ..RuntimeClass::default()
    };
    class.metadata.name = Some("gvisor".to_owned());
    if let Some(memory) = memory {
        let fixed = [("memory".to_owned(), WireQuantity(memory.to_owned()))];
        class.overhead = Some(k8s_openapi::api::node::v1::Overhead {
            pod_fixed: Some(fixed.into()),
        });
    }
    class
}

fn report(class: &str, handler: &str, mib: u64) -> NodeReport {
    NodeReport {
        node: "somebody else\n".to_owned(),
        classes: vec![ClassReport {
            runtime_class: class.to_owned(),
            handler: handler.to_owned(),
            sandboxes: 4,
            idle: StateReport {
                samples: 100,
                memory_bytes: Quantiles {
                    p99: mib * MIB,
                    ..Quantiles::default()
                },
                ..StateReport::default()
            },
            ..ClassReport::default()
        }],
        ..NodeReport::default()
    }
}

fn compared(
    class: &RuntimeClass,
    reports: &[(&str, NodeReport)],
    before: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let reports: BTreeMap<String, NodeReport> = reports
        .iter()
        .map(|(node, report)| ((*node).to_owned(), report.clone()))
        .collect();
    compare(class, reports.iter(), before, |node| node != "gone")
}

#[test]
fn each_node_is_told_of_by_its_own_name_and_numbers() {
    let none = BTreeMap::new();
    let now = compared(
        &class(Some("32Mi")),
        &[
            ("n1", report("gvisor", "runsc", 118)),
            ("n2", report("gvisor", "runsc", 40)),
            ("n3", report("gvisor", "other", 500)),
            ("n4", report("other", "runsc", 500)),
        ],
        &none,
    );
    let text = tell::write(&now).unwrap();
    assert_eq!(
        text,
        "n1: memory 118Mi measured (p99 of 4 sandboxes), 32Mi declared, too little"
    );
    // What the annotation says is what is known after a restart.
    assert_eq!(tell::read(&text), now);
}

#[test]
fn numbers_that_move_are_no_news_and_the_way_back_has_hysteresis() {
    let first = compared(
        &class(Some("32Mi")),
        &[("n1", report("gvisor", "runsc", 70))],
        &BTreeMap::new(),
    );
    assert_eq!(first.len(), 1);
    let moved = compared(
        &class(Some("32Mi")),
        &[("n1", report("gvisor", "runsc", 60))],
        &first,
    );
    assert_eq!(moved, first);
    assert!(
        compared(
            &class(Some("32Mi")),
            &[("n1", report("gvisor", "runsc", 60))],
            &BTreeMap::new()
        )
        .is_empty()
    );
    let near = compared(
        &class(Some("32Mi")),
        &[("n1", report("gvisor", "runsc", 45))],
        &first,
    );
    assert!(near.is_empty());
    // The other way: told anew.
    let large = compared(
        &class(Some("320Mi")),
        &[("n1", report("gvisor", "runsc", 70))],
        &first,
    );
    assert!(large["n1"].ends_with("too much"), "{large:?}");
}

#[test]
fn a_node_that_does_not_answer_stays_as_it_was_while_it_is_there() {
    let text = "memory 9Mi measured (p99 of 1 sandboxes), 0 declared, too little".to_owned();
    let before = BTreeMap::from([("n1".to_owned(), text.clone()), ("gone".to_owned(), text)]);
    let now = compared(&class(None), &[], &before);
    assert_eq!(now.keys().collect::<Vec<_>>(), ["n1"]);
}

#[test]
fn an_overhead_that_cannot_be_read_is_compared_with_nothing() {
    assert!(
        declared(&class(Some("much")))
            .unwrap_err()
            .contains("memory")
    );
    let now = compared(
        &class(Some("much")),
        &[("n1", report("gvisor", "runsc", 500))],
        &BTreeMap::new(),
    );
    assert!(now.is_empty());
    let found = declared(&class(Some("1Gi"))).unwrap();
    assert_eq!((found.memory, found.cpu), (1 << 30, 0));
}

#[test]
fn many_nodes_make_no_endless_annotation_and_odd_ones_none() {
    let text = "cpu 90m measured (p99 of 2 sandboxes), 0 declared, too little";
    let many: BTreeMap<String, String> = (0..1000)
        .map(|n| (format!("n{n:04}"), text.to_owned()))
        .collect();
    let written = tell::write(&many).unwrap();
    assert!(
        written.ends_with("; and 992 more nodes") && written.len() < 1000,
        "{written}"
    );
    assert_eq!(tell::read(&written).len(), 8);
    assert!(tell::read("whatever: somebody wrote; here").is_empty());
    assert_eq!(tell::write(&BTreeMap::new()), None);
}
