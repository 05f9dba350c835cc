//! Everything that the environment and `config.toml` say, read once, at the start.

mod build;
mod environment;
mod file_system;
mod keys;
mod runtime_directory;

pub(crate) use environment::Environment;
pub(crate) use file_system::file_system_of;
pub(crate) use keys::{Config, KEYS, Origin};

use crate::failure::Failure;
use public_api::Build;
use std::path::{Path, PathBuf};

/// Largest `config.toml`, in bytes.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

/// Who reads, from where: the CLI and its daemon come to the same answers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The state of the site: `$INSULA_HOME`, absolute, links resolved as far as it exists.
    pub(crate) home: PathBuf,
    /// What told where the home is: `--home`, `INSULA_HOME`, `XDG_DATA_HOME` or `HOME`.
    pub(crate) home_origin: &'static str,
    /// Sockets; 0700, named by a digest of the home: `insula-<8 hex>`.
    pub(crate) runtime_directory: PathBuf,
    /// This executable.
    pub(crate) build: Build,
    /// `config.toml` over the defaults.
    pub(crate) config: Config,
    /// The variables this process was started with.
    pub(crate) environment: Environment,
}

impl Settings {
    /// Reads everything; changes nothing on disk. `home` is what `--home` says.
    pub(crate) fn read(home: Option<&Path>, environment: Environment) -> Result<Self, Failure> {
        let (home, home_origin) = find_home(home, &environment)?;
        let home = resolve(&environment.current_directory.join(home));
        let config = read_config(&home.join("config.toml"))?;
        let runtime_directory = runtime_directory::choose(&home, &environment)?;
        Ok(Self {
            build: build::of_this_executable()?,
            home,
            home_origin,
            runtime_directory,
            config,
            environment,
        })
    }

    /// Makes the home and the directory for sockets, and refuses a home where locks and renames
    /// cannot be relied on.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        file_system::check_home(&self.home)?;
        runtime_directory::make_private(&self.home)?;
        runtime_directory::make_private(&self.runtime_directory)
    }

    /// The socket of the public API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime_directory.join("api.sock")
    }

    /// What the engine remembers of guests, for as long as they live.
    pub(crate) fn engine_directory(&self) -> PathBuf {
        self.home.join("node/engine")
    }

    /// Makes the directories for sockets, which may have been lost.
    pub(crate) fn make_socket_directories(&self) -> Result<(), Failure> {
        runtime_directory::make_private(&self.runtime_directory)?;
        runtime_directory::make_private(&self.members_directory())
    }

    /// Removes what [`Self::make_socket_directories`] makes, unless a session still has a socket
    /// there. To be done by the holder of the daemon's lock: nobody else makes them meanwhile.
    pub(crate) fn remove_socket_directories(&self) {
        // Whoever looks after the socket may have made it anew while the daemon went down.
        let _ = std::fs::remove_file(self.socket());
        runtime_directory::remove_empty(&[&self.members_directory(), &self.runtime_directory]);
    }

    /// A daemon ended without going down, or sessions were left running: something may be left
    /// that only a daemon can put in order.
    pub(crate) fn is_left_over(&self) -> bool {
        self.daemon_file().exists() || self.runtime_directory.exists()
    }

    /// The guests' sockets.
    pub(crate) fn members_directory(&self) -> PathBuf {
        self.runtime_directory.join("m")
    }

    /// What the daemon writes once it serves: process id, start time, socket.
    pub(crate) fn daemon_file(&self) -> PathBuf {
        self.home.join("daemon.json")
    }

    /// Held by the daemon as long as it lives.
    pub(crate) fn daemon_lock(&self) -> PathBuf {
        self.home.join("daemon.lock")
    }

    /// Held by the one CLI that starts or replaces the daemon.
    pub(crate) fn start_lock(&self) -> PathBuf {
        self.home.join("daemon.start.lock")
    }

    /// Where the daemon writes what it has to say.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// Daemons that ended by a failure, a line of JSON each.
    pub(crate) fn aborts_file(&self) -> PathBuf {
        self.home.join("daemon.aborts")
    }

    /// Is there once a `run` has said that limits are not enforced.
    pub(crate) fn limits_told_file(&self) -> PathBuf {
        self.home.join("limits.told")
    }

    /// Is there after `insula down`, until the next start: a foreground `run` that loses its
    /// daemon then does not bring it back.
    pub(crate) fn down_file(&self) -> PathBuf {
        self.home.join("daemon.down")
    }
}

fn find_home(
    option: Option<&Path>,
    environment: &Environment,
) -> Result<(PathBuf, &'static str), Failure> {
    if let Some(home) = option {
        return Ok((home.to_path_buf(), "--home"));
    }
    if let Some(home) = environment.path("INSULA_HOME") {
        return Ok((home, "INSULA_HOME"));
    }
    if let Some(data) = environment
        .path("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
    {
        return Ok((data.join("insula"), "XDG_DATA_HOME"));
    }
    if let Some(home) = environment.path("HOME") {
        return Ok((home.join(".local/share/insula"), "HOME"));
    }
    Err(
        Failure::new("there is no place for the site's state: HOME and INSULA_HOME are not set")
            .hint("set INSULA_HOME to a directory on a local disk"),
    )
}

/// The path with the links of its existing part resolved, so that one home has one digest.
fn resolve(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(found) = existing.canonicalize() {
            return missing
                .iter()
                .rev()
                .fold(found, |path, name| path.join(name));
        }
        let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
            return path.to_path_buf();
        };
        missing.push(name.to_owned());
        existing = parent;
    }
}

fn read_config(path: &Path) -> Result<Config, Failure> {
    let told = |failure: Failure| failure.context(format!("cannot use {}", path.display()));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Ok(metadata) if metadata.len() > CONFIG_LIMIT_BYTES => {
            let message = format!("it is larger than {CONFIG_LIMIT_BYTES} bytes");
            return Err(told(Failure::new(message)));
        }
        _ => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| told(error.into()))?;
    Config::parse(&text).map_err(|failure| {
        let hint = failure.hint.clone();
        let told = told(failure);
        match hint {
            Some(hint) => told.hint(hint),
            None => told.hint("`insula config --help` lists every key"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Environment, Settings, resolve};
    use std::path::Path;

    #[test]
    fn directories_of_sockets_go_but_not_those_of_a_session() {
        let root = tempfile::tempdir().expect("a directory");
        let environment = Environment::of([("XDG_RUNTIME_DIR", root.path())], "/");
        let home = root.path().join("home");
        let settings = Settings::read(Some(&home), environment).expect("read");
        settings.make_socket_directories().expect("made");
        let session = settings.members_directory().join("1.sock");
        for path in [&session, &settings.socket()] {
            std::fs::write(path, "").expect("made");
        }
        settings.remove_socket_directories();
        assert!(!settings.socket().exists(), "made anew at the last moment");
        assert!(session.exists() && settings.is_left_over());
        std::fs::remove_file(session).expect("removed");
        settings.remove_socket_directories();
        assert!(!settings.is_left_over());
        assert!(root.path().exists(), "control: this one was there before");
    }

    #[test]
    fn the_home_is_where_the_first_of_four_says() {
        let data = tempfile::tempdir().expect("a directory");
        let data = data.path().canonicalize().expect("it exists");
        let text = data.to_str().expect("UTF-8");
        let all = [
            ("INSULA_HOME", format!("{text}/own")),
            ("XDG_DATA_HOME", format!("{text}/data")),
            ("HOME", format!("{text}/home")),
        ];
        for (skip, option, expected, origin) in [
            (0, Some("/option"), "/option".to_owned(), "--home"),
            (0, None, format!("{text}/own"), "INSULA_HOME"),
            (1, None, format!("{text}/data/insula"), "XDG_DATA_HOME"),
            (2, None, format!("{text}/home/.local/share/insula"), "HOME"),
        ] {
            let environment = Environment::of(all.iter().skip(skip).cloned(), "/");
            let settings = Settings::read(option.map(Path::new), environment).expect("read");
            assert_eq!(settings.home, Path::new(&expected));
            assert_eq!(settings.home_origin, origin);
        }
        let none = Environment::default();
        assert!(Settings::read(None, none).is_err());
    }

    #[test]
    fn a_home_behind_a_link_is_the_same_home() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("it exists");
        std::os::unix::fs::symlink(&root, root.join("link")).expect("made");
        assert_eq!(resolve(&root.join("link/not/yet")), root.join("not/yet"));
    }

    #[test]
    fn a_wrong_key_is_refused_with_the_nearest() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "[site]\ndefault-cpus = 2\n";
        std::fs::write(directory.path().join("config.toml"), text).expect("written");
        let environment = Environment::default();
        let failure = Settings::read(Some(directory.path()), environment).expect_err("refused");
        assert_eq!(failure.causes(), ["there is no key `site.default-cpus`"]);
        assert_eq!(
            failure.hint.as_deref(),
            Some("did you mean `site.default-cpu`?")
        );
    }
}
