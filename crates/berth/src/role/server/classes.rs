//! Flags about RuntimeClasses.

use std::time::Duration;

use berth_apiserver::PodTemplatePath;
use berth_controllers::managed_classes;

/// Flags of RuntimeClasses that the server makes, and of what it looks at for policies of namespaces.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ClassArgs {
    /// Make a RuntimeClass for each handler that works on a node, if it is one of the usual ones (runc, crun, runsc, Kata's, ...),
    /// and remove it when no node has the handler any more [default: true with berth up, else false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true
    )]
    create_runtime_classes: Option<bool>,
    /// Another handler for which a RuntimeClass is made (may be repeated)
    #[arg(long = "create-runtime-class-for", value_name = "HANDLER", value_parser = handler)]
    more_handlers: Vec<String>,
    /// How long such a class stays that no node can run and nothing names, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    unusable_runtime_class_grace: u64,
    /// Where a custom resource has the template of its pods, so that who applies one is warned as of a Deployment: of a
    /// class that is missing, of what no node can run, of pods that the namespace's policy keeps out (may be repeated)
    #[arg(long = "pod-template-path", value_name = "RESOURCE.GROUP=.PATH")]
    pub(crate) pod_template_paths: Vec<PodTemplatePath>,
}

impl ClassArgs {
    /// How classes are made; none when they are not. `by_default` is what holds without a flag.
    pub(crate) fn managed(
        &self,
        by_default: bool,
        overhead_period: Duration,
    ) -> Option<managed_classes::Config> {
        let makes = self.create_runtime_classes.unwrap_or(by_default);
        makes.then(|| managed_classes::Config {
            more_handlers: self.more_handlers.clone(),
            grace: Duration::from_secs(self.unusable_runtime_class_grace),
            measured_period: overhead_period,
        })
    }
}

fn handler(text: &str) -> Result<String, String> {
    match berth_api::names::dns1123_label(text).first() {
        None => Ok(text.to_owned()),
        Some(complaint) => Err(format!("no class can name this handler: {complaint}")),
    }
}
