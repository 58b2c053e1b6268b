//! Links of pages that pods serve through `proxy`: those to the root of the page's own server lead back through the proxy, in
//! HTML and in `Location`, as the stock server has it.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{once, unfold};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::Frame;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use berth_api::status::ApiError;

use crate::http_types::{Request, Response};

/// A longer page is passed on as it is.
const MAX_PAGE: usize = 1 << 20;
/// What comes behind so much of a page with its links is passed on as it is.
const MAX_LED: usize = 2 * MAX_PAGE;
/// So many pages are held at a time; others are passed on as they are.
const PAGES: usize = 32;
/// A page that comes more slowly is passed on as it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// A page is sent in pieces of so many bytes: it counts as held until its client has taken it.
const PIECE: usize = 64 << 10;

static TURNS: Semaphore = Semaphore::const_new(PAGES);

/// Attributes that are addresses, by the tag.
const ADDRESSES: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// What is between these tags is text, whatever it looks like.
const TEXT: [&str; 9] = [
    "iframe", "noembed", "noframes", "noscript", "script", "style", "textarea", "title", "xmp",
];

/// Where the links of a page lead.
#[derive(Debug, Clone)]
pub(super) struct Links {
    /// The path of the proxy, without a slash at the end.
    prefix: String,
    /// The page's server, as it is reached.
    server: String,
    /// The server that the client asked.
    asked: String,
    is_head: bool,
}

impl Links {
    /// Of a request for `inner` (a path behind the proxy's), which `server` answers.
    pub(super) fn of(request: &Request, inner: &str, server: &str) -> Self {
        let path = request.uri().path();
        let host = request.headers().get(HOST).and_then(|h| h.to_str().ok());
        let authority = request.uri().authority().map(|a| a.as_str());
        Self {
            prefix: prefix(path, inner),
            server: server.to_owned(),
            asked: authority.or(host).unwrap_or_default().to_owned(),
            is_head: request.method() == Method::HEAD,
        }
    }

    /// The answer with its links led back through the proxy.
    ///
    /// # Errors
    /// When the page ends too early.
    pub(super) async fn lead_back(&self, response: Response) -> Result<Response, ApiError> {
        let (mut parts, mut body) = response.into_parts();
        let location = parts.headers.get(LOCATION).and_then(|l| l.to_str().ok());
        if let Some(location) = location.filter(|text| !text.is_empty()) {
            let led = self.led(location);
            if let Some(led) = led.and_then(|text| HeaderValue::from_str(&text).ok()) {
                parts.headers.insert(LOCATION, led);
            }
            return Ok(Response::from_parts(parts, body));
        }
        if self.is_head || !is_page(&parts.headers) {
            return Ok(Response::from_parts(parts, body));
        }
        let Ok(turn) = TURNS.try_acquire() else {
            return Ok(Response::from_parts(parts, body));
        };
        let mut page: Vec<u8> = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
                Ok(None) => break,
                Ok(Some(frame)) => Some(frame.map_err(|error| {
                    ApiError::ServiceUnavailable(format!("error trying to reach service: {error}"))
                })?),
                Err(_) => None,
            };
            let is_late = frame.is_none();
            if let Some(Ok(data)) = frame.map(Frame::into_data) {
                page.extend_from_slice(&data);
            }
            if is_late || page.len() > MAX_PAGE {
                let begin = Frame::data(Bytes::from(page));
                let whole = once(std::future::ready(Ok(begin))).chain(BodyStream::new(body));
                let whole = StreamBody::new(whole).boxed_unsync();
                return Ok(Response::from_parts(parts, whole));
            }
        }
        parts.headers.remove(CONTENT_LENGTH);
        let page = Bytes::from(self.page(&page));
        let pieces = unfold((page, turn), |(mut page, turn)| async move {
            let piece = page.split_to(page.len().min(PIECE));
            (!piece.is_empty()).then(|| (Ok(Frame::data(piece)), (page, turn)))
        });
        let pieces = StreamBody::new(pieces).boxed_unsync();
        Ok(Response::from_parts(parts, pieces))
    }

    /// An address as it has to be; nothing where it stays as it is.
    fn led(&self, address: &str) -> Option<String> {
        let (server, rest) = split_server(address)?;
        let path_end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (path, more) = rest.split_at(path_end);
        let is_own = server.is_empty()
            || server.eq_ignore_ascii_case(&self.server)
            || server.eq_ignore_ascii_case(&self.asked);
        if !is_own || !path.starts_with('/') {
            return None;
        }
        // Who asked the server that the link names goes on asking it.
        let before = if !server.is_empty() && server.eq_ignore_ascii_case(&self.asked) {
            &address[..address.len() - rest.len()]
        } else {
            ""
        };
        let below = match path.strip_prefix(&self.prefix) {
            Some("") => String::new(),
            Some(below) if below.starts_with('/') => clean(below),
            Some(_) | None => clean(path),
        };
        Some(format!("{before}{}{below}{more}", self.prefix))
    }

    /// A page with all its links.
    fn page(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + page.len() / 8);
        let mut rest = page;
        while let Some(at) = rest.iter().position(|b| *b == b'<') {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            if out.len() > MAX_LED {
                break;
            }
            let is_tag = rest.get(1).is_some_and(u8::is_ascii_alphabetic);
            let end = if is_tag {
                self.tag(rest, &mut out)
            } else {
                let end = markup_end(rest);
                out.extend_from_slice(&rest[..end]);
                end
            };
            rest = &rest[end..];
        }
        out.extend_from_slice(rest);
        out
    }

    /// A tag, and the text that belongs to it; answers how much that was.
    fn tag(&self, text: &[u8], out: &mut Vec<u8>) -> usize {
        let name_end = 1 + position(&text[1..], |b| {
            b.is_ascii_whitespace() || b">/".contains(&b)
        });
        let name = String::from_utf8_lossy(&text[1..name_end]).to_ascii_lowercase();
        let found = ADDRESSES.iter().find(|(tag, _)| *tag == name);
        let wanted = found.map_or(&[][..], |(_, attributes)| *attributes);
        out.extend_from_slice(&text[..name_end]);
        let mut at = name_end;
        loop {
            let skipped = position(&text[at..], |b| !b.is_ascii_whitespace() && b != b'/');
            out.extend_from_slice(&text[at..at + skipped]);
            at += skipped;
            match text.get(at) {
                None => return at,
                Some(b'>') => {
                    out.push(b'>');
                    at += 1;
                    break;
                }
                Some(_) if out.len() > MAX_LED => {
                    out.extend_from_slice(&text[at..]);
                    return text.len();
                }
                Some(_) => at += self.attribute(&text[at..], wanted, out),
            }
        }
        if !TEXT.contains(&name.as_str()) {
            return at;
        }
        let end = at + text_end(&text[at..], &name);
        out.extend_from_slice(&text[at..end]);
        end
    }

    /// `name`, `name=value`, with quotes or without; answers how much that was.
    fn attribute(&self, text: &[u8], wanted: &[&str], out: &mut Vec<u8>) -> usize {
        let is_end = |b: u8| b.is_ascii_whitespace() || b"=>/".contains(&b);
        // A name has one byte at least, whatever it is.
        let name_end = 1 + position(text.get(1..).unwrap_or_default(), is_end);
        let name = String::from_utf8_lossy(&text[..name_end]).to_ascii_lowercase();
        let spaces = |from: usize| from + position(&text[from..], |b| !b.is_ascii_whitespace());
        let equals = spaces(name_end);
        if text.get(equals) != Some(&b'=') {
            out.extend_from_slice(&text[..name_end]);
            return name_end;
        }
        let from = spaces(equals + 1);
        let (start, end, after) = match text.get(from) {
            Some(quote @ (b'"' | b'\'')) => {
                let end = from + 1 + position(&text[from + 1..], |b| b == *quote);
                (from + 1, end, (end + 1).min(text.len()))
            }
            Some(_) | None => {
                let end = from + position(&text[from..], |b| b.is_ascii_whitespace() || b == b'>');
                (from, end, end)
            }
        };
        out.extend_from_slice(&text[..start]);
        let value = std::str::from_utf8(&text[start..end]).ok();
        let led = value
            .filter(|_| wanted.contains(&name.as_str()))
            .and_then(|value| self.led(value));
        match led {
            Some(led) => out.extend_from_slice(led.as_bytes()),
            None => out.extend_from_slice(&text[start..end]),
        }
        out.extend_from_slice(&text[end..after]);
        after
    }
}

/// What a request's path has before that of the pod. It stands before every link, and the client chooses how many slashes are in
/// it: it has no empty parts.
fn prefix(path: &str, inner: &str) -> String {
    let inner = inner.split(['?', '#']).next().unwrap_or_default();
    let prefix = path.strip_suffix(inner).unwrap_or(path);
    clean(prefix).trim_end_matches('/').to_owned()
}

/// Whether it is HTML that can be read.
fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    kind == Some("text/html") && !headers.contains_key(CONTENT_ENCODING)
}

/// The index of the first byte that is so, or the length.
fn position(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|b| is(*b)).unwrap_or(text.len())
}

/// Where a comment, a closing tag or a declaration ends; what is none of these is a character of text.
fn markup_end(text: &[u8]) -> usize {
    let after = |end: &[u8], from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        let found = rest.windows(end.len()).position(|window| window == end);
        found.map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with(b"<!--") {
        after(b"-->", 4)
    } else if text.starts_with(b"<!") || text.starts_with(b"</") || text.starts_with(b"<?") {
        after(b">", 2)
    } else {
        1
    }
}

/// Where the text of an element that has only text ends: before its closing tag.
fn text_end(text: &[u8], name: &str) -> usize {
    let closing = format!("</{name}");
    let is_it = |window: &[u8]| window.eq_ignore_ascii_case(closing.as_bytes());
    let found = text.windows(closing.len()).position(is_it);
    found.unwrap_or(text.len())
}

/// The server that an address names, empty when it names none, and what follows; nothing for what is no place on a server
/// (`mailto:`, `javascript:`).
fn split_server(address: &str) -> Option<(&str, &str)> {
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let rest = match address.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => {
            if !rest.starts_with("//") {
                return None;
            }
            rest
        }
        Some(_) | None => address,
    };
    let Some(rest) = rest.strip_prefix("//") else {
        return Some(("", rest));
    };
    let (server, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    Some((server, path))
}

/// A path that begins with a slash without empty parts, `.` and `..`: it leads nowhere but below.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            server: "10.88.0.2:80".to_owned(),
            asked: "127.0.0.1:6443".to_owned(),
            is_head: false,
        }
    }

    fn page(text: &str) -> String {
        let led = String::from_utf8(links().page(text.as_bytes())).unwrap();
        led.replace(&links().prefix, "PROXY")
    }

    #[test]
    fn links_to_the_own_server_lead_back_through_the_proxy() {
        let links = links();
        let led = |address: &str| {
            let led = links.led(address)?;
            Some(led.replace(&links.prefix, "PROXY"))
        };
        assert_eq!(led("/x/y?q=/1#f").as_deref(), Some("PROXY/x/y?q=/1#f"));
        assert_eq!(led("/").as_deref(), Some("PROXY/"));
        assert_eq!(led("/d/").as_deref(), Some("PROXY/d/"));
        assert_eq!(led("http://10.88.0.2:80/x").as_deref(), Some("PROXY/x"));
        assert_eq!(led("//10.88.0.2:80/x").as_deref(), Some("PROXY/x"));
        let own = "https://127.0.0.1:6443/x";
        assert_eq!(led(own).as_deref(), Some("https://127.0.0.1:6443PROXY/x"));
        let done = format!("{}/x", links.prefix);
        assert_eq!(led(&done).as_deref(), Some("PROXY/x"));
        // Nobody is led to another place of this server.
        assert_eq!(led("/../../secrets").as_deref(), Some("PROXY/secrets"));
        assert_eq!(led("/a//./../b").as_deref(), Some("PROXY/b"));
        let out = format!("{}/../../../../secrets", links.prefix);
        assert_eq!(led(&out).as_deref(), Some("PROXY/secrets"));
        let longer = format!("{}x", links.prefix);
        assert_eq!(led(&longer).as_deref(), Some("PROXYPROXYx"));
        for other in [
            "x",
            "../x",
            "",
            "#f",
            "?q",
            "mailto:a@b",
            "javascript:/x/",
            "http://example.com/x",
            "//example.com/x",
            "http://10.88.0.2:81/x",
            "http://10.88.0.2:80",
        ] {
            assert_eq!(led(other), None, "{other}");
        }
    }

    #[test]
    fn attributes_that_are_addresses_are_found_in_all_forms() {
        for (text, led) in [
            (r#"<a href="/x">test</a>"#, r#"<a href="PROXY/x">test</a>"#),
            ("<A class=c HREF='/x' >", "<A class=c HREF='PROXY/x' >"),
            ("<a href=/x>y", "<a href=PROXY/x>y"),
            ("<a href = /x/ >", "<a href = PROXY/x/ >"),
            (
                "<img src='/a'longdesc=\"/b\"/>",
                "<img src='PROXY/a'longdesc=\"PROXY/b\"/>",
            ),
            ("<a title='/x' hreflang=/y>", "<a title='/x' hreflang=/y>"),
            ("<p href='/x'>", "<p href='/x'>"),
            (
                "<!-- <a href='/x'> --><a href='/y'>",
                "<!-- <a href='/x'> --><a href='PROXY/y'>",
            ),
            (
                "<script src=/s.js>if (a<b) '<a href=\"/x\">'</script><a href=/y>",
                "<script src=PROXY/s.js>if (a<b) '<a href=\"/x\">'</script><a href=PROXY/y>",
            ),
            (
                "<!DOCTYPE html></a href='/x'>",
                "<!DOCTYPE html></a href='/x'>",
            ),
            ("1 < 2 <a href=/x>", "1 < 2 <a href=PROXY/x>"),
            (
                "<a href='/x?a=1&amp;b=2'>",
                "<a href='PROXY/x?a=1&amp;b=2'>",
            ),
        ] {
            assert_eq!(page(text), led, "{text}");
        }
    }

    #[test]
    fn a_page_of_links_does_not_grow_without_bound() {
        let text = format!("<img {}><p>", "src=/ ".repeat(100_000));
        let text = text.repeat(MAX_PAGE / text.len());
        let led = links().page(text.as_bytes());
        assert!(led.len() < MAX_LED + text.len() + 1024, "{}", led.len());
        let path = format!("{}api/v1//namespaces/n/pods/p/proxy/x", "/".repeat(1000));
        assert_eq!(prefix(&path, "/x"), "/api/v1/namespaces/n/pods/p/proxy");
    }

    #[test]
    fn a_page_that_is_cut_anywhere_is_passed_on() {
        let text =
            "<html><a b c='1' href=\"/x\" =\"><!-- - --><script>'</scr'</script><a href = '/é'></";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let cut = &text[..end];
            let led = page(cut);
            assert_eq!(led.replace("PROXY", ""), cut, "nothing is lost");
        }
        // Bytes that are no text stay.
        let bytes = b"<a href='/\xff'>\xfe<";
        assert_eq!(links().page(bytes), bytes);
    }
}
