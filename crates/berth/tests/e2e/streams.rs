//! logs, exec, attach, port-forward and cp by stock kubectl.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

use berth_testkit::wait_for;

use crate::cluster::{Cluster, LIMIT, class, pod, words};

const SERVE: &str = "trap 'exit 0' TERM; mkdir -p /www; echo hello from the pod > /www/index.html; \
                     httpd -p 8080 -h /www; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.2 & wait; done";

fn with_class(class_name: &str, handler: &str) {
    let cluster = Cluster::start();
    cluster.apply(&class(class_name, handler));
    cluster.apply(&pod("web", Some(class_name), SERVE));
    cluster.apply(
        &pod("echo", Some(class_name), "cat")
            .replace("    command", "    stdin: true\n    command"),
    );
    cluster.wait_ready(&["web", "echo"]);
    logs_follow(&cluster);
    exec(&cluster);
    attach(&cluster);
    port_forward(&cluster);
    copy(&cluster);
}

#[test]
fn streams_reach_a_runc_pod() {
    with_class("runc", "runc");
}

#[test]
fn streams_reach_a_gvisor_pod() {
    with_class("gvisor", "runsc");
}

fn logs_follow(cluster: &Cluster) {
    let mut follow = cluster
        .kubectl()
        .args(["logs", "-f", "web"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl logs");
    let lines = BufReader::new(follow.stdout.take().expect("its output")).lines();
    let got: Vec<String> = lines.take(8).map_while(Result::ok).collect();
    let want: Vec<String> = (0..8).map(|number| format!("line {number}")).collect();
    assert_eq!(got, want);
    follow.kill().expect("it runs");
    follow.wait().expect("it ends");
    // A line may come in while the end is looked for.
    let tail = cluster.kube(&["logs", "web", "--tail=1"]);
    assert!((1..=2).contains(&tail.lines().count()), "{tail}");
    assert!(!tail.contains("line 0\n"), "{tail}");
}

fn exec(cluster: &Cluster) {
    let failed = cluster.try_kubectl(&[
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 42",
    ]);
    assert_eq!(failed.status.code(), Some(42));
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "out\n");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("err"));

    let mut cat = cluster
        .kubectl()
        .args(["exec", "-i", "web", "--", "sha256sum"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl exec");
    let mut input = cat.stdin.take().expect("its input");
    input.write_all(&vec![b'x'; 3_000_000]).expect("it reads");
    drop(input);
    let output = cat.wait_with_output().expect("it ends");
    // sha256 of three million times `x`, as coreutils computes it.
    let want = {
        let mut child = Command::new("sha256sum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sha256sum");
        let mut input = child.stdin.take().expect("its input");
        input.write_all(&vec![b'x'; 3_000_000]).expect("it reads");
        drop(input);
        child.wait_with_output().expect("it ends").stdout
    };
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&want)
    );

    let kubectl = format!(
        "KUBECONFIG={} kubectl exec -it web -- sh -c 'sleep 1; stty size; test -t 0 && echo a terminal'",
        cluster.data().join("admin.kubeconfig").display()
    );
    let terminal = Command::new("script")
        .args([
            "-qec",
            &format!("stty rows 31 cols 97; {kubectl}"),
            "/dev/null",
        ])
        .stdin(Stdio::null())
        .output()
        .expect("script");
    let said = words(&terminal);
    assert!(
        said.contains("31 97"),
        "the terminal's size reached the pod: {said:?}"
    );
    assert!(said.contains("a terminal"), "it has a terminal: {said:?}");
}

fn attach(cluster: &Cluster) {
    let mut attached = cluster
        .kubectl()
        .args(["attach", "-i", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("kubectl attach");
    let mut input = attached.stdin.take().expect("its input");
    input.write_all(b"are you there\n").expect("it reads");
    let mut line = String::new();
    BufReader::new(attached.stdout.take().expect("its output"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "are you there\n");
    attached.kill().expect("it runs");
    attached.wait().expect("it ends");
}

fn port_forward(cluster: &Cluster) {
    let mut forward = cluster
        .kubectl()
        .args(["port-forward", "--address=127.0.0.1", "pod/web", ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl port-forward");
    // It writes a line for each connection, and dies when nobody can read them.
    let mut output = BufReader::new(forward.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    let port: u16 = line
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no port in {line:?}"));
    for _ in 0..3 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("hello from the pod"), "{answer}");
    }
    drop(output);
    forward.kill().expect("it runs");
    forward.wait().expect("it ends");
}

fn copy(cluster: &Cluster) {
    let dir = crate::cluster::short_dir();
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    std::fs::write(&there, "some\0bytes\n".repeat(1000)).expect("a file");
    cluster.kube(&["cp", &there.to_string_lossy(), "web:/tmp/file"]);
    wait_for("the copy to come back", LIMIT, || {
        let output = cluster.try_kubectl(&["cp", "web:/tmp/file", &back.to_string_lossy()]);
        if output.status.success() {
            Ok(())
        } else {
            Err(words(&output))
        }
    });
    assert_eq!(
        std::fs::read(&back).expect("the copy"),
        std::fs::read(&there).expect("the file")
    );
}
