//! runc's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;
use crate::{log, seal, verb, words};

/// Where containers are kept when nobody says.
const DEFAULT_ROOT: &str = "/run/berth/oci";

#[derive(Debug, Parser)]
#[command(
    name = "berth oci",
    about = "The OCI runtime inside berth: runc's command line",
    disable_version_flag = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Directory of the containers' state
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    root: PathBuf,
    /// File to append the log to [default: standard error]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the log: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    /// Log what libcontainer does
    #[arg(long)]
    debug: bool,
    /// Cgroup paths are systemd's SLICE:PREFIX:NAME
    #[arg(long)]
    systemd_cgroup: bool,
    /// Print the version
    #[arg(short, long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a container and stop before its program
    Create(verb::create::Create),
    /// Let a created container's program run
    Start(Id),
    /// Create, start and wait
    Run(verb::create::Create),
    /// Print a container's state as JSON
    State(Id),
    /// Send a signal to a container
    Kill(verb::kill::Kill),
    /// Remove a container that has ended
    Delete(verb::delete::Delete),
    /// Run another process in a container
    Exec(verb::exec::Exec),
    /// Print a container's processes
    Ps(verb::ps::Ps),
    /// Print a container's figures as JSON lines
    Events(verb::events::Events),
    /// Change a container's limits
    Update(verb::update::Update),
    /// Stop all of a container's processes where they are
    Pause(Id),
    /// Let a paused container go on
    Resume(Id),
    /// Print the containers
    List(verb::list::List),
    /// Print what this runtime can do, as JSON
    Features,
}

/// A container, by its id.
#[derive(Debug, clap::Args)]
pub(crate) struct Id {
    /// The container's id
    pub(crate) id: String,
}

/// What every verb gets.
#[derive(Debug)]
pub(crate) struct Global {
    pub(crate) root: PathBuf,
    pub(crate) systemd_cgroup: bool,
}

pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let name = OsString::from("berth oci");
    let cli = match Cli::try_parse_from(std::iter::once(name).chain(args)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if cli.version {
        println!(
            "{} version {}\nspec: {}",
            crate::NAME,
            env!("CARGO_PKG_VERSION"),
            oci_spec::runtime::VERSION
        );
        return ExitCode::SUCCESS;
    }
    let Some(verb) = cli.verb else {
        eprintln!("berth oci: no verb; see berth oci --help");
        return ExitCode::FAILURE;
    };
    let log = log::start(cli.log.as_deref(), cli.log_format, cli.debug);
    let global = Global {
        root: cli.root,
        systemd_cgroup: cli.systemd_cgroup,
    };
    // An exec's exit codes are the command's; runc's own failures there are 255.
    let failure = match verb {
        Verb::Exec(_) => 255,
        _ => 1,
    };
    match run(&global, verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut message = error.chain();
            if error.is_of_container()
                && let Some(reason) = log.first_reason()
            {
                words::add(&mut message, &reason);
            }
            log.fatal(&message);
            ExitCode::from(failure)
        }
    }
}

fn run(global: &Global, verb: Verb) -> Result<u8, Error> {
    let done = |result: Result<(), Error>| result.map(|()| 0);
    match verb {
        Verb::Create(args) => {
            seal::ensure()?;
            done(verb::create::create(global, &args))
        }
        Verb::Run(args) => {
            seal::ensure()?;
            verb::run::run(global, &args)
        }
        Verb::Exec(args) => {
            seal::ensure()?;
            verb::exec::exec(global, args)
        }
        Verb::Start(args) => done(verb::start::start(global, &args.id)),
        Verb::State(args) => done(verb::state::state(global, &args.id)),
        Verb::Kill(args) => done(verb::kill::kill(global, &args)),
        Verb::Delete(args) => done(verb::delete::delete(global, &args)),
        Verb::Ps(args) => done(verb::ps::ps(global, &args)),
        Verb::Events(args) => done(verb::events::events(global, &args)),
        Verb::Update(args) => done(verb::update::update(global, &args)),
        Verb::Pause(args) => done(verb::pause::pause(global, &args.id)),
        Verb::Resume(args) => done(verb::pause::resume(global, &args.id)),
        Verb::List(args) => done(verb::list::list(global, &args)),
        Verb::Features => done(verb::features::features()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn runcs_lines_are_understood() {
        for line in [
            "--root=/r --log=/l --log-format=json --systemd-cgroup create --bundle /b --pid-file /p --console-socket /c --no-pivot --no-new-keyring --preserve-fds 2 id",
            "--root /r create -b /b id",
            "exec --process /p --detach --pid-file /q --console-socket /c id",
            "exec -d -t -e A=B --cwd / -u 1:2 -g 3 --cap CAP_KILL --preserve-fds 1 id sh -c true",
            "kill --all id 9",
            "kill id SIGTERM",
            "delete --force id",
            "events --stats id",
            "ps --format json id",
            "ps id -ef",
            "update --resources /r id",
            "list --format json",
            "list -q",
            "state id",
        ] {
            let words = std::iter::once("berth oci").chain(line.split_whitespace());
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
