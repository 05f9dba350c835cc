//! Names that nobody gave.

use super::site::Site;
use domain::names::{NAME_LIMIT, nearest_name};
use domain::{Owner, SessionId, SessionName};

/// Programs that run a script: a session is named after the script.
const INTERPRETERS: [&str; 8] = [
    "python", "bash", "sh", "node", "Rscript", "perl", "ruby", "julia",
];
/// How many numbers are tried before the id is taken to tell a name apart.
const SUFFIX_LIMIT: u32 = 99;

/// A text to name a session after: the script that an interpreter runs, else the program.
pub(super) fn stem(command: &[String]) -> String {
    let program = command.first().map_or("", |program| file_name(program));
    let bare = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let script = command.get(1).filter(|script| {
        INTERPRETERS.contains(&bare) && !script.starts_with('-') && script.contains('.')
    });
    let text = script.map_or(program, |script| {
        let name = file_name(script);
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    });
    nearest_name(text)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Site {
    /// `stem`, or `stem-2` and so on, or `stem` with the end of `id`: the first that no living
    /// session of `owner` has.
    pub(super) fn free_name(&self, owner: &Owner, stem: &str, id: SessionId) -> SessionName {
        let numbered = (2..=SUFFIX_LIMIT).map(|number| format!("-{number}"));
        let id = id.to_string();
        let suffixes = std::iter::once(String::new())
            .chain(numbered)
            .chain([format!("-{}", &id[id.len() - 5..]), format!("-{id}")]);
        suffixes
            .filter_map(|suffix| {
                let room = NAME_LIMIT - suffix.len();
                let head: String = stem.chars().take(room).collect();
                let text = format!("{}{suffix}", head.trim_end_matches('-'));
                text.parse::<SessionName>().ok()
            })
            .find(|name| !self.names.contains_key(&(owner.clone(), name.clone())))
            .expect("the last suffix is an id, which no other session has")
    }
}
