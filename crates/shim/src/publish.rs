//! containerd's `publish`, the command by which a shim publishes an event that can't call the events service itself:
//! `PROGRAM --address ADDRESS publish --topic TOPIC --namespace NAMESPACE`, with the event (an `Any`) on stdin.

use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::EventsClient;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use ttrpc::asynchronous::Client;

/// The longest event that is read.
const MAX_EVENT: u64 = 64 * 1024;
/// How long it may take to be received.
const LIMIT: Duration = Duration::from_secs(10);

/// What is to be published where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Command {
    address: String,
    topic: String,
    namespace: String,
}

/// Publishes, when the command line says so; else `None`.
#[must_use]
pub fn main(args: &[OsString]) -> Option<ExitCode> {
    let command = parse(args)?;
    match publish(&command) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "publish: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn parse(args: &[OsString]) -> Option<Command> {
    let mut command = Command::default();
    let mut publishes = false;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        // Go's flags have one dash or two, and their values may follow after an equals sign.
        let word = word.to_str()?;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let field = match name.trim_start_matches('-') {
            "address" if name.starts_with('-') => &mut command.address,
            "topic" if publishes => &mut command.topic,
            "namespace" if publishes => &mut command.namespace,
            "publish" if !publishes => {
                publishes = true;
                continue;
            }
            _ => return None,
        };
        *field = match value {
            Some(value) => value,
            None => words.next()?.to_str()?.to_owned(),
        };
    }
    publishes.then_some(command)
}

fn publish(command: &Command) -> Result<(), String> {
    if command.topic.is_empty() || command.namespace.is_empty() {
        return Err("--topic and --namespace are required".to_owned());
    }
    let mut bytes = Vec::new();
    let mut stdin = std::io::stdin().take(MAX_EVENT + 1);
    stdin
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the event on stdin can't be read: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_EVENT {
        return Err(format!(
            "the event on stdin is longer than {MAX_EVENT} bytes"
        ));
    }
    let event = Any::parse_from_bytes(&bytes)
        .map_err(|error| format!("the event on stdin can't be decoded: {error}"))?;
    // The shim has it from whoever started it. By containerd's rule it is beside the address.
    let socket = match std::env::var("TTRPC_ADDRESS") {
        Ok(socket) if !socket.is_empty() => socket,
        Ok(_) | Err(_) => format!("{}.ttrpc", command.address),
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let timestamp = Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap_or(0),
        nanos: i32::try_from(now.subsec_nanos()).unwrap_or(0),
        ..Timestamp::default()
    };
    let request = ForwardRequest {
        envelope: MessageField::some(Envelope {
            timestamp: MessageField::some(timestamp),
            namespace: command.namespace.clone(),
            topic: command.topic.clone(),
            event: MessageField::some(event),
            ..Envelope::default()
        }),
        ..ForwardRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = Client::connect(&format!("unix://{socket}"))
            .await
            .map_err(|error| format!("no events service at {socket}: {error}"))?;
        let context = ttrpc::context::with_duration(LIMIT);
        EventsClient::new(client)
            .forward(context, &request)
            .await
            .map_err(|error| format!("the event was not received: {error}"))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_containerds_publish_is_taken_for_one() {
        let wanted = Command {
            address: "/run/cri.sock".to_owned(),
            topic: "/tasks/exit".to_owned(),
            namespace: "k8s.io".to_owned(),
        };
        for text in [
            "--address /run/cri.sock publish --topic /tasks/exit --namespace k8s.io",
            "-address=/run/cri.sock publish -namespace k8s.io -topic=/tasks/exit",
        ] {
            assert_eq!(parse(&words(text)).as_ref(), Some(&wanted), "{text}");
        }
        for text in [
            "",
            "shim -id a start",
            "-namespace k8s.io -address /a -id a start",
            "publish --other x",
            "address /a publish",
        ] {
            assert_eq!(parse(&words(text)), None, "{text}");
        }
    }
}
