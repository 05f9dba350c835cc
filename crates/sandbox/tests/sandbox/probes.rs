//! Programs in several languages that say what they are told of their machine (`tests/probes`):
//! built by whichever test comes first, and kept.
//!
//! Each line that one prints is `KIND.NAME VALUE`. The kinds: `cpus` are CPUs; `threads` are as
//! many, unless a variable says otherwise; `rounded` are CPUs by a quota, of which some round a
//! part up and others down; `cores` may have several CPUs each; `memory` is bytes; `within` is
//! bytes of which there have to be as many.

use process::remove_tree;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Where what is built is kept, one folder for each.
const KEPT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/probes");
/// Its name beside tests that were installed somewhere, where nothing can be built.
pub(crate) const INSTALLED_PROBES: &str = "probes";
/// Stands before what a command says.
const HEADER: &str = "told to ";
/// Where programs are that everybody can run, also inside.
const PATH: &str = "/usr/bin:/bin:/usr/sbin";

/// Programs of one language.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    /// Without these it cannot be built or run.
    needs: &'static [&'static str],
    sources: &'static [(&'static str, &'static str)],
    /// For a shell, in the folder of the sources.
    build: &'static str,
    /// What is run in that folder, inside and on the node.
    pub(crate) commands: &'static [&'static str],
}

macro_rules! source {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../sandbox/tests/probes/",
                $name
            )),
        )
    };
}

pub(crate) const C: Probe = Probe {
    name: "c",
    needs: &["cc", "musl-gcc"],
    sources: &[source!("machine.c")],
    build: "cc -O2 -o dynamic machine.c && cc -O2 -static -o static machine.c && \
        musl-gcc -O2 -static -o musl machine.c",
    commands: &["./dynamic", "./static", "./musl"],
};
pub(crate) const OPENMP: Probe = Probe {
    name: "openmp",
    needs: &["cc"],
    sources: &[source!("openmp.c")],
    build: "cc -O2 -fopenmp -o openmp openmp.c",
    commands: &["./openmp"],
};
pub(crate) const RUST: Probe = Probe {
    name: "rust",
    needs: &["rustc", "cc"],
    sources: &[source!("machine.rs")],
    build: "rustc --edition 2024 -O -o dynamic machine.rs && \
        rustc --edition 2024 -O -C target-feature=+crt-static -o static machine.rs",
    commands: &["./dynamic", "./static"],
};
pub(crate) const GO: Probe = Probe {
    name: "go",
    needs: &["go"],
    sources: &[source!("machine.go")],
    build: "GOCACHE=$PWD/cache GOPATH=$PWD/path CGO_ENABLED=0 GO111MODULE=off \
        go build -o machine machine.go && rm -rf cache path",
    commands: &["./machine"],
};
/// Without its files in /tmp, of which it leaves the directory.
pub(crate) const JAVA: Probe = Probe {
    name: "java",
    needs: &["/usr/bin/java", "javac"],
    sources: &[source!("Machine.java")],
    build: "javac -J-XX:-UsePerfData Machine.java",
    commands: &[
        "java -XX:-UsePerfData -cp . Machine",
        "java -XX:-UsePerfData -XX:-UseContainerSupport -cp . Machine",
    ],
};
pub(crate) const NODE: Probe = Probe {
    name: "node",
    needs: &["/usr/bin/node"],
    sources: &[source!("machine.js")],
    build: "",
    commands: &["node machine.js"],
};
/// numpy brings OpenBLAS. The versions are pinned, so that nothing here changes by itself.
pub(crate) const PYTHON: Probe = Probe {
    name: "python",
    needs: &["/usr/bin/python3"],
    sources: &[source!("machine.py")],
    build: "/usr/bin/python3 -m venv environment && \
        environment/bin/pip install -q --disable-pip-version-check --only-binary :all: \
        numpy==2.4.6 threadpoolctl==3.8.0 joblib==1.6.0 loky==3.7.0 psutil==7.2.2",
    commands: &["environment/bin/python machine.py"],
};
pub(crate) const R: Probe = Probe {
    name: "r",
    needs: &["/usr/bin/Rscript"],
    sources: &[source!("machine.R")],
    build: "",
    commands: &["Rscript machine.R"],
};
/// All that say something.
pub(crate) const ALL: &[&Probe] = &[&C, &OPENMP, &RUST, &GO, &JAVA, &NODE, &PYTHON, &R];
/// The library that tells whoever loads it of 52 CPUs.
pub(crate) const PRETENDS: Probe = Probe {
    name: "pretends",
    needs: &["cc"],
    sources: &[(
        "cpus52.c",
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/cpus52.c")),
    )],
    build: "cc -O2 -shared -fPIC -o cpus52.so cpus52.c -ldl",
    commands: &[],
};

impl Probe {
    /// Its folder, with everything built; `None` where it cannot be had, which is said. In CI that
    /// is a failure: `cargo xtask ci` installs what they need.
    pub(crate) fn made(&self) -> Option<PathBuf> {
        match self.make() {
            Ok(folder) => Some(folder),
            Err(reason) => {
                let is_ci = std::env::var_os("CI").is_some();
                assert!(!is_ci, "{}: {reason}", self.name);
                println!("skipped: {}: {reason}", self.name);
                None
            }
        }
    }

    fn make(&self) -> Result<PathBuf, String> {
        let own = std::env::current_exe().expect("this test");
        let installed = own.with_file_name(INSTALLED_PROBES);
        if installed.exists() {
            let folder = installed.join(self.name);
            let is_there = folder.exists();
            return is_there.then_some(folder).ok_or("not installed".into());
        }
        let place = Path::new(KEPT);
        let folder = place.join(self.name);
        if let Some(missing) = self.needs.iter().find(|need| !is_there(need)) {
            return Err(format!("there is no {missing}"));
        }
        fs::create_dir_all(place).expect("a directory");
        let lock = fs::File::create(place.join(format!("{}.lock", self.name))).expect("a file");
        flock(&lock, FlockOperation::LockExclusive).expect("another test makes it");
        let recipe = format!("{}\n{:?}", self.build, self.sources);
        let complete = folder.join("complete");
        if fs::read_to_string(&complete).is_ok_and(|made| made == recipe) {
            return Ok(folder);
        }
        remove_tree(&folder).expect("removed");
        fs::create_dir(&folder).expect("a directory");
        for (name, text) in self.sources {
            fs::write(folder.join(name), text).expect("written");
        }
        let mut build = process::command("sh");
        let built = build.args(["-ec", self.build]).current_dir(&folder);
        let built = built.output().expect("a shell");
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(format!("`{}` failed: {said}", self.build));
        }
        fs::write(&complete, recipe).expect("written");
        Ok(folder)
    }

    /// A script of a shell that runs its commands in `folder`.
    pub(crate) fn script(&self, folder: &Path) -> String {
        let commands = self.commands.iter();
        let commands = commands.map(|one| format!("echo '{HEADER}{one}'; {one} || exit 1\n"));
        let commands: String = commands.collect();
        format!("cd '{}' || exit 1\n{commands}", folder.display())
    }

    /// The same on the node, with no variables but these.
    pub(crate) fn told_on_the_node(
        &self,
        folder: &Path,
        variables: &[(&str, &Path)],
    ) -> BTreeMap<String, i128> {
        let mut shell = process::command("sh");
        let shell = shell.args(["-c", &self.script(folder)]).env_clear();
        let shell = shell.env("PATH", PATH).envs(variables.iter().copied());
        let Output {
            status,
            stdout,
            stderr,
        } = shell.output().expect("a shell");
        let said = String::from_utf8_lossy(&stdout);
        let errors = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{}: {said}{errors}", self.name);
        told(&said)
    }
}

/// What was told, by kind, name and whom.
pub(crate) fn told(output: &str) -> BTreeMap<String, i128> {
    let mut told = BTreeMap::new();
    let mut whom = "";
    for line in output.lines() {
        if let Some(command) = line.strip_prefix(HEADER) {
            whom = command;
        } else if let Some((name, value)) = line.rsplit_once(' ')
            && let Ok(value) = value.parse()
        {
            told.insert(format!("{name} of {whom}"), value);
        }
    }
    told
}

/// A path, or a program in the PATH.
fn is_there(need: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(need).is_file())
}
