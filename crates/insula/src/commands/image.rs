//! `insula image`: images that sessions run on.

mod import;
mod show;

use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::{Printer, Tone};
use crate::table::{Cell, Table};
use crate::times::age;
use clap::{Args, Subcommand};
use domain::amounts::show_bytes;
use import::ImportArguments;
use jiff::Timestamp;
use public_api::{ImageView, RemovedImagesView};

const EXAMPLES: &str = "\
Examples:
  insula image import debian.tar.zst
  docker save python:3.12 | insula image import - --name python:3.12
  insula run --image python:3.12 train.py
  insula image ls";

/// Import, list and remove images
///
/// An image is a root file system with settings: what to start, as whom, and where. A session that
/// names one with --image sees its files instead of this machine's; what it writes outside of /work
/// and its home is gone when it ends.
#[derive(Debug, Args)]
#[command(after_long_help = help(EXAMPLES), arg_required_else_help = true)]
pub(crate) struct ImageArguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    Import(Box<ImportArguments>),
    Ls(LsArguments),
    Show(ShowArguments),
    Rm(RmArguments),
    Prune(PruneArguments),
}

/// List images
#[derive(Debug, Args)]
#[command(after_long_help = help("Examples:\n  insula image ls\n  insula image ls --json | jq -r '.images[].id'"))]
struct LsArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Show everything about an image
#[derive(Debug, Args)]
#[command(after_long_help = help("Examples:\n  insula image show debian\n  insula image show 3f1c9a20 --json"))]
struct ShowArguments {
    /// Name, id, or the first digits of an id
    image: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Remove images
///
/// By one of several names only that name goes; by its last name or its id the image goes. Refused
/// while living sessions run on it.
#[derive(Debug, Args)]
#[command(after_long_help = help("Examples:\n  insula image rm debian\n  insula image rm python:3.11 3f1c9a20"))]
struct RmArguments {
    /// Names, ids, or the first digits of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Remove the images that have no name
///
/// An image loses its name when the name is given to another one. Images that living sessions run
/// on stay.
#[derive(Debug, Args)]
#[command(after_long_help = help("Example:\n  insula image prune"))]
struct PruneArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn help(examples: &str) -> String {
    format!("{examples}\n\n{}", exit_codes::USUAL_HELP)
}

impl ImageArguments {
    /// Whether errors are to be printed as JSON too.
    pub(crate) fn wants_json(&self) -> bool {
        match &self.act {
            Act::Import(arguments) => arguments.json,
            Act::Ls(arguments) => arguments.json,
            Act::Show(arguments) => arguments.json,
            Act::Rm(arguments) => arguments.json,
            Act::Prune(arguments) => arguments.json,
        }
    }
}

/// Does one of them.
pub(crate) async fn image(context: Context, arguments: ImageArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    match arguments.act {
        Act::Import(arguments) => {
            // Refused before a daemon is started for it.
            let order = arguments.order(&settings)?;
            let site = Site::open(settings, &printer).await?;
            import::import(&site, order, arguments.json).await?;
        }
        Act::Ls(arguments) => {
            let site = Site::open(settings, &printer).await?;
            let list = site.call(async |client| client.images().await).await?;
            if arguments.json {
                printer.json(&list)?;
            } else {
                for line in table(&list.images, Timestamp::now()).lines(&printer) {
                    printer.line(&line)?;
                }
            }
        }
        Act::Show(arguments) => {
            let site = Site::open(settings, &printer).await?;
            let name = arguments.image.as_str();
            let view = site.call(async |client| client.image(name).await).await?;
            if arguments.json {
                printer.json(&view)?;
            } else {
                show::print(&printer, &view)?;
            }
        }
        Act::Rm(arguments) => {
            let site = Site::open(settings, &printer).await?;
            let mut gone = RemovedImagesView::default();
            let mut exit_code = exit_codes::SUCCESS;
            // One that cannot be removed does not keep the others from it.
            for name in &arguments.images {
                match site.client().remove_image(name).await {
                    Ok(removed) => add(&mut gone, removed),
                    Err(error) => {
                        printer.failure(&Failure::from(error), arguments.json);
                        exit_code = exit_codes::FAILURE;
                    }
                }
            }
            tell_removed(&printer, &gone, arguments.json)?;
            return Ok(exit_code);
        }
        Act::Prune(arguments) => {
            let site = Site::open(settings, &printer).await?;
            let gone = site
                .call(async |client| client.prune_images().await)
                .await?;
            if gone.images.is_empty() && !arguments.json {
                printer.note("every image has a name or is in use");
            }
            tell_removed(&printer, &gone, arguments.json)?;
        }
    }
    Ok(exit_codes::SUCCESS)
}

fn add(all: &mut RemovedImagesView, one: RemovedImagesView) {
    all.images.extend(one.images);
    all.names.extend(one.names);
    all.freed_bytes += one.freed_bytes;
    all.freed_later |= one.freed_later;
}

fn tell_removed(printer: &Printer, gone: &RemovedImagesView, json: bool) -> Result<(), Failure> {
    if json {
        return printer.json(gone);
    }
    for name in &gone.names {
        printer.line(name)?;
    }
    for image in &gone.images {
        printer.line(short(image))?;
    }
    if gone.freed_bytes > 0 {
        let freed = show_bytes(gone.freed_bytes.into());
        printer.note(&format!("{freed} are free again"));
    }
    if gone.freed_later {
        printer.note("an import goes on: space is given back within a minute of its end");
    }
    Ok(())
}

/// The first digits of an id, as people see it.
pub(super) fn short(id: &str) -> &str {
    const DIGITS: usize = 12;
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..DIGITS).unwrap_or(digits)
}

/// That names of an image differ only in case, where some do.
fn case_twins(image: &ImageView) -> Option<String> {
    let (paths, verb) = match image.case_twins {
        0 => return None,
        1 => ("1 path".to_owned(), "differs"),
        count => (format!("{count} paths"), "differ"),
    };
    Some(format!(
        "{paths} {verb} from another only in case; a node whose file system folds case refuses that"
    ))
}

fn table(images: &[ImageView], now: Timestamp) -> Table {
    let headings = ["NAME", "ID", "ARCH", "SIZE", "LAYERS", "AGE", "USED BY"];
    let mut table = Table::new(&headings, &[6, 0]).dispensable(&[4, 2, 5]);
    for image in images {
        let imported = image.imported_at.as_deref();
        let (size, layers) = match image.built_in {
            true => ("built in".to_owned(), String::new()),
            false => (
                show_bytes(image.bytes.into()),
                image.layers.len().to_string(),
            ),
        };
        let name = match image.names.is_empty() {
            true => Cell::toned("(none)", Tone::Faint),
            false => Cell::toned(image.names.join(", "), Tone::Strong),
        };
        let id = if image.built_in { "" } else { short(&image.id) };
        table.push(vec![
            name,
            Cell::plain(id),
            Cell::plain(&image.architecture),
            Cell::plain(size),
            Cell::plain(layers),
            Cell::plain(imported.map_or(String::new(), |time| age(time, now))),
            Cell::plain(image.used_by.join(", ")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{short, table};
    use crate::printer::Printer;
    use clap::ColorChoice;
    use public_api::{ImageSettingsView, ImageView};

    fn image(id: &str, names: &[&str]) -> ImageView {
        ImageView {
            id: id.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            built_in: id == "host",
            domain: "local".to_owned(),
            project: "default".to_owned(),
            user: "ann".to_owned(),
            imported_at: (id != "host").then(|| "2026-11-21T11:50:00Z".to_owned()),
            made_at: None,
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            bytes: 234 << 20,
            stored_bytes: 60 << 20,
            layers: Vec::new(),
            case_twins: 0,
            settings: ImageSettingsView::default(),
            used_by: names.iter().map(|name| format!("on-{name}")).collect(),
        }
    }

    #[test]
    fn images_line_up() {
        let now = "2026-11-21T12:00:00Z".parse().expect("an instant");
        let id = format!("sha256:{}", "3f".repeat(32));
        let mut host = image("host", &["host"]);
        host.used_by.clear();
        let images = [host, image(&id, &["a", "b:1"]), image(&id, &[])];
        let printer = Printer::new(ColorChoice::Never, true, false);
        let lines = table(&images, now).lines(&printer);
        insta::assert_snapshot!(lines.join("\n"));
        assert_eq!(short(&id), "3f3f3f3f3f3f");
    }
}
