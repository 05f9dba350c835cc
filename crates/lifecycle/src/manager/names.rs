//! Who has which name, names that nobody gave, and other names for sessions that have one.

use super::site::Site;
use super::{Answer, Holder, Refusal, RequestToken};
use domain::names::{NAME_LIMIT, nearest_name};
use domain::{Now, Owner, SessionId, SessionName};
use std::collections::BTreeMap;

/// Programs that run a script: a session is named after the script.
const INTERPRETERS: [&str; 8] = [
    "python", "bash", "sh", "node", "Rscript", "perl", "ruby", "julia",
];
/// How many numbers are tried before the id is taken to tell a name apart.
const SUFFIX_LIMIT: u32 = 99;

/// Living sessions, and arrays with a living element, by name. Names come first and owners second:
/// few names have several, so a look compares little and copies nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<SessionName, Vec<(Owner, Holder)>>);

impl Names {
    /// Who has the name among what `owner` has.
    pub(super) fn get(&self, owner: &Owner, name: &SessionName) -> Option<Holder> {
        let mut all = self.0.get(name)?.iter();
        let found = all.find(|(theirs, _)| theirs == owner);
        found.map(|(_, holder)| *holder)
    }

    /// `holder` has it from now on.
    pub(super) fn put(&mut self, owner: &Owner, name: &SessionName, holder: Holder) {
        let Some(all) = self.0.get_mut(name) else {
            let first = vec![(owner.clone(), holder)];
            self.0.insert(name.clone(), first);
            return;
        };
        match all.iter_mut().find(|(theirs, _)| theirs == owner) {
            Some((_, known)) => *known = holder,
            None => all.push((owner.clone(), holder)),
        }
    }

    /// It is free, unless another one has it by now.
    pub(super) fn give_back(&mut self, owner: &Owner, name: &SessionName, holder: Holder) {
        let Some(all) = self.0.get_mut(name) else {
            return;
        };
        all.retain(|(theirs, known)| theirs != owner || *known != holder);
        if all.is_empty() {
            self.0.remove(name);
        }
    }
}

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
    /// A session's new name is free if no other living one of its owner has it. That holds for one
    /// that has ended too: under the name of a living one it could not be found any more.
    pub(super) fn rename(
        &mut self,
        token: RequestToken,
        session: SessionId,
        name: SessionName,
        now: Now,
    ) {
        let answer = match self.try_rename(session, name, now) {
            Ok(()) => Answer::Accepted { session },
            Err(refusal) => Answer::Refused { refusal },
        };
        self.answer(token, answer);
    }

    fn try_rename(
        &mut self,
        session: SessionId,
        name: SessionName,
        now: Now,
    ) -> Result<(), Refusal> {
        let Some(record) = self.session(session) else {
            return Err(Refusal::NoSuchSession { session });
        };
        if record.array.is_some() {
            return Err(Refusal::IsElement { session });
        }
        if record.name == name {
            return Ok(());
        }
        let owner = record.owner.clone();
        if let Some(holder) = self.names.get(&owner, &name) {
            return Err(Refusal::NameTaken {
                holder,
                free: self.free_name(&owner, name.as_str(), session),
                name,
            });
        }
        let living = record.state.is_living();
        let record = self.record_mut(session);
        let before = std::mem::replace(&mut record.name, name.clone());
        if living {
            let holder = Holder::Session(session);
            self.names.give_back(&owner, &before, holder);
            self.names.put(&owner, &name, holder);
        }
        let message = format!("session {before} is now called {name}");
        self.note_session(session, now, "session.renamed", message);
        Ok(())
    }

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
            .find(|name| self.names.get(owner, name).is_none())
            .expect("the last suffix is an id, which no other session has")
    }
}
