//! The log: runc's lines of text or JSON. libcontainer's own errors go there too when there is a file,
//! since they tell more than what it returns; children that it forks write to the same open file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::words;

/// How much of the log is looked at for a reason.
const READ_MAX: u64 = 256 << 10;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Where the last word is said.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    format: Format,
    /// Where in the file this run's lines begin; none without a file.
    begun: Option<(PathBuf, u64)>,
}

/// Opens the log. A log that can't be opened is standard error.
pub(crate) fn start(path: Option<&Path>, format: Format, debug: bool) -> Log {
    let file = path.and_then(|path| File::options().append(true).create(true).open(path).ok());
    let events = file.as_ref().and_then(|file| file.try_clone().ok());
    let length = |file: &File| Some(file.metadata().ok()?.len());
    let begun = path.map(Path::to_owned).zip(file.as_ref().and_then(length));
    let most = if debug { Level::DEBUG } else { Level::ERROR };
    if events.is_some() || debug {
        let events = Events {
            log: Log {
                file: events,
                format,
                begun: None,
            },
            most,
        };
        // Only a second call could fail.
        let _ = tracing::subscriber::set_global_default(events);
    }
    Log {
        file,
        format,
        begun,
    }
}

impl Log {
    /// What libcontainer, or a process that it has forked, gave as the first reason of its failure.
    pub(crate) fn first_reason(&self) -> Option<String> {
        let (path, begun) = self.begun.as_ref()?;
        let mut file = File::open(path).ok()?;
        file.seek(SeekFrom::Start(*begun)).ok()?;
        let mut text = String::new();
        file.take(READ_MAX).read_to_string(&mut text).ok()?;
        words::first_reason(&text)
    }

    /// The reason of the failure: the log's last line, and the user's.
    pub(crate) fn fatal(&self, message: &str) {
        self.line("error", message);
        if self.file.is_some() {
            eprintln!("berth oci: {message}");
        }
    }

    fn line(&self, level: &str, message: &str) {
        let now = jiff::Timestamp::now();
        let mut line = match self.format {
            Format::Json => {
                serde_json::json!({ "level": level, "msg": message, "time": now.to_string() })
                    .to_string()
            }
            Format::Text if self.file.is_none() => format!("berth oci: {message}"),
            Format::Text => format!("time=\"{now}\" level={level} msg={message:?}"),
        };
        line.push('\n');
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// libcontainer's events as lines of the log.
struct Events {
    log: Log,
    most: Level,
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.most
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let Text {
            message,
            error,
            fields,
        } = text;
        self.log.line(&level, &format!("{message}{error}{fields}"));
    }

    // There are no spans: `enabled` declines them.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    error: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "e" | "err" | "error" => {
                write!(self.error, ": {}", words::of_debug(&format!("{value:?}")))
            }
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
