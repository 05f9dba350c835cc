//! Arrays: made at once, stopped and removed at once, throttled. Everything else is their
//! elements' own.

use super::site::Site;
use super::{Answer, CreateArrayRequest, Holder, Refusal, RequestToken};
use domain::{
    ArrayId, ArrayRecord, Intention, Now, SessionId, SessionName, SessionRecord, StopOrder,
};
use std::collections::{BTreeMap, BTreeSet};

/// An array in memory. It is there as long as one of its elements is.
#[derive(Debug)]
pub(super) struct ArrayEntry {
    pub(super) record: ArrayRecord,
    pub(super) index: ArrayIndex,
    /// All of it was asked to be removed.
    pub(super) removed: bool,
}

/// The elements of an array that are in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct ArrayIndex {
    /// By their index.
    pub(super) elements: BTreeMap<u32, SessionId>,
    /// Those that have not ended.
    pub(super) living: BTreeSet<SessionId>,
}

impl ArrayIndex {
    pub(super) fn put(&mut self, record: &SessionRecord, index: u32) {
        self.elements.insert(index, record.id);
        if record.state.is_living() {
            self.living.insert(record.id);
        } else {
            self.living.remove(&record.id);
        }
    }

    pub(super) fn remove(&mut self, index: u32, session: SessionId) {
        self.elements.remove(&index);
        self.living.remove(&session);
    }
}

impl Site {
    pub(super) fn create_array(
        &mut self,
        token: RequestToken,
        request: CreateArrayRequest,
        now: Now,
    ) {
        let answer = match self.try_create_array(request, now) {
            Ok(answer) => answer,
            Err(refusal) => Answer::Refused { refusal },
        };
        self.answer(token, answer);
    }

    fn try_create_array(
        &mut self,
        request: CreateArrayRequest,
        now: Now,
    ) -> Result<Answer, Refusal> {
        let array = request.record.id;
        if let Some(row) = self.made_before(&request.record.owner, request.key.as_deref()) {
            if row.digest != request.record.digest {
                let session = row.session;
                return Err(Refusal::KeyReused { session });
            }
            let array = row.array.unwrap_or(array);
            return Ok(Answer::ArrayCreated {
                array,
                already: true,
            });
        }
        let taken = |element: &&super::NewElement| self.sessions.contains_key(&element.session);
        if let Some(element) = request.elements.iter().find(taken) {
            let session = element.session;
            return Err(Refusal::IdTaken { session });
        }
        self.check_room(request.elements.len())?;
        let first = request.elements.first().map(|element| element.session);
        let first = first.expect("an array has at least one element");
        if self.arrays.contains_key(&array) {
            return Err(Refusal::IdTaken { session: first });
        }
        let name = self.name_for(
            &request.record.owner,
            request.name.as_ref(),
            &request.record.template.command,
            first,
        )?;
        self.check_image(&request.record.owner, &request.record.template)?;
        self.check_fits(&request.record.template)?;
        let mut after = request.after.clone();
        self.decide_all(&mut after, now)?;
        if let Some(key) = &request.key {
            let owner = request.record.owner.user.clone();
            let digest = request.record.digest.clone();
            self.remember_key(owner, (key.clone(), digest), first, Some(array), now);
        }
        self.add_array(request, name, after, now);
        Ok(Answer::ArrayCreated {
            array,
            already: false,
        })
    }

    fn add_array(
        &mut self,
        request: CreateArrayRequest,
        name: SessionName,
        after: Vec<domain::Dependency>,
        now: Now,
    ) {
        let CreateArrayRequest {
            mut record,
            kind,
            elements,
            ..
        } = request;
        record.name = name;
        record.created_at = now.wall;
        let array = record.id;
        let message = format!(
            "array {} of {} elements was asked for by {}",
            record.name, record.size, record.owner.user
        );
        let shared = record.clone();
        self.arrays.insert(
            array,
            ArrayEntry {
                record,
                index: ArrayIndex::default(),
                removed: false,
            },
        );
        self.out.changed_arrays.insert(array);
        for element in elements {
            let mut spec = shared.template.clone();
            if let Some(command) = element.command {
                spec.command = command;
            }
            spec.env.extend(element.env);
            let mut session =
                super::create::new_session(element.session, shared.name.clone(), spec, now);
            session.owner = shared.owner.clone();
            session.kind = kind;
            session.array = Some((array, element.index));
            session.epoch = self.row.epoch;
            session.priority = shared.priority;
            session.retry.limit = shared.retry;
            session.after.clone_from(&after);
            self.remember(session);
            self.out.changed.insert(element.session);
            self.out.touched.insert(element.session);
        }
        self.out.place = true;
        self.note_array(array, now, "array.created", message);
    }

    pub(super) fn stop_array(
        &mut self,
        token: RequestToken,
        array: ArrayId,
        order: &StopOrder,
        now: Now,
    ) {
        let living: Vec<SessionId> = match self.arrays.get(&array) {
            None => {
                let refusal = Refusal::NoSuchArray { array };
                self.answer(token, Answer::Refused { refusal });
                return;
            }
            Some(entry) => entry.index.living.iter().copied().collect(),
        };
        if living.is_empty() {
            let refusal = Refusal::ArrayHasEnded { array };
            self.answer(token, Answer::Refused { refusal });
            return;
        }
        for session in living {
            let intention = &self.sessions[&session].record.intention;
            if let Some(intention) = super::stop::after_stop(intention, order.clone()) {
                self.intend(session, intention);
            }
        }
        let message = format!("array {} was asked to end", self.arrays[&array].record.name);
        self.note_array(array, now, "array.stop-asked", message);
        self.answer(token, Answer::ArrayAccepted { array });
    }

    pub(super) fn remove_array(
        &mut self,
        token: RequestToken,
        array: ArrayId,
        order: &StopOrder,
        now: Now,
    ) {
        let Some(entry) = self.arrays.get_mut(&array) else {
            let refusal = Refusal::NoSuchArray { array };
            self.answer(token, Answer::Refused { refusal });
            return;
        };
        entry.removed = true;
        let message = format!("array {} was asked to be removed", entry.record.name);
        let elements: Vec<SessionId> = entry.index.elements.values().copied().collect();
        self.note_array(array, now, "array.remove-asked", message);
        for session in elements {
            let record = &self.sessions[&session].record;
            if !matches!(record.intention, Intention::Remove { .. }) {
                let order = order.clone();
                self.intend(session, Intention::Remove { order });
            }
        }
        self.answer(token, Answer::ArrayAccepted { array });
    }

    /// Changes how many elements may live at a time. What is placed stays.
    pub(super) fn throttle_array(
        &mut self,
        token: RequestToken,
        array: ArrayId,
        throttle: Option<u32>,
        now: Now,
    ) {
        let Some(entry) = self.arrays.get_mut(&array) else {
            let refusal = Refusal::NoSuchArray { array };
            self.answer(token, Answer::Refused { refusal });
            return;
        };
        if entry.record.throttle != throttle {
            entry.record.throttle = throttle;
            let limit = throttle.map_or("without limit".to_owned(), |limit| {
                format!("at most {limit}")
            });
            let name = &entry.record.name;
            let message = format!("elements of array {name} live {limit} at a time");
            self.out.changed_arrays.insert(array);
            self.out.place = true;
            self.note_array(array, now, "array.throttled", message);
        }
        self.answer(token, Answer::ArrayAccepted { array });
    }

    /// An element has ended: with the last of an array its name is free.
    pub(super) fn element_ended(&mut self, session: SessionId, now: Now) {
        let record = &self.sessions[&session].record;
        let Some((array, _)) = record.array else {
            return;
        };
        let Some(entry) = self.arrays.get_mut(&array) else {
            return;
        };
        entry.index.living.remove(&session);
        if entry.index.living.is_empty() {
            let message = format!("all elements of array {} have ended", entry.record.name);
            let (owner, name) = (&entry.record.owner, &entry.record.name);
            self.names.give_back(owner, name, Holder::Array(array));
            self.note_array(array, now, "array.ended", message);
        }
    }

    /// Which arrays were asked to be removed, by what their elements say.
    pub(super) fn find_removed_arrays(&mut self) {
        for entry in self.arrays.values_mut() {
            let mut elements = entry.index.elements.values();
            entry.removed = elements.all(|id| {
                let intention = &self.sessions[id].record.intention;
                matches!(intention, Intention::Remove { .. })
            });
        }
    }

    /// A removed element is about to be deleted: with the last of a removed array, that is gone.
    pub(super) fn element_removed(&mut self, session: SessionId, now: Now) {
        let array = self.sessions[&session].record.array;
        let Some((array, _)) = array else {
            return;
        };
        let Some(entry) = self.arrays.get(&array) else {
            return;
        };
        if entry.removed && entry.index.elements.len() == 1 {
            let message = format!("array {} was removed", entry.record.name);
            self.note_array(array, now, "array.removed", message);
        }
    }

    /// An array in memory.
    pub fn array(&self, id: ArrayId) -> Option<&ArrayRecord> {
        self.arrays.get(&id).map(|entry| &entry.record)
    }

    /// The elements of an array that are in memory, by their index.
    pub fn elements(&self, id: ArrayId) -> impl Iterator<Item = &SessionRecord> {
        let entry = self.arrays.get(&id).into_iter();
        let ids = entry.flat_map(|entry| entry.index.elements.values());
        ids.filter_map(|id| self.session(*id))
    }

    /// All arrays in memory, by id.
    pub fn arrays(&self) -> impl Iterator<Item = &ArrayRecord> {
        self.arrays.values().map(|entry| &entry.record)
    }
}
