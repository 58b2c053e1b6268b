//! `berth classes`: RuntimeClasses, how many nodes can run each, why the others can't, and how many pods use it.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use berth_core::class_status::{ANNOTATION, ClassStatus};
use berth_core::isolation::DECLARED;
use berth_core::managed_class::{UNUSABLE_SINCE, is_managed};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::access::AccessArgs;
use super::columns::aligned;

#[derive(Debug, clap::Args)]
pub(super) struct ClassesArgs {
    /// Only these classes
    #[arg(value_name = "CLASS")]
    classes: Vec<String>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

impl ClassesArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let classes: Api<RuntimeClass> = Api::all(self.access.client().await?);
        let mut all = classes
            .list(&ListParams::default())
            .await
            .context("cannot list RuntimeClasses")?
            .items;
        for name in &self.classes {
            anyhow::ensure!(
                all.iter().any(|class| class.name_any() == *name),
                "runtimeclasses.node.k8s.io {name:?} not found"
            );
        }
        all.retain(|class| self.classes.is_empty() || self.classes.contains(&class.name_any()));
        all.sort_by_key(|class| class.name_any());
        let text = match self.output {
            Output::Table => table(&all),
            Output::Json => {
                let all: Vec<Value> = all.iter().map(as_json).collect();
                format!("{}\n", serde_json::to_string_pretty(&all)?)
            }
        };
        write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
    }
}

/// What the controller keeps in the class; none where there is no such controller, or not yet.
fn status(class: &RuntimeClass) -> Option<ClassStatus> {
    serde_json::from_str(class.annotations().get(ANNOTATION)?).ok()
}

fn as_json(class: &RuntimeClass) -> Value {
    json!({
        "name": class.name_any(),
        "handler": class.handler,
        "declaredIsolation": class.annotations().get(DECLARED),
        "managed": is_managed(class),
        "unusableSince": class.annotations().get(UNUSABLE_SINCE),
        "status": status(class),
    })
}

fn table(classes: &[RuntimeClass]) -> String {
    let header = [
        "CLASS",
        "HANDLER",
        "ISOLATION",
        "NODES",
        "PODS",
        "MANAGED",
        "UNABLE",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    let mut unknown = 0;
    for class in classes {
        let status = status(class);
        unknown += usize::from(status.is_none());
        let of = |show: fn(&ClassStatus) -> String| status.as_ref().map_or("?".to_owned(), show);
        rows.push([
            class.name_any(),
            class.handler.clone(),
            of(ClassStatus::isolation),
            of(|status| format!("{}/{}", status.able, status.nodes)),
            of(|status| status.pods.to_string()),
            if is_managed(class) { "yes" } else { "no" }.to_owned(),
            of(ClassStatus::why),
        ]);
    }
    let mut text = aligned(&rows, "  ");
    if unknown > 0 {
        let _ = writeln!(
            text,
            "{unknown} class(es) have no status: berth's controllers have not looked at them (yet)"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let mut able = ClassStatus::default();
        able.add_able("vm");
        able.add_unable("n2", "node(s) lack runtime handler \"kata\"");
        able.settle();
        able.pods = 3;
        let mut kata = berth_core::managed_class::make("kata", None);
        let text = serde_json::to_string(&able).unwrap();
        let annotations = kata.metadata.annotations.as_mut().unwrap();
        annotations.insert(ANNOTATION.to_owned(), text);
        let mut own = berth_core::managed_class::make("own", None);
        own.metadata.annotations = None;
        assert_eq!(
            table(&[kata, own]),
            "CLASS  HANDLER  ISOLATION  NODES  PODS  MANAGED  UNABLE\n\
             kata   kata     vm         1/2    3     yes      1 node(s) lack runtime handler \"kata\" (n2)\n\
             own    own      ?          ?      ?     no       ?\n\
             1 class(es) have no status: berth's controllers have not looked at them (yet)\n"
        );
    }
}
