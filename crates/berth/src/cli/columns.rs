//! Tables for people: each column is as wide as its widest cell.

/// The rows, the header among them, with a gap between columns and nothing at the ends of lines.
pub(super) fn aligned<R: AsRef<[String]>>(rows: &[R], gap: &str) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.as_ref().iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join(gap).trim_end());
        text.push('\n');
    }
    text
}
