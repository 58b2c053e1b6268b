//! The `Impersonate-*` headers.

use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use berth_api::status::ApiError;

use crate::{
    attributes::{Action, Asked, Attributes, ResourceAttributes},
    user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User},
};

const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whom a request wants to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    name: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

/// Reads the headers; none when there are none.
///
/// # Errors
/// Groups, UID or extras without a user; two users or UIDs.
pub(super) fn requested(headers: &HeaderMap) -> Result<Option<Wanted>, ApiError> {
    let mut names = headers.keys().map(http::HeaderName::as_str);
    if !names.any(|name| name.starts_with("impersonate-")) {
        return Ok(None);
    }
    let all = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
            .collect()
    };
    let one = |name: &str| -> Result<String, ApiError> {
        let mut values = all(name);
        if values.len() > 1 {
            return Err(ApiError::BadRequest(format!(
                "the header {name:?} is given more than once"
            )));
        }
        Ok(values.pop().unwrap_or_default())
    };
    let mut extra = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_decode_str(key)
                .decode_utf8_lossy()
                .to_ascii_lowercase();
            extra.insert(key, all(name.as_str()));
        }
    }
    let wanted = Wanted {
        name: one("impersonate-user")?,
        groups: all("impersonate-group"),
        uid: one("impersonate-uid")?,
        extra,
    };
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted.groups.is_empty() && wanted.uid.is_empty() && wanted.extra.is_empty() {
        return Ok(None);
    }
    Err(ApiError::BadRequest(
        "requested groups, a UID or extras without impersonating a user".to_owned(),
    ))
}

/// `system:serviceaccount:NAMESPACE:NAME`
fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

impl Wanted {
    /// What the impersonator must be allowed to `impersonate`, one by one.
    pub(super) fn permissions<'a>(&'a self, impersonator: &'a User) -> Vec<Attributes<'a>> {
        let ask = |group: &'a str,
                   resource: &'a str,
                   subresource: &'a str,
                   namespace: &'a str,
                   name: &'a str| Attributes {
            user: impersonator,
            asked: Asked::Resource(ResourceAttributes {
                action: Action::Other("impersonate"),
                group,
                version: "",
                namespace,
                resource,
                subresource,
                name,
                selection: None,
            }),
        };
        let mut asked = vec![match service_account(&self.name) {
            Some((namespace, name)) => ask("", "serviceaccounts", "", namespace, name),
            None => ask("", "users", "", "", &self.name),
        }];
        asked.extend(
            self.groups
                .iter()
                .map(|group| ask("", "groups", "", "", group)),
        );
        for (key, values) in &self.extra {
            asked.extend(
                values
                    .iter()
                    .map(|value| ask(AUTHENTICATION, "userextras", key, "", value)),
            );
        }
        if !self.uid.is_empty() {
            asked.push(ask(AUTHENTICATION, "uids", "", "", &self.uid));
        }
        asked
    }

    /// The user that the rest of the request sees.
    pub(super) fn user(self) -> User {
        let mut user = User {
            name: self.name,
            uid: self.uid,
            groups: self.groups,
            extra: self.extra,
        };
        if let (true, Some((namespace, _))) = (user.groups.is_empty(), service_account(&user.name))
        {
            user.groups = vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ];
        }
        let everyone = if user.name == ANONYMOUS {
            UNAUTHENTICATED
        } else {
            AUTHENTICATED
        };
        if !user.in_group(everyone) {
            user.groups.push(everyone.to_owned());
        }
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(wanted: &Wanted) -> Vec<(String, String)> {
        let user = User::master("admin");
        let asked = wanted.permissions(&user).into_iter();
        asked
            .map(|attributes| match attributes.asked {
                Asked::Resource(i) => (
                    format!("{}/{}/{}/{}", i.group, i.resource, i.subresource, i.name),
                    i.namespace.to_owned(),
                ),
                Asked::Path { .. } => unreachable!("only resources are impersonated"),
            })
            .collect()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn users_groups_uid_and_extras_are_asked_for_one_by_one() {
        let wanted = requested(&headers(&[
            ("impersonate-user", "alice"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ]))
        .unwrap()
        .unwrap();
        let asked: Vec<_> = resources(&wanted)
            .into_iter()
            .map(|(what, _)| what)
            .collect();
        assert_eq!(
            asked,
            [
                "/users//alice",
                "/groups//a",
                "/groups//b",
                "authentication.k8s.io/userextras/acme.com/project/x",
                "authentication.k8s.io/uids//7"
            ]
        );
        assert_eq!(wanted.user().groups, ["a", "b", "system:authenticated"]);
    }

    #[test]
    fn service_accounts_get_their_groups() {
        let wanted = requested(&headers(&[(
            "impersonate-user",
            "system:serviceaccount:ns:sa",
        )]))
        .unwrap()
        .unwrap();
        assert_eq!(resources(&wanted)[0].1, "ns");
        assert_eq!(
            wanted.user().groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        let anonymous = requested(&headers(&[("impersonate-user", "system:anonymous")]))
            .unwrap()
            .unwrap();
        assert_eq!(anonymous.user().groups, ["system:unauthenticated"]);
    }

    #[test]
    fn a_group_without_a_user_is_refused() {
        assert!(requested(&headers(&[("impersonate-group", "a")])).is_err());
        let twice = [("impersonate-user", "a"), ("impersonate-user", "b")];
        assert!(requested(&headers(&twice)).is_err());
        assert_eq!(requested(&headers(&[])), Ok(None));
    }
}
