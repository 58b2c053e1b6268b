//! Endpoints of Services.

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, from_value, json};

use super::reconcile::Changes;
use super::*;

fn service(spec: Value) -> Service {
    let mut all = json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    from_value(
        json!({"metadata": {"name": "web", "namespace": "n", "uid": "svc", "labels": {"team": "a"},
        "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": all}),
    )
    .unwrap()
}

/// A pod with an address, `ready` or not.
fn pod(number: usize, ready: bool) -> Pod {
    let ip = format!("10.88.{}.{}", number / 250, number % 250 + 2);
    let ready = if ready { "True" } else { "False" };
    from_value(json!({
        "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number:04}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9000, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:01:00Z"}]},
    }))
    .unwrap()
}

fn edit<T: serde::Serialize + serde::de::DeserializeOwned>(
    object: &T,
    at: &str,
    value: Value,
) -> T {
    let mut json = serde_json::to_value(object).unwrap();
    let (parent, key) = at.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[key] = value;
    from_value(json).unwrap()
}

fn look(service: &Service, pods: &[Pod], existing: &[EndpointSlice]) -> Changes {
    let pods: Vec<&Pod> = pods.iter().collect();
    let existing: Vec<&EndpointSlice> = existing.iter().collect();
    slices::changes(service, &pods, &existing, |node| {
        (node == "n1").then(|| "zone-a".to_owned())
    })
}

/// What is there after these changes.
fn applied(changes: Changes, mut existing: Vec<EndpointSlice>) -> Vec<EndpointSlice> {
    let name = |slice: &EndpointSlice| slice.metadata.name.clone();
    for gone in changes.delete {
        existing.retain(|slice| name(slice) != name(&gone));
    }
    for new in changes.update {
        let old = existing.iter_mut().find(|slice| name(slice) == name(&new));
        *old.expect("it is there") = new;
    }
    for mut new in changes.create {
        let mut n = 0;
        while existing.iter().any(|s| name(s) == Some(format!("web-{n}"))) {
            n += 1;
        }
        new.metadata.name = Some(format!("web-{n}"));
        existing.push(new);
    }
    existing
}

fn counts(slices: &[EndpointSlice]) -> Vec<usize> {
    let mut counts: Vec<usize> = slices
        .iter()
        .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
        .collect();
    counts.sort_unstable();
    counts
}

#[test]
fn a_pod_as_an_endpoint() {
    let made = look(&service(json!({})), &[pod(0, true)], &[]);
    let slice = serde_json::to_value(&made.create[0]).unwrap();
    let wanted = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": "web-", "namespace": "n",
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:01:00Z"},
            "labels": {"team": "a", "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "svc", "controller": true,
                "blockOwnerDeletion": true}],
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.88.0.2"], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "n1", "zone": "zone-a",
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "p0", "uid": "u0000"}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    });
    assert_eq!(slice, wanted);
}

#[test]
fn whether_a_pod_is_ready_serves_or_ends() {
    let ending = |ready| {
        edit(
            &pod(0, ready),
            "/metadata/deletionTimestamp",
            json!("2026-01-01T00:02:00Z"),
        )
    };
    let seen = |spec: Value, pod: Pod| {
        let made = look(&service(spec), &[pod], &[]);
        let endpoints = made.create[0].endpoints.clone().unwrap();
        endpoints.first().map(|endpoint| {
            let c = endpoint.conditions.clone().unwrap();
            (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
        })
    };
    let all = json!({"publishNotReadyAddresses": true});
    assert_eq!(seen(json!({}), pod(0, false)), Some((false, false, false)));
    assert_eq!(seen(all.clone(), pod(0, false)), Some((true, false, false)));
    assert_eq!(seen(json!({}), ending(true)), Some((false, true, true)));
    assert_eq!(seen(all, ending(true)), Some((true, true, true)));
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(
            seen(
                json!({}),
                edit(&pod(0, false), "/status/phase", json!(phase))
            ),
            None
        );
    }
    let mut without = pod(0, true);
    without.status.as_mut().unwrap().pod_ip = None;
    without.status.as_mut().unwrap().pod_ips = None;
    assert_eq!(seen(json!({}), without), None);
}

#[test]
fn a_named_port_may_be_another_one_in_each_pod() {
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"}]);
    let other = edit(
        &pod(1, true),
        "/spec/containers/0/ports/0/containerPort",
        json!(9001),
    );
    let udp = edit(
        &pod(2, true),
        "/spec/containers/0/ports/0/protocol",
        json!("UDP"),
    );
    let made = look(
        &service(json!({"ports": ports})),
        &[pod(0, true), other, udp],
        &[],
    );
    let mut ports: Vec<_> = made
        .create
        .iter()
        .map(|slice| slice.ports.clone().unwrap().first().and_then(|p| p.port))
        .collect();
    ports.sort();
    assert_eq!(ports, [None, Some(9000), Some(9001)]);
}

#[test]
fn a_hundred_in_a_slice_and_few_writes_when_one_changes() {
    let web = service(json!({}));
    let mut pods: Vec<Pod> = (0..250).map(|n| pod(n, true)).collect();
    let slices = applied(look(&web, &pods, &[]), Vec::new());
    assert_eq!(counts(&slices), [50, 100, 100]);
    assert_eq!(look(&web, &pods, &slices), Changes::default());
    // One that becomes unready changes its own slice.
    pods[7] = pod(7, false);
    let changes = look(&web, &pods, &slices);
    assert_eq!(
        (
            changes.create.len(),
            changes.update.len(),
            changes.delete.len()
        ),
        (0, 1, 0)
    );
    let slices = applied(changes, slices);
    // One goes and another comes: the gap is filled.
    pods.remove(8);
    pods.push(pod(250, true));
    let changes = look(&web, &pods, &slices);
    assert_eq!(
        (
            changes.create.len(),
            changes.update.len(),
            changes.delete.len()
        ),
        (0, 1, 0)
    );
    let slices = applied(changes, slices);
    assert_eq!(counts(&slices), [50, 100, 100]);
    // All but a few go.
    pods.truncate(3);
    let slices = applied(look(&web, &pods, &slices), slices);
    assert_eq!(counts(&slices), [3]);
    // The last slice stays, empty and without ports.
    let slices = applied(look(&web, &[], &slices), slices);
    assert_eq!(counts(&slices), [0]);
    assert_eq!(slices[0].ports.as_deref(), Some(&[][..]));
    assert_eq!(look(&web, &[], &slices), Changes::default());
}

#[test]
fn what_somebody_changed_is_put_back() {
    let web = service(json!({}));
    let pods = [pod(0, true)];
    let slices = applied(look(&web, &pods, &[]), Vec::new());
    for (at, value) in [
        ("/endpoints/0/addresses", json!(["10.0.0.66"])),
        ("/endpoints", json!([])),
        ("/metadata/labels/team", json!("b")),
        ("/metadata/ownerReferences", json!([])),
        (
            "/ports",
            json!([{"name": "http", "port": 1, "protocol": "TCP"}]),
        ),
    ] {
        let bad = vec![edit(&slices[0], at, value)];
        let good = applied(look(&web, &pods, &bad), bad);
        assert_eq!(good.len(), 1, "{at}");
        let core = |s: &EndpointSlice| {
            (
                s.endpoints.clone(),
                s.ports.clone(),
                s.metadata.labels.clone(),
                s.metadata.owner_references.clone(),
            )
        };
        assert_eq!(core(&good[0]), core(&slices[0]), "{at}");
    }
    // The same endpoint in two slices is in one afterwards.
    let mut twice = slices.clone();
    twice.push(slices[0].clone());
    twice[1].metadata.name = Some("web-9".to_owned());
    assert_eq!(counts(&applied(look(&web, &pods, &twice), twice)), [1]);
}

#[test]
fn both_families_as_far_as_pods_have_them() {
    let web = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let two = edit(
        &pod(0, true),
        "/status/podIPs",
        json!([{"ip": "10.88.0.2"}, {"ip": "fd00::2"}]),
    );
    let made = look(&web, &[two, pod(1, true)], &[]);
    let mut found: Vec<_> = made
        .create
        .iter()
        .map(|s| (s.address_type.as_str(), s.endpoints.as_ref().unwrap().len()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("IPv4", 2), ("IPv6", 1)]);
}

#[test]
fn headless_ones_have_names_and_need_no_ports() {
    let headless = service(json!({"clusterIP": "None", "ports": null}));
    let named = edit(
        &edit(&pod(0, true), "/spec/hostname", json!("db-0")),
        "/spec/subdomain",
        json!("web"),
    );
    let other = edit(
        &edit(&pod(1, true), "/spec/hostname", json!("x")),
        "/spec/subdomain",
        json!("other"),
    );
    let made = look(&headless, &[named.clone(), other], &[]);
    let slice = &made.create[0];
    let names: Vec<_> = slice
        .endpoints
        .iter()
        .flatten()
        .map(|e| e.hostname.as_deref())
        .collect();
    assert_eq!(names, [Some("db-0"), None]);
    assert_eq!(
        slice.metadata.labels.as_ref().unwrap()["service.kubernetes.io/headless"],
        ""
    );
    let endpoints = subsets::change(&headless, &[&named], None).unwrap();
    let subset = &endpoints.subsets.unwrap()[0];
    assert_eq!(subset.ports, None);
    assert_eq!(
        subset.addresses.as_ref().unwrap()[0].hostname.as_deref(),
        Some("db-0")
    );
}

#[test]
fn who_has_no_pods_of_its_own() {
    for spec in [
        json!({"selector": null}),
        json!({"selector": {}}),
        json!({"type": "ExternalName"}),
    ] {
        assert!(!has_pods(&service(spec.clone())), "{spec}");
        assert!(!selects(
            &service(spec),
            pod(0, true).metadata.labels.as_ref()
        ));
    }
    let web = service(json!({}));
    assert!(selects(&web, pod(0, true).metadata.labels.as_ref()));
    assert!(!selects(&web, None));
}

#[test]
fn the_older_object_of_the_same() {
    let web = service(json!({}));
    let (ready, not) = (pod(1, true), pod(0, false));
    let ending = edit(
        &pod(2, true),
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:02:00Z"),
    );
    let made = subsets::change(&web, &[&ready, &not, &ending], None).unwrap();
    let json = serde_json::to_value(&made).unwrap();
    let address = |n: usize, ip: &str| {
        json!({"ip": ip, "nodeName": "n1",
            "targetRef": {"kind": "Pod", "namespace": "n", "name": format!("p{n}"), "uid": format!("u{n:04}")}})
    };
    assert_eq!(
        json["subsets"],
        json!([{"addresses": [address(1, "10.88.0.3")], "notReadyAddresses": [address(0, "10.88.0.2")],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}])
    );
    assert_eq!(
        json["metadata"]["labels"],
        json!({"team": "a", "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
    );
    assert_eq!(subsets::change(&web, &[&not, &ready], Some(&made)), None);
    let none = subsets::change(&web, &[], Some(&made)).unwrap();
    assert_eq!(none.subsets, None);
}

#[test]
fn a_thousand_addresses_and_those_that_are_ready_first() {
    let web = service(json!({}));
    let pods: Vec<Pod> = (0..1010).map(|n| pod(n, n >= 5)).collect();
    let pods: Vec<&Pod> = pods.iter().collect();
    let made = subsets::change(&web, &pods, None).unwrap();
    let subset = &made.subsets.as_ref().unwrap()[0];
    assert_eq!(subset.addresses.as_ref().unwrap().len(), 1000);
    assert_eq!(subset.not_ready_addresses, None);
    let annotations = made.metadata.annotations.as_ref().unwrap();
    assert_eq!(
        annotations["endpoints.kubernetes.io/over-capacity"],
        "truncated"
    );
    let fewer = subsets::change(&web, &pods[..10], Some(&made)).unwrap();
    let annotations = fewer.metadata.annotations.unwrap();
    assert!(!annotations.contains_key("endpoints.kubernetes.io/over-capacity"));
}

#[test]
fn endpoints_that_somebody_wrote_become_slices() {
    let endpoints: Endpoints = from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "ep", "labels": {"a": "b"},
            "annotations": {"x": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "subsets": [{"addresses": [{"ip": "192.0.2.7"}, {"ip": "fd00::7"}], "notReadyAddresses": [{"ip": "192.0.2.8"}],
            "ports": [{"port": 5432}]}],
    }))
    .unwrap();
    let bare = service(json!({"selector": null}));
    assert!(mirrored::is_mirrored(&endpoints, Some(&bare)));
    assert!(!mirrored::is_mirrored(
        &endpoints,
        Some(&service(json!({})))
    ));
    assert!(!mirrored::is_mirrored(&endpoints, None));
    let mut own = endpoints.clone();
    own.metadata.labels.get_or_insert_default().insert(
        "endpointslice.kubernetes.io/skip-mirror".to_owned(),
        "true".to_owned(),
    );
    assert!(!mirrored::is_mirrored(&own, Some(&bare)));
    let made = mirrored::changes(&endpoints, &[]);
    let mut found: Vec<_> = made
        .create
        .iter()
        .map(|s| (s.address_type.as_str(), s.endpoints.as_ref().unwrap().len()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("IPv4", 2), ("IPv6", 1)]);
    let meta = &made.create[0].metadata;
    assert_eq!(meta.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
    assert_eq!(
        meta.labels.as_ref().unwrap()[MANAGED_BY],
        MIRRORING_CONTROLLER
    );
    assert_eq!(
        meta.annotations.as_ref().unwrap(),
        &BTreeMap::from([("x".to_owned(), "y".to_owned())])
    );
    let slices = applied(made, Vec::new());
    let there: Vec<&EndpointSlice> = slices.iter().collect();
    assert_eq!(mirrored::changes(&endpoints, &there), Changes::default());
    let mut empty = endpoints;
    empty.subsets = None;
    assert_eq!(mirrored::changes(&empty, &there).delete.len(), 2);
}

#[test]
fn hints_say_for_whom_a_ready_endpoint_is_near() {
    let elsewhere = edit(&pod(1, true), "/spec/nodeName", json!("n2"));
    let pods = [pod(0, true), elsewhere, pod(2, false)];
    let hints = |service: &Service, existing: &[EndpointSlice]| {
        let slices = applied(look(service, &pods, existing), existing.to_vec());
        let seen: Vec<Value> = slices[0]
            .endpoints
            .iter()
            .flatten()
            .map(|e| serde_json::to_value(e.hints.clone()).unwrap())
            .collect();
        (seen, slices)
    };
    let wants = |how: &str| service(json!({"trafficDistribution": how}));
    let zone = json!({"forZones": [{"name": "zone-a"}]});
    let none = Value::Null;
    // Node n2 has no zone, and who isn't ready is for nobody.
    for how in ["PreferClose", "PreferSameZone"] {
        let (seen, _) = hints(&wants(how), &[]);
        assert_eq!(seen, [zone.clone(), none.clone(), none.clone()], "{how}");
    }
    let (seen, slices) = hints(&wants("PreferSameNode"), &[]);
    let both = json!({"forZones": [{"name": "zone-a"}], "forNodes": [{"name": "n1"}]});
    assert_eq!(
        seen,
        [both, json!({"forNodes": [{"name": "n2"}]}), none.clone()]
    );
    // Hints go when the wish does, or when another way to make them is asked for.
    let (seen, _) = hints(&service(json!({})), &slices);
    assert_eq!(seen, [none.clone(), none.clone(), none.clone()]);
    let mode = json!({"service.kubernetes.io/topology-mode": "Auto"});
    let proportional = edit(&wants("PreferClose"), "/metadata/annotations", mode);
    let (seen, _) = hints(&proportional, &slices);
    assert_eq!(seen, [none.clone(), none.clone(), none]);
}
