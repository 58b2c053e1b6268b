//! The root of what is behind a proxy has a path of its own, `proxy/`: links of a page at `proxy` would lead beside it.

use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode, Uri};

use crate::http_types::{self, Response};

/// The answer to a GET or HEAD of the proxy itself without a slash at its end: as the stock server's, a redirection (301) to the
/// path with one. None for all others, which go to the other side. `inner` is the path behind the proxy.
pub(super) fn redirect(method: &Method, uri: &Uri, inner: &str) -> Option<Response> {
    let is_root = matches!(inner.split('?').next(), Some("" | "/")) && !uri.path().ends_with('/');
    if !is_root || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    // Two slashes at the beginning would name another server.
    let path = uri.path().trim_start_matches('/');
    let to = match uri.query() {
        Some(query) if !query.is_empty() => format!("/{path}/?{query}"),
        Some(_) | None => format!("/{path}/"),
    };
    let to = HeaderValue::from_str(&to).ok()?;
    let mut answer = http::Response::new(http_types::full(""));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(LOCATION, to);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "/api/v1/namespaces/ns/pods/p/proxy";

    fn to(method: &Method, uri: &str, inner: &str) -> Option<String> {
        let answer = redirect(method, &uri.parse().unwrap(), inner)?;
        assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
        Some(answer.headers()[LOCATION].to_str().unwrap().to_owned())
    }

    #[test]
    fn the_root_without_a_slash_leads_to_the_one_with_it() {
        for method in [Method::GET, Method::HEAD] {
            let given = to(&method, &format!("{PROXY}?method=GET"), "/?method=GET");
            assert_eq!(given, Some(format!("{PROXY}/?method=GET")));
            assert_eq!(to(&method, PROXY, "/"), Some(format!("{PROXY}/")));
        }
    }

    #[test]
    fn everything_else_goes_to_the_other_side() {
        let slash = format!("{PROXY}/");
        let page = format!("{PROXY}/x");
        assert_eq!(to(&Method::GET, &slash, "/"), None);
        assert_eq!(to(&Method::GET, &page, "/x"), None);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(to(&method, PROXY, "/"), None, "{method}");
        }
    }

    #[test]
    fn no_path_leads_to_another_server() {
        let uri = format!("https://berth/{PROXY}?next=//evil");
        let given = to(&Method::GET, &uri, "/?next=//evil");
        assert_eq!(given, Some(format!("{PROXY}/?next=//evil")));
    }
}
