//! How it is shown: on a terminal, or as text.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table as Widget, TableState, Tabs};

use super::picture::{Picture, Table};
use crate::cli::columns::aligned;

const TITLES: [&str; 3] = ["Classes", "Nodes", "Pods"];

pub(super) struct Screen {
    picture: Picture,
    tab: usize,
    state: TableState,
    /// Why the last look failed.
    failure: Option<String>,
}

impl Screen {
    pub(super) fn new(picture: Picture) -> Self {
        Self {
            picture,
            tab: 0,
            state: TableState::default(),
            failure: None,
        }
    }

    pub(super) fn show(&mut self, picture: Picture) {
        self.picture = picture;
        self.failure = None;
        self.scroll(0);
    }

    pub(super) fn failed(&mut self, reason: &str) {
        self.failure = Some(plain(reason));
    }

    pub(super) fn turn(&mut self, by: i32) {
        let tabs = i32::try_from(TITLES.len()).unwrap_or(1);
        let tab = i32::try_from(self.tab).unwrap_or(0);
        self.tab = usize::try_from((tab + by).rem_euclid(tabs)).unwrap_or(0);
        self.state = TableState::default();
    }

    pub(super) fn scroll(&mut self, by: i32) {
        let last = i64::try_from(self.table().rows.len()).unwrap_or(i64::MAX) - 1;
        let at = i64::try_from(self.state.offset()).unwrap_or(0) + i64::from(by);
        *self.state.offset_mut() = usize::try_from(at.min(last).max(0)).unwrap_or(0);
    }

    fn table(&self) -> &Table {
        match self.tab {
            0 => &self.picture.classes,
            1 => &self.picture.nodes,
            _ => &self.picture.pods,
        }
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let rows = [
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
        ];
        let [top, middle, bottom] = Layout::vertical(rows).areas(frame.area());
        let tabs = Tabs::new(TITLES).select(self.tab);
        frame.render_widget(
            tabs.highlight_style(Style::new().add_modifier(Modifier::REVERSED)),
            top,
        );
        let table = self.table();
        let header = Row::new(table.columns.iter().copied());
        let rows: Vec<Row<'_>> = table
            .rows
            .iter()
            .map(|row| Row::new(row.iter().map(|cell| plain(cell))))
            .collect();
        let widths =
            widths(table).map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
        let widget = Widget::new(rows, widths).column_spacing(2);
        let widget = widget.header(header.style(Style::new().add_modifier(Modifier::BOLD)));
        frame.render_stateful_widget(widget, middle, &mut self.state);
        let foot = self.failure.as_ref().map_or_else(
            || "tab: next table  arrows: scroll  q: end".to_owned(),
            |reason| format!("not up to date: {reason}"),
        );
        frame.render_widget(Paragraph::new(Line::from(foot)), bottom);
    }
}

/// The tables as text.
pub(super) fn tables(picture: &Picture) -> String {
    let tables = [&picture.classes, &picture.nodes, &picture.pods];
    let texts: Vec<String> = tables.into_iter().map(text).collect();
    texts.join("\n")
}

fn text(table: &Table) -> String {
    let header = table.columns.iter().map(|&column| column.to_owned());
    let rows = table.rows.iter();
    let rows = rows.map(|row| row.iter().map(|cell| plain(cell)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(header.collect()).chain(rows).collect();
    aligned(&rows, "  ")
}

/// How wide each column is.
fn widths(table: &Table) -> impl Iterator<Item = usize> {
    table.columns.iter().enumerate().map(|(column, title)| {
        let cells = table.rows.iter().filter_map(move |row| row.get(column));
        let cells = cells.map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(title.len())
    })
}

/// Without what a terminal would obey: nodes choose some of these texts.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture() -> Picture {
        let row = |n: usize| vec![format!("class-{n}"), "x\u{1b}[2Jy".to_owned()];
        Picture {
            classes: Table {
                columns: &["CLASS", "NOTE"],
                rows: (0..20).map(row).collect(),
            },
            nodes: Table {
                columns: &["NODE"],
                rows: vec![vec!["n1".into()]],
            },
            ..Picture::default()
        }
    }

    fn drawn(screen: &mut Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(40, 6)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn tables_scroll_and_turn() {
        let mut screen = Screen::new(picture());
        let first = drawn(&mut screen);
        assert!(
            first.contains("CLASS") && first.contains("class-0"),
            "{first}"
        );
        screen.scroll(10);
        let later = drawn(&mut screen);
        assert!(
            later.contains("class-10") && !later.contains("class-0 "),
            "{later}"
        );
        screen.scroll(1000);
        assert!(drawn(&mut screen).contains("class-19"));
        screen.scroll(-5000);
        assert!(drawn(&mut screen).contains("class-0"));
        screen.turn(1);
        assert!(drawn(&mut screen).contains("n1"));
        screen.turn(-2);
        assert_eq!(screen.tab, 2);
        drawn(&mut screen);
    }

    #[test]
    fn a_look_that_failed_is_told_until_one_works() {
        let mut screen = Screen::new(picture());
        screen.failed("no route\nto host");
        assert!(drawn(&mut screen).contains("not up to date: no route to host"));
        screen.show(picture());
        assert!(!drawn(&mut screen).contains("not up to date"));
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let text = tables(&picture());
        assert!(
            text.contains("class-0   x [2Jy") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(!drawn(&mut Screen::new(picture())).contains('\u{1b}'));
    }
}
