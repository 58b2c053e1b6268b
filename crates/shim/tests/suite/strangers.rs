//! Another's shim under our client, and ours by its plain FIFOs.

use std::time::Duration;

use berth_shim::client::{AttachStreams, Shim, ShimError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Pod, Settings, eventually, within};

const ALL: AttachStreams = AttachStreams {
    stdin: true,
    stdout: true,
    stderr: true,
};

#[tokio::test]
async fn containerds_shim_runs_logs_and_tells_exit_codes() {
    let pod = Pod::start_stranger().await;
    let id = pod
        .run(
            &["sh", "-c", "echo out; echo err >&2; printf rest; exit 6"],
            &Settings::default(),
        )
        .await;
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 6);
    let mut log = pod.log(&id);
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout P rest"]);
    assert_eq!(pod.shim().delete(&id).await.expect("delete").code, 6);
    assert!(
        pod.shim()
            .state(&id)
            .await
            .expect_err("gone")
            .is_not_found()
    );
    assert!(
        pod.shim()
            .kill(&id, 9, false)
            .await
            .expect_err("gone")
            .is_not_found()
    );
    pod.end().await;
}

#[tokio::test]
async fn containerds_shim_execs() {
    let pod = Pod::start_stranger().await;
    let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
    let process = pod.exec_process(
        &id,
        &["sh", "-c", "head -c 300000 /dev/zero; echo err >&2; exit 5"],
        false,
    );
    let got = within(pod.shim().exec_sync(&id, &process, Duration::ZERO))
        .await
        .expect("exec");
    assert_eq!(
        (got.code, got.stdout.len(), &*got.stderr),
        (5, 300_000, &b"err\n"[..])
    );

    let mut session = within(
        pod.shim()
            .exec(&id, &pod.exec_process(&id, &["cat"], false), ALL),
    )
    .await
    .expect("exec");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"hello").await.expect("write");
    drop(stdin);
    let mut text = String::new();
    within(
        session
            .stdout
            .take()
            .expect("stdout")
            .read_to_string(&mut text),
    )
    .await
    .expect("read");
    assert_eq!(text, "hello");
    assert_eq!(within(session.control.wait()).await.expect("wait").code, 0);

    let terminal = pod.exec_process(&id, &["sh", "-c", "read x; stty size"], true);
    let mut session = within(pod.shim().exec(&id, &terminal, ALL))
        .await
        .expect("exec");
    session.control.resize(91, 37).await.expect("resize");
    session
        .stdin
        .as_mut()
        .expect("stdin")
        .write_all(b"go\n")
        .await
        .expect("write");
    let mut text = String::new();
    within(
        session
            .stdout
            .take()
            .expect("stdout")
            .read_to_string(&mut text),
    )
    .await
    .expect("read");
    assert!(text.contains("37 91"), "{text:?}");
    within(session.control.wait()).await.expect("wait");

    let slow = pod.exec_process(&id, &["sleep", "1000"], false);
    let late = within(pod.shim().exec_sync(&id, &slow, Duration::from_millis(300))).await;
    assert!(matches!(late, Err(ShimError::Timeout(_))), "{late:?}");
    pod.end().await;
}

#[tokio::test]
async fn containerds_shim_keeps_output_while_we_restart() {
    let pod = Pod::start_stranger().await;
    let settings = Settings {
        stdin: true,
        ..Settings::default()
    };
    let id = pod
        .run(
            &["sh", "-c", "echo one; read x; echo got $x; read y"],
            &settings,
        )
        .await;
    eventually("the first line", || pod.log(&id) == ["stdout F one"]).await;
    let mut first = pod.shim().attach(&id, ALL).await.expect("attach");
    first
        .stdin
        .as_mut()
        .expect("stdin")
        .write_all(b"word\n")
        .await
        .expect("write");
    eventually("the second line", || pod.log(&id).len() == 2).await;

    let again = Shim::reconnect(&pod.config, &pod.dir.path().join("pod"))
        .await
        .expect("reconnect");
    again
        .adopt(&id, &pod.dir.path().join(&id))
        .await
        .expect("adopt");
    let second = again.attach(&id, ALL).await.expect("attach");
    second
        .stdin
        .expect("stdin")
        .write_all(b"bye\n")
        .await
        .expect("write");
    assert_eq!(within(again.wait(&id)).await.expect("wait").code, 0);
    assert_eq!(pod.log(&id), ["stdout F one", "stdout F got word"]);
    pod.end().await;
}

#[tokio::test]
async fn our_shim_serves_fifos_to_whoever_brings_them() {
    let mut pod = Pod::start("runc").await;
    // The same shim, but driven as a stranger would: by FIFOs, which the client reads.
    pod.as_stranger().await;
    let settings = Settings {
        stdin: true,
        ..Settings::default()
    };
    let id = pod
        .run(&["sh", "-c", "cat; echo done >&2; exit 8"], &settings)
        .await;
    let mut session = pod.shim().attach(&id, ALL).await.expect("attach");
    session
        .stdin
        .as_mut()
        .expect("stdin")
        .write_all(b"through a fifo\n")
        .await
        .expect("write");
    let mut buf = [0; 15];
    within(
        session
            .stdout
            .as_mut()
            .expect("stdout")
            .read_exact(&mut buf),
    )
    .await
    .expect("read");
    assert_eq!(&buf, b"through a fifo\n");
    pod.shim().close_stdin(&id).await.expect("close");
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 8);
    assert_eq!(pod.log(&id), ["stdout F through a fifo", "stderr F done"]);

    let holder = pod.run(&["sleep", "1000"], &Settings::default()).await;
    let process = pod.exec_process(&holder, &["sh", "-c", "echo hi; exit 2"], false);
    let got = within(pod.shim().exec_sync(&holder, &process, Duration::ZERO))
        .await
        .expect("exec");
    assert_eq!((got.code, &*got.stdout), (2, &b"hi\n"[..]));
    pod.end().await;
}
