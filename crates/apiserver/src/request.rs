//! What a request asks for, read from its method and path alone (stock: `RequestInfo`).

use http::Method;

/// Verb, resource and name of a request. Empty strings stand for "none", as in the stock type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names a resource of an API group (else only `verb` and `path` count).
    pub is_resource_request: bool,
    /// The URL path as it was sent, percent-decoded.
    pub path: String,
    /// get, list, watch, create, update, patch, delete, deletecollection; for other paths the
    /// method in lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// Group; empty for the core group.
    pub api_group: String,
    /// Version, e.g. `v1`.
    pub api_version: String,
    /// Namespace; empty for cluster-scoped requests and lists over all namespaces.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, e.g. `status`.
    pub subresource: String,
    /// Name of the object.
    pub name: String,
    /// The path's parts from the resource on.
    pub parts: Vec<String>,
    /// What a list's field selector demands to be equal; empty when it can be read in two ways.
    pub fields: Vec<(String, String)>,
}

/// Subresources of namespaces that the path grammar must not take for resources inside one.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a method, a (raw) path and a query string.
    #[must_use]
    pub fn parse(method: &Method, raw_path: &str, query: &str) -> Self {
        let path = percent_encoding::percent_decode_str(raw_path)
            .decode_utf8_lossy()
            .into_owned();
        let mut info = Self {
            verb: method.as_str().to_ascii_lowercase(),
            path,
            ..Self::default()
        };
        let parts: Vec<String> = raw_path
            .trim_matches('/')
            .split('/')
            .filter(|p| !p.is_empty())
            .map(|p| {
                percent_encoding::percent_decode_str(p)
                    .decode_utf8_lossy()
                    .into_owned()
            })
            .collect();
        info.read_resource(method, parts, query);
        info
    }

    fn read_resource(&mut self, method: &Method, mut parts: Vec<String>, query: &str) {
        let prefix_len = match parts.first().map(String::as_str) {
            Some("api") => 2,
            Some("apis") => 3,
            _ => return,
        };
        if parts.len() < prefix_len {
            return;
        }
        self.api_prefix.clone_from(&parts[0]);
        if prefix_len == 3 {
            self.api_group.clone_from(&parts[1]);
        }
        self.api_version.clone_from(&parts[prefix_len - 1]);
        if parts.len() == prefix_len {
            return;
        }
        parts.drain(..prefix_len);
        self.is_resource_request = true;
        self.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .to_owned();
        // The old form /api/v1/watch/pods.
        let mut watch_prefix = false;
        if parts[0] == "watch" && parts.len() > 1 {
            parts.remove(0);
            watch_prefix = true;
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace.clone_from(&parts[1]);
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
                parts.drain(..2);
            }
        }
        self.resource.clone_from(&parts[0]);
        if let Some(name) = parts.get(1) {
            self.name.clone_from(name);
        }
        if let Some(sub) = parts.get(2) {
            self.subresource.clone_from(sub);
        }
        self.parts = parts;
        if self.name.is_empty() {
            match self.verb.as_str() {
                "get" => self.read_list_verb(query),
                "delete" => "deletecollection".clone_into(&mut self.verb),
                _ => {}
            }
        }
        if watch_prefix {
            "watch".clone_into(&mut self.verb);
        }
    }

    fn read_list_verb(&mut self, query: &str) {
        "list".clone_into(&mut self.verb);
        self.fields = demanded_fields(query);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "watch" if !matches!(value.as_ref(), "false" | "0") => {
                    "watch".clone_into(&mut self.verb);
                }
                // A list of one name is authorized as that name.
                "fieldSelector" => {
                    if let Some(name) = value
                        .split(',')
                        .find_map(|term| term.strip_prefix("metadata.name="))
                    {
                        name.trim_start_matches('=').clone_into(&mut self.name);
                    }
                }
                _ => {}
            }
        }
    }

    /// The value that a list's field selector demands of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// Whether the method only reads.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch" | "head")
    }

    /// `group/version`, or only the version in the core group.
    #[must_use]
    pub fn group_version(&self) -> String {
        if self.api_group.is_empty() {
            self.api_version.clone()
        } else {
            format!("{}/{}", self.api_group, self.api_version)
        }
    }
}

/// The terms `field=value` and `field==value` of the only field selector of a query, if it escapes nothing.
fn demanded_fields(query: &str) -> Vec<(String, String)> {
    let mut selectors = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "fieldSelector")
        .map(|(_, value)| value);
    let (Some(selector), None) = (selectors.next(), selectors.next()) else {
        return Vec::new();
    };
    if selector.contains('\\') {
        return Vec::new();
    }
    selector
        .split(',')
        .filter_map(|term| term.split_once('='))
        .filter(|(field, _)| !field.ends_with('!'))
        .map(|(field, value)| {
            let value = value.strip_prefix('=').unwrap_or(value);
            (field.to_owned(), value.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, path: &str, query: &str) -> RequestInfo {
        RequestInfo::parse(&method.parse().unwrap(), path, query)
    }

    #[test]
    fn paths_are_read_as_the_stock_server_reads_them() {
        // method, path, query, verb, group, version, namespace, resource, subresource, name
        let cases = [
            (
                "GET",
                "/api/v1/namespaces",
                "",
                "list",
                "",
                "v1",
                "",
                "namespaces",
                "",
                "",
            ),
            (
                "GET",
                "/api/v1/namespaces/other",
                "",
                "get",
                "",
                "v1",
                "other",
                "namespaces",
                "",
                "other",
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods",
                "",
                "list",
                "",
                "v1",
                "other",
                "pods",
                "",
                "",
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods/foo",
                "",
                "get",
                "",
                "v1",
                "other",
                "pods",
                "",
                "foo",
            ),
            (
                "HEAD",
                "/api/v1/namespaces/other/pods/foo",
                "",
                "get",
                "",
                "v1",
                "other",
                "pods",
                "",
                "foo",
            ),
            (
                "GET",
                "/api/v1/pods",
                "watch=true",
                "watch",
                "",
                "v1",
                "",
                "pods",
                "",
                "",
            ),
            (
                "GET",
                "/api/v1/watch/pods",
                "",
                "watch",
                "",
                "v1",
                "",
                "pods",
                "",
                "",
            ),
            (
                "PUT",
                "/api/v1/namespaces/n/finalize",
                "",
                "update",
                "",
                "v1",
                "n",
                "namespaces",
                "finalize",
                "n",
            ),
            (
                "POST",
                "/api/v1/namespaces/n/pods/p/binding",
                "",
                "create",
                "",
                "v1",
                "n",
                "pods",
                "binding",
                "p",
            ),
            (
                "DELETE",
                "/apis/node.k8s.io/v1/runtimeclasses",
                "",
                "deletecollection",
                "node.k8s.io",
                "v1",
                "",
                "runtimeclasses",
                "",
                "",
            ),
            (
                "PATCH",
                "/apis/node.k8s.io/v1/runtimeclasses/x",
                "",
                "patch",
                "node.k8s.io",
                "v1",
                "",
                "runtimeclasses",
                "",
                "x",
            ),
            (
                "GET",
                "/api/v1/pods",
                "fieldSelector=metadata.name%3Dfoo",
                "list",
                "",
                "v1",
                "",
                "pods",
                "",
                "foo",
            ),
        ];
        for (m, p, q, verb, group, version, ns, resource, sub, name) in cases {
            let got = parse(m, p, q);
            assert!(got.is_resource_request, "{m} {p}");
            assert_eq!(
                [
                    got.verb.as_str(),
                    &got.api_group,
                    &got.api_version,
                    &got.namespace,
                    &got.resource,
                    &got.subresource,
                    &got.name
                ],
                [verb, group, version, ns, resource, sub, name],
                "{m} {p}?{q}"
            );
        }
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/node.k8s.io",
            "/apis/node.k8s.io/v1",
            "/healthz",
        ] {
            let got = parse("GET", path, "");
            assert!(!got.is_resource_request, "{path}");
            assert_eq!(got.verb, "get", "{path}");
        }
    }
}
