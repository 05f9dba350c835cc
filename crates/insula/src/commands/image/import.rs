//! `insula image import`: an archive or a directory goes to the site.

use super::{case_twins, help, short};
use crate::arguments;
use crate::body::{BodyWriter, body};
use crate::daemon::{Outage, Site};
use crate::failure::Failure;
use crate::printer::{printable, shown};
use crate::progress::ByteBar;
use crate::settings::Settings;
use clap::{ArgAction, Args};
use domain::amounts::show_bytes;
use images::{PackError, PackOwners, Packed, pack_directory};
use public_api::{ImportQuery, ImportedView};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  insula image import rootfs.tar.zst --name debian:12
  insula image import ./rootfs --name tools --command 'python3 -i'
  docker save team/train:2.1 | insula image import -
  insula image import layout.tar --reference v2 --entrypoint '' --user 1000";
/// The word for standard input.
const STDIN: &str = "-";
/// Bytes that are read at a time.
const READ_BYTES: usize = 256 << 10;
/// Ends of names of archives, the longest first.
const ENDINGS: [&str; 12] = [
    ".tar.zstd",
    ".tar.zst",
    ".tar.gz",
    ".tar.xz",
    ".tzst",
    ".tgz",
    ".txz",
    ".tar",
    ".oci",
    ".zst",
    ".gz",
    ".xz",
];

/// Import an image
///
/// From a directory (a root file system or an OCI layout), a tar archive of one, or what
/// `docker save` writes; archives may be compressed by gzip, zstd or xz. What it is is found out
/// from its content. Everything in it is checked, and what is refused leaves nothing.
///
/// --entrypoint and --command take words with blanks between them, or a JSON array.
#[derive(Debug, Args)]
#[command(after_long_help = help(EXAMPLES))]
pub(super) struct ImportArguments {
    /// An archive, a directory, or `-` for standard input
    path: PathBuf,
    /// What to call it [default: as the archive does, else as the file]
    #[arg(long, value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Which image of an archive that has several
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,
    /// What always stands before the command; '' for nothing
    #[arg(long, value_name = "WORDS", value_parser = arguments::words, help_heading = "In place of the image's own")]
    entrypoint: Option<arguments::Words>,
    /// The command of sessions that name none; '' for nothing
    #[arg(long, value_name = "WORDS", value_parser = arguments::words, help_heading = "In place of the image's own")]
    command: Option<arguments::Words>,
    /// A variable; may be given more than once
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = arguments::variable, action = ArgAction::Append, help_heading = "In place of the image's own")]
    env: Vec<(String, String)>,
    /// Who the command is
    #[arg(
        short,
        long,
        value_name = "USER[:GROUP]",
        help_heading = "In place of the image's own"
    )]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "PATH", value_parser = arguments::absolute_inside, help_heading = "In place of the image's own")]
    workdir: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What is to be imported, and how.
pub(super) struct Order {
    source: Source,
    query: ImportQuery,
}

/// Where the archive comes from.
#[derive(Clone, Debug)]
enum Source {
    Stdin,
    File { path: PathBuf, bytes: u64 },
    Directory { path: PathBuf },
}

impl ImportArguments {
    /// Looks at the path, and puts the rest into the site's words.
    pub(super) fn order(&self, settings: &Settings) -> Result<Order, Failure> {
        let list = |words: &[String]| serde_json::to_string(words).map_err(anyhow::Error::from);
        let words = |words: &Option<arguments::Words>| {
            let words = words.as_ref().map(|words| list(&words.0));
            words.transpose()
        };
        let env: Vec<String> = self
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let source = self.source(settings)?;
        let query = ImportQuery {
            name: self.name.clone(),
            usual_name: source.usual_name(),
            reference: self.reference.clone(),
            entrypoint: words(&self.entrypoint)?,
            command: words(&self.command)?,
            env: (!env.is_empty()).then(|| list(&env)).transpose()?,
            user: self.user.clone(),
            workdir: self.workdir.clone(),
        };
        Ok(Order { source, query })
    }

    fn source(&self, settings: &Settings) -> Result<Source, Failure> {
        if self.path.as_os_str() == STDIN {
            return Ok(Source::Stdin);
        }
        let path = settings.environment.current_directory.join(&self.path);
        let facts = std::fs::metadata(&path).map_err(|error| {
            Failure::from(error)
                .context(format!("cannot read {}", shown(&self.path)))
                .hint("name an archive, a directory, or `-` for standard input")
        })?;
        if facts.is_dir() {
            return Ok(Source::Directory { path });
        }
        // A pipe or a device has no length.
        let bytes = if facts.is_file() { facts.len() } else { 0 };
        Ok(Source::File { path, bytes })
    }
}

impl Source {
    /// A name after the file's, where nothing else tells one.
    fn usual_name(&self) -> Option<String> {
        let (Self::File { path, .. } | Self::Directory { path }) = self else {
            return None;
        };
        let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
        let path = if path.file_name().is_some() {
            path
        } else {
            &resolved
        };
        let name = path.file_name()?.to_str()?;
        let ending = ENDINGS.iter().find(|ending| name.ends_with(**ending));
        let name = ending.map_or(name, |ending| &name[..name.len() - ending.len()]);
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::File { bytes, .. } => *bytes,
            Self::Stdin | Self::Directory { .. } => 0,
        }
    }

    /// Whether it can be read a second time.
    fn lasts(&self) -> bool {
        match self {
            Self::Stdin => false,
            Self::File { bytes, .. } => *bytes > 0,
            Self::Directory { .. } => true,
        }
    }

    /// Writes all of it; on a failure the body is broken off, and never looks whole.
    fn write(&self, mut writer: BodyWriter) -> Result<Option<Packed>, SendError> {
        let written = match self {
            Self::Stdin => copy(io::stdin().lock(), &mut writer),
            Self::File { path, .. } => File::open(path)
                .map_err(SendError::Read)
                .and_then(|file| copy(file, &mut writer)),
            Self::Directory { path } => pack(path, &mut writer),
        };
        if written.is_err() {
            writer.break_off();
        }
        written
    }
}

/// What was to be sent was not.
enum SendError {
    /// The site takes no more; it says why.
    Refused,
    /// It could not be read.
    Read(io::Error),
    /// The directory could not be packed.
    Pack(PackError),
}

fn copy(mut from: impl Read, writer: &mut BodyWriter) -> Result<Option<Packed>, SendError> {
    let mut part = vec![0; READ_BYTES];
    loop {
        let count = match from.read(&mut part) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(SendError::Read)?,
        };
        if count == 0 {
            writer.flush().map_err(|_| SendError::Refused)?;
            return Ok(None);
        }
        let sent = writer.write_all(&part[..count]);
        sent.map_err(|_| SendError::Refused)?;
    }
}

fn pack(path: &std::path::Path, writer: &mut BodyWriter) -> Result<Option<Packed>, SendError> {
    let owners = if rustix::process::geteuid().is_root() {
        PackOwners::Keep
    } else {
        PackOwners::Root
    };
    match pack_directory(path, owners, &mut *writer) {
        Ok(packed) => {
            writer.flush().map_err(|_| SendError::Refused)?;
            Ok(Some(packed))
        }
        Err(PackError::Write { .. }) => Err(SendError::Refused),
        Err(error) => Err(SendError::Pack(error)),
    }
}

/// Sends it, and says what came of it.
pub(super) async fn import(site: &Site, order: Order, json: bool) -> Result<(), Failure> {
    let (view, packed) = send(site, &order).await?;
    if json {
        return site.printer.json(&view);
    }
    site.printer.line(&summary(&view))?;
    for note in notes(&view, packed.as_ref()) {
        site.printer.note(&note);
    }
    Ok(())
}

async fn send(site: &Site, order: &Order) -> Result<(ImportedView, Option<Packed>), Failure> {
    let mut outage = Outage::default();
    loop {
        let bar = ByteBar::new(&site.printer, "importing", order.source.bytes());
        let (writer, parts) = body();
        let (source, writer) = (order.source.clone(), writer.shown_on(bar.clone()));
        let writing = tokio::task::spawn_blocking(move || source.write(writer));
        let result = site.client().import_image(&order.query, parts).await;
        bar.clear();
        let error = match result {
            Ok(view) => {
                let written = writing.await.expect("writing does not panic");
                return Ok((view, written.ok().flatten()));
            }
            Err(error) => error,
        };
        // Whoever waits for standard input may wait for ever.
        if order.source.lasts() || writing.is_finished() {
            match writing.await.expect("writing does not panic") {
                Err(SendError::Read(error)) => {
                    return Err(Failure::from(error).context("cannot read the archive"));
                }
                Err(SendError::Pack(error)) => {
                    return Err(anyhow::Error::from(error).into());
                }
                Ok(_) | Err(SendError::Refused) => {}
            }
        }
        outage.bridge(site, error).await?;
        if !order.source.lasts() {
            let failure = Failure::new("the site went away while the archive was sent");
            return Err(failure.hint("nothing of it was kept; send it again"));
        }
    }
}

fn summary(view: &ImportedView) -> String {
    let image = &view.image;
    let layers = image.layers.len();
    let plural = if layers == 1 { "" } else { "s" };
    let name = view.name.as_deref().unwrap_or("(no name)");
    format!(
        "{}  {}  {}, {layers} layer{plural}, {}",
        printable(name),
        short(&image.id),
        view.form,
        show_bytes(image.bytes.into())
    )
}

fn notes(view: &ImportedView, packed: Option<&Packed>) -> Vec<String> {
    let mut notes = Vec::new();
    if view.already {
        notes.push("the very same image was here before".to_owned());
    }
    if let (Some(name), Some(other)) = (&view.name, &view.moved_from) {
        notes.push(format!("{name} was the name of {} before", short(other)));
    }
    let dropped = view.dropped.iter();
    let dropped: Vec<String> = dropped
        .map(|dropped| format!("{} {}", dropped.count, dropped.what))
        .collect();
    if !dropped.is_empty() {
        notes.push(format!("left out on nodes: {}", dropped.join(", ")));
    }
    notes.extend(case_twins(&view.image));
    let Some(packed) = packed else { return notes };
    if packed.sockets > 0 {
        notes.push(format!("left out: {} sockets", packed.sockets));
    }
    for mount in &packed.mounts {
        notes.push(format!("left empty, as it is a mount: {}", shown(mount)));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn a_file_gives_its_name() {
        for (path, expected) in [
            ("/a/debian.tar.zst", "debian"),
            ("/a/debian-12.tgz", "debian-12"),
            ("/a/my.image", "my.image"),
            ("/a/rootfs", "rootfs"),
        ] {
            let path = path.into();
            let source = Source::File { path, bytes: 1 };
            assert_eq!(source.usual_name().as_deref(), Some(expected));
        }
        assert_eq!(Source::Stdin.usual_name(), None);
    }
}
