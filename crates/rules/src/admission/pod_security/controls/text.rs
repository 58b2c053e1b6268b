//! How violations name what they are about. What a client wrote is bounded and without control characters, so that it
//! can stand in a message, a log line or a Warning header.

use std::borrow::Cow;

/// How many names one list shows.
const LIST_LIMIT: usize = 50;
/// How many characters of one name are shown.
const NAME_LIMIT: usize = 253;

/// `singular` for one, `plural` for more.
pub(super) const fn plural<'t>(count: usize, singular: &'t str, plural: &'t str) -> &'t str {
    if count == 1 { singular } else { plural }
}

fn shown(item: &str) -> Cow<'_, str> {
    let plain = item.len() <= NAME_LIMIT && !item.chars().any(char::is_control);
    if plain {
        return Cow::Borrowed(item);
    }
    let mut text: String = item
        .chars()
        .take(NAME_LIMIT)
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if item.chars().count() > NAME_LIMIT {
        text.push_str("...");
    }
    Cow::Owned(text)
}

fn listed<'i>(items: impl IntoIterator<Item = &'i str>, one: impl Fn(&str) -> String) -> String {
    let mut items = items.into_iter();
    let mut parts: Vec<String> = items
        .by_ref()
        .take(LIST_LIMIT)
        .map(|item| one(&shown(item)))
        .collect();
    let more = items.count();
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    parts.join(", ")
}

/// `"a", "b"`.
pub(super) fn quoted<'i>(items: impl IntoIterator<Item = &'i str>) -> String {
    listed(items, |item| format!("\"{item}\""))
}

/// `a, b`.
pub(super) fn plain<'i>(items: impl IntoIterator<Item = &'i str>) -> String {
    listed(items, str::to_owned)
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!(
        "{} {}",
        plural(names.len(), "container", "containers"),
        quoted(names.iter().copied())
    )
}

/// `pod and container "a"`: who sets something, the pod as a whole or some of its containers.
pub(super) fn setters(pod: bool, names: &[&str]) -> String {
    match (pod, names.is_empty()) {
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod and {}", containers(names)),
        (false, _) => containers(names),
    }
}
