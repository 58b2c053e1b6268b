//! URLs, as Kubernetes' `url()` takes them: absolute, or an absolute path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a path keeps as it is.
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@')
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b'[')
    .remove(b']');

/// A URL, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) escaped_path: String,
    query: String,
    user: String,
}

impl Url {
    /// Parses an absolute URL or path.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("URL parse error during conversion from string: parse {text:?}: {why}")
        };
        if text.is_empty() {
            return Err(wrong("empty url"));
        }
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err(wrong("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = split_scheme(text)
            .ok_or_else(|| wrong("first path segment in URL cannot contain colon"))?;
        if scheme.is_empty() && !rest.starts_with('/') {
            return Err(wrong("invalid URI for request"));
        }
        if !scheme.is_empty() && !rest.starts_with('/') {
            return Err(wrong("invalid URI for request"));
        }
        // ParseRequestURI takes no fragment: a hash is part of the path or query. Parse then takes it off.
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
                rest.split_at(rest.find('/').unwrap_or(rest.len()))
            }
            _ => ("", rest),
        };
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        check_host(host).map_err(|why| wrong(&why))?;
        if let Some(bad) = bad_escape(path).or_else(|| bad_escape(user)) {
            return Err(wrong(&format!("invalid URL escape {bad:?}")));
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: percent_decode_str(host).decode_utf8_lossy().into_owned(),
            escaped_path: escaped(path),
            query: query.to_owned(),
            user: user.to_owned(),
        })
    }

    /// The host without its port and brackets.
    pub(crate) fn hostname(&self) -> &str {
        let host = self.host_and_port().0;
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    pub(crate) fn port(&self) -> &str {
        self.host_and_port().1
    }

    fn host_and_port(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port))
                if port.bytes().all(|b| b.is_ascii_digit())
                    && (host.ends_with(']') || !host.starts_with('[')) =>
            {
                (host, port)
            }
            _ => (&self.host, ""),
        }
    }

    /// The parameters of the query, in order; what can't be decoded is left out.
    pub(crate) fn query(&self) -> impl Iterator<Item = (String, String)> {
        self.query
            .split('&')
            .filter(|part| !part.is_empty() && !part.contains(';'))
            .filter_map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                if bad_escape(key).or_else(|| bad_escape(value)).is_some() {
                    return None;
                }
                let decode = |text: &str| {
                    percent_decode_str(&text.replace('+', " "))
                        .decode_utf8_lossy()
                        .into_owned()
                };
                Some((decode(key), decode(value)))
            })
    }
}

/// The scheme and what follows its colon; None when a colon stands where neither can be.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at > 0 => return Some((&text[..at], &text[at + 1..])),
            ':' => return None,
            _ => return Some(("", text)),
        }
    }
    Some(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    if let Some(bad) = host.chars().find(|c| " \"<>\\^`{|}".contains(*c)) {
        return Err(format!(
            "invalid character {:?} in host name",
            bad.to_string()
        ));
    }
    let port = match host.strip_prefix('[') {
        Some(literal) => {
            let (_, port) = literal.split_once(']').ok_or("missing ']' in host")?;
            port
        }
        None => host.rfind(':').map_or("", |at| &host[at..]),
    };
    let valid = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if valid {
        Ok(())
    } else {
        Err(format!("invalid port {port:?} after host"))
    }
}

fn bad_escape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if !digits {
            return Some(text[at..].chars().take(3).collect());
        }
    }
    None
}

/// A path with escapes where it needs them: as it is, when it is a valid encoding already.
fn escaped(path: &str) -> String {
    let allowed =
        |c: char| c == '%' || c.is_ascii_alphanumeric() || "-_.~$&+/:;=@!'()*,[]".contains(c);
    if path.chars().all(allowed) {
        return path.to_owned();
    }
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    utf8_percent_encode(&String::from_utf8_lossy(&decoded), &PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn parts_are_those_of_the_reference() {
        let url = Url::parse("https://example.com:80/path with spaces/?k1=a&k2=b&k2=c").unwrap();
        assert_eq!(
            (
                url.scheme.as_str(),
                url.host.as_str(),
                url.hostname(),
                url.port()
            ),
            ("https", "example.com:80", "example.com", "80")
        );
        assert_eq!(url.escaped_path, "/path%20with%20spaces/");
        assert_eq!(url.query().count(), 3);
        let url = Url::parse("https://[::1]:80/").unwrap();
        assert_eq!(
            (url.host.as_str(), url.hostname(), url.port()),
            ("[::1]:80", "::1", "80")
        );
        assert_eq!(Url::parse("https://[::1]/").unwrap().hostname(), "::1");
        assert_eq!(Url::parse("/path").unwrap().host, "");
        for wrong in [
            "",
            "../relative",
            "example",
            "https://a:b/",
            "http://[::1",
            "/%zz",
            "mailto:x@y",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }
}
