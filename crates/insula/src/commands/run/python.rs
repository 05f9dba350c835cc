//! The Python that is active in the user's shell: a virtual environment, conda, pyenv. It is shown
//! inside read-only at its own path, so that the same packages are there.
//!
//! It is found without starting Python, by following links and `pyvenv.cfg` as Python itself does
//! (PEP 405), since starting it would take longer than starting the session.

use crate::settings::Environment;
use public_api::MountView;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Most links followed from a `python3` to its file; the kernel follows 40.
const LINKS_LIMIT: usize = 40;
/// What the image `host` has anyway.
const IN_THE_IMAGE: [&str; 5] = ["/usr", "/opt", "/bin", "/lib", "/sbin"];
/// Where nothing can be mounted: these are the session's own, or links in the image.
const NOT_FOR_MOUNTS: [&str; 6] = ["/dev", "/proc", "/run", "/sys", "/var/run", "/var/tmp"];
/// Where the rest is found inside.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An active Python that the image does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Python {
    /// What it is, for people.
    kind: &'static str,
    /// Where `bin/python3` is.
    prefix: PathBuf,
    /// Where each directory really is, by where it is seen.
    directories: BTreeMap<String, String>,
    /// The variable that names the prefix, as activation sets it.
    variable: Option<&'static str>,
}

impl Python {
    /// One that consists of these directories.
    #[cfg(test)]
    pub(super) fn at(directories: &[&str]) -> Self {
        Self {
            kind: "the Python",
            prefix: directories[0].into(),
            directories: directories
                .iter()
                .map(|path| ((*path).to_owned(), (*path).to_owned()))
                .collect(),
            variable: None,
        }
    }

    /// What has to be mounted, read-only.
    pub(super) fn mounts(&self) -> impl Iterator<Item = MountView> {
        self.directories.iter().map(|(target, source)| MountView {
            source: source.clone(),
            target: target.clone(),
            read_only: true,
        })
    }

    /// The directories as they are seen, and where they really are.
    pub(super) fn roots(&self) -> impl Iterator<Item = &str> {
        self.directories
            .iter()
            .flat_map(|(target, source)| [target.as_str(), source.as_str()])
    }

    /// The directory that cannot be shown at its own path, if there is one.
    pub(super) fn obstacle(&self) -> Option<&str> {
        let beneath = |target: &&String| {
            NOT_FOR_MOUNTS
                .iter()
                .any(|root| Path::new(target).starts_with(root))
        };
        self.directories.keys().find(beneath).map(String::as_str)
    }

    /// What has to be set inside.
    pub(super) fn variables(&self) -> BTreeMap<String, String> {
        let prefix = self.prefix.display();
        let path = format!("{prefix}/bin:{USUAL_PATH}");
        let mut variables = BTreeMap::from([("PATH".to_owned(), path)]);
        if let Some(name) = self.variable {
            variables.insert(name.to_owned(), prefix.to_string());
        }
        variables
    }
}

impl fmt::Display for Python {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind, self.prefix.display())
    }
}

/// The active Python; `None` if it is the system's own, or there is none.
pub(super) fn active(environment: &Environment) -> Option<Python> {
    let named = |variable: &'static str, kind| {
        let prefix = environment.path(variable)?;
        let found = prefix.is_absolute() && prefix.join("bin/python3").exists();
        found.then_some((kind, prefix, Some(variable)))
    };
    let (kind, prefix, variable) = named("VIRTUAL_ENV", "the virtual environment")
        .or_else(|| named("CONDA_PREFIX", "the conda environment"))
        .or_else(|| of_path(environment).map(|(kind, prefix)| (kind, prefix, None)))?;
    let mut directories = BTreeMap::new();
    collect(&prefix, &mut directories)?;
    if directories.is_empty() {
        return None;
    }
    Some(Python {
        kind,
        prefix,
        directories,
        variable,
    })
}

/// The prefix of the first `python3` in PATH.
fn of_path(environment: &Environment) -> Option<(&'static str, PathBuf)> {
    let path = environment.get("PATH")?;
    let directory = std::env::split_paths(path)
        .find(|directory| directory.is_absolute() && is_executable(&directory.join("python3")))?;
    if is_in_the_image(&directory) {
        return None;
    }
    if directory.ends_with("shims") {
        return of_pyenv(directory.parent()?, environment).map(|prefix| ("the pyenv", prefix));
    }
    if directory.ends_with("bin") && is_prefix(directory.parent()?) {
        return Some(("the Python", directory.parent()?.to_path_buf()));
    }
    // A link such as ~/.local/bin/python3: Python starts from where the link leads.
    let real = directory.join("python3").canonicalize().ok()?;
    let prefix = real.parent()?.parent()?.to_path_buf();
    (real.parent()?.ends_with("bin") && !is_in_the_image(&prefix)).then_some(("the Python", prefix))
}

/// A virtual environment, or an installation with a library of its own.
fn is_prefix(directory: &Path) -> bool {
    let has_library = || {
        let entries = fs::read_dir(directory.join("lib")).ok()?;
        let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.find(|name| name.starts_with("python3"))
    };
    directory.join("pyvenv.cfg").exists() || has_library().is_some()
}

/// The version that pyenv would choose here: a variable, a file in this or a parent directory, or
/// the global one. The first name that is an installed version counts.
fn of_pyenv(root: &Path, environment: &Environment) -> Option<PathBuf> {
    let chosen = environment
        .text("PYENV_VERSION")
        .map(|text| text.replace(':', "\n"));
    let local = || {
        let mut directories = environment.current_directory.ancestors();
        directories.find_map(|at| fs::read_to_string(at.join(".python-version")).ok())
    };
    let global = || fs::read_to_string(root.join("version")).ok();
    let text = chosen.or_else(local).or_else(global)?;
    let names = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim());
    names
        .filter(|name| !name.is_empty())
        .find_map(|name| installed(root, name))
}

/// The directory of a version; `3.11` also means the newest `3.11.x`.
fn installed(root: &Path, name: &str) -> Option<PathBuf> {
    let versions = root.join("versions");
    let is_there = |path: &PathBuf| path.join("bin/python3").exists();
    // A name with a slash would lead elsewhere.
    let exact = Some(versions.join(name)).filter(|path| !name.contains('/') && is_there(path));
    exact.or_else(|| {
        let start = format!("{name}.");
        let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(&versions)
            .ok()?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let text = entry.file_name().into_string().ok()?;
                let rest: Option<Vec<u32>> = text
                    .strip_prefix(&start)?
                    .split('.')
                    .map(|part| part.parse().ok())
                    .collect();
                Some((rest?, entry.path())).filter(|(_, path)| is_there(path))
            })
            .collect();
        found.sort();
        found.pop().map(|(_, path)| path)
    })
}

/// Everything that the Python of `prefix` is made of: the prefix, what its links lead through, and
/// the installation that a virtual environment was made from.
fn collect(prefix: &Path, directories: &mut BTreeMap<String, String>) -> Option<()> {
    add(prefix, directories)?;
    let mut program = prefix.join("bin/python3");
    for _ in 0..LINKS_LIMIT {
        let Ok(target) = fs::read_link(&program) else {
            break;
        };
        program = program.parent()?.join(target);
        if let Some(bin) = program.parent().filter(|parent| parent.ends_with("bin")) {
            add(bin.parent()?, directories)?;
        }
    }
    let configuration = fs::read_to_string(prefix.join("pyvenv.cfg")).unwrap_or_default();
    let home = configuration.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "home").then(|| PathBuf::from(value.trim()))
    });
    match home.as_deref().and_then(Path::parent) {
        Some(base) if base.is_dir() => add(base, directories),
        _ => Some(()),
    }
}

/// Adds a directory as it is seen, unless the image has it or it lies in one that is there.
/// `None` if its name cannot be sent.
fn add(seen: &Path, directories: &mut BTreeMap<String, String>) -> Option<()> {
    let real = seen.canonicalize().ok()?;
    let seen = without_dots(seen);
    if is_in_the_image(&seen) {
        return Some(());
    }
    // The whole system, or a whole home directory, is no Python.
    if seen.components().count() < 3 {
        return None;
    }
    let inside = |(target, source): (&String, &String)| {
        seen.strip_prefix(target)
            .is_ok_and(|rest| Path::new(source).join(rest) == real)
    };
    if !directories.iter().any(inside) {
        // What this one has in it needs no mount of its own: mounts do not lie in one another.
        directories.retain(|target, source| {
            let same = Path::new(target)
                .strip_prefix(&seen)
                .map(|rest| real.join(rest));
            same.as_deref() != Ok(Path::new(source))
        });
        directories.insert(seen.to_str()?.to_owned(), real.to_str()?.to_owned());
    }
    Some(())
}

/// The path with `..` and `.` taken out as text: only what links with such targets are made of.
fn without_dots(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

fn is_in_the_image(path: &Path) -> bool {
    IN_THE_IMAGE.iter().any(|root| path.starts_with(root))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::{Python, active};
    use crate::settings::Environment;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};

    fn root() -> (tempfile::TempDir, PathBuf) {
        // Below /var/tmp or /tmp: neither is in the image, both are deep enough.
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().canonicalize().expect("it exists");
        (directory, path)
    }

    fn install(prefix: &Path) {
        fs::create_dir_all(prefix.join("bin")).expect("made");
        fs::create_dir_all(prefix.join("lib/python3.12")).expect("made");
        let program = prefix.join("bin/python3.12");
        fs::write(&program, "").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
        symlink("python3.12", prefix.join("bin/python3")).expect("made");
    }

    fn seen(python: &Python) -> Vec<&str> {
        python.directories.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_systems_own_python_is_in_the_image() {
        assert_eq!(
            active(&Environment::of([("PATH", "/usr/bin:/bin")], "/")),
            None
        );
        assert_eq!(active(&Environment::default()), None);
        assert_eq!(
            active(&Environment::of([("VIRTUAL_ENV", "/nowhere")], "/")),
            None
        );
    }

    #[test]
    fn a_virtual_environment_brings_all_that_its_links_lead_through() {
        let (_directory, root) = root();
        let base = root.join("python/cpython-3.12.4");
        install(&base);
        // As uv makes it: the minor version is a link to the patch version.
        symlink("cpython-3.12.4", root.join("python/cpython-3.12")).expect("made");
        let venv = root.join("project/.venv");
        fs::create_dir_all(venv.join("bin")).expect("made");
        let through = root.join("python/cpython-3.12/bin/python3.12");
        symlink(&through, venv.join("bin/python")).expect("made");
        symlink("python", venv.join("bin/python3")).expect("made");
        let home = format!("home = {}/python/cpython-3.12/bin\n", root.display());
        fs::write(venv.join("pyvenv.cfg"), home).expect("written");
        let venv_text = venv.to_str().expect("UTF-8");
        let environment = Environment::of([("VIRTUAL_ENV", venv_text)], "/");
        let python = active(&environment).expect("found");
        let minor = root.join("python/cpython-3.12");
        assert_eq!(seen(&python), [venv_text, minor.to_str().expect("UTF-8")]);
        let sources: Vec<&String> = python.directories.values().collect();
        assert_eq!(
            sources[1],
            base.to_str().expect("UTF-8"),
            "the link's directory is resolved"
        );
        assert_eq!(python.variables()["VIRTUAL_ENV"], venv_text);
        assert!(python.variables()["PATH"].starts_with(&format!("{venv_text}/bin:/usr/local")));
        assert!(python.mounts().all(|mount| mount.read_only));
    }

    #[test]
    fn pyenv_chooses_by_variable_file_and_default() {
        let (_directory, root) = root();
        let pyenv = root.join("pyenv");
        for version in ["3.9.1", "3.12.2", "3.12.10"] {
            install(&pyenv.join("versions").join(version));
        }
        fs::create_dir(pyenv.join("shims")).expect("made");
        fs::copy(
            pyenv.join("versions/3.9.1/bin/python3.12"),
            pyenv.join("shims/python3"),
        )
        .expect("copied");
        fs::write(pyenv.join("version"), "3.9.1\n").expect("written");
        let project = root.join("project/sub");
        fs::create_dir_all(&project).expect("made");
        let shims = pyenv.join("shims");
        let prefix = |variables: &[(&'static str, &str)]| {
            let path = [("PATH", shims.to_str().expect("UTF-8"))];
            let all = path.iter().chain(variables).copied();
            let environment = Environment::of(all, project.to_str().expect("UTF-8"));
            active(&environment).map(|python| python.prefix)
        };
        let version = |text: &str| Some(pyenv.join("versions").join(text));
        assert_eq!(prefix(&[]), version("3.9.1"));
        fs::write(root.join("project/.python-version"), "# comment\n3.12\n").expect("written");
        assert_eq!(prefix(&[]), version("3.12.10"));
        assert_eq!(
            prefix(&[("PYENV_VERSION", "system:3.12.2")]),
            version("3.12.2")
        );
        assert_eq!(prefix(&[("PYENV_VERSION", "../../project")]), None);
    }

    #[test]
    fn a_link_in_a_directory_of_programs_leads_to_its_installation() {
        let (_directory, root) = root();
        let base = root.join("python/3.12");
        install(&base);
        let programs = root.join("local/bin");
        fs::create_dir_all(&programs).expect("made");
        symlink(base.join("bin/python3"), programs.join("python3")).expect("made");
        let environment = Environment::of([("PATH", programs.to_str().expect("UTF-8"))], "/");
        let python = active(&environment).expect("found");
        assert_eq!(seen(&python), [base.to_str().expect("UTF-8")]);
        assert_eq!(python.obstacle(), None);
        let beneath = [("/var/tmp/x".to_owned(), String::new())].into();
        let python = Python {
            directories: beneath,
            ..python
        };
        assert_eq!(python.obstacle(), Some("/var/tmp/x"));
    }

    #[test]
    fn an_environment_in_its_installation_needs_one_mount() {
        let (_directory, root) = root();
        let base = root.join("conda");
        install(&base);
        let venv = base.join("envs/one");
        fs::create_dir_all(venv.join("bin")).expect("made");
        symlink(base.join("bin/python3"), venv.join("bin/python3")).expect("made");
        let home = format!("home = {}/bin\n", base.display());
        fs::write(venv.join("pyvenv.cfg"), home).expect("written");
        let text = venv.to_str().expect("UTF-8");
        let environment = Environment::of([("VIRTUAL_ENV", text)], "/");
        let python = active(&environment).expect("found");
        assert_eq!(seen(&python), [base.to_str().expect("UTF-8")]);
        assert_eq!(python.variables()["VIRTUAL_ENV"], text);
    }
}
