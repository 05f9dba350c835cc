//! What stands on the screen, as lines: pure.

use super::rates::{Rate, Row, SortKey};
use crate::printer::{Printer, Tone, printable};
use crate::stalls;
use crate::table::{Cell, Table};
use crate::times::clock;
use domain::amounts::show_bytes;
use public_api::{NodeUsageView, PressureView, ResourcesView};

const KEYS: &str = "q quit  sort: c cpu  m memory  p processes  r read  w write  t time  n name";
/// What is shown where nothing is known.
const UNKNOWN: &str = "-";
/// Lines of the screen around the rows of the table: headings and keys.
const FRAME_LINES: usize = 2;

/// Everything that a picture is made from.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) nodes: Vec<(&'a NodeUsageView, Rate)>,
    pub(super) sort: SortKey,
    /// Why the numbers are old.
    pub(super) trouble: Option<&'a str>,
}

/// The part of the picture that there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Rows that are passed over.
    pub(super) scroll: usize,
}

impl Picture<'_> {
    /// All of it, for a file or a pipe, or once on a terminal.
    pub(super) fn plain(&self, printer: &Printer) -> Vec<String> {
        let mut lines = self.header(printer);
        lines.push(String::new());
        lines.extend(self.table().lines(printer));
        lines
    }

    /// As many lines as the screen has, and how far it could be scrolled.
    pub(super) fn drawn(&self, printer: &Printer, view: View) -> (Vec<String>, usize) {
        let width = view.width;
        let mut lines: Vec<String> = self.header_cut(printer, width);
        let title = match self.trouble {
            Some(trouble) => printer.paint(Tone::Bad, &cut(&printable(trouble), width)),
            None => String::new(),
        };
        lines.push(title);
        let room = view.height.saturating_sub(lines.len() + FRAME_LINES);
        let scroll = view.scroll.min(self.rows.len().saturating_sub(room));
        let mut table = self.table().lines_within(printer, width).into_iter();
        lines.extend(table.next());
        let shown: Vec<String> = table.skip(scroll).take(room).collect();
        let end = scroll + shown.len();
        lines.extend(shown);
        lines.truncate(view.height.saturating_sub(1));
        lines.resize(view.height.saturating_sub(1), String::new());
        let place = if self.rows.len() > room {
            format!("{}-{end} of {}  ", scroll + 1, self.rows.len())
        } else {
            String::new()
        };
        let keys = cut(&format!("{place}{KEYS}"), width);
        lines.push(printer.paint(Tone::Faint, &keys));
        (lines, scroll)
    }

    fn header(&self, printer: &Printer) -> Vec<String> {
        self.header_cut(printer, usize::MAX)
    }

    fn header_cut(&self, printer: &Printer, width: usize) -> Vec<String> {
        let sessions = match self.rows.len() {
            1 => "1 session".to_owned(),
            count => format!("{count} sessions"),
        };
        let title = format!("insula top: {sessions}, sorted by {}", self.sort.word());
        let nodes = self.nodes.iter().map(|(node, rate)| {
            let tone = match (node.connected, node.drained) {
                (true, false) => Tone::Plain,
                (true, true) => Tone::Careful,
                (false, _) => Tone::Bad,
            };
            printer.paint(tone, &cut(&printable(&node_line(node, *rate)), width))
        });
        let title = printer.paint(Tone::Strong, &cut(&title, width));
        std::iter::once(title).chain(nodes).collect()
    }

    fn table(&self) -> Table {
        let headings = [
            "NAME", "STATE", "CPU%", "CPUS", "MEMORY", "LIMIT", "PIDS", "READ/s", "WRITE/s",
            "WAITS", "TIME",
        ];
        let mut table = Table::new(&headings, &[0]).dispensable(&[3, 5, 1, 8, 7, 6, 9]);
        for row in &self.rows {
            let session = row.session;
            let members = u64::from(session.members.max(1));
            let limit = session.resources.memory_bytes.saturating_mul(members);
            let usage = session.usage.as_ref();
            let state = if session.paused {
                "paused"
            } else {
                &session.state
            };
            let tone = if state == "running" {
                Tone::Good
            } else {
                Tone::Careful
            };
            table.push(vec![
                Cell::toned(&session.name, Tone::Strong),
                Cell::toned(state, tone),
                Cell::plain(percent(row.rate.cpu_thousandths)),
                Cell::toned(cpus(&session.resources, members), Tone::Faint),
                Cell::toned(
                    usage.map_or(UNKNOWN.to_owned(), |usage| bytes(usage.memory_bytes)),
                    memory_tone(usage.map_or(0, |usage| usage.memory_bytes), limit),
                ),
                Cell::toned(bytes(limit), Tone::Faint),
                Cell::plain(usage.map_or(UNKNOWN.to_owned(), |usage| usage.pids.to_string())),
                Cell::plain(row.rate.read.map_or(UNKNOWN.to_owned(), bytes)),
                Cell::plain(row.rate.write.map_or(UNKNOWN.to_owned(), bytes)),
                waits(usage.and_then(|usage| usage.pressure)),
                Cell::plain(row.running_seconds.map_or(UNKNOWN.to_owned(), clock)),
            ]);
        }
        table
    }
}

/// `here: cpu 2.5 of 4 given, 183% used; memory ...`.
fn node_line(node: &NodeUsageView, rate: Rate) -> String {
    if !node.connected {
        return format!("{}: not connected", node.name);
    }
    let drained = if node.drained { "drained, " } else { "" };
    let used = node.usage.as_ref().map_or_else(
        || UNKNOWN.to_owned(),
        |usage| {
            format!(
                "{} in use, {} processes",
                bytes(usage.memory_bytes),
                usage.pids
            )
        },
    );
    let waits = node.pressure.and_then(stalls::all);
    let waits = waits.map_or_else(String::new, |waits| format!("; waits {waits}"));
    format!(
        "{}: {drained}cpu {} of {} given, {}% in use; memory {} of {} given, {used}{waits}",
        node.name,
        node.used.cpu,
        node.offers.cpu,
        percent(rate.cpu_thousandths),
        bytes(node.used.memory_bytes),
        bytes(node.offers.memory_bytes),
    )
}

fn cpus(resources: &ResourcesView, members: u64) -> String {
    if members == 1 {
        resources.cpu.clone()
    } else {
        format!("{members}x{}", resources.cpu)
    }
}

/// What it waits for most, if that is told.
fn waits(pressure: Option<PressureView>) -> Cell {
    match pressure.map(stalls::most) {
        None => Cell::plain(UNKNOWN),
        Some(None) => Cell::plain("0"),
        Some(Some((stall, word))) if stall.is_noticeable() => Cell::toned(word, Tone::Careful),
        Some(Some((_, word))) => Cell::plain(word),
    }
}

/// Nine tenths of the limit are worth a look.
fn memory_tone(used: u64, limit: u64) -> Tone {
    if limit > 0 && used / 9 >= limit / 10 {
        Tone::Careful
    } else {
        Tone::Plain
    }
}

fn bytes(amount: u64) -> String {
    match amount {
        0 => "0".to_owned(),
        other => show_bytes(other.into()),
    }
}

/// Percent of one CPU with one decimal.
fn percent(thousandths: Option<u64>) -> String {
    match thousandths {
        None => UNKNOWN.to_owned(),
        Some(cpu) => format!("{}.{}", cpu / 10, cpu % 10),
    }
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// Two samples for tests: `a` runs, `b` has begun anew, `c` waits and is new.
#[cfg(test)]
pub(super) fn samples() -> (public_api::SiteUsageView, public_api::SiteUsageView) {
    let pressure = |cpu: u32, memory: u32| {
        serde_json::json!({
            "cpu": {"recent_hundredths": cpu, "total_micros": 9},
            "memory": {"recent_hundredths": memory, "total_micros": 9},
            "io": {"recent_hundredths": 0, "total_micros": 9},
        })
    };
    let session = |id: &str, name: &str, started: Option<&str>, usage: Option<[u64; 4]>| {
        let usage = usage.map(|[cpu, memory, read, at]| {
            serde_json::json!({
                "cpu_micros": cpu, "memory_bytes": memory, "memory_peak_bytes": memory,
                "pids": 3, "out_of_memory_kills": 0, "read_bytes": read, "write_bytes": 5,
                "sampled_micros": at, "pressure": (memory > 500 << 20).then(|| pressure(120, 3_700)),
            })
        });
        serde_json::json!({
            "id": id, "name": name, "user": "ada",
            "state": if usage.is_some() { "running" } else { "starting" },
            "resources": {"cpu": "2", "memory_bytes": 1 << 30, "pids": 9}, "members": 1,
            "nodes": ["here"], "started_at": started, "usage": usage,
        })
    };
    let node = serde_json::json!({
        "name": "here", "connected": true, "pressure": pressure(1_234, 49),
        "offers": {"cpu": "4", "memory_bytes": 8_u64 << 30, "pids": 0},
        "used": {"cpu": "2.5", "memory_bytes": 3_u64 << 30, "pids": 0},
        "usage": {"cpu_micros": 1, "memory_bytes": 1 << 20, "memory_peak_bytes": 0, "pids": 6,
                  "out_of_memory_kills": 0},
    });
    let (early, late) = ("1969-12-31T23:00:00Z", "1969-12-31T23:59:30Z");
    let sample = |sessions: Vec<serde_json::Value>| {
        let value = serde_json::json!({ "sessions": sessions, "nodes": [node] });
        serde_json::from_value(value).expect("a sample")
    };
    let before = sample(vec![
        session("a", "train", Some(late), Some([1_000_000, 5, 1_000, 10])),
        session("b", "eval", Some(early), Some([9_000_000, 5, 90, 10])),
    ]);
    let after = sample(vec![
        session(
            "a",
            "train",
            Some(late),
            Some([4_000_000, 200 << 20, 5_096, 2_000_010]),
        ),
        session(
            "b",
            "eval",
            Some(early),
            Some([1_000, 1000 << 20, 1, 2_000_010]),
        ),
        session("c", "waits", None, None),
    ]);
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::{Picture, View, samples};
    use crate::commands::top::rates::{Rates, SortKey, node_lines, rows};
    use crate::printer::Printer;
    use clap::ColorChoice;
    use jiff::Timestamp;

    #[test]
    fn the_picture_fits_the_screen() {
        let (before, after) = samples();
        let rates = Rates::between(Some(&before), &after);
        let picture = Picture {
            rows: rows(&after, &rates, SortKey::Cpu, Timestamp::UNIX_EPOCH),
            nodes: node_lines(&after, &rates),
            sort: SortKey::Cpu,
            trouble: None,
        };
        let printer = Printer::new(ColorChoice::Never, true, false);
        insta::assert_snapshot!("plain", picture.plain(&printer).join("\n"));
        for (name, width, height, scroll) in [("wide", 120, 12, 0), ("small", 44, 6, 99)] {
            let view = View {
                width,
                height,
                scroll,
            };
            let (lines, _) = picture.drawn(&printer, view);
            assert_eq!(lines.len(), height);
            let longest = lines.iter().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{lines:#?}");
            insta::assert_snapshot!(name, lines.join("\n"));
        }
    }
}
