//! Tables and lists of details, without frames: columns that `awk` can read as well as people.

use std::borrow::Cow;

use anstyle::Style;
use comfy_table::{Cell, ContentArrangement, Table, presets};

use super::{clean, style::paint};

/// Text with a style, kept apart until it is known whether colour is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    style: Option<Style>,
}

impl Text {
    /// Text of the mesh: made safe for a terminal, `-` where it is empty.
    pub fn new(text: &str) -> Self {
        let text = if text.is_empty() {
            Cow::Borrowed("-")
        } else {
            clean(text)
        };
        Self {
            text: text.into_owned(),
            style: None,
        }
    }

    /// The same text in `style`.
    #[must_use]
    pub fn styled(mut self, style: Style) -> Self {
        self.style = Some(style);
        self
    }

    /// The text with colour where `colour`.
    pub fn paint(&self, colour: bool) -> String {
        match self.style {
            Some(style) => paint(colour, style, &self.text),
            None => self.text.clone(),
        }
    }

    /// How many columns of a terminal it takes.
    pub fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// True where there is nothing to say.
    pub fn is_absent(&self) -> bool {
        self.text == "-"
    }
}

impl<T: ToString> From<T> for Text {
    fn from(value: T) -> Self {
        Self::new(&value.to_string())
    }
}

/// A header and rows, aligned. Every line ends with a line end and without blanks.
pub fn rows(header: &[&str], rows: impl IntoIterator<Item = Vec<Text>>, colour: bool) -> String {
    page(header, rows, &mut Vec::new(), colour)
}

/// The same for one page of several: no column is narrower than it was on the page before, which `widths` remembers.
pub fn page(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<Text>>,
    widths: &mut Vec<usize>,
    colour: bool,
) -> String {
    let rows: Vec<Vec<Text>> = rows.into_iter().collect();
    widths.resize(header.len(), 0);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let header: Vec<String> = header
        .iter()
        .zip(widths)
        .map(|(column, width)| format!("{:<width$}", column.to_uppercase(), width = *width))
        .collect();
    let mut table = plain();
    table.set_header(header.iter().map(Cell::new));
    for row in &rows {
        table.add_row(row.iter().map(|cell| Cell::new(&cell.text)));
    }
    finish(&mut table, &rows, 1, colour)
}

/// Names and values, one pair on a line, aligned.
pub fn details(lines: &[(&str, Text)], colour: bool) -> String {
    let mut table = plain();
    let mut cells = Vec::with_capacity(lines.len());
    for (name, value) in lines {
        table.add_row([Cell::new(format!("{name}:")), Cell::new(&value.text)]);
        cells.push(vec![Text::new(name), value.clone()]);
    }
    finish(&mut table, &cells, 0, colour)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.force_no_tty();
    table
}

/// Lays the table out without colour, then paints: escapes must not count as width.
fn finish(table: &mut Table, rows: &[Vec<Text>], header_lines: usize, colour: bool) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        match index.checked_sub(header_lines).and_then(|row| rows.get(row)) {
            Some(cells) if colour => out.push_str(&paint_line(line, cells)),
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// Paints each styled cell where it stands in the line. Cells come in order, so each is looked for behind the last.
fn paint_line(line: &str, cells: &[Text]) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    let mut rest = line;
    for cell in cells {
        let Some(at) = rest.find(cell.text.as_str()) else {
            continue;
        };
        let (before, behind) = rest.split_at(at);
        let (text, behind) = behind.split_at(cell.text.len());
        out.push_str(before);
        match cell.style {
            Some(style) => out.push_str(&paint(true, style, text)),
            None => out.push_str(text),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::super::style;
    use super::*;

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let cells = || {
            vec![
                vec![Text::new("p1"), Text::new("active").styled(style::GREEN)],
                vec![Text::new("peer-two"), Text::new("")],
            ]
        };
        let table = rows(&["id", "status"], cells(), false);
        assert_eq!(table, "ID        STATUS\np1        active\npeer-two  -\n");
        let coloured = rows(&["id", "status"], cells(), true);
        assert_eq!(coloured.replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""), table);
        assert!(coloured.contains("\u{1b}[32mactive"));
    }

    #[test]
    fn columns_stay_where_they_were_on_the_page_before() {
        let mut widths = Vec::new();
        let row = |id: &str| vec![vec![Text::new(id), Text::new("active")]];
        page(&["id", "status"], row("a-long-one"), &mut widths, false);
        let second = page(&["id", "status"], row("p1"), &mut widths, false);
        assert_eq!(second, "ID          STATUS\np1          active\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(Text::new("a\u{1b}[31mb\nc").paint(true), "a\\u{1b}[31mb\\nc");
    }

    #[test]
    fn details_line_up() {
        assert_eq!(
            details(&[("id", Text::new("p1")), ("status", Text::new("active"))], false),
            "id:      p1\nstatus:  active\n"
        );
    }
}
