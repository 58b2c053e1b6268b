//! Rewriting the text of a YAML document in place, for the block style that people write.
//!
//! It knows just enough of YAML for that: keys at columns, lists of mappings, comments. Anything
//! else it leaves alone; the caller compares the result with what it must say.

/// A document and the `---` line before it.
pub(super) struct Document<'t> {
    pub(super) separator: &'t str,
    pub(super) body: &'t str,
}

/// The documents of a text that hold anything but comments, and what follows the last of them.
pub(super) fn documents(text: &str) -> (Vec<Document<'_>>, &str) {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut body_start = 0;
    let mut at = 0;
    let has_content = |body: &str| {
        body.lines()
            .map(str::trim)
            .any(|l| !l.is_empty() && !l.starts_with('#') && l != "---" && l != "...")
    };
    for line in text.split_inclusive('\n') {
        let is_separator =
            line.trim_end() == "---" || line.starts_with("--- ") || line.trim_end() == "...";
        if is_separator {
            if has_content(&text[body_start..at]) {
                documents.push(Document {
                    separator: &text[start..body_start],
                    body: &text[body_start..at],
                });
                start = at;
            }
            body_start = at + line.len();
        }
        at += line.len();
    }
    if has_content(&text[body_start..]) {
        documents.push(Document {
            separator: &text[start..body_start],
            body: &text[body_start..],
        });
        return (documents, "");
    }
    (documents, &text[start..])
}

/// The comment lines before the first content.
pub(super) fn leading_comments(body: &str) -> String {
    body.split_inclusive('\n')
        .take_while(|l| l.trim().is_empty() || l.trim_start().starts_with('#'))
        .collect()
}

/// The whole body as comments, below a remark.
pub(super) fn commented_out(body: &str, remark: &str) -> String {
    let mut out = format!("# {remark}\n");
    for line in body.lines() {
        out.push_str(if line.is_empty() { "#" } else { "# " });
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// Rewrites every RuntimeClass in a document.
pub(super) fn rewrite(body: &str) -> String {
    let mut lines: Vec<String> = body.split_inclusive('\n').map(str::to_owned).collect();
    let end = lines.len();
    mapping(&mut lines, 0, end, 0);
    lines.concat()
}

/// The column of a line's content, and the content without its line end; `None` for blanks and comments.
fn content(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_end();
    let column = text.len() - text.trim_start().len();
    let rest = &text[column..];
    (!rest.is_empty() && !rest.starts_with('#')).then_some((column, rest))
}

/// The key that a content begins with, and what follows the colon.
fn key(content: &str) -> Option<(&str, &str)> {
    let (key, rest) = content.split_once(':')?;
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    Some((key.trim_matches(['"', '\'']), rest))
}

/// The lines of one mapping whose keys stand at a column: `(first line, one past the last)` per key.
fn entries(lines: &[String], from: usize, to: usize, column: usize) -> Vec<(String, usize, usize)> {
    let mut entries: Vec<(String, usize, usize)> = Vec::new();
    for (i, line) in lines.iter().enumerate().take(to).skip(from) {
        let Some((at, text)) = content(line) else {
            continue;
        };
        // The first key of a list item stands behind its dash.
        let (at, text) = match text.strip_prefix("- ") {
            Some(rest) if i == from && at < column => (
                at + 2 + (rest.len() - rest.trim_start().len()),
                rest.trim_start(),
            ),
            _ => (at, text),
        };
        if at == column
            && !text.starts_with("- ")
            && let Some((name, _)) = key(text)
        {
            if let Some(last) = entries.last_mut() {
                last.2 = i;
            }
            entries.push((name.to_owned(), i, to));
        }
    }
    entries
}

fn value_of(line: &str) -> String {
    let text = line.trim().trim_start_matches("- ").trim_start();
    let value = key(text).map_or("", |(_, rest)| rest.trim());
    let value = value.split(" #").next().unwrap_or_default().trim();
    value.trim_matches(['"', '\'']).to_owned()
}

/// Rewrites a mapping; tells by how many lines it shrank.
fn mapping(lines: &mut Vec<String>, from: usize, to: usize, column: usize) -> usize {
    let all = entries(lines, from, to, column);
    let find = |name: &str| all.iter().find(|(n, _, _)| n == name).cloned();
    let text = |name: &str| {
        find(name)
            .map(|(_, i, _)| value_of(&lines[i]))
            .unwrap_or_default()
    };
    let (version, kind) = (text("apiVersion"), text("kind"));
    let mut shrunk = 0;
    if let Some((_, start, end)) = find("items").filter(|_| kind.ends_with("List")) {
        let before = items(lines, start + 1, end, &kind, &version);
        shrunk += before;
        if kind == "RuntimeClassList" {
            set_version(lines, &all, &version);
        }
        return shrunk;
    }
    if kind == "RuntimeClass" {
        shrunk += class(lines, &all, column, &version);
    }
    shrunk
}

fn set_version(lines: &mut [String], all: &[(String, usize, usize)], version: &str) {
    if let Some((_, at, _)) = all.iter().find(|(n, _, _)| n == "apiVersion")
        && version.starts_with("node.k8s.io/")
    {
        lines[*at] = lines[*at].replacen(version, "node.k8s.io/v1", 1);
    }
}

/// One class: its version, and for v1alpha1 its spec.
fn class(
    lines: &mut Vec<String>,
    all: &[(String, usize, usize)],
    column: usize,
    version: &str,
) -> usize {
    if !version.starts_with("node.k8s.io/") || version == "node.k8s.io/v1" {
        return 0;
    }
    set_version(lines, all, version);
    if version == "node.k8s.io/v1alpha1" {
        inline_spec(lines, all, column)
    } else {
        0
    }
}

/// Takes the keys of `spec` out of it, and renames the handler.
fn inline_spec(lines: &mut Vec<String>, all: &[(String, usize, usize)], column: usize) -> usize {
    let Some((_, start, end)) = all.iter().find(|(n, _, _)| n == "spec").cloned() else {
        return 0;
    };
    let Some(inner) = (start + 1..end).find_map(|i| content(&lines[i]).map(|(c, _)| c)) else {
        return 0;
    };
    if inner <= column {
        return 0;
    }
    for (name, i, _) in entries(lines, start + 1, end, inner) {
        if name == "runtimeHandler" {
            lines[i] = lines[i].replacen("runtimeHandler", "handler", 1);
        }
    }
    let by = inner - column;
    for line in &mut lines[start + 1..end] {
        let blank = line.len() - line.trim_start_matches(' ').len();
        line.replace_range(..by.min(blank), "");
    }
    // A remark behind `spec:` stays, as a line of its own.
    match lines[start].split_once('#') {
        Some((_, remark)) => {
            lines[start] = format!("{}#{remark}", " ".repeat(column));
            0
        }
        None if lines[start].trim_start().starts_with("- ") => 0,
        None => {
            lines.remove(start);
            1
        }
    }
}

/// The items of a list: each begins with a dash at the same column.
fn items(lines: &mut Vec<String>, from: usize, to: usize, list: &str, list_version: &str) -> usize {
    let Some(dash) = (from..to).find_map(|i| {
        content(&lines[i])
            .filter(|(_, t)| t.starts_with("- "))
            .map(|(c, _)| c)
    }) else {
        return 0;
    };
    let mut starts: Vec<usize> = (from..to)
        .filter(|i| content(&lines[*i]).is_some_and(|(c, t)| c == dash && t.starts_with("- ")))
        .collect();
    starts.push(to);
    let mut shrunk = 0;
    // From the end, so that the line numbers before stay right.
    for pair in starts.windows(2).rev() {
        let (start, end) = (pair[0], pair[1]);
        let Some((_, text)) = content(&lines[start]) else {
            continue;
        };
        let rest = &text[1..];
        let column = dash + 1 + (rest.len() - rest.trim_start().len());
        let all = entries(lines, start, end, column);
        let bare = !all.iter().any(|(n, _, _)| n == "apiVersion");
        if bare && list == "RuntimeClassList" {
            if list_version == "node.k8s.io/v1alpha1" {
                shrunk += inline_spec(lines, &all, column);
            }
        } else {
            shrunk += mapping(lines, start, end, column);
        }
    }
    shrunk
}
