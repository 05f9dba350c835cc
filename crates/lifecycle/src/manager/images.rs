//! The catalogue of images: rows by owner and id, and names that point to them.
//!
//! That a removal is refused while an image is in use, and that a session is only made on an image
//! that is there, is decided here in one step, so the two can never cross.

use super::site::{NodeEntry, Site};
use super::{Answer, ImageTarget, Refusal, RequestToken};
use crate::rows::{ImageNameRow, ImageRecord, RowChange};
use domain::{
    ARCHITECTURE_ROWS, ImageId, ImageName, Now, Owner, SessionName, SessionSpec, architecture_row,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most images of a site, each owner's counted.
pub const IMAGES_LIMIT: usize = 10_000;

/// Every image, with its names.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    images: BTreeMap<(Owner, ImageId), Arc<ImageRecord>>,
    names: BTreeMap<(Owner, ImageName), ImageId>,
}

impl Catalogue {
    /// What the store held.
    pub fn of(images: Vec<ImageRecord>, names: Vec<ImageNameRow>) -> Self {
        let images = images.into_iter();
        let images = images.map(|image| ((image.owner.clone(), image.id), Arc::new(image)));
        let names = names.into_iter();
        Self {
            images: images.collect(),
            names: names
                .map(|row| ((row.owner, row.name), row.image))
                .collect(),
        }
    }

    /// An image of an owner.
    pub fn image(&self, owner: &Owner, image: ImageId) -> Option<&Arc<ImageRecord>> {
        self.images.get(&(owner.clone(), image))
    }

    /// The image that an owner calls so.
    pub fn named(&self, owner: &Owner, name: &ImageName) -> Option<&Arc<ImageRecord>> {
        let image = self.names.get(&(owner.clone(), name.clone()))?;
        self.image(owner, *image)
    }

    /// All images, by owner and id.
    pub fn images(&self) -> impl Iterator<Item = &Arc<ImageRecord>> {
        self.images.values()
    }

    /// The names of an image.
    pub fn names_of(&self, owner: &Owner, image: ImageId) -> Vec<&ImageName> {
        let all = self.names.iter();
        all.filter(|((whose, _), named)| whose == owner && **named == image)
            .map(|((_, name), _)| name)
            .collect()
    }

    /// Every name that an owner has given.
    pub fn names(&self, owner: &Owner) -> impl Iterator<Item = &ImageName> {
        let owner = owner.clone();
        let all = self.names.keys();
        all.filter(move |(whose, _)| *whose == owner)
            .map(|(_, name)| name)
    }

    /// What the store holds.
    pub fn rows(&self) -> (Vec<ImageRecord>, Vec<ImageNameRow>) {
        let images = self.images.values().map(|image| image.as_ref().clone());
        let names = self
            .names
            .iter()
            .map(|((owner, name), image)| ImageNameRow {
                owner: owner.clone(),
                name: name.clone(),
                image: *image,
            });
        (images.collect(), names.collect())
    }

    /// Takes in a change that is about images.
    pub fn apply(&mut self, row: &RowChange) {
        match row {
            RowChange::PutImage { image } => {
                let key = (image.owner.clone(), image.id);
                self.images.insert(key, Arc::new(image.as_ref().clone()));
            }
            RowChange::DeleteImage { owner, image } => {
                self.images.remove(&(owner.clone(), *image));
                self.names
                    .retain(|(whose, _), named| whose != owner || named != image);
            }
            RowChange::PutImageName { name } => {
                let key = (name.owner.clone(), name.name.clone());
                self.names.insert(key, name.image);
            }
            RowChange::DeleteImageName { owner, name } => {
                self.names.remove(&(owner.clone(), name.clone()));
            }
            RowChange::PutArray { .. }
            | RowChange::PutSession { .. }
            | RowChange::DeleteSession { .. }
            | RowChange::PutNode { .. }
            | RowChange::DeleteNode { .. }
            | RowChange::AddEvent { .. }
            | RowChange::PutIdempotencyKey { .. }
            | RowChange::PutSite { .. } => {}
        }
    }
}

impl Site {
    pub(super) fn add_image(
        &mut self,
        token: RequestToken,
        image: ImageRecord,
        name: Option<ImageName>,
        now: Now,
    ) {
        let (id, owner) = (image.id, image.owner.clone());
        let already = self.catalogue.image(&owner, id).is_some();
        if !already && self.catalogue.images.len() >= IMAGES_LIMIT {
            let limit = IMAGES_LIMIT;
            let refusal = Refusal::ImagesFull { limit };
            self.answer(token, Answer::Refused { refusal });
            return;
        }
        if !already {
            let called = name
                .as_ref()
                .map_or_else(|| id.short(), ImageName::to_string);
            let message = format!("image {called} was imported by {}", owner.user);
            self.note_project(&owner.project, now, "image.imported", message);
            let image = Box::new(image);
            self.change_image(RowChange::PutImage { image });
        }
        let mut moved_from = None;
        if let Some(name) = name {
            let before = self.catalogue.named(&owner, &name).map(|image| image.id);
            moved_from = before.filter(|before| *before != id);
            if before != Some(id) {
                let image = id;
                let name = ImageNameRow { owner, name, image };
                self.change_image(RowChange::PutImageName { name });
            }
        }
        self.answer(
            token,
            Answer::ImageAdded {
                image: id,
                already,
                moved_from,
            },
        );
    }

    pub(super) fn remove_image(
        &mut self,
        token: RequestToken,
        owner: &Owner,
        target: &ImageTarget,
        now: Now,
    ) {
        let answer = match self.try_remove_image(owner, target, now) {
            Ok(answer) => answer,
            Err(refusal) => Answer::Refused { refusal },
        };
        self.answer(token, answer);
    }

    fn try_remove_image(
        &mut self,
        owner: &Owner,
        target: &ImageTarget,
        now: Now,
    ) -> Result<Answer, Refusal> {
        let found = match target {
            ImageTarget::Image(id) => self.catalogue.image(owner, *id),
            ImageTarget::Name(name) => self.catalogue.named(owner, name),
        };
        let Some(image) = found.map(|image| image.id) else {
            let image = match target {
                ImageTarget::Image(id) => id.to_string(),
                ImageTarget::Name(name) => name.to_string(),
            };
            return Err(Refusal::NoSuchImage { image });
        };
        if let ImageTarget::Name(name) = target
            && self.catalogue.names_of(owner, image).len() > 1
        {
            let (owner, name) = (owner.clone(), name.clone());
            let names = vec![name.clone()];
            self.change_image(RowChange::DeleteImageName { owner, name });
            let images = Vec::new();
            return Ok(Answer::ImagesRemoved { images, names });
        }
        let sessions = self.users_of(owner, image);
        if !sessions.is_empty() {
            return Err(Refusal::ImageInUse { image, sessions });
        }
        let names = self.delete_image(owner, image, now);
        let images = vec![image];
        Ok(Answer::ImagesRemoved { images, names })
    }

    pub(super) fn prune_images(&mut self, token: RequestToken, owner: &Owner, now: Now) {
        let named: BTreeSet<ImageId> = {
            let all = self.catalogue.names.iter();
            let own = all.filter(|((whose, _), _)| whose == owner);
            own.map(|(_, image)| *image).collect()
        };
        let unnamed: Vec<ImageId> = {
            let all = self.catalogue.images();
            let own = all.filter(|image| image.owner == *owner);
            own.map(|image| image.id)
                .filter(|image| !named.contains(image))
                .collect()
        };
        let mut images = Vec::new();
        for image in unnamed {
            if self.users_of(owner, image).is_empty() {
                self.delete_image(owner, image, now);
                images.push(image);
            }
        }
        let names = Vec::new();
        self.answer(token, Answer::ImagesRemoved { images, names });
    }

    fn delete_image(&mut self, owner: &Owner, image: ImageId, now: Now) -> Vec<ImageName> {
        let names = self.catalogue.names_of(owner, image);
        let names: Vec<ImageName> = names.into_iter().cloned().collect();
        let called = names
            .first()
            .map_or_else(|| image.short(), ImageName::to_string);
        let message = format!("image {called} was removed");
        self.note_project(&owner.project, now, "image.removed", message);
        let owner = owner.clone();
        self.change_image(RowChange::DeleteImage { owner, image });
        names
    }

    fn change_image(&mut self, row: RowChange) {
        self.catalogue.apply(&row);
        self.out.images.push(row);
    }

    /// The living sessions of an owner that run, or are to run, on an image.
    fn users_of(&self, owner: &Owner, image: ImageId) -> Vec<SessionName> {
        let records = self.sessions.values().map(|entry| &entry.record);
        let users = records.filter(|record| {
            let used = record.spec.imported.as_ref();
            let same = used.is_some_and(|used| used.id == image);
            same && record.owner == *owner && record.state.is_living()
        });
        users.map(|record| record.name.clone()).collect()
    }

    /// Refuses an image that is gone by now, and one that no node can run.
    pub(super) fn check_image(&self, owner: &Owner, spec: &SessionSpec) -> Result<(), Refusal> {
        let Some(used) = &spec.imported else {
            return Ok(());
        };
        if self.catalogue.image(owner, used.id).is_none() {
            let image = spec.image.clone();
            return Err(Refusal::NoSuchImage { image });
        }
        let row = architecture_row(&used.architecture);
        let runs =
            |node: &NodeEntry| row.is_some_and(|row| node.record.capabilities.contains_key(row));
        // Mostly the first node does; only a refusal looks at all.
        if self.nodes.is_empty() || self.nodes.values().any(runs) {
            return Ok(());
        }
        let rows = self.nodes.values().flat_map(|node| {
            let rows = node.record.capabilities.keys();
            rows.filter_map(|row| row.strip_prefix(ARCHITECTURE_ROWS))
        });
        let nodes: BTreeSet<&str> = rows.collect();
        Err(Refusal::OtherArchitecture {
            image: spec.image.clone(),
            architecture: used.architecture.clone(),
            nodes: nodes.into_iter().map(str::to_owned).collect(),
        })
    }
}
