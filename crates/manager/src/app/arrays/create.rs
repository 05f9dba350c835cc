//! Making an array.

use crate::app::SiteService;
use crate::app::arrays::check_throttle;
use crate::app::arrays::indices::{parse_indices, too_many};
use crate::app::create::{ID_TRIES, idempotency};
use crate::app::image_settings::whole_command;
use crate::app::mounts::check_mounts;
use crate::app::problems::{field, no_such_array, refused};
use crate::app::resolve::owner_of;
use crate::app::validate::{Checked, Defaults, check, check_command};
use crate::clock;
use crate::leader::Request;
use domain::{ARRAY_LIMIT, ArrayId, ArrayRecord, Dependency, SessionId, SessionSpec};
use lifecycle::manager::{Answer, CreateArrayRequest, NewElement, Refusal};
use public_api::{Caller, CreateArray, CreateElement, CreateSession, CreatedArray, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of all commands and variables together: each element has a record of its own.
const TOTAL_LIMIT_BYTES: usize = 64 << 20;

impl SiteService {
    pub(crate) async fn make_array(
        &self,
        caller: &Caller,
        request: CreateArray,
        key: Option<String>,
    ) -> Result<CreatedArray, Problem> {
        let (key, digest) = idempotency(key, &request)?;
        let made = self.try_make(caller, request, key.clone(), digest.clone());
        let (problem, key) = match (made.await, key) {
            (Err(problem), Some(key)) => (problem, key),
            (made, _) => return made,
        };
        let before = self.made_before(caller, (key, digest)).await?;
        match before.and_then(|row| row.array) {
            Some(array) => self.array_created(array, true).await,
            None => Err(problem),
        }
    }

    async fn array_created(&self, array: ArrayId, already: bool) -> Result<CreatedArray, Problem> {
        let record = self.array_record(array).await?;
        let record = record.ok_or_else(|| no_such_array(&array.to_string()))?;
        let array = self.show_one_array(&record).await?;
        Ok(CreatedArray { array, already })
    }

    async fn try_make(
        &self,
        caller: &Caller,
        request: CreateArray,
        key: Option<String>,
        digest: String,
    ) -> Result<CreatedArray, Problem> {
        check_throttle(request.throttle)?;
        let defaults = self.manager.shared.read(Defaults::of);
        let settings = &self.manager.settings;
        let mut session = request.session.clone();
        let mut elements = elements(&request)?;
        // Elements may all bring their own; then that of the session is never run.
        if session.command.is_empty()
            && let Some(command) = elements.first().and_then(|element| element.command.clone())
        {
            session.command = command;
        }
        let image = self.image_for(caller, session.image.as_deref())?;
        let image = image.as_deref();
        let mut checked = check(&session, settings, defaults, image)?;
        for element in &mut elements {
            if let Some(command) = element.command.take() {
                let command = CreateSession {
                    command,
                    ..session.clone()
                };
                let own = image.map(|image| &image.manifest.settings);
                element.command = Some(whole_command(&command, own)?);
            }
        }
        check_elements(&elements, &checked.spec)?;
        let own = [settings.home.as_path(), &settings.runtime_directory];
        checked.spec.mounts = check_mounts(caller, &session.mounts, &own).await?;
        if let Some(upload) = checked.spec.upload {
            self.check_upload(upload, key.is_some()).await?;
        }
        // Nobody follows thousands of outputs at once, so nothing waits for a follower.
        checked.spec.follower_expected = false;
        let after = self.resolve_after(caller, &session.after).await?;
        let asked = Asked {
            request,
            checked,
            elements,
            after,
            key,
            digest,
        };
        let mut last = None;
        for _ in 0..ID_TRIES {
            let create = Request::CreateArray(Box::new(asked.draw(caller)));
            match self.manager.leader.request(create).await? {
                Answer::ArrayCreated { array, already } => {
                    return self.array_created(array, already).await;
                }
                Answer::Refused {
                    refusal: refusal @ Refusal::IdTaken { .. },
                } => last = Some(refusal),
                Answer::Refused { refusal } => return Err(refused(&refusal)),
                Answer::Created { .. }
                | Answer::Accepted { .. }
                | Answer::ArrayAccepted { .. }
                | Answer::ImageAdded { .. }
                | Answer::ImagesRemoved { .. }
                | Answer::NodeAccepted { .. } => {
                    unreachable!("a creation of an array is made or refused")
                }
            }
        }
        Err(refused(&last.expect("every other answer has returned")))
    }
}

/// An array that has passed.
struct Asked {
    request: CreateArray,
    checked: Checked,
    elements: Vec<CreateElement>,
    after: Vec<Dependency>,
    key: Option<String>,
    digest: String,
}

impl Asked {
    /// The request with ids.
    fn draw(&self, caller: &Caller) -> CreateArrayRequest {
        let now = clock::now().wall;
        let mut ids = BTreeSet::new();
        while ids.len() < self.elements.len() {
            ids.insert(SessionId::new(now, clock::random()));
        }
        let pairs = self.elements.iter().zip(ids);
        let elements = pairs.map(|(element, session)| NewElement {
            session,
            index: element.index,
            command: element.command.clone(),
            env: element.env.clone(),
        });
        let index = |element: Option<&CreateElement>| element.map_or(0, |element| element.index);
        let names = self.elements.iter().flat_map(|element| element.env.keys());
        let parameters: BTreeSet<&String> = names.collect();
        let Checked {
            name,
            kind,
            spec,
            priority,
            retry,
        } = &self.checked;
        CreateArrayRequest {
            record: ArrayRecord {
                id: ArrayId::new(now, clock::random()),
                // The core gives it its own.
                name: "array".parse().expect("a good name"),
                owner: owner_of(caller),
                size: u32::try_from(self.elements.len()).expect("at most 10,000"),
                first_index: index(self.elements.first()),
                last_index: index(self.elements.last()),
                throttle: self.request.throttle,
                priority: *priority,
                retry: *retry,
                parameters: parameters.into_iter().cloned().collect(),
                template: spec.clone(),
                digest: self.digest.clone(),
                created_at: now,
            },
            name: name.clone(),
            kind: *kind,
            elements: elements.collect(),
            after: self.after.clone(),
            key: self.key.clone(),
        }
    }
}

/// The elements that a request asks for, by their index.
fn elements(request: &CreateArray) -> Result<Vec<CreateElement>, Problem> {
    let mut elements = match (&request.indices, request.elements.is_empty()) {
        (Some(_), false) => {
            return Err(field("indices", "`indices` and `elements` are both given")
                .hint("give one of the two"));
        }
        (None, true) => {
            return Err(field("elements", "an array needs at least one element")
                .hint("give `indices`, such as `1-100`, or `elements`"));
        }
        (Some(indices), true) => {
            let indices = parse_indices(indices)?.into_iter();
            let plain = |index| CreateElement {
                index,
                command: None,
                env: BTreeMap::new(),
            };
            indices.map(plain).collect()
        }
        (None, false) => request.elements.clone(),
    };
    if elements.len() > ARRAY_LIMIT {
        return Err(too_many(&elements.len().to_string()));
    }
    elements.sort_by_key(|element| element.index);
    let mut pairs = elements.windows(2);
    if let Some(pair) = pairs.find(|pair| pair[0].index == pair[1].index) {
        let detail = format!("{} is the index of two elements", pair[0].index);
        return Err(field("elements", detail));
    }
    Ok(elements)
}

/// What each element is made of, and how much that is in all.
fn check_elements(elements: &[CreateElement], template: &SessionSpec) -> Result<(), Problem> {
    let mut total: usize = 0;
    for element in elements {
        let command = element.command.as_ref().unwrap_or(&template.command);
        let mut env = template.env.clone();
        env.extend(element.env.clone());
        let bytes = check_command(command, &env).map_err(|mut problem| {
            problem.detail = format!("element {}: {}", element.index, problem.detail);
            problem
        })?;
        total = total.saturating_add(bytes);
        if total > TOTAL_LIMIT_BYTES {
            let limit = domain::amounts::show_bytes(TOTAL_LIMIT_BYTES as u128);
            let detail =
                format!("the commands and variables of all elements have more than {limit}");
            return Err(field("elements", detail)
                .hint("put long data into a file that each element finds by its index"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check_elements, elements};
    use crate::app::validate::{Defaults, check};
    use public_api::{CreateArray, CreateElement, CreateSession};
    use std::collections::BTreeMap;

    fn element(index: u32, bytes: usize) -> CreateElement {
        CreateElement {
            index,
            command: None,
            env: BTreeMap::from([("X".to_owned(), "x".repeat(bytes))]),
        }
    }

    fn asked(list: Vec<CreateElement>) -> CreateArray {
        CreateArray {
            elements: list,
            ..CreateArray::default()
        }
    }

    #[test]
    fn elements_are_sorted_counted_and_told_apart() {
        let sorted = elements(&asked(vec![element(9, 1), element(2, 1)])).expect("good");
        assert_eq!([sorted[0].index, sorted[1].index], [2, 9]);
        assert!(elements(&asked(vec![element(9, 1), element(9, 2)])).is_err());
        assert!(elements(&asked(Vec::new())).is_err());
        let many = |count: u32| asked((0..count).map(|index| element(index, 0)).collect());
        assert!(elements(&many(10_000)).is_ok());
        assert!(elements(&many(10_001)).is_err());
        let both = CreateArray {
            indices: Some("1-2".to_owned()),
            ..many(1)
        };
        assert!(elements(&both).is_err());
    }

    #[test]
    fn all_elements_together_have_a_limit() {
        let session = CreateSession {
            command: vec!["true".to_owned()],
            ..CreateSession::default()
        };
        let settings = crate::app::validate::tests::settings();
        let defaults = Defaults::FOR_TESTS;
        let spec = check(&session, &settings, defaults, None)
            .expect("good")
            .spec;
        let large = |count| -> Vec<CreateElement> {
            (0..count).map(|index| element(index, 1 << 19)).collect()
        };
        assert!(check_elements(&large(100), &spec).is_ok());
        let problem = check_elements(&large(200), &spec).expect_err("100 MiB");
        assert!(problem.detail.contains("64 MiB"), "{}", problem.detail);
    }
}
