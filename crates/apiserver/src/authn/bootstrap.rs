//! Bootstrap tokens: what a machine has before it has a certificate.
//!
//! A token `ID.SECRET` is good while the Secret `kube-system/bootstrap-token-ID` says so, as on the stock server. The Secret is
//! looked up for each request, so a token ends with its Secret, its expiration or its usage, and not a moment later.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use subtle::ConstantTimeEq as _;

use crate::user::{AUTHENTICATED, User};

/// Storage name and namespace of the Secrets.
pub(super) const SECRETS: &str = "core/secrets";
pub(super) const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";
const USER_PREFIX: &str = "system:bootstrap:";
/// The group of all of them; what else a token may be a member of begins with it and a colon.
const GROUP: &str = "system:bootstrappers";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const LONGEST_GROUP: usize = 256;

/// A bearer token of the form of these.
#[derive(Clone, Copy)]
pub(super) struct BootstrapToken<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> BootstrapToken<'a> {
    /// None for a token of any other form.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (id, secret) = token.split_once('.')?;
        let fits = |text: &str, length: usize| {
            text.len() == length
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        (fits(id, ID_LENGTH) && fits(secret, SECRET_LENGTH)).then_some(Self { id, secret })
    }

    /// The name of the Secret that has to vouch for it.
    pub(super) fn secret_name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.id)
    }

    /// The token's user, if the Secret of that name vouches for it.
    pub(super) fn user(&self, secret: &Secret, now: jiff::Timestamp) -> Option<User> {
        match self.judge(secret, now) {
            Ok(groups) => Some(User {
                name: format!("{USER_PREFIX}{}", self.id),
                groups,
                ..User::default()
            }),
            Err(why) => {
                tracing::debug!(id = self.id, why, "a bootstrap token is refused");
                None
            }
        }
    }

    fn judge(&self, secret: &Secret, now: jiff::Timestamp) -> Result<Vec<String>, &'static str> {
        if secret.metadata.deletion_timestamp.is_some() {
            return Err("its Secret is being deleted");
        }
        if secret.type_.as_deref() != Some(TYPE) {
            return Err("its Secret has another type");
        }
        let none = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&none);
        let kept = value(data, "token-secret").unwrap_or_default();
        if !bool::from(kept.ct_eq(self.secret.as_bytes())) {
            return Err("the secret is another one");
        }
        if value(data, "token-id") != Some(self.id.as_bytes()) {
            return Err("its Secret has another token-id");
        }
        if !is_current(value(data, "expiration").unwrap_or_default(), now) {
            return Err("it has expired");
        }
        if value(data, "usage-bootstrap-authentication") != Some(b"true") {
            return Err("it is not for authentication");
        }
        groups(value(data, "auth-extra-groups").unwrap_or_default())
            .ok_or("auth-extra-groups has a group that is not below system:bootstrappers")
    }
}

fn value<'a>(data: &'a BTreeMap<String, ByteString>, key: &str) -> Option<&'a [u8]> {
    data.get(key).map(|value| value.0.as_slice())
}

/// One without an expiration goes on for ever, one whose expiration can't be read is over.
fn is_current(expiration: &[u8], now: jiff::Timestamp) -> bool {
    if expiration.is_empty() {
        return true;
    }
    let text = std::str::from_utf8(expiration).ok();
    text.and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .is_some_and(|end| now < end)
}

/// The group of all, and the further ones; none when one of these may not be given this way.
fn groups(extra: &[u8]) -> Option<Vec<String>> {
    let mut groups = vec![GROUP.to_owned()];
    let extra = std::str::from_utf8(extra).ok()?;
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !is_extra_group(group) {
            return None;
        }
        if !groups.iter().any(|known| known == group) {
            groups.push(group.to_owned());
        }
    }
    groups.push(AUTHENTICATED.to_owned());
    Some(groups)
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`.
fn is_extra_group(group: &str) -> bool {
    let rest = group.strip_prefix(GROUP).and_then(|r| r.strip_prefix(':'));
    rest.is_some_and(|rest| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        rest.len() <= LONGEST_GROUP
            && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
            && rest.bytes().last().is_some_and(plain)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn now() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn secret(change: impl FnOnce(&mut Secret)) -> Secret {
        let mut secret = Secret {
            type_: Some(TYPE.to_owned()),
            data: Some(BTreeMap::new()),
            ..Secret::default()
        };
        for (key, value) in [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ] {
            set(&mut secret, key, value);
        }
        change(&mut secret);
        secret
    }

    fn set(secret: &mut Secret, key: &str, value: &str) {
        let data = secret.data.get_or_insert_default();
        data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
    }

    fn user(change: impl FnOnce(&mut Secret)) -> Option<User> {
        BootstrapToken::parse(TOKEN)
            .unwrap()
            .user(&secret(change), now())
    }

    #[test]
    fn a_token_has_six_and_sixteen_characters() {
        let token = BootstrapToken::parse(TOKEN).unwrap();
        assert_eq!(token.secret_name(), "bootstrap-token-abcdef");
        for other in [
            "",
            "abcdef",
            "abcdef.",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdef0",
            "abcde.00123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde/",
            "../../.0123456789abcdef",
            "abcdef.01234567.9abcdef",
        ] {
            assert!(BootstrapToken::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_secret_has_to_vouch_for_it() {
        let known = user(|_| {}).unwrap();
        assert_eq!(known.name, "system:bootstrap:abcdef");
        assert_eq!(
            known.groups,
            ["system:bootstrappers", "system:authenticated"]
        );
        let refused: &[fn(&mut Secret)] = &[
            |s| s.type_ = Some("Opaque".to_owned()),
            |s| s.data = None,
            |s| set(s, "token-secret", "0123456789abcdeg"),
            |s| set(s, "token-secret", ""),
            |s| set(s, "token-id", "abcdeg"),
            |s| set(s, "usage-bootstrap-authentication", "True"),
            |s| set(s, "usage-bootstrap-authentication", "false"),
            |s| set(s, "expiration", "2025-12-31T23:59:59Z"),
            |s| set(s, "expiration", "2026-01-01T00:00:00Z"),
            |s| set(s, "expiration", "next year"),
            |s| set(s, "auth-extra-groups", "system:masters"),
            |s| {
                set(
                    s,
                    "auth-extra-groups",
                    "system:bootstrappers:a,system:masters",
                )
            },
            |s| set(s, "auth-extra-groups", "system:bootstrappers:"),
            |s| set(s, "auth-extra-groups", "system:bootstrappers:a,"),
            |s| set(s, "auth-extra-groups", "system:bootstrappers:a-"),
            |s| set(s, "auth-extra-groups", "system:bootstrappers:a b"),
            |s| set(s, "auth-extra-groups", "system:bootstrappersx:a"),
            |s| {
                let at: Value = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
                s.metadata = serde_json::from_value(at).unwrap();
            },
        ];
        for (at, change) in refused.iter().enumerate() {
            assert_eq!(user(change), None, "case {at}");
        }
    }

    #[test]
    fn expirations_and_groups_of_a_good_one() {
        assert!(user(|s| set(s, "expiration", "2026-01-01T00:00:01Z")).is_some());
        assert!(user(|s| set(s, "expiration", "2026-01-01T01:00:01+01:00")).is_some());
        let groups = "system:bootstrappers:kubeadm:default-node-token,system:bootstrappers:a";
        let known = user(|s| set(s, "auth-extra-groups", groups)).unwrap();
        assert_eq!(
            known.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:kubeadm:default-node-token",
                "system:bootstrappers:a",
                "system:authenticated"
            ]
        );
    }
}
