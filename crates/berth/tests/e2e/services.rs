//! Services: pods find the API server by its Service, and clients reach pods through one.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use berth_testkit::wait_for;

use crate::cluster::{Cluster, FOREVER, LIMIT, class, pod, words};

const SERVE: &str = "trap 'exit 0' TERM; mkdir -p /www; echo hello from the pod > /www/index.html; \
                     httpd -p 8080 -h /www; while :; do sleep 3600 & wait; done";
/// kubectl without a kubeconfig: inside a pod it takes the address, the token and the CA that every client finds there.
const ASK: &str = "env -u HOME /tmp/kubectl auth whoami -o jsonpath='{.status.userInfo.username}'";

/// The file of kubectl, which is a static program.
fn static_kubectl() -> String {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .map(|dir| dir.join("kubectl"))
        .find(|file| file.is_file());
    let file = found.expect("kubectl").canonicalize().expect("its file");
    file.to_str().expect("a path").to_owned()
}

fn exec(cluster: &Cluster, pod: &str, script: &str) -> String {
    cluster.kube(&["exec", pod, "--", "sh", "-c", script])
}

#[test]
fn pods_reach_the_api_server_by_its_service_whatever_runs_them() {
    // The server listens on loopback only.
    let cluster = Cluster::start();
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&pod("plain", None, FOREVER));
    cluster.apply(&pod("boxed", Some("gvisor"), FOREVER));
    let own = pod("host", None, FOREVER).replace("spec:\n", "spec:\n  hostNetwork: true\n");
    cluster.apply(&own);
    cluster.wait_ready(&["plain", "boxed", "host"]);
    let address = cluster.kube(&[
        "get",
        "service",
        "kubernetes",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ]);
    let client = static_kubectl();
    for pod in ["plain", "boxed", "host"] {
        let told = exec(
            &cluster,
            pod,
            "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT $KUBERNETES_PORT",
        );
        assert_eq!(
            told.trim(),
            format!("{address}:443 tcp://{address}:443"),
            "{pod}"
        );
        cluster.kube(&["cp", &client, &format!("{pod}:/tmp/kubectl")]);
        let me = wait_for(&format!("an answer to {pod}"), LIMIT, || {
            let output = cluster.try_kubectl(&["exec", pod, "--", "sh", "-c", ASK]);
            let said = words(&output);
            if output.status.success() {
                Ok(said)
            } else {
                Err(said)
            }
        });
        assert_eq!(me, "system:serviceaccount:default:default", "{pod}");
    }
    // The certificate is good for the address: a host's program is led there, too.
    let server = format!("https://{address}:443");
    let me = cluster.kube(&[
        "--server",
        &server,
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ]);
    assert_eq!(me, "admin");
}

#[test]
fn a_pod_reaches_the_port_of_the_api_server_and_no_other() {
    let cluster = Cluster::start();
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&pod("plain", None, FOREVER));
    cluster.apply(&pod("boxed", Some("gvisor"), FOREVER));
    cluster.wait_ready(&["plain", "boxed"]);
    let address = cluster.kube(&[
        "get",
        "service",
        "kubernetes",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ]);
    let endpoint = cluster.kube(&[
        "get",
        "endpoints",
        "kubernetes",
        "-o",
        "jsonpath={.subsets[0].addresses[0].ip}",
    ]);
    // Something that only programs of this machine are to reach.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let secret = listener.local_addr().expect("its address").port();
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.and_then(|mut stream| stream.write_all(b"secret\n"));
        }
    });
    for pod in ["plain", "boxed"] {
        for (host, port) in [
            (address.as_str(), secret),
            (endpoint.as_str(), secret),
            ("127.0.0.1", secret),
            ("127.0.0.1", cluster.port()),
        ] {
            let script = format!("nc -w 2 {host} {port} </dev/null");
            let output = cluster.try_kubectl(&["exec", pod, "--", "sh", "-c", &script]);
            assert!(
                !output.status.success(),
                "{pod} {host}:{port}: {}",
                words(&output)
            );
        }
        let script = format!("nc -w 5 {address} 443 </dev/null");
        exec(&cluster, pod, &script);
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[test]
fn services_are_links_in_pods_that_want_them() {
    let cluster = Cluster::start();
    let service = |name: &str, namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  ports:\n  - \
             {{port: 8765}}\n---\n"
        )
    };
    cluster.apply(&(service("web-one", "default") + &service("hidden", "kube-system")));
    let ip = cluster.kube(&[
        "get",
        "service",
        "web-one",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ]);
    let print = "env | sort";
    let once =
        |name: &str, extra: &str| pod(name, None, print) + "  restartPolicy: Never\n" + extra;
    cluster.apply(&once("linked", ""));
    cluster.apply(&once("bare", "  enableServiceLinks: false\n"));
    cluster.wait_phase("linked", "Succeeded");
    cluster.wait_phase("bare", "Succeeded");
    let linked = cluster.kube(&["logs", "linked"]);
    for line in [
        format!("WEB_ONE_SERVICE_HOST={ip}"),
        "WEB_ONE_SERVICE_PORT=8765".to_owned(),
        format!("WEB_ONE_PORT_8765_TCP=tcp://{ip}:8765"),
    ] {
        assert!(linked.lines().any(|l| l == line), "{line}\n{linked}");
    }
    assert!(!linked.contains("HIDDEN"), "{linked}");
    let bare = cluster.kube(&["logs", "bare"]);
    assert!(!bare.contains("WEB_ONE"), "{bare}");
    assert!(bare.contains("KUBERNETES_SERVICE_HOST="), "{bare}");
}

#[test]
fn kubectl_reaches_pods_through_a_service_and_tells_of_the_cluster() {
    let cluster = Cluster::start();
    let labelled =
        pod("web", None, SERVE).replace("metadata:\n", "metadata:\n  labels: {app: web}\n");
    cluster.apply(&labelled);
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports:\n  - {name: http, \
         port: 80, targetPort: 8080}\n",
    );
    cluster.wait_ready(&["web"]);
    for name in ["web:80", "web:http", "http:web:80"] {
        let path = format!("/api/v1/namespaces/default/services/{name}/proxy/index.html");
        let got = wait_for(&path, LIMIT, || {
            let output = cluster.try_kubectl(&["get", "--raw", &path]);
            if output.status.success() {
                Ok(words(&output))
            } else {
                Err(words(&output))
            }
        });
        assert_eq!(got.trim(), "hello from the pod", "{name}");
    }
    let pods = cluster.kube(&["get", "--raw", "/api/v1/nodes/n1/proxy/pods"]);
    assert!(pods.contains("\"web\""), "{pods}");
    let info = cluster.kube(&["cluster-info"]);
    assert!(info.contains("Kubernetes control plane"), "{info}");
    let dump = cluster.kube(&["cluster-info", "dump"]);
    assert!(dump.contains("\"ServiceList\""), "{}", dump.len());
    let paths = cluster.kube(&["get", "--raw", "/"]);
    assert!(paths.contains("/api/v1"), "{paths}");
}

/// The Service keeps its address, by which pods that run already know the server.
#[test]
fn the_certificate_names_the_address_of_before_when_the_range_changes() {
    let mut cluster = Cluster::with(&["--service-cluster-ip-range", "10.123.0.0/24"]);
    let is_shown = |cluster: &Cluster, name: &str| {
        let flag = format!("--tls-server-name={name}");
        let answer = cluster.try_kubectl(&[&flag, "get", "--raw", "/readyz"]);
        (answer.status.success(), words(&answer))
    };
    assert!(is_shown(&cluster, "10.123.0.1").0);
    assert!(!is_shown(&cluster, "10.124.0.1").0);
    cluster.stop();
    cluster.set_arguments(&["--service-cluster-ip-range", "10.124.0.0/24"]);
    cluster.launch();
    let service = cluster.json(&["service", "kubernetes"]);
    assert_eq!(service["spec"]["clusterIP"], "10.123.0.1");
    for name in ["10.123.0.1", "10.124.0.1"] {
        let (is_shown, said) = is_shown(&cluster, name);
        assert!(is_shown, "{name}: {said}");
    }
    assert!(!is_shown(&cluster, "10.125.0.1").0);
}
