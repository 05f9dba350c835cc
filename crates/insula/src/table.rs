//! Tables for people: columns as wide as they need to be, cut to the terminal's width. Where there
//! is no terminal nothing is cut, and a long value stands out of its column.

use crate::printer::{Printer, Tone, UNLIMITED_WIDTH, printable};
use std::borrow::Cow;

/// Spaces between two columns.
const GAP: usize = 2;
/// A column that can be cut keeps at least this many characters.
const LEAST_COLUMN: usize = 8;
/// A column that is wider than this is cut before one that is not.
const WIDE_COLUMN: usize = 40;
/// Where nothing is cut no column is wider than this: one long value would fill up every other row.
const UNCUT_COLUMN: usize = 64;

/// A cell: its text, and what that means.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell without a special meaning.
    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::toned(text, Tone::Plain)
    }

    /// A cell that means something.
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self {
            text: printable(text.as_ref()),
            tone,
        }
    }
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    /// Columns that may be cut when the terminal is narrow, the first to be cut first.
    elastic: Vec<usize>,
    /// Columns that are left out where even that is not enough, the first to go first.
    dispensable: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headings: &[impl AsRef<str>], elastic: &[usize]) -> Self {
        let headings = headings.iter().map(|heading| printable(heading.as_ref()));
        Self {
            headings: headings.collect(),
            elastic: elastic.to_vec(),
            dispensable: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The same table; these columns may be left out, the first to go first.
    pub(crate) fn dispensable(mut self, columns: &[usize]) -> Self {
        self.dispensable = columns.to_vec();
        self
    }

    /// Adds a row; it has a cell for every heading.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.headings.len(), "a cell for every heading");
        self.rows.push(row);
    }

    /// The lines of the table, headings first.
    pub(crate) fn lines(&self, printer: &Printer) -> Vec<String> {
        self.lines_within(printer, printer.width())
    }

    /// The lines of the table, at most `width` characters long where that can be.
    pub(crate) fn lines_within(&self, printer: &Printer, width: usize) -> Vec<String> {
        let uncut = width == UNLIMITED_WIDTH;
        let columns = if uncut {
            self.uncut_columns()
        } else {
            self.columns(width)
        };
        let headings: Vec<Cell> = self
            .headings
            .iter()
            .map(|heading| Cell::toned(heading, Tone::Strong))
            .collect();
        std::iter::once(&headings)
            .chain(&self.rows)
            .map(|row| line(row, &columns, uncut, printer))
            .collect()
    }

    /// All columns, with the widths in which their values line up where none is cut.
    fn uncut_columns(&self) -> Vec<(usize, usize)> {
        let width = |column: usize| {
            let heading = length(&self.headings[column]);
            let cells = self.rows.iter().map(|row| length(&row[column].text));
            let widths = cells.chain([heading]);
            let line_up = widths.filter(|width| *width <= UNCUT_COLUMN);
            line_up.max().unwrap_or(0)
        };
        (0..self.headings.len())
            .map(|column| (column, width(column)))
            .collect()
    }

    /// The columns that are shown, and their widths.
    fn columns(&self, available: usize) -> Vec<(usize, usize)> {
        let mut columns: Vec<(usize, usize)> = (0..self.headings.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| length(&row[column].text));
                let width = cells.max().unwrap_or(0).max(length(&self.headings[column]));
                (column, width)
            })
            .collect();
        let least = |(column, width): &(usize, usize)| {
            let elastic = self.elastic.contains(column);
            (
                *column,
                if elastic {
                    LEAST_COLUMN.min(*width)
                } else {
                    *width
                },
            )
        };
        for gone in &self.dispensable {
            let narrowest: Vec<(usize, usize)> = columns.iter().map(least).collect();
            if total(&narrowest) <= available {
                break;
            }
            columns.retain(|(column, _)| column != gone);
        }
        for least in [WIDE_COLUMN, LEAST_COLUMN] {
            for elastic in &self.elastic {
                let excess = total(&columns).saturating_sub(available);
                if let Some((_, width)) = columns.iter_mut().find(|(column, _)| column == elastic) {
                    *width = width.saturating_sub(excess).max(least.min(*width));
                }
            }
        }
        columns
    }
}

/// Characters in a line of these columns.
fn total(columns: &[(usize, usize)]) -> usize {
    let widths: usize = columns.iter().map(|(_, width)| *width).sum();
    widths + GAP * columns.len().saturating_sub(1)
}

fn line(row: &[Cell], columns: &[(usize, usize)], uncut: bool, printer: &Printer) -> String {
    let mut out = String::new();
    for (column, width) in columns {
        let cell = &row[*column];
        let text = if uncut {
            Cow::Borrowed(cell.text.as_str())
        } else {
            Cow::Owned(cut(&cell.text, *width))
        };
        let padding = width.saturating_sub(length(&text)) + GAP;
        out.push_str(&printer.paint(cell.tone, &text));
        if columns.last().is_some_and(|(last, _)| last != column) {
            out.push_str(&" ".repeat(padding));
        }
    }
    out.trim_end().to_owned()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// At most `width` characters, the last an ellipsis where something is missing.
fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::{Cell, Table, UNCUT_COLUMN, cut};
    use crate::printer::{Printer, UNLIMITED_WIDTH};
    use clap::ColorChoice;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "COMMAND"], &[1]);
        table.push(vec![
            Cell::plain("a"),
            Cell::plain("python3 train.py --epochs 300"),
        ]);
        table.push(vec![
            Cell::plain("longer-name"),
            Cell::plain("sh\u{1b}[31m"),
        ]);
        table
    }

    #[test]
    fn columns_line_up_and_control_characters_are_not_obeyed() {
        let printer = Printer::new(ColorChoice::Never, true, false);
        insta::assert_snapshot!(table().lines(&printer).join("\n"), @r"
        NAME         COMMAND
        a            python3 train.py --epochs 300
        longer-name  sh�[31m
        ");
    }

    #[test]
    fn only_elastic_columns_are_cut() {
        assert_eq!(table().columns(30), [(0, 11), (1, 17)]);
        assert_eq!(table().columns(5), [(0, 11), (1, 8)]);
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn a_long_value_is_whole_in_a_pipe_and_costs_the_other_rows_nothing() {
        let printer = Printer::new(ColorChoice::Never, true, false);
        let long = "x".repeat(100_000);
        let mut table = Table::new(&["A", "LONG", "WHY"], &[2, 1]);
        let widest = "y".repeat(UNCUT_COLUMN);
        for value in [long.as_str(), "short", &widest] {
            table.push(["1", value, "because of it"].map(Cell::plain).to_vec());
        }
        let lines = table.lines_within(&printer, UNLIMITED_WIDTH);
        assert_eq!(lines[1], format!("1  {long}  because of it"));
        assert_eq!(lines[2], format!("1  {:64}  because of it", "short"));
        assert_eq!(lines[3], format!("1  {widest}  because of it"));
        // In a terminal it is cut, and before a column that is not as wide.
        let lines = table.lines_within(&printer, 70);
        assert_eq!(lines[1], format!("1  {}…  because of it", "x".repeat(51)));
        assert_eq!(lines[2], format!("1  {:52}  because of it", "short"));
    }

    #[test]
    fn columns_go_where_even_their_least_widths_do_not_fit() {
        let table = || table().dispensable(&[0]);
        assert_eq!(table().columns(21), [(0, 11), (1, 8)]);
        assert_eq!(table().columns(20), [(1, 20)]);
    }
}
