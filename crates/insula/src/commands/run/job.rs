//! What is to be run: a script with its interpreter and its directory, or a command as it is.

use super::RunArguments;
use crate::failure::Failure;
use crate::nearest::nearest;
use crate::pack::{Chosen, Plan, Surroundings, plan_directory, plan_file};
use crate::printer::shown;
use crate::settings::Settings;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Interpreters by extension, for scripts whose first line names none.
const INTERPRETERS: [(&str, &[&str]); 10] = [
    ("py", &["python3"]),
    ("sh", &["sh"]),
    ("bash", &["bash"]),
    ("R", &["Rscript"]),
    ("r", &["Rscript"]),
    ("jl", &["julia"]),
    ("js", &["node"]),
    ("pl", &["perl"]),
    ("rb", &["ruby"]),
    ("lua", &["lua"]),
];
/// Longest first line that is looked at, in bytes (the kernel reads 256).
const FIRST_LINE_LIMIT: u64 = 256;

/// What is to be run, with what.
#[derive(Debug)]
pub(super) struct Job {
    /// Program and arguments, as they are inside.
    pub(super) command: Vec<String>,
    /// So many of its first words are not the user's: an interpreter and the script.
    pub(super) fixed: usize,
    /// What goes along.
    pub(super) upload: Option<Upload>,
    /// The command's interpreter was found here, for a script.
    pub(super) is_script: bool,
}

/// What goes along, and comes back.
#[derive(Debug)]
pub(super) struct Upload {
    /// The files.
    pub(super) plan: Plan,
}

impl Job {
    /// Understands the words after the options.
    pub(super) fn of(arguments: &RunArguments, settings: &Settings) -> Result<Self, Failure> {
        let directory = &settings.environment.current_directory;
        let near = Surroundings::of(settings);
        let upload = arguments.upload.as_ref().map(|path| directory.join(path));
        let first = arguments.command.first();
        if let Some(first) = first.filter(|_| !arguments.dashes) {
            if first.starts_with('-') {
                return Err(unknown_option(first));
            }
            if let Some(script) = script_at(first, directory)? {
                let rest = &arguments.command[1..];
                return script_job(&script, rest, upload.as_deref(), &near);
            }
        }
        let upload = match upload {
            None => None,
            Some(path) => Some(Upload {
                plan: plan_any(&path, &near)?,
            }),
        };
        Ok(Self {
            command: arguments.command.clone(),
            fixed: 0,
            upload,
            is_script: false,
        })
    }

    /// The file of this machine that the command names, if nothing went along: it is not inside.
    pub(super) fn file_here(&self, directory: &Path) -> Option<String> {
        let name = self.command.first()?;
        let lies_here = !name.starts_with('/') && directory.join(name).is_file();
        (self.upload.is_none() && lies_here).then(|| name.clone())
    }
}

/// The script that the first word means; `None` if it means a command that is found inside.
fn script_at(word: &str, directory: &Path) -> Result<Option<PathBuf>, Failure> {
    let path = directory.join(word);
    if path.is_file() {
        return Ok(Some(path));
    }
    if path.is_dir() && (word.contains('/') || matches!(word, "." | "..")) {
        return Err(
            Failure::new(format!("`{word}` is a directory, not a script"))
                .hint("name the script in it, as in `insula run DIRECTORY/main.py`"),
        );
    }
    if path.exists() && !path.is_dir() {
        let message = format!("`{word}` is a pipe or a device: a script has to be a file");
        return Err(Failure::new(message).hint(
            "an interpreter reads a script from its input: `insula run -- python3 - < PIPE`",
        ));
    }
    let looks_like_one = word.contains('/') || interpreter_by_extension(&path).is_some();
    if !looks_like_one {
        return Ok(None);
    }
    let failure = Failure::new(format!("there is no script `{word}`"));
    let hint = match neighbour(&path) {
        Some(near) => format!(
            "did you mean `{}`?",
            Path::new(word).with_file_name(near).display()
        ),
        None => {
            "a command that is found inside comes after `--`: `insula run -- COMMAND`".to_owned()
        }
    };
    Err(failure.hint(hint))
}

/// The file beside `path` whose name is nearest.
fn neighbour(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    let names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}

fn script_job(
    script: &Path,
    rest: &[String],
    upload: Option<&Path>,
    near: &Surroundings,
) -> Result<Job, Failure> {
    let told = |error: std::io::Error| {
        Failure::from(error).context(format!("cannot read {}", shown(script)))
    };
    // The directory's links are resolved, the script's own are not: a link goes along as a link.
    let parent = script
        .parent()
        .expect("a file has a parent")
        .canonicalize()
        .map_err(told)?;
    let name = script.file_name().expect("a file has a name");
    let root = match upload {
        Some(upload) => upload.canonicalize().map_err(told)?,
        None => parent.clone(),
    };
    let Ok(below) = parent.strip_prefix(&root) else {
        let message = format!("the script {} is not in {}", shown(script), shown(&root));
        return Err(
            Failure::new(message).hint("--upload has to name a directory that the script is in")
        );
    };
    let inside = below.join(name);
    let mut command =
        interpreter(script, &inside).map_err(|failure| failure.unwrap_or_else(told))?;
    let fixed = command.len();
    command.extend(rest.iter().cloned());
    let chosen = match upload {
        Some(_) => Chosen::Named,
        None => Chosen::Unasked,
    };
    let plan = plan_directory(&root, Some(&inside), chosen, near)?;
    Ok(Job {
        command,
        fixed,
        upload: Some(Upload { plan }),
        is_script: true,
    })
}

fn plan_any(path: &Path, near: &Surroundings) -> Result<Plan, Failure> {
    if path.is_file() {
        return plan_file(path, near);
    }
    plan_directory(path, None, Chosen::Named, near)
}

/// Why there is no interpreter: the file cannot be read, or says nothing about one.
enum NoInterpreter {
    Unreadable(std::io::Error),
    Unknown(Failure),
}

impl NoInterpreter {
    fn unwrap_or_else(self, told: impl Fn(std::io::Error) -> Failure) -> Failure {
        match self {
            Self::Unreadable(error) => told(error),
            Self::Unknown(failure) => failure,
        }
    }
}

/// The command that runs `script`, which is `inside` there: by its first line, else by its
/// extension, else by itself.
fn interpreter(script: &Path, inside: &Path) -> Result<Vec<String>, NoInterpreter> {
    let inside_text = inside
        .to_str()
        .ok_or_else(|| NoInterpreter::Unknown(Failure::new("the script's name is not UTF-8")))?;
    let mut first = Vec::new();
    let file = File::open(script).map_err(NoInterpreter::Unreadable)?;
    let mode = file
        .metadata()
        .map_err(NoInterpreter::Unreadable)?
        .permissions()
        .mode();
    file.take(FIRST_LINE_LIMIT)
        .read_to_end(&mut first)
        .map_err(NoInterpreter::Unreadable)?;
    let mut command = first_line(&first)
        .or_else(|| interpreter_by_extension(script).map(owned))
        .unwrap_or_default();
    if command.is_empty() && mode & 0o111 == 0 {
        let failure =
            Failure::new(format!("nothing tells what runs `{inside_text}`")).hint(format!(
                "give it a first line such as `#!/usr/bin/env python3`, or name the program: \
                 `insula run --upload {} -- PROGRAM {inside_text}`",
                script.parent().unwrap_or(Path::new(".")).display()
            ));
        return Err(NoInterpreter::Unknown(failure));
    }
    if command.is_empty() || inside_text.starts_with('-') {
        command.push(format!("./{inside_text}"));
    } else {
        command.push(inside_text.to_owned());
    }
    Ok(command)
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The interpreter in a script's first line. `/usr/bin/env NAME` is NAME, found by PATH inside.
fn first_line(start: &[u8]) -> Option<Vec<String>> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = std::str::from_utf8(line).ok()?.trim();
    let (program, argument) = match line.split_once(char::is_whitespace) {
        Some((program, argument)) => (program, argument.trim()),
        None => (line, ""),
    };
    if program.is_empty() {
        return None;
    }
    if program.ends_with("/env") && !argument.is_empty() {
        let words = argument.strip_prefix("-S").unwrap_or(argument);
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        return (!words.is_empty()).then_some(words);
    }
    let mut command = vec![program.to_owned()];
    if !argument.is_empty() {
        command.push(argument.to_owned());
    }
    Some(command)
}

fn interpreter_by_extension(script: &Path) -> Option<&'static [&'static str]> {
    let extension = script.extension()?.to_str()?;
    INTERPRETERS
        .iter()
        .find(|(known, _)| *known == extension)
        .map(|(_, words)| *words)
}

fn unknown_option(word: &str) -> Failure {
    let failure = Failure::new(format!("`{word}` is not an option of `run`"));
    let grammar = crate::cli::grammar();
    let run = grammar.find_subcommand("run").expect("it is a verb");
    let known: Vec<String> = run
        .get_arguments()
        .filter_map(|a| Some(format!("--{}", a.get_long()?)))
        .collect();
    let word = word.split('=').next().unwrap_or(word);
    failure.hint(match nearest(word, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`insula run --help` lists the options".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Job, NoInterpreter, first_line, interpreter, script_at, script_job};
    use crate::pack::Surroundings;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    #[test]
    fn first_lines_name_interpreters() {
        for (line, expected) in [
            ("#!/usr/bin/env python3\nx", Some(vec!["python3"])),
            (
                "#! /usr/bin/env -S python3 -u\n",
                Some(vec!["python3", "-u"]),
            ),
            ("#!/bin/bash -e\n", Some(vec!["/bin/bash", "-e"])),
            ("#!/bin/sh", Some(vec!["/bin/sh"])),
            ("#!\n", None),
            ("print(1)\n", None),
        ] {
            let expected = expected.map(|words| super::owned(&words));
            assert_eq!(first_line(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_script_is_run_by_line_extension_or_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str, mode| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            path
        };
        for (name, text, mode, expected) in [
            ("a.py", "", 0o644, vec!["python3", "a.py"]),
            ("a.R", "", 0o644, vec!["Rscript", "a.R"]),
            (
                "b.py",
                "#!/usr/bin/env python3.9\n",
                0o644,
                vec!["python3.9", "b.py"],
            ),
            ("-c.sh", "", 0o644, vec!["sh", "./-c.sh"]),
            ("tool", "\x7fELF", 0o755, vec!["./tool"]),
        ] {
            let path = write(name, text, mode);
            let command = interpreter(&path, Path::new(name)).ok().expect(name);
            assert_eq!(command, super::owned(&expected));
        }
        let notes = write("notes.txt", "hello", 0o644);
        let Err(NoInterpreter::Unknown(failure)) = interpreter(&notes, Path::new("notes.txt"))
        else {
            panic!("a text is no script")
        };
        assert_eq!(
            failure.error.to_string(),
            "nothing tells what runs `notes.txt`"
        );
    }

    #[test]
    fn a_word_is_a_script_a_command_or_a_mistake() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("train.py"), "").expect("written");
        let at = |word| script_at(word, directory.path());
        assert!(at("train.py").expect("there").is_some());
        assert!(at("python3").expect("a command").is_none());
        let failure = at("trian.py").expect_err("a mistake");
        assert_eq!(failure.hint.as_deref(), Some("did you mean `train.py`?"));
        for word in [".", "..", "./"] {
            let failure = at(word).expect_err("a directory");
            assert!(failure.error.to_string().contains("is a directory"));
        }
        let failure = at("/dev/null").expect_err("a device");
        assert!(failure.error.to_string().contains("has to be a file"));
        let job = Job {
            command: vec!["./train.py".to_owned()],
            fixed: 0,
            upload: None,
            is_script: false,
        };
        let here = job.file_here(directory.path());
        assert_eq!(here.as_deref(), Some("./train.py"));
        assert_eq!(job.file_here(Path::new("/")), None);
        let failure = at("nowhere/else.bin").expect_err("a mistake");
        assert!(
            failure
                .hint
                .expect("a hint")
                .contains("`insula run -- COMMAND`")
        );
    }

    #[test]
    fn an_upload_has_to_hold_the_script() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(directory.path().join("a/b")).expect("made");
        fs::create_dir(directory.path().join("c")).expect("made");
        let script = directory.path().join("a/b/x.py");
        fs::write(&script, "").expect("written");
        let job = |upload: &str| {
            script_job(
                &script,
                &["1".to_owned()],
                Some(&directory.path().join(upload)),
                &Surroundings::default(),
            )
        };
        assert_eq!(
            job("a").expect("it is in").command,
            ["python3", "b/x.py", "1"]
        );
        assert_eq!(job("a").expect("it is in").fixed, 2);
        assert!(job("c").is_err());
    }
}
