//! Man pages and shell completions, made of the command line itself.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// Shell that reads it
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Directory for the pages; it is made where there is none
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl CompletionArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "berth", &mut script);
        // Who reads only the first lines is no error.
        let _closed = std::io::stdout().write_all(&script);
        Ok(())
    }
}

impl ManArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let directory = &self.directory;
        std::fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
            .with_context(|| format!("cannot write man pages into {}", directory.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_command() {
        let directory = tempfile::tempdir().unwrap();
        let args = ManArgs {
            directory: directory.path().join("man1"),
        };
        args.run().unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join("man1").join(name));
        assert!(page("berth.1").unwrap().contains("berth\\-up(1)"));
        assert!(page("berth-up.1").unwrap().contains("\\-\\-data\\-dir"));
        assert!(page("berth-cri-handlers.1").is_ok());
        // What other programs start is no command for people.
        assert!(page("berth-man.1").is_err());
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "berth", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("overhead"), "{shell}");
        }
    }
}
