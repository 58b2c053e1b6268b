//! `berth check`: what will not work, found before it is applied.

mod cluster;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use berth_check::{Facts, HandlerFact, Kind, NodeFacts, Problem, problems};
use berth_cri::{HandlerSource, Survey};

use crate::kubeconfig;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Manifests: YAML or JSON files, directories of them, or - for standard input
    files: Vec<PathBuf>,
    /// A node's configuration: containerd's config.toml (may be repeated, one a node)
    #[arg(long, value_name = "FILE")]
    containerd_config: Vec<PathBuf>,
    /// A node's configuration: CRI-O's crio.conf (may be repeated, one a node)
    #[arg(long, value_name = "FILE")]
    crio_config: Vec<PathBuf>,
    /// A node's configuration: berth's own config.toml (may be repeated, one a node)
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Recognized only to say why it can't be used
    #[arg(long, value_name = "FILE", hide = true)]
    docker_config: Vec<PathBuf>,
    /// Check a whole cluster, and the manifests against it
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A problem a paragraph
    Text,
    /// One JSON object: {"problems": [...], "notLookedAt": {...}}
    Json,
}

impl CheckArgs {
    /// Exit code 1 when there is a problem; warnings alone are none.
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        ensure!(
            !self.files.is_empty() || self.kubeconfig.is_some() || !self.sources().is_empty(),
            "nothing to check: give manifests, a node's configuration (--containerd-config, --crio-config, --config) \
             or --kubeconfig"
        );
        let mut facts = Facts::default();
        if let Some(path) = &self.kubeconfig {
            let client = kubeconfig::load(path).await?.client;
            cluster::gather(&client, &mut facts).await?;
        }
        let embedded = crate::role::cri::embedded_command()?;
        for source in self.sources() {
            add_node(&source, &embedded, &mut facts);
        }
        for file in &self.files {
            for (name, text) in files(file) {
                match text {
                    Ok(text) => facts.add_manifest(&name, &text),
                    Err(error) => facts.found.push(unreadable(&name, "file", &error)),
                }
            }
        }
        let found = problems(&facts);
        report(&found, &facts, self.output)?;
        Ok(if found.iter().all(|problem| problem.warning) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn sources(&self) -> Vec<HandlerSource> {
        let containerd = self
            .containerd_config
            .iter()
            .cloned()
            .map(HandlerSource::Containerd);
        let crio = self.crio_config.iter().cloned().map(HandlerSource::Crio);
        let own = self.config.iter().cloned().map(HandlerSource::Berth);
        let docker = self.docker_config.iter().cloned();
        let docker = docker.map(HandlerSource::Docker);
        containerd.chain(crio).chain(own).chain(docker).collect()
    }
}

/// What can't be read is a problem like others: the rest is checked all the same.
fn unreadable(place: &str, object: &str, error: &anyhow::Error) -> Problem {
    Problem::new(
        place,
        object,
        Kind::Unreadable,
        format!("{error:#}"),
        "correct the file, or its path",
    )
}

/// Adds a node as its configuration describes it, and what is wrong with that; binaries are looked for on this machine.
fn add_node(source: &HandlerSource, embedded: &[OsString], facts: &mut Facts) {
    let name = match source {
        HandlerSource::BuiltIn => "this machine".to_owned(),
        HandlerSource::Berth(path)
        | HandlerSource::Containerd(path)
        | HandlerSource::Crio(path)
        | HandlerSource::Docker(path) => path.display().to_string(),
    };
    let survey = match source.survey(embedded) {
        Ok(survey) => survey,
        Err(error) => {
            let error = anyhow::Error::from(error);
            return facts.found.push(unreadable(&name, "configuration", &error));
        }
    };
    // A trial makes namespaces and mounts.
    if nix::unistd::geteuid().is_root() {
        survey.table().try_out();
    }
    facts.found.extend(wrong_with(&name, &survey));
    let handlers: BTreeMap<String, HandlerFact> = survey
        .table()
        .iter()
        .map(|handler| {
            let fact = HandlerFact {
                broken: handler.broken(),
                configured: true,
                isolation: handler.isolation().and_then(|level| level.parse().ok()),
            };
            (handler.definition.name.clone(), fact)
        })
        .collect();
    facts.nodes.push(NodeFacts {
        name,
        handlers: Some(handlers),
        node: None,
    });
}

/// What a start with a configuration would stumble over, and what in it has no effect.
fn wrong_with(name: &str, survey: &Survey) -> Vec<Problem> {
    let configuration = |message: String, suggestion: &str| {
        Problem::new(
            name,
            "configuration",
            Kind::Configuration,
            message,
            suggestion,
        )
    };
    let refusals = survey.refusals().into_iter();
    let refusals = refusals.map(|refusal| {
        configuration(
            refusal,
            "correct it; the runtime does not start with it as it is",
        )
    });
    let mistakes = survey.mistakes().map(|mistake| {
        let message = format!("{}: {}", mistake.origin, mistake.message);
        Problem {
            warning: mistake.is_doubtful,
            ..configuration(message, "correct it, or remove it")
        }
    });
    refusals.chain(mistakes).collect()
}

/// The manifests of a file, of a directory's files, or of standard input.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let files = if path.is_dir() {
        manifests_in(path)?
    } else {
        vec![path.to_owned()]
    };
    files
        .into_iter()
        .map(|file| Ok((file.display().to_string(), read_text(&file)?)))
        .collect()
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The manifests of a directory, in name order.
fn manifests_in(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(cannot)? {
        let entry = entry.with_context(cannot)?.path();
        let extension = entry.extension().and_then(|e| e.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(entry);
        }
    }
    files.sort();
    Ok(files)
}

/// [`read`], with what fails beside what doesn't.
fn files(path: &Path) -> Vec<(String, anyhow::Result<String>)> {
    let failed = |error| vec![(path.display().to_string(), Err(error))];
    if !path.is_dir() {
        return match read(path) {
            Ok(found) => found
                .into_iter()
                .map(|(name, text)| (name, Ok(text)))
                .collect(),
            Err(error) => failed(error),
        };
    }
    match manifests_in(path) {
        Ok(found) => found
            .into_iter()
            .map(|file| (file.display().to_string(), read_text(&file)))
            .collect(),
        Err(error) => failed(error),
    }
}

fn report(found: &[Problem], facts: &Facts, output: Output) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = match output {
        Output::Json => {
            let all = serde_json::json!({ "problems": found, "notLookedAt": facts.unseen });
            writeln!(out, "{all}")
        }
        Output::Text if found.is_empty() => writeln!(
            out,
            "no problem found: {} class(es), {} pod(s) and workload(s), {} node(s)",
            facts.classes.len(),
            facts.workloads.len(),
            facts.nodes.len()
        ),
        Output::Text => found
            .iter()
            .try_for_each(|problem| writeln!(out, "{problem}")),
    };
    let unseen: Vec<String> = facts
        .unseen
        .iter()
        .map(|(what, why)| format!("{what} ({why})"))
        .collect();
    written
        .and_then(|()| match output {
            Output::Text if !unseen.is_empty() => {
                writeln!(out, "not looked at: {}", unseen.join(", "))
            }
            Output::Text | Output::Json => Ok(()),
        })
        .context("cannot write to standard output")
}
