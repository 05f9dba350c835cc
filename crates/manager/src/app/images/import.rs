//! Importing an image: the archive comes in, is checked and kept, and then it is in the catalogue.

use super::show::image_view;
use crate::app::SiteService;
use crate::app::problems::{field, refused};
use crate::app::resolve::owner_of;
use crate::app::validate::{check_inner_path, check_texts, check_user};
use crate::clock;
use crate::image_store::Importing;
use crate::leader::Request;
use crate::shared::chain;
use domain::{ImageId, ImageName, Owner};
use futures::TryStreamExt;
use images::{Dropped, ImportError, ImportOptions, Imported, Limits, Overrides};
use lifecycle::manager::Answer;
use lifecycle::rows::ImageRecord;
use process::crash_point;
use public_api::{
    ByteStream, Caller, DroppedView, ImportQuery, ImportedView, Problem, ProblemCode,
};
use std::io;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Most layers of an image: overlayfs takes their names in one page.
const LAYERS_LIMIT: usize = 100;

/// The names that an import may give.
struct Names {
    /// What was asked for.
    asked: Option<ImageName>,
    /// What it is called if neither request nor archive say.
    usual: Option<ImageName>,
}

impl SiteService {
    pub(crate) async fn import(
        &self,
        caller: &Caller,
        query: ImportQuery,
        body: ByteStream,
    ) -> Result<ImportedView, Problem> {
        let names = Names {
            asked: query.name.as_deref().map(image_name).transpose()?,
            usual: query.usual_name.as_deref().and_then(ImageName::near),
        };
        let options = options(&query)?;
        self.check_room().await?;
        let Some(importing) = self.manager.images.begin_import().await else {
            let detail = "as many images as can be are being imported";
            return Err(Problem::new(ProblemCode::Busy, detail));
        };
        let (imported, importing) = self.take_in(body, options, importing).await?;
        crash_point("import.kept");
        let name = names.of(&imported);
        let image = ImageRecord {
            id: imported.id,
            owner: owner_of(caller),
            created_at: clock::now().wall,
            manifest: imported.manifest.clone(),
            case_twins: imported.report.dropped.case_twins,
        };
        let owner = image.owner.clone();
        let request = Request::AddImage(Box::new(image), name.clone());
        let answer = self.manager.leader.request(request).await;
        crash_point("import.listed");
        drop(importing);
        match answer? {
            Answer::ImageAdded {
                image,
                already,
                moved_from,
            } => {
                let moved_from = moved_from.map(|id| id.to_string());
                let view = self.imported_view(&owner, image, &imported)?;
                Ok(ImportedView {
                    already,
                    moved_from,
                    name: name.map(|name| name.to_string()),
                    ..view
                })
            }
            Answer::Refused { refusal } => {
                let shared = &self.manager.shared;
                self.manager.images.remove_garbage(shared).await;
                Err(refused(&refusal))
            }
            other => unreachable!("an image is added or refused: {other:?}"),
        }
    }

    /// Refuses new work where the site's disk is nearly full.
    async fn check_room(&self) -> Result<(), Problem> {
        match self.manager.leader.read(|store| store.room()).await? {
            database::Room::Enough { .. } | database::Room::Elsewhere => Ok(()),
            database::Room::Full {
                free_bytes,
                needed_bytes,
            } => Err(crate::shared::LeaderError::NoRoom {
                free_bytes,
                needed_bytes,
            }
            .into()),
        }
    }

    /// Reads the archive on a thread of its own. That goes on to its end, or to the end of the
    /// body, also if whoever asked has gone; the hold on the store goes with it.
    async fn take_in(
        &self,
        body: ByteStream,
        options: ImportOptions,
        importing: Importing,
    ) -> Result<(Imported, Importing), Problem> {
        let store = self.manager.images.store();
        let body = body.map_err(io::Error::other);
        let reader = SyncIoBridge::new(StreamReader::new(body));
        let work = tokio::task::spawn_blocking(move || {
            let imported = store.import(reader, &options, &mut |_progress| {});
            (imported, importing)
        });
        let (imported, importing) = work.await.map_err(|error| {
            Problem::new(
                ProblemCode::Internal,
                format!("the import ended early: {error}"),
            )
        })?;
        match imported {
            Ok(imported) => Ok((imported, importing)),
            Err(error) => Err(problem_of(error)),
        }
    }

    fn imported_view(
        &self,
        owner: &Owner,
        image: ImageId,
        imported: &Imported,
    ) -> Result<ImportedView, Problem> {
        let shared = &self.manager.shared;
        let shown = shared.read(|view| {
            let record = view.catalogue.image(owner, image)?;
            Some(image_view(record, view))
        });
        let image = shown.ok_or_else(|| {
            let detail = format!("the image {} was removed at once", image.short());
            Problem::new(ProblemCode::NoSuchImage, detail)
        })?;
        Ok(ImportedView {
            image,
            already: imported.already,
            name: None,
            moved_from: None,
            form: imported.report.form.to_string(),
            references: imported.report.references.clone(),
            dropped: dropped_views(&imported.report.dropped),
        })
    }
}

impl Names {
    fn of(&self, imported: &Imported) -> Option<ImageName> {
        let told = imported.report.references.iter();
        let told = told.filter_map(|text| familiar(text).parse().ok()).next();
        self.asked.clone().or(told).or_else(|| self.usual.clone())
    }
}

/// A name as people say it: tools write the usual registry out.
fn familiar(reference: &str) -> &str {
    let usual = ["docker.io/library/", "docker.io/"];
    let short = usual.iter().find_map(|start| reference.strip_prefix(start));
    short.unwrap_or(reference)
}

fn image_name(text: &str) -> Result<ImageName, Problem> {
    text.parse().map_err(|error| {
        let problem = field("name", error);
        match ImageName::near(text) {
            Some(near) => problem.hint(format!("`--name {near}` would do")),
            None => problem,
        }
    })
}

fn options(query: &ImportQuery) -> Result<ImportOptions, Problem> {
    let words = |name: &'static str, text: &Option<String>| {
        let words = text.as_deref().map(|text| array(name, text)).transpose()?;
        if let Some(words) = &words {
            check_texts(name, words)?;
        }
        Ok::<_, Problem>(words)
    };
    let env = words("env", &query.env)?.unwrap_or_default();
    let env = env.into_iter().map(|text| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(field("env", format!("`{text}` is not NAME=VALUE"))),
    });
    if let Some(workdir) = &query.workdir {
        check_inner_path("workdir", workdir)?;
    }
    if let Some(user) = &query.user {
        check_user(user)?;
    }
    Ok(ImportOptions {
        overrides: Overrides {
            entrypoint: words("entrypoint", &query.entrypoint)?,
            command: words("command", &query.command)?,
            env: env.collect::<Result<_, _>>()?,
            user: query.user.clone(),
            workdir: query.workdir.clone(),
            ..Overrides::default()
        },
        limits: Limits {
            layers: LAYERS_LIMIT,
            ..Limits::default()
        },
        reference: query.reference.clone(),
        ..ImportOptions::default()
    })
}

fn array(name: &str, text: &str) -> Result<Vec<String>, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let detail = format!("it is not a JSON array of texts: {error}");
        field(name, detail).hint("write it as in [\"python3\",\"app.py\"]")
    })
}

fn problem_of(error: ImportError) -> Problem {
    let detail = chain(&error);
    match error {
        ImportError::Refused(_) => Problem::new(ProblemCode::ImageRefused, detail),
        ImportError::Platform { .. } => Problem::new(ProblemCode::WrongArchitecture, detail),
        ImportError::Several { there } | ImportError::Reference { there, .. } => {
            let first = there.first().map_or("NAME", String::as_str);
            Problem::new(ProblemCode::ImageRefused, detail)
                .hint(format!("choose one: `--reference {first}`"))
        }
        ImportError::Input { source } => broken_off(source),
        ImportError::Store(error) if error.is_full() => Problem::new(
            ProblemCode::DiskFull,
            "the image does not fit on the site's disk",
        ),
        ImportError::Store(_) => Problem::new(ProblemCode::Internal, detail),
    }
}

/// The body could not be read: what the way to here says, where it said something.
fn broken_off(error: io::Error) -> Problem {
    match error.downcast::<Problem>() {
        Ok(problem) => problem,
        Err(error) => Problem::new(
            ProblemCode::InvalidRequest,
            format!("the archive broke off: {error}"),
        ),
    }
}

fn dropped_views(dropped: &Dropped) -> Vec<DroppedView> {
    let counted = [
        (dropped.set_ids, "set-user-id and set-group-id bits"),
        (dropped.capabilities, "file capabilities"),
        (dropped.devices, "device nodes below /dev"),
        (dropped.pipes, "named pipes"),
        (dropped.owners, "owners above 65535"),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let counted = counted.map(|(count, what)| (count, what.to_owned()));
    let attributes = dropped.attributes.iter();
    let attributes = attributes.map(|(name, count)| (*count, format!("attributes `{name}`")));
    counted
        .chain(attributes)
        .map(|(count, what)| DroppedView { what, count })
        .collect()
}
