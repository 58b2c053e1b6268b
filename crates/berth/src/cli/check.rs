//! `berth check`: what will not work, found before it is applied.

mod cluster;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use berth_check::{Facts, HandlerFact, NodeFacts, Problem, problems};
use berth_cri::{HandlerSource, HandlerState};

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
    /// One JSON object: {"problems": [...]}
    Json,
}

impl CheckArgs {
    /// Exit code 1 when there is a problem.
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
        for source in self.sources() {
            facts.nodes.push(node(&source)?);
        }
        for file in &self.files {
            for (name, text) in read(file)? {
                facts.add_manifest(&name, &text);
            }
        }
        let found = problems(&facts);
        report(&found, &facts, self.output)?;
        Ok(if found.is_empty() {
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
        containerd.chain(crio).chain(own).collect()
    }
}

/// A node as its configuration describes it; binaries are looked for on this machine.
fn node(source: &HandlerSource) -> anyhow::Result<NodeFacts> {
    let name = match source {
        HandlerSource::BuiltIn => "this machine".to_owned(),
        HandlerSource::Berth(path)
        | HandlerSource::Containerd(path)
        | HandlerSource::Crio(path)
        | HandlerSource::Docker(path) => path.display().to_string(),
    };
    let handlers: BTreeMap<String, HandlerFact> = source
        .survey(&crate::role::cri::embedded_command()?)?
        .into_iter()
        .map(|handler| {
            let broken = match handler.state {
                HandlerState::Usable { .. } => None,
                HandlerState::Broken { reason } => Some(reason),
            };
            let fact = HandlerFact {
                broken,
                configured: true,
            };
            (handler.definition.name, fact)
        })
        .collect();
    Ok(NodeFacts {
        name,
        handlers: Some(handlers),
        node: None,
    })
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
    let cannot = || format!("cannot read {}", path.display());
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(cannot)? {
            let entry = entry.with_context(cannot)?.path();
            let extension = entry.extension().and_then(|e| e.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) {
                files.push(entry);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Ok((file.display().to_string(), text))
        })
        .collect()
}

fn report(found: &[Problem], facts: &Facts, output: Output) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => writeln!(out, "{}", serde_json::json!({ "problems": found })),
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
    }
    .context("cannot write to standard output")
}
