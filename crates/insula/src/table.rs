//! Tables for people: columns as wide as they need to be, cut to the terminal's width.

use crate::printer::{Printer, Tone, printable};

/// Spaces between two columns.
const GAP: usize = 2;
/// A column that can be cut keeps at least this many characters.
const LEAST_COLUMN: usize = 8;

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
        let columns = self.columns(width);
        let headings: Vec<Cell> = self
            .headings
            .iter()
            .map(|heading| Cell::toned(heading, Tone::Strong))
            .collect();
        std::iter::once(&headings)
            .chain(&self.rows)
            .map(|row| line(row, &columns, printer))
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
        for elastic in &self.elastic {
            let excess = total(&columns).saturating_sub(available);
            if let Some((_, width)) = columns.iter_mut().find(|(column, _)| column == elastic) {
                let least = LEAST_COLUMN.min(*width);
                *width = width.saturating_sub(excess).max(least);
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

fn line(row: &[Cell], columns: &[(usize, usize)], printer: &Printer) -> String {
    let mut out = String::new();
    for (column, width) in columns {
        let cell = &row[*column];
        let text = cut(&cell.text, *width);
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
    use super::{Cell, Table, cut};
    use crate::printer::Printer;
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
    fn columns_go_where_even_their_least_widths_do_not_fit() {
        let table = || table().dispensable(&[0]);
        assert_eq!(table().columns(21), [(0, 11), (1, 8)]);
        assert_eq!(table().columns(20), [(1, 20)]);
    }
}
