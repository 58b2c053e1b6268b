//! `berth token list`.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;

use super::{NAME_PREFIX, TYPE, secrets};
use crate::cli::columns::aligned;

const COLUMNS: [&str; 6] = [
    "TOKEN",
    "TTL",
    "EXPIRES",
    "USAGES",
    "DESCRIPTION",
    "EXTRA GROUPS",
];
const NONE: &str = "<none>";

pub(super) async fn run(client: kube::Client) -> anyhow::Result<()> {
    let of_type = ListParams::default().fields(&format!("type={TYPE}"));
    let list = secrets(client)
        .list(&of_type)
        .await
        .context("cannot list the tokens")?;
    let now = Timestamp::now();
    let rows: Vec<_> = list.items.iter().filter_map(|one| row(one, now)).collect();
    let mut out = std::io::stdout().lock();
    write!(out, "{}", table(&rows)).context("cannot write to standard output")
}

/// None for a Secret whose name is not that of a token: it is good for nothing.
fn row(secret: &Secret, now: Timestamp) -> Option<[String; 6]> {
    let none = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&none);
    let id = text(data, "token-id")?;
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    if name.strip_prefix(NAME_PREFIX) != Some(id.as_str()) {
        return None;
    }
    let (ttl, expires) = match text(data, "expiration") {
        None => ("<forever>".to_owned(), "<never>".to_owned()),
        Some(at) => (left(&at, now), at),
    };
    let usages: Vec<&str> = ["authentication", "signing"]
        .into_iter()
        .filter(|usage| text(data, &format!("usage-bootstrap-{usage}")).as_deref() == Some("true"))
        .collect();
    let or_none = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
    Some([
        format!("{id}.{}", text(data, "token-secret").unwrap_or_default()),
        ttl,
        expires,
        or_none(Some(usages.join(",")).filter(|usages| !usages.is_empty())),
        or_none(text(data, "description")),
        or_none(text(data, "auth-extra-groups")),
    ])
}

/// A value that is not empty, on one line.
fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    let value = String::from_utf8_lossy(&data.get(key)?.0);
    let value = value.replace(char::is_control, " ");
    (!value.is_empty()).then_some(value)
}

/// The largest unit, as kubeadm shows it.
fn left(expiration: &str, now: Timestamp) -> String {
    let Ok(end) = expiration.parse::<Timestamp>() else {
        return "<invalid>".to_owned();
    };
    let seconds = end.duration_since(now).as_secs();
    match seconds {
        i64::MIN..0 => "<invalid>".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        31_536_000.. => format!("{}y", seconds / 31_536_000),
    }
}

fn table(rows: &[[String; 6]]) -> String {
    let head = COLUMNS.map(str::to_owned);
    let lines: Vec<&[String; 6]> = std::iter::once(&head).chain(rows).collect();
    aligned(&lines, "   ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, values: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        let data = secret.data.get_or_insert_default();
        for (key, value) in values {
            let bytes = ByteString(value.as_bytes().to_vec());
            data.insert((*key).to_owned(), bytes);
        }
        secret
    }

    #[test]
    fn tokens_are_shown_as_kubeadm_shows_them() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let full = secret(
            "bootstrap-token-abcdef",
            &[
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("expiration", "2026-01-01T23:30:00Z"),
                ("usage-bootstrap-authentication", "true"),
                ("usage-bootstrap-signing", "true"),
                ("description", "rack\n7"),
            ],
        );
        let bare = secret("bootstrap-token-ghijkl", &[("token-id", "ghijkl")]);
        let stranger = secret("ghijkl", &[("token-id", "ghijkl")]);
        let rows: Vec<_> = [&full, &bare, &stranger]
            .into_iter()
            .filter_map(|one| row(one, now))
            .collect();
        assert_eq!(
            table(&rows),
            "TOKEN                     TTL         EXPIRES                USAGES                   DESCRIPTION   EXTRA GROUPS\n\
             abcdef.0123456789abcdef   23h         2026-01-01T23:30:00Z   authentication,signing   rack 7        <none>\n\
             ghijkl.                   <forever>   <never>                <none>                   <none>        <none>\n"
        );
    }

    #[test]
    fn what_is_left_is_shown_in_its_largest_unit() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (end, shown) in [
            ("2026-01-01T00:00:59Z", "59s"),
            ("2026-01-01T00:59:59Z", "59m"),
            ("2026-01-04T00:00:00Z", "3d"),
            ("2028-01-04T00:00:00Z", "2y"),
            ("2025-01-04T00:00:00Z", "<invalid>"),
            ("later", "<invalid>"),
        ] {
            assert_eq!(left(end, now), shown, "{end}");
        }
    }
}
