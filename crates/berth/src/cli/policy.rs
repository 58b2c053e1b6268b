//! `berth policy render`: the policies of namespaces (default class, allowed classes, minimum isolation) as objects for an API
//! server that is not berth's.

use std::io::Write as _;

use anyhow::Context as _;
use berth_rules::stock_policies;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::overhead::yaml;

#[derive(Debug, Args)]
pub(super) struct PolicyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print ValidatingAdmissionPolicies and MutatingAdmissionPolicies, with bindings, that say for a stock API server what
    /// berth's says of the annotations node.berth.dev/default-runtime-class, allowed-runtime-classes and minimum-isolation
    Render(RenderArgs),
}

#[derive(Debug, Args)]
struct RenderArgs {
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Output,
    /// The version in which the server has MutatingAdmissionPolicies: v1 from Kubernetes 1.36, v1beta1 from 1.34
    #[arg(long, value_enum, default_value = "v1")]
    mutating_version: MutatingVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MutatingVersion {
    V1,
    V1beta1,
    V1alpha1,
}

impl PolicyCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Command::Render(args) = self.command;
        let version = match args.mutating_version {
            MutatingVersion::V1 => "v1",
            MutatingVersion::V1beta1 => "v1beta1",
            MutatingVersion::V1alpha1 => "v1alpha1",
        };
        let objects = stock_policies::render(version);
        let text = match args.output {
            Output::Yaml => {
                let documents: Vec<String> = objects.iter().map(yaml::render).collect();
                documents.join("---\n")
            }
            Output::Json => {
                let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
                format!("{}\n", serde_json::to_string_pretty(&list)?)
            }
        };
        write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yaml_is_what_the_objects_are() {
        let objects = stock_policies::render("v1");
        let documents: Vec<String> = objects.iter().map(yaml::render).collect();
        let read: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(&documents.join("---\n")).unwrap();
        assert_eq!(read, objects);
    }
}
