//! `berth token create`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use berth_apiserver::ca_hash;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::{NAME_PREFIX, NAMESPACE, TYPE, print, secrets};
use crate::bootstrap_token::BootstrapToken;
use crate::cluster_info::{self, ClusterInfo};

const GROUP_PREFIX: &str = "system:bootstrappers:";

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The token to make [default: a random one]
    #[arg(value_name = "ID.SECRET")]
    token: Option<String>,
    /// How long it is good, 0 for ever
    #[arg(long, value_name = "DURATION", default_value = "24h0m0s", value_parser = ttl)]
    ttl: SignedDuration,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Further groups of who has it, besides system:bootstrappers (comma-separated)
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',')]
    groups: Vec<String>,
    /// What it may be used for: authentication, and signing of the ConfigMap cluster-info, by which others know the cluster
    /// (comma-separated)
    #[arg(
        long,
        value_name = "USAGE,...",
        value_delimiter = ',',
        default_value = "signing,authentication"
    )]
    usages: Vec<Usage>,
    /// Print the whole command with which a machine joins, and not the token alone
    #[arg(long)]
    print_join_command: bool,
    /// URL of the API server in that command [default: what the server says of itself]
    #[arg(long, value_name = "URL", requires = "print_join_command")]
    server: Option<String>,
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Usage {
    /// As a bearer token, to ask for a certificate.
    Authentication,
    /// To sign the ConfigMap `cluster-info`.
    Signing,
}

impl Usage {
    fn key(self) -> &'static str {
        match self {
            Self::Authentication => "usage-bootstrap-authentication",
            Self::Signing => "usage-bootstrap-signing",
        }
    }
}

/// Go's durations, as kubeadm takes them.
fn ttl(text: &str) -> Result<SignedDuration, String> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    match text.parse::<SignedDuration>() {
        Ok(ttl) if !ttl.is_negative() => Ok(ttl),
        Ok(_) | Err(_) => Err("write it as 24h, 90m or 1h30m, or 0 for ever".to_owned()),
    }
}

impl CreateArgs {
    pub(super) async fn run(self, client: kube::Client) -> anyhow::Result<()> {
        let token = match &self.token {
            Some(text) => BootstrapToken::parse(text)?,
            None => BootstrapToken::generate(),
        };
        if let Some(group) = self.groups.iter().find(|group| !is_group(group)) {
            bail!(
                "--groups {group:?}: a token's groups begin with {GROUP_PREFIX} and have a-z, 0-9, : and - behind it"
            );
        }
        // First, so that no token is made that nobody is told of.
        let command = if self.print_join_command {
            Some(self.join_command(client.clone(), &token).await?)
        } else {
            None
        };
        let secret = self.secret(&token, Timestamp::now())?;
        match secrets(client)
            .create(&PostParams::default(), &secret)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                bail!("a token with id {:?} already exists", token.id())
            }
            Err(error) => return Err(error).context("cannot create the token"),
        }
        print(&command.unwrap_or_else(|| token.reveal()))
    }

    fn secret(&self, token: &BootstrapToken, now: Timestamp) -> anyhow::Result<Secret> {
        let mut data = BTreeMap::new();
        let mut set = |key: &str, value: &str| data.insert(key.to_owned(), value.to_owned());
        set("token-id", token.id());
        set("token-secret", token.secret());
        for usage in &self.usages {
            set(usage.key(), "true");
        }
        if let Some(description) = &self.description {
            set("description", description);
        }
        if !self.groups.is_empty() {
            set("auth-extra-groups", &self.groups.join(","));
        }
        if !self.ttl.is_zero() {
            let end = now.checked_add(self.ttl).context("--ttl is too long")?;
            set(
                "expiration",
                &end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            );
        }
        Ok(Secret {
            metadata: ObjectMeta {
                name: Some(format!("{NAME_PREFIX}{}", token.id())),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            string_data: Some(data),
            ..Secret::default()
        })
    }

    async fn join_command(
        &self,
        client: kube::Client,
        token: &BootstrapToken,
    ) -> anyhow::Result<String> {
        let api: Api<ConfigMap> = Api::namespaced(client, cluster_info::NAMESPACE);
        let map = api
            .get(cluster_info::NAME)
            .await
            .context("cannot read ConfigMap kube-public/cluster-info")?;
        let info = ClusterInfo::read(&map).context("ConfigMap kube-public/cluster-info")?;
        let hashes = ca_hash::of_pem(info.ca_pem.as_bytes()).context(
            "ConfigMap kube-public/cluster-info: its certificate authority cannot be read",
        )?;
        let server = self.server.as_ref().unwrap_or(&info.server);
        ensure!(
            server.starts_with("https://"),
            "--server {server:?}: write it as https://HOST:PORT"
        );
        Ok(format!(
            "berth node --server {server} --token {} --ca-cert-hash {}",
            token.reveal(),
            hashes.join(",")
        ))
    }
}

fn is_group(group: &str) -> bool {
    let rest = group.strip_prefix(GROUP_PREFIX).unwrap_or_default();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let seconds = |text| ttl(text).map(|ttl| ttl.as_secs());
        assert_eq!(seconds("24h0m0s"), Ok(86_400));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("0"), Ok(0));
        for wrong in ["", "24", "-1h", "tomorrow"] {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_says_what_was_asked_for() {
        let args = CreateArgs {
            token: None,
            ttl: SignedDuration::from_hours(1),
            description: Some("rack 7".to_owned()),
            groups: vec!["system:bootstrappers:a".to_owned()],
            usages: vec![Usage::Signing, Usage::Authentication],
            print_join_command: false,
            server: None,
        };
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let secret = args.secret(&token, now).unwrap();
        assert_eq!(
            secret.metadata.name.as_deref(),
            Some("bootstrap-token-abcdef")
        );
        let data = secret.string_data.unwrap();
        let text: Vec<String> = data.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "auth-extra-groups=system:bootstrappers:a",
                "description=rack 7",
                "expiration=2026-01-01T01:00:00Z",
                "token-id=abcdef",
                "token-secret=0123456789abcdef",
                "usage-bootstrap-authentication=true",
                "usage-bootstrap-signing=true"
            ]
        );
        let forever = CreateArgs {
            usages: vec![Usage::Authentication],
            ttl: SignedDuration::ZERO,
            ..args
        };
        let data = forever.secret(&token, now).unwrap().string_data.unwrap();
        assert!(!data.contains_key("expiration"));
        assert!(!data.contains_key("usage-bootstrap-signing"));
    }

    #[test]
    fn groups_are_below_bootstrappers() {
        assert!(is_group("system:bootstrappers:kubeadm:default-node-token"));
        for wrong in [
            "",
            "system:masters",
            "system:bootstrappers:",
            "system:bootstrappers:A",
        ] {
            assert!(!is_group(wrong), "{wrong}");
        }
    }
}
