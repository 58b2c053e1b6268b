//! `kill`.

use libcontainer::container::ContainerStatus;

use crate::cgroup;
use crate::cli::Global;
use crate::error::Error;
use crate::record::Place;

#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// To all processes, not the first alone
    #[arg(short, long)]
    all: bool,
    /// The container's id
    id: String,
    /// A number, or a name with or without SIG
    #[arg(default_value = "SIGTERM")]
    signal: String,
}

pub(crate) fn kill(global: &Global, args: &Kill) -> Result<(), Error> {
    let signal = number(&args.signal)?;
    let (container, _) = Place::new(global, &args.id)?.load()?;
    let stopped = container.status() == ContainerStatus::Stopped;
    if args.all {
        // Others may live on where the first process is gone, when it was no init.
        cgroup::signal_all(&container, signal);
        return Ok(());
    }
    let Some(pid) = container.pid().filter(|_| !stopped) else {
        return Err(Error::NotRunning(args.id.clone()));
    };
    cgroup::send(pid.as_raw(), signal);
    if signal == libc::SIGKILL && container.status() == ContainerStatus::Paused {
        cgroup::thaw(&container);
    }
    Ok(())
}

fn number(text: &str) -> Result<i32, Error> {
    let unknown = || Error::Signal(text.to_owned());
    if let Ok(number) = text.parse::<i32>() {
        return (0..=libc::SIGRTMAX())
            .contains(&number)
            .then_some(number)
            .ok_or_else(unknown);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let more = if rest.is_empty() {
            Ok(0)
        } else {
            rest.parse::<i32>()
        };
        let number = libc::SIGRTMIN() + more.map_err(|_| unknown())?;
        return (number <= libc::SIGRTMAX())
            .then_some(number)
            .ok_or_else(unknown);
    }
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, want) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("sigusr1", Some(10)),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMIN", Some(libc::SIGRTMIN())),
            ("65", None),
            ("-1", None),
            ("SIGNOPE", None),
        ] {
            assert_eq!(number(text).ok(), want, "{text}");
        }
    }
}
