//! The process that holds a stranger's streams.

use berth_shim::client::AttachStreams;
use berth_shim::stdio::stream_socket;
use berth_shim::stream::{self, Hello, Reply};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::harness::{Pod, Settings, eventually, within};

const ALL: AttachStreams = AttachStreams {
    stdin: true,
    stdout: true,
    stderr: true,
};

/// Waits for a file in the container's root, then does the rest.
fn gated(rest: &str) -> String {
    format!("until [ -e /tmp/gate ]; do sleep 0.02; done; {rest}")
}

fn open_gate(pod: &Pod, id: &str) {
    std::fs::write(pod.dir.path().join(id).join("rootfs/tmp/gate"), "").expect("gate");
}

/// None while the note is being written.
fn keeper(pod: &Pod) -> Option<Pid> {
    let text = std::fs::read_to_string(pod.dir.path().join("pod/keeper.pid")).expect("keeper.pid");
    Pid::from_raw(text.parse().ok()?)
}

#[tokio::test]
async fn a_container_that_ends_while_nobody_is_there_loses_no_line() {
    let mut pod = Pod::start_stranger().await;
    let script = gated("echo out; echo err >&2; printf rest; exit 6");
    let id = pod.run(&["sh", "-c", &script], &Settings::default()).await;
    pod.leave();
    open_gate(&pod, &id);
    let whole = ["stderr F err", "stdout F out", "stdout P rest"];
    let log = |pod: &Pod| {
        let mut log = pod.log(&id);
        log.sort();
        log
    };
    eventually("all is in the log", || log(&pod) == whole).await;
    pod.return_to().await;
    let bundle = pod.dir.path().join(&id);
    pod.shim().adopt(&id, &bundle).await.expect("adopt");
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 6);
    assert_eq!(log(&pod), whole);
    pod.end().await;
}

#[tokio::test]
async fn a_keeper_that_dies_is_replaced_and_ends_with_its_pod() {
    let pod = Pod::start_stranger().await;
    let script = gated("echo two; printf rest; exit 7");
    let script = format!("echo one; {script}");
    let id = pod.run(&["sh", "-c", &script], &Settings::default()).await;
    eventually("the first line", || pod.log(&id) == ["stdout F one"]).await;
    let first = keeper(&pod).expect("a keeper");
    kill_process(first, Signal::KILL).expect("kill");
    // What is written before there is another one waits for it.
    open_gate(&pod, &id);
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 7);
    assert_eq!(
        pod.log(&id),
        ["stdout F one", "stdout F two", "stdout P rest"]
    );
    let second = keeper(&pod).expect("a keeper");
    assert_ne!(second, first);
    kill_process(second, Signal::TERM).expect("kill");
    pod.end().await;
    eventually("the keeper ends", || test_kill_process(second).is_err()).await;
}

#[tokio::test]
async fn a_log_is_rotated_by_whoever_is_there() {
    let mut pod = Pod::start_stranger().await;
    let script = gated("echo two; sleep 1000");
    let script = format!("echo one; {script}");
    let id = pod.run(&["sh", "-c", &script], &Settings::default()).await;
    eventually("the first line", || pod.log(&id) == ["stdout F one"]).await;
    pod.leave();
    pod.return_to().await;
    let log = pod.log_path(&id);
    std::fs::rename(&log, log.with_extension("old")).expect("rename");
    pod.shim().reopen_log(&id).await.expect("reopen");
    open_gate(&pod, &id);
    eventually("the second line", || pod.log(&id) == ["stdout F two"]).await;
    pod.end().await;
}

#[tokio::test]
async fn a_terminals_log_is_whole() {
    let pod = Pod::start_stranger().await;
    let settings = Settings {
        terminal: true,
        stdin: true,
        ..Settings::default()
    };
    let script = "read x; echo got $x; printf rest; exit 3";
    let id = pod.run(&["sh", "-c", script], &settings).await;
    let streams = AttachStreams {
        stderr: false,
        ..ALL
    };
    let mut session = pod.shim().attach(&id, streams).await.expect("attach");
    pod.shim().resize(&id, 91, 37).await.expect("resize");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"word\n").await.expect("write");
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 3);
    let log = pod.log(&id);
    assert_eq!(log.last().expect("a line"), "stdout P rest", "{log:?}");
    assert!(log.iter().any(|l| l.contains("got word")), "{log:?}");
    pod.end().await;
}

#[tokio::test]
async fn stdin_ends_with_its_first_client() {
    let pod = Pod::start_stranger().await;
    let settings = Settings {
        stdin: true,
        stdin_once: true,
        ..Settings::default()
    };
    let id = pod.run(&["sh", "-c", "cat; exit 4"], &settings).await;
    let mut session = pod.shim().attach(&id, ALL).await.expect("attach");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"hello").await.expect("write");
    drop(stdin);
    let mut text = String::new();
    let mut stdout = session.stdout.take().expect("stdout");
    within(stdout.read_to_string(&mut text))
        .await
        .expect("read");
    assert_eq!(text, "hello");
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 4);
    assert_eq!(pod.log(&id), ["stdout P hello"]);
    pod.end().await;
}

/// A server that is killed can't close stdin in the shim any more: the next one does.
#[tokio::test]
async fn stdin_ends_with_a_client_whose_server_was_killed() {
    let mut pod = Pod::start_stranger().await;
    let settings = Settings {
        stdin: true,
        stdin_once: true,
        ..Settings::default()
    };
    let id = pod.run(&["sh", "-c", "cat; exit 4"], &settings).await;
    pod.leave();
    let address = std::fs::read_to_string(pod.dir.path().join("pod/keeper.address"));
    let socket = stream_socket(&address.expect("address"));
    let socket = tokio::net::UnixStream::connect(socket).await;
    let mut socket = BufReader::new(socket.expect("connect"));
    let hello = Hello::Attach {
        id: id.clone(),
        exec_id: String::new(),
        stdin: true,
        stdout: false,
        stderr: false,
    };
    stream::write_line(&mut socket, &hello)
        .await
        .expect("write");
    let reply: Reply = stream::read_line(&mut socket).await.expect("reply");
    assert!(reply.stdin_once, "{reply:?}");
    stream::write_frame(&mut socket, stream::Kind::Stdin, b"last words")
        .await
        .expect("write");
    drop(socket);
    pod.return_to().await;
    let bundle = pod.dir.path().join(&id);
    pod.shim().adopt(&id, &bundle).await.expect("adopt");
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 4);
    assert_eq!(pod.log(&id), ["stdout P last words"]);
    pod.end().await;
}
