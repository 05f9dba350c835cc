//! Images as users ask for them: import, lists, removal.

mod import;
mod progress;
mod show;

use crate::app::SiteService;
use crate::app::problems::refused;
use crate::app::resolve::{may_see, owner_of};
use crate::leader::Request;
use domain::{HOST_IMAGE, ImageId, ImageName, Owner};
use lifecycle::manager::{Answer, ImageTarget, View};
use lifecycle::rows::ImageRecord;
use public_api::{Caller, ImageListView, ImageView, Problem, ProblemCode, RemovedImagesView};
use show::{host_view, image_view};
use std::sync::Arc;

/// Least digits of an id that are taken for its beginning.
const LEAST_DIGITS: usize = 4;
/// What a full id begins with.
const ID_PREFIX: &str = "sha256:";
/// Words further away than this are no answer, only noise.
const MOST_EDITS: usize = 3;

impl SiteService {
    pub(crate) fn list_images(&self, caller: &Caller) -> ImageListView {
        self.manager.shared.read(|view| {
            let mut images: Vec<ImageView> = view
                .catalogue
                .images()
                .filter(|image| may_see(caller, &image.owner))
                .map(|image| image_view(image, view))
                .collect();
            // Those without a name come last.
            images.sort_by_cached_key(|image| {
                (
                    image.names.is_empty(),
                    image.names.first().cloned(),
                    image.id.clone(),
                )
            });
            images.insert(0, host_view(view));
            ImageListView { images }
        })
    }

    pub(crate) fn show_image(&self, caller: &Caller, asked: &str) -> Result<ImageView, Problem> {
        self.manager.shared.read(|view| {
            if asked == HOST_IMAGE {
                return Ok(host_view(view));
            }
            let image = find(view, caller, asked)?;
            Ok(image_view(&image, view))
        })
    }

    pub(crate) async fn remove_image_of(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<RemovedImagesView, Problem> {
        if asked == HOST_IMAGE {
            let detail = "`host` is the node's own system and cannot be removed";
            return Err(Problem::new(ProblemCode::InvalidRequest, detail)
                .hint("`insula image ls` shows which images were imported"));
        }
        let found = self.manager.shared.read(|view| find(view, caller, asked))?;
        let target = match asked.parse::<ImageName>() {
            Ok(name) if self.is_named(&found.owner, &name, found.id) => ImageTarget::Name(name),
            Ok(_) | Err(_) => ImageTarget::Image(found.id),
        };
        let request = Request::RemoveImage(found.owner.clone(), target);
        self.removal(request).await
    }

    pub(crate) async fn prune_images_of(
        &self,
        caller: &Caller,
    ) -> Result<RemovedImagesView, Problem> {
        self.removal(Request::PruneImages(owner_of(caller))).await
    }

    async fn removal(&self, request: Request) -> Result<RemovedImagesView, Problem> {
        match self.manager.leader.request(request).await? {
            Answer::ImagesRemoved { images, names } => {
                let shared = &self.manager.shared;
                let pruned = self.manager.images.remove_garbage(shared).await;
                Ok(RemovedImagesView {
                    images: images.iter().map(ImageId::to_string).collect(),
                    names: names.iter().map(ImageName::to_string).collect(),
                    freed_later: pruned.is_none() && !images.is_empty(),
                    freed_bytes: pruned.map_or(0, |pruned| pruned.bytes),
                })
            }
            Answer::Refused { refusal } => Err(refused(&refusal)),
            other => unreachable!("images are removed or that is refused: {other:?}"),
        }
    }

    fn is_named(&self, owner: &Owner, name: &ImageName, image: ImageId) -> bool {
        let shared = &self.manager.shared;
        shared.read(|view| {
            let named = view.catalogue.named(owner, name);
            named.is_some_and(|named| named.id == image)
        })
    }

    /// The image that a session is to run on; `None` for `host`. Only one's own.
    pub(crate) fn image_for(
        &self,
        caller: &Caller,
        asked: Option<&str>,
    ) -> Result<Option<Arc<ImageRecord>>, Problem> {
        let Some(asked) = asked.filter(|asked| *asked != HOST_IMAGE) else {
            return Ok(None);
        };
        let caller = Caller {
            operator: false,
            ..caller.clone()
        };
        let shared = &self.manager.shared;
        shared.read(|view| find(view, &caller, asked)).map(Some)
    }
}

/// The image of a name, an id or the beginning of one. The caller's own go first; an operator also
/// finds those of others.
fn find(view: &View, caller: &Caller, asked: &str) -> Result<Arc<ImageRecord>, Problem> {
    let owner = owner_of(caller);
    if let Ok(name) = asked.parse::<ImageName>()
        && let Some(image) = view.catalogue.named(&owner, &name)
    {
        return Ok(Arc::clone(image));
    }
    let digits = asked.strip_prefix(ID_PREFIX).unwrap_or(asked);
    let is_id = digits.len() >= LEAST_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let begins = |image: &&Arc<ImageRecord>| is_id && image.id.0.hex().starts_with(digits);
    let all = || view.catalogue.images().filter(begins);
    let own: Vec<_> = all().filter(|image| image.owner == owner).collect();
    let others: Vec<_> = match own.is_empty() && caller.operator {
        true => all().collect(),
        false => Vec::new(),
    };
    let mut found: Vec<ImageId> = own.iter().chain(&others).map(|image| image.id).collect();
    found.dedup();
    match (own.first().or(others.first()), found.len()) {
        (Some(image), 1) => Ok(Arc::clone(image)),
        (Some(_), count) => {
            let detail = format!("{count} images have ids that begin with `{digits}`");
            Err(Problem::new(ProblemCode::AmbiguousImage, detail))
        }
        (None, _) => {
            of_anyone(view, caller, asked).ok_or_else(|| no_such_image(view, &owner, asked))
        }
    }
}

/// For operators: the only image of that name, whoever has it.
fn of_anyone(view: &View, caller: &Caller, asked: &str) -> Option<Arc<ImageRecord>> {
    let name: ImageName = asked.parse().ok().filter(|_| caller.operator)?;
    let mut named = view.catalogue.images().filter(|image| {
        let names = view.catalogue.names_of(&image.owner, image.id);
        names.contains(&&name)
    });
    let first = named.next()?;
    named.next().is_none().then(|| Arc::clone(first))
}

fn no_such_image(view: &View, owner: &Owner, asked: &str) -> Problem {
    let asked: String = asked.chars().take(80).collect();
    let problem = Problem::new(
        ProblemCode::NoSuchImage,
        format!("there is no image `{}`", asked.escape_debug()),
    );
    let names = view.catalogue.names(owner).map(ImageName::as_str);
    let known = names.chain([HOST_IMAGE]);
    let edits = known.map(|name| (crate::app::validate::distance(name, &asked), name));
    let limit = MOST_EDITS.min(asked.chars().count().div_ceil(2));
    let nearest = edits.filter(|(edits, _)| *edits <= limit).min();
    match nearest {
        Some((_, name)) => problem.hint(format!("did you mean `{name}`?")),
        None => problem,
    }
}
