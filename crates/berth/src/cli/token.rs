//! `berth token`: bootstrap tokens, in `kubeadm token`'s words.

mod create;
mod list;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;

use crate::bootstrap_token::{BootstrapToken, is_id};
use crate::{data_dir, kubeconfig};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";

#[derive(Debug, clap::Args)]
pub(super) struct TokenCommand {
    /// How to reach the API server, as an administrator [default: DATA_DIR/admin.kubeconfig]
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Data directory of a server on this machine
    #[arg(long, value_name = "DIR", global = true, default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: TokenSubcommand,
}

#[derive(Debug, Subcommand)]
enum TokenSubcommand {
    /// Make a token, and print it or the command with which a machine joins
    Create(create::CreateArgs),
    /// Show the tokens that there are
    List,
    /// Delete tokens: nobody joins with them any longer, who has joined stays
    Delete {
        /// Token, or its ID
        #[arg(required = true, value_name = "TOKEN|ID")]
        tokens: Vec<String>,
    },
}

impl TokenCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = kubeconfig::client_of(self.kubeconfig.as_deref(), &self.data_dir).await?;
        match self.command {
            TokenSubcommand::Create(args) => args.run(client).await,
            TokenSubcommand::List => list::run(client).await,
            TokenSubcommand::Delete { tokens } => delete(client, &tokens).await,
        }
    }
}

fn secrets(client: kube::Client) -> Api<Secret> {
    Api::namespaced(client, NAMESPACE)
}

async fn delete(client: kube::Client, tokens: &[String]) -> anyhow::Result<()> {
    // All are read before the first is deleted.
    let ids = tokens
        .iter()
        .map(|token| {
            if is_id(token) {
                return Ok(token.clone());
            }
            Ok(BootstrapToken::parse(token)?.id().to_owned())
        })
        .collect::<anyhow::Result<Vec<String>>>()?;
    let api = secrets(client);
    for id in ids {
        let name = format!("{NAME_PREFIX}{id}");
        match api.get_opt(&name).await {
            Ok(Some(secret)) => ensure!(
                secret.type_.as_deref() == Some(TYPE),
                "Secret {NAMESPACE}/{name} is no bootstrap token"
            ),
            Ok(None) => bail!("there is no bootstrap token {id:?}"),
            Err(error) => return Err(error).with_context(|| format!("cannot read token {id:?}")),
        }
        api.delete(&name, &DeleteParams::default())
            .await
            .with_context(|| format!("cannot delete token {id:?}"))?;
        print(&format!("bootstrap token {id:?} deleted"))?;
    }
    Ok(())
}

fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").context("cannot write to standard output")
}
