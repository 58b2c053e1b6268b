//! One pod for each way to miss a control, and the version since which it counts.

use super::*;

fn explained(at: &str, pod: &Pod) -> String {
    let all = evaluate(mode(at), &pod.metadata, pod.spec.as_ref().unwrap());
    all.iter()
        .map(Violation::explained)
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn a_plain_pod_misses_all_of_restricted_and_nothing_of_baseline() {
    let plain = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    assert_eq!(explained("privileged:latest", &plain), "");
    assert_eq!(explained("baseline:latest", &plain), "");
    assert_eq!(
        explained("restricted:latest", &plain),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(
        explained("restricted:latest", &restricted(json!({}), json!({}))),
        ""
    );
}

/// Level and version, pod, what is said.
type Case = (&'static str, Pod, &'static str);

fn check(cases: Vec<Case>) {
    for (at, pod, want) in cases {
        assert_eq!(explained(at, &pod), want, "{at} {:?}", pod.spec);
    }
}

#[test]
fn baseline() {
    let spec = |more: Value| restricted(more, json!({}));
    let context = |more: Value| restricted(json!({}), more);
    check(vec![
        (
            "baseline:latest",
            context(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            "baseline:v1.0",
            spec(json!({"hostNetwork": true, "hostPID": true, "hostIPC": true})),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            "baseline:latest",
            spec(
                json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {"path": "/"}}]}),
            ),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            "baseline:latest",
            spec(
                json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 10}]}]}),
            ),
            "hostPort (container \"c\" uses hostPorts 10, 9)",
        ),
        (
            "baseline:latest",
            context(json!({"capabilities": {"add": ["CHOWN", "NET_RAW", "SYS_ADMIN"]}})),
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            "baseline:latest",
            context(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "baseline:v1.34",
            restricted(
                json!({"hostUsers": false}),
                json!({"procMount": "Unmasked"}),
            ),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "baseline:v1.35",
            restricted(
                json!({"hostUsers": false}),
                json!({"procMount": "Unmasked"}),
            ),
            "",
        ),
        (
            "baseline:latest",
            context(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "baseline:v1.18",
            context(json!({"seccompProfile": {"type": "Unconfined"}})),
            "",
        ),
        (
            "baseline:latest",
            restricted(
                json!({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}}),
                json!({"seLinuxOptions": {"role": "r"}}),
            ),
            "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            "baseline:v1.30",
            context(json!({"seLinuxOptions": {"type": "container_engine_t"}})),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")",
        ),
        (
            "baseline:v1.31",
            context(json!({"seLinuxOptions": {"type": "container_engine_t"}})),
            "",
        ),
        (
            "baseline:latest",
            spec(json!({"securityContext": {"windowsOptions": {"hostProcess": true}}})),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            "baseline:latest",
            restricted(
                json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
                json!({"appArmorProfile": {"type": "Unconfined"}}),
            ),
            "forbidden AppArmor profile (pod and container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ]);
}

#[test]
fn sysctls_by_version() {
    for (sysctl, since) in [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_rmem", 32),
    ] {
        let pod = restricted(
            json!({"securityContext": {"sysctls": [{"name": sysctl, "value": "1"}]}}),
            json!({}),
        );
        for minor in [0, 26, 27, 28, 29, 31, 32, 36, 999] {
            let want = if minor >= since {
                String::new()
            } else {
                format!("forbidden sysctls ({sysctl})")
            };
            assert_eq!(
                explained(&format!("baseline:v1.{minor}"), &pod),
                want,
                "{minor}"
            );
        }
    }
    let pod = restricted(
        json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
        json!({}),
    );
    assert_eq!(
        explained("baseline:latest", &pod),
        "forbidden sysctls (kernel.msgmax)"
    );
}

#[test]
fn annotations() {
    let annotated = |key: &str, value: &str| {
        let mut pod = restricted(json!({}), json!({}));
        pod.metadata.annotations = Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        pod
    };
    let armor = "container.apparmor.security.beta.kubernetes.io/c";
    check(vec![
        (
            "baseline:latest",
            annotated(armor, "unconfined"),
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")",
        ),
        ("baseline:latest", annotated(armor, "runtime/default"), ""),
        ("baseline:latest", annotated(armor, "localhost/x"), ""),
        ("baseline:latest", annotated(armor, ""), ""),
        (
            "baseline:v1.18",
            annotated("seccomp.security.alpha.kubernetes.io/pod", "unconfined"),
            "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
        ),
        (
            "restricted:v1.18",
            annotated("container.seccomp.security.alpha.kubernetes.io/c", "x"),
            "seccompProfile (forbidden annotation container.seccomp.security.alpha.kubernetes.io/c=\"x\")",
        ),
        (
            "baseline:v1.19",
            annotated("seccomp.security.alpha.kubernetes.io/pod", "unconfined"),
            "",
        ),
    ]);
}

#[test]
fn hosts_of_probes_and_hooks_since_v1_34() {
    let probes = restricted(
        json!({"containers": [{"name": "c",
            "livenessProbe": {"httpGet": {"port": 1, "host": "169.254.169.254"}},
            "readinessProbe": {"tcpSocket": {"port": 1, "host": ""}},
            "lifecycle": {"preStop": {"tcpSocket": {"port": 1, "host": "b"}}}}]}),
        json!({}),
    );
    let said = "probe or lifecycle host (container \"c\" uses probe or lifecycle hosts \"169.254.169.254\", \"b\")";
    assert_eq!(explained("baseline:v1.33", &probes), "");
    assert_eq!(explained("baseline:v1.34", &probes), said);
    assert_eq!(explained("baseline:latest", &probes), said);
}

#[test]
fn restricted_level() {
    let spec = |more: Value| restricted(more, json!({}));
    let context = |more: Value| restricted(json!({}), more);
    let root = "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)";
    let windows = pod(
        json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}),
    );
    check(vec![
        (
            "restricted:latest",
            spec(
                json!({"volumes": [{"name": "n", "nfs": {"server": "s", "path": "/"}}, {"name": "h", "hostPath": {"path": "/"}},
                {"name": "ok", "emptyDir": {}}, {"name": "img", "image": {"reference": "x"}}]}),
            ),
            "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            "restricted:latest",
            context(json!({"capabilities": {"add": ["NET_BIND_SERVICE", "CHOWN"]}})),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            "restricted:v1.21",
            context(json!({"capabilities": {"add": ["CHOWN"], "drop": []}})),
            "",
        ),
        (
            "restricted:latest",
            spec(json!({"securityContext": {"runAsNonRoot": false}})),
            root,
        ),
        (
            "restricted:latest",
            context(json!({"runAsUser": 0})),
            "runAsUser=0 (container \"c\" must not set runAsUser=0)",
        ),
        ("restricted:v1.22", context(json!({"runAsUser": 0})), ""),
        (
            "restricted:v1.34",
            spec(json!({"hostUsers": false, "securityContext": {"runAsNonRoot": false}})),
            root,
        ),
        (
            "restricted:v1.35",
            spec(
                json!({"hostUsers": false, "securityContext": {"runAsNonRoot": false, "runAsUser": 0}}),
            ),
            "",
        ),
        (
            "restricted:latest",
            restricted(
                json!({"hostUsers": false}),
                json!({"procMount": "Unmasked"}),
            ),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "restricted:latest",
            context(json!({"allowPrivilegeEscalation": true})),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            "restricted:v1.7",
            context(json!({"allowPrivilegeEscalation": true})),
            "",
        ),
        (
            "restricted:latest",
            spec(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        ("restricted:v1.25", windows.clone(), ""),
        (
            "restricted:v1.24",
            windows,
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ]);
}

#[test]
fn init_and_ephemeral_containers_count_like_the_others() {
    let bad = json!({"privileged": true});
    let all = pod(json!({
        "containers": [{"name": "c", "securityContext": bad}],
        "initContainers": [{"name": "i", "securityContext": bad}],
        "ephemeralContainers": [{"name": "e", "securityContext": bad}],
    }));
    assert_eq!(
        explained("baseline:latest", &all),
        "privileged (containers \"i\", \"c\", \"e\" must not set securityContext.privileged=true)"
    );
    for list in ["initContainers", "ephemeralContainers"] {
        let mut with_other = restricted(json!({}), json!({}));
        let mut spec = serde_json::to_value(&with_other.spec).unwrap();
        spec[list] = json!([{"name": "x"}]);
        with_other.spec = serde_json::from_value(spec).unwrap();
        let said = explained("restricted:latest", &with_other);
        assert!(
            said.contains("container \"x\" must set securityContext.allowPrivilegeEscalation"),
            "{said}"
        );
    }
}

#[test]
fn what_is_said_is_bounded_and_has_no_control_characters() {
    let many: Vec<Value> = (0..20_000)
        .map(|i| json!({"name": format!("c{i}"), "securityContext": {"capabilities": {"add": [format!("X{i}\r\n"), "y".repeat(400)]}}}))
        .collect();
    let said = explained("restricted:latest", &pod(json!({"containers": many})));
    assert!(said.len() < 100_000, "{}", said.len());
    assert!(said.contains("and 19950 more"), "{said}");
    assert!(!said.contains(char::is_control), "{said}");
}
