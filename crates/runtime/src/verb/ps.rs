//! `ps`.

use crate::cgroup;
use crate::cli::Global;
use crate::error::Error;
use crate::record::Place;

#[derive(Debug, clap::Args)]
pub(crate) struct Ps {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// The container's id
    id: String,
    /// Options of ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn ps(global: &Global, args: &Ps) -> Result<(), Error> {
    let (container, _) = Place::new(global, &args.id)?.load()?;
    let pids = cgroup::processes(&container);
    if args.format == "json" {
        println!("{}", super::list::json(&pids)?);
        return Ok(());
    }
    let mut command = std::process::Command::new("ps");
    if args.options.is_empty() {
        command.arg("-ef");
    } else {
        command.args(&args.options);
    }
    let output = command
        .output()
        .map_err(|error| Error::System("run ps", error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Error::Unsupported("ps prints no PID with these options".to_owned()))?;
    println!("{header}");
    for line in lines {
        let pid = line.split_whitespace().nth(column);
        if pid
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
        {
            println!("{line}");
        }
    }
    Ok(())
}
