//! What requests look like, and what each needs.

/// The forms of requests, as `METHOD PATH -> VERB RESOURCE [NAME]`: the permission that one needs, and the one name that it
/// is limited to. What is refused is refused whoever asks.
const FORMS: &str = "\
# One object.
GET /api/v1/namespaces/default/configmaps/a -> get configmaps a
HEAD /api/v1/namespaces/default/configmaps/a -> get configmaps a
GET /api/v1/namespaces/default/configmaps/b -> get configmaps b
GET /api/v1/namespaces/default/configmaps/a?watch=1 -> get configmaps a
GET /api/v1/namespaces/default/configmaps/b?fieldSelector=metadata.name=a -> get configmaps b
PUT /api/v1/namespaces/default/configmaps/a?dryRun=All -> update configmaps a
PATCH /api/v1/namespaces/default/configmaps/a?dryRun=All -> patch configmaps a
PATCH /api/v1/namespaces/default/configmaps/b?dryRun=All&fieldSelector=metadata.name=a -> patch configmaps b
DELETE /api/v1/namespaces/default/configmaps/a?dryRun=All -> delete configmaps a
DELETE /api/v1/namespaces/default/configmaps/b?dryRun=All&fieldSelector=metadata.name=a -> delete configmaps b
# Collections.
GET /api/v1/namespaces/default/configmaps -> list configmaps
HEAD /api/v1/namespaces/default/configmaps -> list configmaps
GET /api/v1/configmaps -> list configmaps
GET /api/v1/configmaps?watch=false -> list configmaps
GET /api/v1/configmaps?watch=0&limit=1 -> list configmaps
GET /api/v1/configmaps?fieldSelector=metadata.name=a -> list configmaps a
GET /api/v1/configmaps?fieldSelector=metadata.name==a -> list configmaps a
GET /api/v1/configmaps?fieldSelector=metadata.name!=a -> list configmaps
GET /api/v1/configmaps?fieldSelector=metadata.namespace=default,metadata.name=a -> list configmaps a
GET /api/v1/configmaps?fieldSelector=metadata.namespace!=x%5C,metadata.name%5C=a -> list configmaps
GET /api/v1/configmaps?watch=1&timeoutSeconds=1 -> watch configmaps
GET /api/v1/configmaps?watch&timeoutSeconds=1 -> watch configmaps
GET /api/v1/configmaps?watch=1&timeoutSeconds=1&fieldSelector=metadata.name=a -> watch configmaps a
GET /api/v1/watch/configmaps?timeoutSeconds=1 -> watch configmaps
GET /api/v1/watch/namespaces/default/configmaps?timeoutSeconds=1&watch=false -> watch configmaps
GET /api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=1 -> watch configmaps a
GET /apis/node.k8s.io/v1/watch/runtimeclasses/a?timeoutSeconds=1 -> watch runtimeclasses a
POST /api/v1/namespaces/default/configmaps?dryRun=All -> create configmaps
POST /api/v1/namespaces/default/configmaps?dryRun=All&fieldSelector=metadata.name=a -> create configmaps
DELETE /api/v1/namespaces/default/configmaps?dryRun=All -> deletecollection configmaps
DELETE /api/v1/namespaces/default/configmaps?dryRun=All&fieldSelector=metadata.name=a -> deletecollection configmaps
# Namespaces.
GET /api/v1/namespaces/a -> get namespaces a
DELETE /api/v1/namespaces/a?dryRun=All -> delete namespaces a
GET /api/v1/watch/namespaces/a?timeoutSeconds=1 -> watch namespaces a
# Subresources and connections.
PATCH /api/v1/namespaces/default/pods/a/status?dryRun=All -> patch pods/status a
GET /api/v1/namespaces/default/pods/a/exec?command=x -> create pods/exec a
POST /api/v1/namespaces/default/pods/a/exec?command=x -> create pods/exec a
GET /api/v1/namespaces/default/pods/a/log -> get pods/log a
GET /api/v1/namespaces/default/pods/a/proxy/x?watch=1&watch=0 -> get pods/proxy a
POST /api/v1/namespaces/default/pods/a/proxy/x -> create pods/proxy a
DELETE /api/v1/namespaces/default/pods/a/proxy/x -> delete pods/proxy a
# Nobody gets these: what they ask for is not clear, or not there.
GET /api/v1/configmaps?watch=false&watch=1 -> refused
GET /api/v1/configmaps?fieldSelector=metadata.name=a&fieldSelector=metadata.namespace=default -> refused
GET /api/v1/configmaps?fieldSelector=metadata.namespace!=x%5C,metadata.name=a -> refused
GET /api/v1/configmaps?labelSelector=x&labelSelector=y -> refused
GET /api/v1/configmaps?resourceVersion=0&resourceVersion=1 -> refused
GET /api/v1/configmaps?watch=1&timeoutSeconds=-1 -> refused
GET /api/v1/configmaps?watch=1&timeoutSeconds=9223372036854775807 -> refused
POST /api/v1/watch/namespaces/default/configmaps -> refused
PUT /api/v1/watch/namespaces/default/configmaps/a -> refused
PATCH /api/v1/watch/namespaces/default/configmaps/a -> refused
DELETE /api/v1/watch/namespaces/default/configmaps/a -> refused
DELETE /api/v1/watch/namespaces/default/configmaps -> refused
GET /api/v1/watch/namespaces/default/pods/a/exec?command=x -> refused
GET /api/v1/watch/namespaces/default/pods/a/log -> refused
GET /api/v1/namespaces/a/namespaces/a -> refused
DELETE /api/v1/namespaces/default/namespaces/a -> refused
GET /apis/node.k8s.io/v1/namespaces/default/runtimeclasses/a -> refused
DELETE /apis/node.k8s.io/v1/namespaces/default/runtimeclasses/a -> refused
GET /api/v1/namespaces/default//configmaps/a -> refused
GET /api/v1/namespaces/default/pods/a%2Flog -> refused
OPTIONS /api/v1/namespaces/default/configmaps/a -> refused
";

/// One of them.
pub(super) struct Form {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// Verb and resource; none when nobody gets it.
    pub(super) needed: Option<(&'static str, &'static str)>,
    pub(super) limit: Option<&'static str>,
}

impl Form {
    pub(super) fn all() -> Vec<Self> {
        let lines = FORMS.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| Self::parse(line).unwrap()).collect()
    }

    fn parse(line: &'static str) -> Option<Self> {
        let (request, permission) = line.split_once(" -> ")?;
        let (method, path) = request.split_once(' ')?;
        let mut words = permission.split(' ');
        let verb = words.next()?;
        Some(Self {
            method,
            path,
            needed: words.next().map(|resource| (verb, resource)),
            limit: words.next(),
        })
    }
}
