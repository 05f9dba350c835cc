//! Which files go along: those of a directory that no `.gitignore` and no `.insulaignore` leaves
//! out, within limits. Looks, and changes nothing.

use super::stamp::Stamp;
use crate::failure::Failure;
use crate::printer::shown;
use crate::settings::Settings;
use domain::amounts::show_bytes;
use ignore::{DirEntry, WalkBuilder};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Most bytes that go along with a script unasked.
pub(crate) const BYTES_LIMIT: u64 = 200_000_000;
/// Most files that go along with a script unasked.
pub(crate) const FILES_LIMIT: usize = 10_000;
/// Most bytes of what the user named: with the heads of as many entries as there may be, no more
/// than a site takes.
const NAMED_BYTES_LIMIT: u64 = 64_000_000_000;
/// Most entries that are looked at, to name the largest, and that go along when they are named:
/// no more than a node unpacks.
const LOOK_LIMIT: usize = 200_000;
/// So many of the largest files are named.
const NAMED: usize = 3;
/// Directories of version control: never of use inside.
const VERSION_CONTROL: [&str; 5] = [".bzr", ".git", ".hg", ".jj", ".svn"];
/// Marks a Python environment: it is mounted where it is active, and useless elsewhere.
const PYTHON_ENVIRONMENT: &str = "pyvenv.cfg";
/// The file that says what does not go along, in the form of a `.gitignore`.
const IGNORE_FILE: &str = ".insulaignore";

/// What goes along.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The directory that `entries` are relative to.
    pub(crate) root: PathBuf,
    /// Parents before their children.
    pub(crate) entries: Vec<Entry>,
    /// Bytes of all files.
    pub(crate) bytes: u64,
}

impl Plan {
    fn files(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::File)
    }
}

/// Something that goes along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative to the plan's root.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Permission bits.
    pub(crate) mode: u32,
    /// How it looked when it was planned.
    pub(crate) stamp: Stamp,
}

/// Who chose what goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// We did: it is the directory that a script is in. Much of it is a mistake more often than
    /// not, and is refused early.
    Unasked,
    /// The user, by `--upload`: limited only by what a site takes, which looks after its disk
    /// itself.
    Named,
}

/// What goes along is one of these; sockets, pipes and devices stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and where it leads: it is not followed.
    Link(PathBuf),
}

/// What is near the files and does not go along.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The user's home: it is refused, as is everything above it.
    pub(crate) user_home: Option<PathBuf>,
    /// Directories of the site itself, with its API key in them.
    pub(crate) site: Vec<PathBuf>,
}

impl Surroundings {
    /// As the settings have them.
    pub(crate) fn of(settings: &Settings) -> Self {
        let own = [&settings.home, &settings.runtime_directory];
        Self {
            user_home: settings.environment.path("HOME"),
            // What does not exist yet is where it will be.
            site: own
                .map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()))
                .into(),
        }
    }

    fn is_the_sites(&self, path: &Path) -> bool {
        self.site.iter().any(|own| path.starts_with(own))
    }
}

/// Plans a directory; `script`, relative to it, goes along even if it is ignored.
pub(crate) fn plan_directory(
    directory: &Path,
    script: Option<&Path>,
    chosen: Chosen,
    near: &Surroundings,
) -> Result<Plan, Failure> {
    let told = |error: std::io::Error| {
        Failure::from(error).context(format!("cannot upload {}", shown(directory)))
    };
    let root = directory.canonicalize().map_err(told)?;
    refuse_large_roots(&root, near.user_home.as_deref())?;
    refuse_the_sites(&root, near)?;
    let mut plan = Plan {
        root,
        entries: Vec::new(),
        bytes: 0,
    };
    for found in walk(&plan.root, near.clone()) {
        let found = found.map_err(|error| unreadable(&plan.root, &error))?;
        if found.depth() == 0 {
            continue;
        }
        add(&mut plan, found.path()).map_err(told)?;
        if plan.entries.len() > LOOK_LIMIT {
            break;
        }
    }
    if let Some(script) = script
        && !plan.entries.iter().any(|entry| entry.path == script)
    {
        let path = plan.root.join(script);
        refuse_the_sites(&path, near)?;
        add(&mut plan, &path).map_err(told)?;
    }
    check_limits(&plan, chosen)?;
    Ok(plan)
}

/// Plans a single file, which only a user can have named.
pub(crate) fn plan_file(file: &Path, near: &Surroundings) -> Result<Plan, Failure> {
    let told = |error: std::io::Error| {
        Failure::from(error).context(format!("cannot upload {}", shown(file)))
    };
    let file = file.canonicalize().map_err(told)?;
    refuse_the_sites(&file, near)?;
    let root = file.parent().expect("a file has a parent").to_path_buf();
    let mut plan = Plan {
        root,
        entries: Vec::new(),
        bytes: 0,
    };
    add(&mut plan, &file).map_err(told)?;
    check_limits(&plan, Chosen::Named)?;
    Ok(plan)
}

fn walk(root: &Path, near: Surroundings) -> ignore::Walk {
    // Ignore files above the directory count within its repository, and nowhere else: a
    // `.gitignore` in somebody's home directory is about their home directory.
    let in_repository = root.ancestors().any(|path| path.join(".git").exists());
    WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(false)
        .parents(in_repository)
        .add_custom_ignore_filename(IGNORE_FILE)
        .follow_links(false)
        .same_file_system(true)
        .sort_by_file_name(Ord::cmp)
        .filter_entry(move |entry| {
            entry.depth() == 0 || !(is_left_out(entry) || near.is_the_sites(entry.path()))
        })
        .build()
}

fn is_left_out(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let directory = entry.file_type().is_some_and(|kind| kind.is_dir());
    is_version_control(name) || (directory && entry.path().join(PYTHON_ENVIRONMENT).exists())
}

/// The name of a directory of version control, on file systems of every kind: some do not tell
/// `.GIT` from `.git`.
pub(crate) fn is_version_control(name: &OsStr) -> bool {
    VERSION_CONTROL
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

fn add(plan: &mut Plan, path: &Path) -> std::io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let kind = if metadata.is_file() {
        EntryKind::File
    } else if metadata.is_dir() {
        EntryKind::Directory
    } else if metadata.is_symlink() {
        EntryKind::Link(path.read_link()?)
    } else {
        return Ok(());
    };
    if kind == EntryKind::File {
        plan.bytes = plan.bytes.saturating_add(metadata.len());
    }
    plan.entries.push(Entry {
        path: path
            .strip_prefix(&plan.root)
            .expect("found below the root")
            .to_path_buf(),
        kind,
        mode: permissions(&metadata),
        stamp: Stamp::of(&metadata),
    });
    Ok(())
}

fn permissions(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o777
}

fn refuse_large_roots(root: &Path, user_home: Option<&Path>) -> Result<(), Failure> {
    let home = user_home.and_then(|home| home.canonicalize().ok());
    let what = if root == Path::new("/") {
        "the whole file system"
    } else if home.as_deref() == Some(root) {
        "your whole home directory"
    } else if home.is_some_and(|home| home.starts_with(root)) {
        "a directory above your home directory"
    } else {
        return Ok(());
    };
    Err(
        Failure::new(format!("{} is {what}: it is not uploaded", shown(root))).hint(
            "put the script into a directory of its own, or name what goes along with --upload",
        ),
    )
}

fn refuse_the_sites(path: &Path, near: &Surroundings) -> Result<(), Failure> {
    if !near.is_the_sites(path) {
        return Ok(());
    }
    let message = format!(
        "{} belongs to the site itself, which keeps its key there: it is not uploaded",
        shown(path)
    );
    Err(Failure::new(message).hint("put what goes along outside of the site's home"))
}

fn unreadable(root: &Path, error: &ignore::Error) -> Failure {
    Failure::new(error.to_string())
        .context(format!("cannot upload {}", shown(root)))
        .hint(format!(
            "name in {IGNORE_FILE} what does not have to go along"
        ))
}

fn check_limits(plan: &Plan, chosen: Chosen) -> Result<(), Failure> {
    let files = plan.files().count();
    let root = shown(&plan.root);
    let (most_bytes, most_entries, entries) = match chosen {
        Chosen::Unasked => (BYTES_LIMIT, FILES_LIMIT, files),
        // Directories are unpacked as well.
        Chosen::Named => (NAMED_BYTES_LIMIT, LOOK_LIMIT, plan.entries.len()),
    };
    let message = if entries > most_entries {
        format!(
            "{root} has {entries} files, more than {most_entries}; {}",
            most_files(plan)
        )
    } else if plan.bytes > most_bytes {
        let (size, limit) = (show_bytes(plan.bytes.into()), most_bytes / 1_000_000);
        format!(
            "{root} has {size}, more than {limit} MB; the largest: {}",
            largest(plan)
        )
    } else {
        return Ok(());
    };
    let ignored = format!("name in {IGNORE_FILE} what does not have to go along");
    Err(Failure::new(message).hint(match chosen {
        Chosen::Unasked => format!("{ignored}, or show it with --mount, or name it with --upload"),
        Chosen::Named => format!("{ignored}, or show it with --mount"),
    }))
}

fn largest(plan: &Plan) -> String {
    let mut files: Vec<&Entry> = plan.files().collect();
    files.sort_by_key(|entry| std::cmp::Reverse(entry.stamp.size));
    let named = files.iter().take(NAMED).map(|entry| {
        format!(
            "{} ({})",
            shown(&entry.path),
            show_bytes(entry.stamp.size.into())
        )
    });
    named.collect::<Vec<_>>().join(", ")
}

fn most_files(plan: &Plan) -> String {
    let mut counts = std::collections::BTreeMap::<Option<&OsStr>, usize>::new();
    for entry in plan.files() {
        let mut parts = entry.path.iter();
        let first = parts.next();
        let top = parts.next().and(first);
        *counts.entry(top).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    match most {
        None => String::new(),
        Some((None, count)) => format!("{count} of them are in it directly"),
        Some((Some(top), count)) => format!("the most are in {} ({count})", shown(top)),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BYTES_LIMIT, Chosen, EntryKind, FILES_LIMIT, LOOK_LIMIT, NAMED_BYTES_LIMIT, Plan,
        Surroundings, plan_directory, plan_file,
    };
    use std::fs;
    use std::path::Path;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        directory
    }

    fn paths(plan: &Plan) -> Vec<String> {
        plan.entries
            .iter()
            .map(|entry| entry.path.display().to_string())
            .collect()
    }

    #[test]
    fn ignored_files_and_environments_stay_at_home_also_without_git() {
        let directory = tree(&[
            (".gitignore", "*.log\nout/\n"),
            (".insulaignore", "secret.txt\n!wanted.log\n"),
            (".hidden", ""),
            ("a.log", ""),
            ("wanted.log", ""),
            ("secret.txt", ""),
            ("train.py", "1"),
            ("out/old.txt", ""),
            ("sub/b.py", "22"),
            ("sub/.gitignore", "c.py"),
            ("sub/c.py", ""),
            (".git/HEAD", ""),
            ("venv/pyvenv.cfg", ""),
            ("venv/bin/python", ""),
        ]);
        let plan = plan_directory(
            directory.path(),
            None,
            Chosen::Unasked,
            &Surroundings::default(),
        )
        .expect("planned");
        let expected = [
            ".gitignore",
            ".hidden",
            ".insulaignore",
            "sub",
            "sub/.gitignore",
            "sub/b.py",
            "train.py",
            "wanted.log",
        ];
        assert_eq!(paths(&plan), expected);
        assert_eq!(plan.bytes, 11 + 23 + 4 + 1 + 2);
        let plan = plan_directory(
            directory.path(),
            Some(Path::new("a.log")),
            Chosen::Unasked,
            &Surroundings::default(),
        );
        assert!(paths(&plan.expect("planned")).contains(&"a.log".to_owned()));
    }

    #[test]
    fn links_are_kept_as_links_and_pipes_stay() {
        let directory = tree(&[("file", "x")]);
        std::os::unix::fs::symlink("/etc", directory.path().join("etc")).expect("made");
        let pipe = directory.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("made");
        let plan = plan_directory(
            directory.path(),
            None,
            Chosen::Unasked,
            &Surroundings::default(),
        )
        .expect("planned");
        assert_eq!(paths(&plan), ["etc", "file"]);
        assert_eq!(plan.entries[0].kind, EntryKind::Link("/etc".into()));
    }

    #[test]
    fn too_much_is_refused_and_the_largest_named() {
        let directory = tree(&[("small", "x"), ("big.bin", "")]);
        let big = fs::File::options()
            .write(true)
            .open(directory.path().join("big.bin"));
        let big = big.expect("there");
        big.set_len(BYTES_LIMIT).expect("grown");
        let failure = plan_directory(
            directory.path(),
            None,
            Chosen::Unasked,
            &Surroundings::default(),
        )
        .expect_err("too large");
        assert!(
            failure.error.to_string().contains("big.bin (190.7 MiB)"),
            "{}",
            failure.error
        );
        assert!(failure.hint.expect("a hint").contains(".insulaignore"));
        let alone =
            plan_file(&directory.path().join("small"), &Surroundings::default()).expect("planned");
        assert_eq!(paths(&alone), ["small"]);

        let mut many = alone;
        let entry = many.entries[0].clone();
        many.entries
            .extend((0..=FILES_LIMIT).map(|number| super::Entry {
                path: format!("frames/{number}").into(),
                ..entry.clone()
            }));
        let failure = super::check_limits(&many, Chosen::Unasked).expect_err("too many");
        assert!(
            failure.error.to_string().contains("frames (10001)"),
            "{}",
            failure.error
        );
        for entry in &mut many.entries {
            entry.path = entry.path.file_name().expect("a name").into();
        }
        let failure = super::check_limits(&many, Chosen::Unasked).expect_err("too many");
        assert!(
            failure
                .error
                .to_string()
                .ends_with("10002 of them are in it directly"),
            "{}",
            failure.error
        );
    }

    #[test]
    fn what_was_named_is_refused_only_where_a_site_would() {
        let directory = tree(&[("data/small", "x"), ("data/big.bin", "")]);
        let big = fs::File::options()
            .write(true)
            .open(directory.path().join("data/big.bin"))
            .expect("there");
        let near = Surroundings::default();
        let all = |chosen| plan_directory(directory.path(), None, chosen, &near);
        let alone = || plan_file(&directory.path().join("data/big.bin"), &near);
        big.set_len(NAMED_BYTES_LIMIT - 1).expect("grown");
        assert_eq!(
            all(Chosen::Named).expect("planned").bytes,
            NAMED_BYTES_LIMIT
        );
        alone().expect("planned");
        all(Chosen::Unasked).expect_err("nobody asked for so much");
        big.set_len(NAMED_BYTES_LIMIT + 1).expect("grown");
        for failure in [all(Chosen::Named), alone()].map(|plan| plan.expect_err("too large")) {
            assert!(
                failure.error.to_string().contains("big.bin ("),
                "{}",
                failure.error
            );
            assert!(failure.hint.expect("a hint").ends_with("--mount"));
        }

        big.set_len(1).expect("shrunk");
        let mut many = all(Chosen::Named).expect("planned");
        let entry = many.entries[0].clone();
        many.entries.resize(LOOK_LIMIT, entry.clone());
        super::check_limits(&many, Chosen::Named).expect("as many as are unpacked");
        many.entries.push(entry);
        super::check_limits(&many, Chosen::Named).expect_err("one more");
    }

    #[test]
    fn home_and_what_is_above_it_are_refused() {
        let directory = tree(&[("home/user/project/a.py", "")]);
        let home = directory.path().join("home/user");
        let with_home = Surroundings {
            user_home: Some(home.clone()),
            site: Vec::new(),
        };
        for refused in ["home/user", "home", ""] {
            let path = directory.path().join(refused);
            assert!(
                plan_directory(&path, None, Chosen::Named, &with_home).is_err(),
                "{refused}"
            );
        }
        assert!(
            plan_directory(
                Path::new("/"),
                None,
                Chosen::Named,
                &Surroundings::default()
            )
            .is_err()
        );
        assert!(plan_directory(&home.join("project"), None, Chosen::Named, &with_home).is_ok());
    }

    #[test]
    fn the_sites_own_directories_never_go_along() {
        let directory = tree(&[
            ("a.py", ""),
            ("site/api.key", "secret"),
            ("site/project/b.py", ""),
            (".GIT/config", ""),
        ]);
        let root = directory.path().canonicalize().expect("it exists");
        let near = Surroundings {
            user_home: None,
            site: vec![root.join("site")],
        };
        let plan = plan_directory(&root, None, Chosen::Named, &near).expect("planned");
        assert_eq!(paths(&plan), ["a.py"]);
        let key = Path::new("site/api.key");
        assert!(plan_directory(&root, Some(key), Chosen::Named, &near).is_err());
        assert!(plan_directory(&root.join("site/project"), None, Chosen::Named, &near).is_err());
        assert!(plan_file(&root.join(key), &near).is_err());
    }
}
