use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::discovery::ApiResource;

use super::*;

fn resource(namespaced: bool) -> Arc<Resource> {
    let api = ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: if namespaced { "ConfigMap" } else { "Node" }.into(),
        plural: if namespaced { "configmaps" } else { "nodes" }.into(),
    };
    Arc::new(Resource { api, namespaced })
}

fn item(name: &str, namespace: &str) -> Item {
    let meta = ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        uid: Some(format!("{name}-uid")),
        ..ObjectMeta::default()
    };
    Item::new(&resource(true), meta).expect("it has a name and a uid")
}

fn owned(mut item: Item, owner: &Item, blocks: bool) -> Item {
    item.owners.push(OwnerReference {
        api_version: "v1".into(),
        kind: owner.resource.api.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: None,
        block_owner_deletion: Some(blocks),
    });
    item
}

fn deleted(mut item: Item, finalizer: &str) -> Item {
    item.deleting = true;
    item.finalizers.push(finalizer.into());
    item
}

#[test]
fn metadata_tells_what_counts() {
    let meta = ObjectMeta {
        name: Some("a".into()),
        uid: Some("u".into()),
        deletion_timestamp: Some(Time(jiff::Timestamp::UNIX_EPOCH)),
        finalizers: Some(vec![FOREGROUND.into()]),
        ..ObjectMeta::default()
    };
    let item = Item::new(&resource(true), meta).expect("complete");
    assert!(item.waits_for_dependents() && !item.orphans_dependents());
    assert!(Item::new(&resource(true), ObjectMeta::default()).is_none());
}

#[test]
fn the_owner_s_end_affects_its_dependents() {
    let mut graph = Graph::default();
    let owner = item("owner", "n");
    assert!(graph.apply(owner.clone()).is_empty());
    let child = owned(item("child", "n"), &owner, false);
    assert_eq!(graph.apply(child.clone()), ["child-uid"]);
    assert!(graph.has_solid_owners(&child));
    assert_eq!(graph.remove("owner-uid"), ["child-uid"]);
    assert!(!graph.has_solid_owners(&child));
}

#[test]
fn a_foreground_owner_is_looked_at_when_its_last_blocking_dependent_is_gone() {
    let mut graph = Graph::default();
    let owner = item("owner", "n");
    graph.apply(owner.clone());
    graph.apply(owned(item("a", "n"), &owner, true));
    graph.apply(owned(item("b", "n"), &owner, true));
    graph.apply(owned(item("free", "n"), &owner, false));
    let affected = graph.apply(deleted(owner.clone(), FOREGROUND));
    assert_eq!(affected, ["owner-uid", "a-uid", "b-uid", "free-uid"]);
    assert_eq!(graph.blocking(&owner).count(), 2);
    assert!(graph.remove("a-uid").is_empty(), "b still blocks");
    // What no longer names the owner does not block it either.
    assert_eq!(graph.apply(item("b", "n")), ["owner-uid"]);
}

/// Anybody can write anybody's uid into an object of his own.
#[test]
fn an_object_of_another_namespace_blocks_nobody() {
    let mut graph = Graph::default();
    let owner = item("owner", "n");
    graph.apply(deleted(owner.clone(), FOREGROUND));
    let elsewhere = owned(item("child", "m"), &owner, true);
    graph.apply(elsewhere.clone());
    let mut misnamed = owned(item("misnamed", "n"), &owner, true);
    misnamed.owners[0].name = "somebody-else".into();
    graph.apply(misnamed);
    let mut other_kind = owned(item("other-kind", "n"), &owner, true);
    other_kind.owners[0].kind = "Secret".into();
    graph.apply(other_kind);
    assert_eq!(graph.blocking(&owner).count(), 0);
    assert!(!graph.has_solid_owners(&elsewhere));
}

#[test]
fn a_cluster_scoped_owner_has_dependents_in_every_namespace() {
    let mut graph = Graph::default();
    let meta = ObjectMeta {
        name: Some("node".into()),
        uid: Some("node-uid".into()),
        ..ObjectMeta::default()
    };
    let owner = Item::new(&resource(false), meta).expect("complete");
    graph.apply(owner.clone());
    graph.apply(owned(item("a", "n"), &owner, true));
    graph.apply(owned(item("b", "m"), &owner, true));
    assert_eq!(graph.dependents(&owner).count(), 2);
}

#[test]
fn what_a_list_no_longer_has_is_gone() {
    let mut graph = Graph::default();
    graph.apply(item("a", "n"));
    graph.apply(item("b", "n"));
    let seen = BTreeSet::from(["a-uid".to_owned()]);
    assert_eq!(graph.unseen(&resource(true), &seen), ["b-uid"]);
    assert!(graph.unseen(&resource(false), &seen).is_empty());
}
