//! A sentry that answers as real ones did, and some that do not.

use std::path::Path;

use tokio::net::UnixListener;

use super::*;

const OLD: &str = r#"{"success":false,"err":"json: cannot unmarshal string into Go value of type struct {}","result":null}"#;
const EVENT: &str = r#"{"success":true,"err":"","result":{"event":{"type":"stats","id":"","data":{"cpu":{"usage":{}},"memory":{"usage":{"limit":0,"usage":2027520,"failcnt":0}},"pids":{"current":3}}},"containerUsage":{"s":0,"c":50000000}}}"#;

/// Listens at a path that the state file names; answers each request with the next of these, in pieces.
fn sentry(dir: &Path, answers: Vec<Vec<u8>>) -> tokio::task::JoinHandle<Vec<String>> {
    let path = dir.join("control.sock");
    let state = json!({"sandbox": {"controlSocketPath": path}});
    std::fs::write(dir.join("s_sandbox:s.state"), state.to_string()).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut requests = Vec::new();
        for answer in answers {
            let mut text = [0; 1000];
            let length = stream.read(&mut text).await.unwrap();
            requests.push(String::from_utf8_lossy(&text[..length]).into_owned());
            for piece in answer.chunks(100) {
                if stream.write_all(piece).await.is_err() {
                    return requests;
                }
                tokio::task::yield_now().await;
            }
        }
        requests
    })
}

async fn ask(dir: &Path) -> Result<Event, ControlError> {
    let pid = i32::try_from(std::process::id()).unwrap();
    event(
        &Sandbox {
            root: dir,
            id: "s",
            pid,
        },
        "c",
    )
    .await
}

#[tokio::test]
async fn an_old_sentry_is_asked_once_more_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let sentry = sentry(dir.path(), vec![OLD.into(), EVENT.into()]);
    let event = ask(dir.path()).await.unwrap();
    assert_eq!(
        (event.memory(), event.pids(), event.by_container),
        (2_027_520, 3, false)
    );
    assert_eq!(event.cpu["c"], 50_000_000);
    let requests = sentry.await.unwrap();
    assert_eq!(
        requests[0],
        r#"{"arg":"c","method":"containerManager.Event"}"#
    );
    assert_eq!(
        requests[1],
        r#"{"arg":{},"method":"containerManager.Event"}"#
    );
}

#[tokio::test]
async fn a_newer_sentry_speaks_for_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let _sentry = sentry(dir.path(), vec![EVENT.into()]);
    assert!(ask(dir.path()).await.unwrap().by_container);
}

#[tokio::test]
async fn what_is_endless_broken_or_refused_is_an_error() {
    let endless = format!("{{\"success\":true,\"err\":\"{}", "x".repeat(4 << 20));
    for (answer, want) in [
        (endless.as_str(), "longer than"),
        ("{\"success\":maybe}", "can't be read"),
        (
            "{\"success\":true,\"err\":\"\",\"result\":{}}",
            "can't be read",
        ),
        ("{\"success\":false,\"err\":\"no\"}", "refused: \"no\""),
        ("{\"success\":true,\"err\":\"\"}", "refused"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let _sentry = sentry(dir.path(), vec![answer.as_bytes().to_vec()]);
        let error = ask(dir.path()).await.unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[tokio::test]
async fn a_sentry_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let state = json!({"sandbox": {"controlAddress": path}});
    std::fs::write(dir.path().join("s_sandbox:s.state"), state.to_string()).unwrap();
    let _listener = UnixListener::bind(path).unwrap();
    let begin = std::time::Instant::now();
    assert!(matches!(ask(dir.path()).await, Err(ControlError::Timeout)));
    assert!(begin.elapsed() < 3 * LIMIT);
}

#[tokio::test]
async fn nobody_else_is_believed_and_no_socket_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let _sentry = sentry(dir.path(), vec![EVENT.into()]);
    let other = event(
        &Sandbox {
            root: dir.path(),
            id: "s",
            pid: 1,
        },
        "c",
    )
    .await;
    assert!(matches!(
        other,
        Err(ControlError::OtherProcess { expected: 1, .. })
    ));
    let none = event(
        &Sandbox {
            root: dir.path(),
            id: "none",
            pid: 1,
        },
        "c",
    )
    .await;
    assert!(matches!(none, Err(ControlError::Connect(_))), "{none:?}");
}
