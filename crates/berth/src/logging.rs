//! Logs go to standard error; what a command answers goes to standard output.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Flags of every long-running role.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogArgs {
    /// What to log: error, warn, info, debug or trace, or tracing directives (`berth_node=debug`)
    #[arg(
        long,
        env = "BERTH_LOG",
        default_value = "info",
        value_name = "LEVEL",
        global = true
    )]
    pub(crate) log: String,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text", global = true)]
    pub(crate) log_format: LogFormat,
}

impl LogArgs {
    /// Starts logging.
    ///
    /// # Errors
    /// When the directives make no sense.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let level = self.log.trim();
        // A bare level speaks of berth; its libraries are heard from `warn` on.
        let directives = match level {
            "error" => "error".to_owned(),
            // libcgroups warns of each controller that a machine has not.
            "warn" | "info" | "debug" | "trace" => format!("warn,libcgroups=error,berth={level}"),
            other => other.to_owned(),
        };
        let filter = EnvFilter::try_new(&directives)
            .map_err(|error| anyhow::anyhow!("--log {level:?}: {error}"))?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().init(),
        }
        Ok(())
    }
}
