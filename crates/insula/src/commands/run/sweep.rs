//! `--sweep`: a CSV file as elements of an array, one for each row.
//!
//! The first line names the columns. Each column is a variable of its name in the environment of
//! an element, and `{name}` in the command's words stands for its value. Everything that is wrong
//! with the file is told, with its line, before anything is asked of a site.

use csv::{ByteRecord, ErrorKind, StringRecord};
use public_api::{ARRAY_LIMIT, CreateElement};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Largest file, in bytes: what a site takes in one request is of this size.
const FILE_LIMIT_BYTES: u64 = 8 << 20;
/// The first row is the element of this index.
const FIRST_INDEX: u32 = 1;
/// Whatever stands before it, this is a row unless a quote is open.
const FURTHER_ROW: &[u8] = b"row";

/// What is wrong with a file of rows, or with a command that uses it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is larger than {} MiB", FILE_LIMIT_BYTES >> 20)]
    TooLarge,
    #[error("it is empty: the first line has to name the columns")]
    Empty,
    #[error("it has no row below its header")]
    NoRow,
    #[error("line {line}: more rows than the {ARRAY_LIMIT} elements that an array can have")]
    TooManyRows { line: u64 },
    #[error("line {line}: the header has {columns} columns, this row has {found}")]
    Ragged { line: u64, columns: u64, found: u64 },
    #[error("line {line}: it is not UTF-8")]
    NotUtf8 { line: u64 },
    #[error("line {line}: a quoted value does not end")]
    OpenQuote { line: u64 },
    #[error("line {line}: the value of `{name}` has a NUL in it")]
    Nul { line: u64, name: String },
    #[error("line {line}: column {column} has no name")]
    NoName { line: u64, column: usize },
    #[error(
        "line {line}: `{name}` cannot name a variable: A-Z, a-z, 0-9 and _ can, and no digit first"
    )]
    BadName { line: u64, name: String },
    #[error("line {line}: the column `{name}` is there twice")]
    DoubleName { line: u64, name: String },
    #[error("line {line}: `{name}` is a name of Insula's own")]
    OwnName { line: u64, name: String },
    #[error("there is no column `{name}` for `{{{name}}}` of the command")]
    NoColumn { name: String },
}

/// Rows with named columns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Sweep {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, SweepError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes))
            .map_err(SweepError::Read)?;
        if bytes.len() as u64 > FILE_LIMIT_BYTES {
            return Err(SweepError::TooLarge);
        }
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, SweepError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(SweepError::Empty);
        }
        if let Some(line) = open_quote(bytes) {
            return Err(SweepError::OpenQuote { line });
        }
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(bytes);
        let mut names = None;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| refusal(&error))?;
            let line = record.position().map_or(0, csv::Position::line);
            let Some(names) = &names else {
                names = Some(header(&record, line)?);
                continue;
            };
            if rows.len() == ARRAY_LIMIT {
                return Err(SweepError::TooManyRows { line });
            }
            rows.push(row(&record, names, line)?);
        }
        match names {
            None => Err(SweepError::Empty),
            Some(_) if rows.is_empty() => Err(SweepError::NoRow),
            Some(names) => Ok(Self { names, rows }),
        }
    }

    /// An element for each row. The first `fixed` words of `command` are as they are; in the
    /// others `{name}` becomes the value of that column, and `{{` a single brace. `${name}` is left
    /// to the shell, which finds the variable of that name.
    pub(super) fn elements(
        &self,
        command: &[String],
        fixed: usize,
    ) -> Result<Vec<CreateElement>, SweepError> {
        let mut elements = Vec::with_capacity(self.rows.len());
        for (index, row) in (FIRST_INDEX..).zip(&self.rows) {
            let words: Result<Vec<String>, SweepError> = command
                .iter()
                .enumerate()
                .map(|(at, word)| {
                    if at < fixed {
                        return Ok(word.clone());
                    }
                    self.fill(word, row)
                })
                .collect();
            let words = words?;
            let env = self.names.iter().cloned().zip(row.iter().cloned());
            elements.push(CreateElement {
                index,
                command: (words != command).then_some(words),
                env: env.collect(),
            });
        }
        Ok(elements)
    }

    fn fill(&self, word: &str, row: &[String]) -> Result<String, SweepError> {
        let mut filled = String::new();
        let mut rest = word;
        while let Some(at) = rest.find('{') {
            let (before, braced) = rest.split_at(at);
            filled.push_str(before);
            let inner = &braced[1..];
            if let Some(after) = inner.strip_prefix('{') {
                filled.push('{');
                rest = after;
                continue;
            }
            let name = inner.split_once('}').map(|(name, _)| name);
            let name = name.filter(|name| is_variable(name) && !before.ends_with('$'));
            let Some(name) = name else {
                filled.push('{');
                rest = inner;
                continue;
            };
            let column = self.names.iter().position(|known| known == name);
            let column = column.ok_or_else(|| SweepError::NoColumn {
                name: name.to_owned(),
            })?;
            filled.push_str(&row[column]);
            rest = &inner[name.len() + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// The line of a row with a quoted value that does not end: it takes the rest of the file into
/// itself, which the reader takes as meant. A further row after the end tells: it is one of its own
/// unless a quote is open. To count quotes would not do, since within a value they are literal.
fn open_quote(bytes: &[u8]) -> Option<u64> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes.chain(&b"\n"[..]).chain(FURTHER_ROW));
    let mut last = ByteRecord::new();
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).is_ok_and(|read| read) {
        std::mem::swap(&mut last, &mut record);
    }
    if last.iter().eq([FURTHER_ROW]) {
        return None;
    }
    Some(last.position().map_or(0, csv::Position::line))
}

fn refusal(error: &csv::Error) -> SweepError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => SweepError::Ragged {
            line,
            columns: *expected_len,
            found: *len,
        },
        ErrorKind::Utf8 { .. } => SweepError::NotUtf8 { line },
        // The others are about files that are read and positions that are sought: not here.
        _ => SweepError::Read(io::Error::other(error.to_string())),
    }
}

fn header(record: &StringRecord, line: u64) -> Result<Vec<String>, SweepError> {
    let mut names: Vec<String> = Vec::new();
    for (column, name) in record.iter().enumerate() {
        let name = name.trim().to_owned();
        if name.is_empty() {
            let column = column + 1;
            return Err(SweepError::NoName { line, column });
        }
        if !is_variable(&name) {
            return Err(SweepError::BadName { line, name });
        }
        if name.starts_with("INSULA_") {
            return Err(SweepError::OwnName { line, name });
        }
        if names.contains(&name) {
            return Err(SweepError::DoubleName { line, name });
        }
        names.push(name);
    }
    Ok(names)
}

fn row(record: &StringRecord, names: &[String], line: u64) -> Result<Vec<String>, SweepError> {
    let nul = record.iter().position(|value| value.contains('\0'));
    if let Some(column) = nul {
        let name = names[column].clone();
        return Err(SweepError::Nul { line, name });
    }
    Ok(record.iter().map(str::to_owned).collect())
}

/// The name of a variable as every shell takes it.
fn is_variable(name: &str) -> bool {
    let letter = |character: char| character.is_ascii_alphabetic() || character == '_';
    name.starts_with(letter)
        && name
            .chars()
            .all(|character| letter(character) || character.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::Sweep;
    use public_api::ARRAY_LIMIT;

    fn parse(text: impl AsRef<[u8]>) -> Result<Sweep, String> {
        Sweep::parse(text.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_are_elements_and_columns_their_variables() {
        let text = "\u{feff}lr,Note\r\n0.1,\"a, b\"\r\n\r\n0.2,\"say \"\"hi\"\"\nthere\"\r\n";
        let sweep = parse(text).expect("it is right");
        let command =
            ["train.py", "--lr={lr}", "{Note}", "{{lr}", "${lr} {1:2} {"].map(str::to_owned);
        let elements = sweep.elements(&command, 1).expect("every column is there");
        let words = elements[0].command.clone().expect("words of its own");
        assert_eq!(
            words,
            ["train.py", "--lr=0.1", "a, b", "{lr}", "${lr} {1:2} {"]
        );
        assert_eq!((elements[0].index, elements[1].index), (1, 2));
        let env: Vec<(&str, &str)> = elements[1]
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(env, [("Note", "say \"hi\"\nthere"), ("lr", "0.2")]);
        // Words that are ours are not looked at, and a command that is the same is not repeated.
        let fixed = sweep
            .elements(&["{lr}".to_owned()], 1)
            .expect("not looked at");
        assert_eq!(fixed[0].command, None);
        let refused = sweep.elements(&["{rate}".to_owned()], 0);
        let refused = refused.expect_err("no such column").to_string();
        assert_eq!(
            refused,
            "there is no column `rate` for `{rate}` of the command"
        );
    }

    #[test]
    fn a_quote_within_a_value_is_literal_and_a_quoted_value_may_have_lines() {
        for (text, values) in [
            ("size,n\n5\" disk,1\n", &[["5\" disk", "1"]][..]),
            ("a,b\n1,x\"\n2,y\n", &[["1", "x\""], ["2", "y"]]),
            (
                "a,b\n\"one\r\ntwo, \"\"3\"\"\",x\n4,5",
                &[["one\r\ntwo, \"3\"", "x"], ["4", "5"]],
            ),
            ("a,b\n1,\"\"", &[["1", ""]]),
            ("a,b\n1,\"2\"", &[["1", "2"]]),
        ] {
            let sweep = parse(text).expect(text);
            assert_eq!(sweep.rows, values, "{text:?}");
        }
        // Control: one that opens a value has to be closed, however many there are.
        for text in [
            "a,b\n1,\"2\n3,4\n",
            "a,b\n0,0\"\n1,\"2\n3,4\n",
            "a,b\n1,\"2\"\"",
        ] {
            let said = parse(text).expect_err(text);
            assert!(said.ends_with("a quoted value does not end"), "{said}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
            ("", "it is empty: the first line has to name the columns"),
            (
                "\n \n",
                "it is empty: the first line has to name the columns",
            ),
            ("a,b\n", "it has no row below its header"),
            (
                "a,b\n1,2\n3\n",
                "line 3: the header has 2 columns, this row has 1",
            ),
            (
                "a\n1,2\n",
                "line 2: the header has 1 columns, this row has 2",
            ),
            ("a,\n1,2\n", "line 1: column 2 has no name"),
            ("a,a\n1,2\n", "line 1: the column `a` is there twice"),
            (
                "INSULA_X\n1\n",
                "line 1: `INSULA_X` is a name of Insula's own",
            ),
            ("a\n1\n\"2\n3\n", "line 3: a quoted value does not end"),
            ("a\n\0\n", "line 2: the value of `a` has a NUL in it"),
        ] {
            assert_eq!(parse(text).expect_err(text), said, "{text:?}");
        }
        for name in ["a b", "1a", "a-b", "ä", "a=b"] {
            let said = parse(format!("{name}\n1\n")).expect_err(name);
            assert!(said.contains("cannot name a variable"), "{said}");
        }
        let said = parse(b"a\n1\nb\xff\n").expect_err("not UTF-8");
        assert_eq!(said, "line 3: it is not UTF-8");
        let rows = "1\n".repeat(ARRAY_LIMIT);
        assert!(parse(format!("a\n{rows}")).is_ok());
        let said = parse(format!("a\n{rows}1\n")).expect_err("too many");
        assert!(said.starts_with("line 10002: more rows"), "{said}");
    }
}
