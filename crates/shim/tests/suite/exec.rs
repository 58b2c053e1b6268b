//! Further processes, and attaching.

use std::time::Duration;

use berth_shim::client::{AttachStreams, ShimError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Pod, RUNTIMES, Settings, eventually, eventually_so, within};

const ALL: AttachStreams = AttachStreams {
    stdin: true,
    stdout: true,
    stderr: true,
};

#[tokio::test]
async fn output_and_exit_code_of_a_command() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let process = pod.exec_process(&id, &["sh", "-c", "echo out; echo err >&2; exit 5"], false);
        let got = within(pod.shim().exec_sync(&id, &process, Duration::ZERO))
            .await
            .expect("exec");
        assert_eq!(
            (got.code, &*got.stdout, &*got.stderr),
            (5, &b"out\n"[..], &b"err\n"[..]),
            "{runtime}"
        );
        let process = pod.exec_process(&id, &["/no/such"], false);
        let missing = within(pod.shim().exec_sync(&id, &process, Duration::ZERO)).await;
        let error = missing.expect_err("no such program");
        assert!(error.to_string().contains("/no/such"), "{runtime}: {error}");
        pod.end().await;
    }
}

#[tokio::test]
async fn large_output_is_whole() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let process = pod.exec_process(&id, &["sh", "-c", "head -c 3000000 /dev/zero"], false);
        let got = within(pod.shim().exec_sync(&id, &process, Duration::ZERO))
            .await
            .expect("exec");
        assert_eq!(got.stdout.len(), 3_000_000, "{runtime}");
        pod.end().await;
    }
}

#[tokio::test]
async fn a_timeout_ends_the_whole_tree() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let process = pod.exec_process(&id, &["sh", "-c", "sleep 2000 & sleep 3000"], false);
        let got = within(
            pod.shim()
                .exec_sync(&id, &process, Duration::from_millis(700)),
        )
        .await;
        assert!(
            matches!(got, Err(ShimError::Timeout(_))),
            "{runtime}: {got:?}"
        );
        shows(&pod, &id, |seen| {
            seen.contains("sleep 1000")
                && !seen.contains("sleep 2000")
                && !seen.contains("sleep 3000")
        })
        .await;
        pod.end().await;
    }
}

/// A server that is killed can't end what it executes; the shim does.
#[tokio::test]
async fn a_timeout_holds_without_its_client() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let process = pod.exec_process(&id, &["sh", "-c", "sleep 2000 & sleep 3000"], false);
        let executing = tokio::spawn({
            let (shim, id) = (pod.shim().clone(), id.clone());
            async move { shim.exec_sync(&id, &process, Duration::from_secs(2)).await }
        });
        shows(&pod, &id, |seen| seen.contains("sleep 3000")).await;
        executing.abort();
        shows(&pod, &id, |seen| {
            seen.contains("sleep 1000")
                && !seen.contains("sleep 2000")
                && !seen.contains("sleep 3000")
        })
        .await;
        pod.end().await;
    }
}

/// Waits until the processes in a container are as wanted.
async fn shows(pod: &Pod, id: &str, wanted: impl Fn(&str) -> bool) {
    let look = pod.exec_process(id, &["ps", "-o", "args"], false);
    eventually_so("processes as wanted", async || {
        let seen = within(pod.shim().exec_sync(id, &look, Duration::ZERO)).await;
        wanted(&String::from_utf8_lossy(&seen.expect("ps").stdout))
    })
    .await;
}

#[tokio::test]
async fn stdin_goes_in_and_its_end_too() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let process = pod.exec_process(&id, &["cat"], false);
        let mut session = within(pod.shim().exec(&id, &process, ALL))
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
        assert_eq!(text, "hello", "{runtime}");
        assert_eq!(
            within(session.control.wait()).await.expect("wait").code,
            0,
            "{runtime}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn a_terminal_has_the_size_it_was_given() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let process = pod.exec_process(&id, &["sh", "-c", "read x; stty size; exit 4"], true);
        let streams = AttachStreams {
            stdin: true,
            stdout: true,
            stderr: false,
        };
        let mut session = within(pod.shim().exec(&id, &process, streams))
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
        assert!(text.contains("37 91"), "{runtime}: {text:?}");
        assert_eq!(
            within(session.control.wait()).await.expect("wait").code,
            4,
            "{runtime}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn several_attach_to_one_container() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let settings = Settings {
            stdin: true,
            ..Settings::default()
        };
        let id = pod
            .run(
                &[
                    "sh",
                    "-c",
                    "while read x; do echo got $x; done; echo end >&2",
                ],
                &settings,
            )
            .await;
        let mut first = pod.shim().attach(&id, ALL).await.expect("attach");
        let mut second = pod
            .shim()
            .attach(
                &id,
                AttachStreams {
                    stdin: false,
                    ..ALL
                },
            )
            .await
            .expect("attach");
        first
            .stdin
            .as_mut()
            .expect("stdin")
            .write_all(b"a\nb\n")
            .await
            .expect("write");
        let mut buf = [0; 12];
        within(second.stdout.as_mut().expect("stdout").read_exact(&mut buf))
            .await
            .expect("read");
        assert_eq!(&buf, b"got a\ngot b\n", "{runtime}");
        pod.shim().close_stdin(&id).await.expect("close");
        let mut text = String::new();
        let mut errors = String::new();
        within(
            first
                .stdout
                .take()
                .expect("stdout")
                .read_to_string(&mut text),
        )
        .await
        .expect("read");
        within(
            second
                .stderr
                .take()
                .expect("stderr")
                .read_to_string(&mut errors),
        )
        .await
        .expect("read");
        assert_eq!(
            (text.as_str(), errors.as_str()),
            ("got a\ngot b\n", "end\n"),
            "{runtime}"
        );
        assert_eq!(
            within(first.control.wait()).await.expect("wait").code,
            0,
            "{runtime}"
        );
        let want = ["stdout F got a", "stdout F got b", "stderr F end"];
        eventually("log is whole", || pod.log(&id) == want).await;
        pod.end().await;
    }
}
