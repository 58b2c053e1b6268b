//! A document as YAML: maps and lists by indentation, all strings quoted as in JSON, which YAML reads.

use serde_json::Value;

pub(in crate::cli) fn render(document: &Value) -> String {
    let mut out = String::new();
    put(&mut out, document, 0);
    out
}

fn put(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                // The first key stands behind the dash of a list.
                if index > 0 || !out.ends_with("- ") {
                    out.push_str(&"  ".repeat(depth));
                }
                out.push_str(key);
                out.push(':');
                nested(out, value, depth + 1);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                out.push_str(&"  ".repeat(depth));
                out.push_str("- ");
                match value {
                    Value::Object(map) if !map.is_empty() => put(out, value, depth + 1),
                    other => {
                        out.push_str(&other.to_string());
                        out.push('\n');
                    }
                }
            }
        }
        other => {
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
}

fn nested(out: &mut String, value: &Value, depth: usize) {
    let block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    out.push(if block { '\n' } else { ' ' });
    put(out, value, depth);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_indented_and_quoted() {
        let document = json!({
            "evidence": [{"node": "n1: x", "idle": {"p50": 1}}, {"node": "n2"}],
            "none": null,
            "proposed": {"memory": "38Mi"},
            "list": [],
        });
        let want = "evidence:\n- idle:\n    p50: 1\n  node: \"n1: x\"\n- node: \"n2\"\nlist: []\nnone: null\nproposed:\n  memory: \"38Mi\"\n";
        let text = render(&document);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|l| l.trim().trim_start_matches("- ").to_owned())
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&text), sorted(want));
        assert!(text.contains("proposed:\n  memory: \"38Mi\"\n"), "{text}");
    }
}
