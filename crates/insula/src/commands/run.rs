//! `insula run`: a script or a command in a session, in the foreground unless `--detach` is given.

mod array;
mod attach;
mod ending;
mod input;
mod job;
mod python;
mod sweep;
mod terminal;
mod upload;
mod waiting;

use self::array::ArrayArguments;
use self::attach::{Attached, Output, attach};
pub(crate) use self::ending::{ended_by_itself, tell_outcome, tell_returned, tell_warnings};
use self::job::{Job, Upload};
use self::python::Python;
use self::terminal::attach_terminal;
pub(crate) use self::waiting::tell_what_it_waits_for;
use super::exec::{expect_terminal, with_terminal_kind};
use super::show::limit_words;
use crate::arguments;
use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::pack::Manifest;
use crate::printer::shown;
use crate::standard_input;
use crate::variables::{self, Variable, with_values};
use clap::{ArgAction, Args, ValueEnum};
use domain::amounts::show_decimal;
use public_api::{CreateSession, KindView, MountView, NetworkView, ProblemCode, SessionView};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  insula run train.py --epochs 3
      Runs the script with python3. Its directory goes along (but for what .gitignore and
      .insulaignore leave out), and the files that it makes or changes come back.
  insula run --cpu 0.5 --memory 512m --time 10m -- python3 -c 'print(6*7)'
      Runs a command; no files go along.
  insula run -it -- bash
      A shell in a terminal; ctrl-P ctrl-Q leaves it running for `insula attach`.
  insula run --image debian train.py
      Runs the script with the python3 of an image; `insula image import` makes images.
  insula run --detach --name night train.py --epochs 300
      Starts a session and leaves it running: see `insula logs -f night`.
  insula run --sweep params.csv --throttle 4 --retry 2 train.py --epochs {epochs}
      Runs the script once for each row, at most four at a time. A column is a variable of its
      name, and {name} in the arguments stands for its value ({{ for a brace that is meant).
      `insula logs NAME.7` shows what the seventh wrote; its files come back into 7/.

Ctrl-C sends SIGINT to the command; pressed again it stops the session, a third time kills it.
With --array or --sweep the first only asks, since it would be for all of them.
A closed terminal leaves the session running.
With --retry nothing is passed on standard input: it cannot be read twice. Nor with --array and
--sweep: nobody writes to many at once. What is interrupted, stopped, or ended by --time or by a
full disk is not tried again, nor a command that cannot be run.

Exit codes:
  0-255  the command's own
    123  it did not run: what it waited for (--after) did not end as it had to
    124  the time limit of --time ended it
    125  Insula failed, or the command line is wrong
    126  the command cannot be run
    127  the command was not found
  128+n  signal n ended the command; 137 also when it ran out of memory
With --array or --sweep: 0 if all succeeded and the table was written, else 1; 125 as above";

/// Run a script or a command in a session.
///
/// A script alone means its interpreter, by its first line or its extension, with its directory
/// uploaded. After `--` comes any command.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(
    override_usage = "insula run [OPTIONS] SCRIPT [ARGUMENT]...\n       insula run [OPTIONS] -- COMMAND [ARGUMENT]...\n       insula run [OPTIONS] --image IMAGE"
)]
pub(crate) struct RunArguments {
    /// A script, or after `--` a command, and its arguments; an image's own if absent
    #[arg(
        required_unless_present = "image",
        trailing_var_arg = true,
        value_name = "SCRIPT|COMMAND"
    )]
    command: Vec<String>,
    /// Name of the session; one is made up if absent
    #[arg(long, value_parser = arguments::name)]
    name: Option<String>,
    /// Image that it runs on, see `insula image` [default: host, this machine's system read-only]
    #[arg(long)]
    image: Option<String>,
    /// What stands before the command, in place of the image's entrypoint; '' for nothing
    #[arg(long, value_name = "WORDS", value_parser = arguments::words)]
    entrypoint: Option<arguments::Words>,
    /// Who the command is [default: the image's user, else 1000]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Be root inside: of the session's own users, never of this machine
    #[arg(long, conflicts_with = "user")]
    root: bool,
    /// CPUs, such as 0.5 or 2 [default: 1]
    #[arg(long, allow_hyphen_values = true, value_parser = arguments::cpu, help_heading = "Limits")]
    cpu: Option<String>,
    /// Memory, such as 512m or 4g [default: 1g or a quarter of the machine]
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", value_parser = arguments::memory, help_heading = "Limits")]
    memory: Option<String>,
    /// Longest running time, such as 90s, 10m or 1h30m [default: none]
    #[arg(long, allow_hyphen_values = true, value_name = "DURATION", value_parser = arguments::span, help_heading = "Limits")]
    time: Option<String>,
    /// Most processes and threads [default: 4096]
    #[arg(long, allow_hyphen_values = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pids: Option<u32>,
    /// Most it may have on disk, such as 10g: as root a file system of that size, else measured
    /// [default: no limit of its own]
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", value_parser = arguments::memory, help_heading = "Limits")]
    disk: Option<String>,
    /// Accept limits that this machine cannot enforce
    #[arg(long, help_heading = "Limits")]
    best_effort: bool,
    /// What it can reach [default: host on a local site]
    #[arg(long, value_enum)]
    network: Option<NetworkChoice>,
    /// Set a variable in its environment, or by its NAME pass ours on; may be given more than once
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variables::variable, action = ArgAction::Append)]
    env: Vec<Variable>,
    /// Working directory inside [default: /work, where uploaded files are; the image's if none are]
    #[arg(short, long, value_name = "PATH", value_parser = arguments::absolute_inside)]
    workdir: Option<String>,
    /// Leave it running and print its name
    #[arg(short, long)]
    detach: bool,
    /// Show a path of this machine inside; may be given more than once
    #[arg(long, value_name = "HOST:PATH[:ro]", value_parser = arguments::mount, action = ArgAction::Append, help_heading = "Files")]
    mount: Vec<MountView>,
    /// Send this directory or file along [default for a script: its directory, up to 200 MB]
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    upload: Option<PathBuf>,
    /// Leave files that it makes or changes in the session
    #[arg(long, help_heading = "Files")]
    no_download: bool,
    /// Do not show the active Python environment inside
    #[arg(long, help_heading = "Files")]
    no_env: bool,
    #[command(flatten)]
    many: ArrayArguments,
    /// Put stderr and stdout into one stream, in exact order
    #[arg(long)]
    merge: bool,
    /// Do not pass standard input on
    #[arg(long, conflicts_with_all = ["terminal", "interactive"])]
    no_stdin: bool,
    /// Give the command a terminal, ours unless --detach is given
    #[arg(short, long, visible_alias = "tty", conflicts_with_all = ["array", "sweep", "retry"])]
    terminal: bool,
    /// Pass standard input on, which is done anyway: for those used to -it
    #[arg(short, long)]
    interactive: bool,
    /// Print JSON: with --detach the session, else the ended session on stderr, or the table of
    /// an array; errors too
    #[arg(long)]
    pub(crate) json: bool,
    /// The command came after `--`.
    #[arg(skip)]
    dashes: bool,
}

/// What a session can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetworkChoice {
    /// Nothing but itself
    None,
    /// What this machine can reach
    Host,
    /// What lies beyond this machine: not itself, not other sessions
    Egress,
}

impl RunArguments {
    /// Finds out whether the command came after `--`: the grammar drops that word. The command is
    /// always the end of the line, so what stands before it tells.
    pub(crate) fn note_dashes(&mut self, line: &[OsString]) {
        let before = line.len().checked_sub(self.command.len() + 1);
        self.dashes = before.is_some_and(|index| line[index] == "--");
    }

    #[cfg(test)]
    pub(crate) fn words(&self) -> &[String] {
        &self.command
    }

    #[cfg(test)]
    pub(crate) fn has_dashes(&self) -> bool {
        self.dashes
    }
}

/// Runs it and gives its exit code.
pub(crate) async fn run(context: Context, arguments: RunArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    expect_terminal(arguments.terminal && !arguments.detach)?;
    let environment = &settings.environment;
    let directory = environment.current_directory.clone();
    let job = Job::of(&arguments, &settings)?;
    let elements = arguments.many.elements(&job, &directory)?;
    let python = if arguments.no_env || arguments.image.as_deref().unwrap_or("host") != "host" {
        None
    } else {
        python::active(environment)
    };
    let here = job.file_here(&directory);
    let mut order = order_of(&arguments, &job, &settings)?;
    let site = Site::open(settings, &printer).await?;
    tell_input_left(&site, &arguments, &order);
    let mut sent = Manifest::new();
    if let Some(upload) = &job.upload {
        let (id, manifest) = upload::send(&site, &upload.plan).await?;
        order.upload = Some(id);
        sent = manifest;
    }
    let python = python.as_ref();
    if let Some(elements) = elements {
        let ask = async |order| array::create_array(&site, order, &elements, &arguments).await;
        let array = create(&site, order, python, ask).await?;
        if arguments.detach {
            return array::detached(&site, &array, &arguments);
        }
        let root = job.upload.map(|upload| upload.plan.root);
        return Box::pin(array::attend(&site, array, &arguments, root)).await;
    }
    let ask = async |order| create_once(&site, order).await;
    let session = create(&site, order, python, ask).await?;
    tell_not_enforced(&site, &session);
    if arguments.detach {
        detached(&site, &session, &arguments)?;
        return Ok(exit_codes::SUCCESS);
    }
    let sent = job.upload.map(|upload| (upload, sent));
    Box::pin(attend(&site, session, &arguments, here.as_deref(), sent)).await
}

/// Stays until the session has ended, or we have to go; gives the exit code.
async fn attend(
    site: &Site,
    session: SessionView,
    arguments: &RunArguments,
    here: Option<&str>,
    sent: Option<(Upload, Manifest)>,
) -> Result<u8, Failure> {
    let attached = if arguments.terminal {
        Box::pin(attach_terminal(site, &session)).await?
    } else {
        Box::pin(attach(site, &session)).await?
    };
    match attached {
        Attached::Ended {
            session,
            output,
            killed,
        } => {
            // At the very first run the node may not have said yet what it can do.
            tell_not_enforced(site, &session);
            let quiet = arguments.json || output == Output::Unread;
            let code = match (ending::tell(site, &session, quiet, here), output) {
                (0, Output::Failed) => exit_codes::INSULA_FAILED,
                _ if killed && ending::was_stopped(&session) => exit_codes::KILLED,
                (code, _) => code,
            };
            finish(site, *session, code, arguments, sent).await
        }
        Attached::Left { exit_code, said } => {
            site.printer.note(&said);
            Ok(exit_code)
        }
    }
}

/// Says once for each site that limits are not enforced there. `show` and `doctor` say it always.
fn tell_not_enforced(site: &Site, session: &SessionView) {
    let told = site.settings.limits_told_file();
    if session.not_enforced.is_empty() || told.exists() {
        return;
    }
    // Where it cannot be noted it is said again.
    let _ = std::fs::write(&told, "");
    site.printer.note(&format!(
        "no limits on {} here: sessions share them with all you run (`insula doctor` says why; \
         this is said once)",
        limit_words(&session.not_enforced)
    ));
}

async fn finish(
    site: &Site,
    session: SessionView,
    code: u8,
    arguments: &RunArguments,
    sent: Option<(Upload, Manifest)>,
) -> Result<u8, Failure> {
    if let Some((upload, sent)) = sent.filter(|_| !arguments.no_download) {
        match ending::bring_files(site, &session, upload.plan.root, sent).await {
            Ok(None) => {}
            Ok(Some(interrupted)) => return Ok(interrupted),
            Err(failure) => {
                let hint = format!("`insula download {}` tries again", session.name);
                site.printer.failure(&failure.hint(hint), arguments.json);
                return Ok(if code == exit_codes::SUCCESS {
                    exit_codes::INSULA_FAILED
                } else {
                    code
                });
            }
        }
    }
    if arguments.json {
        site.printer
            .note(&serde_json::to_string(&session).map_err(anyhow::Error::from)?);
    }
    Ok(code)
}

/// Says that what comes on our standard input is not read, unless that was asked for.
fn tell_input_left(site: &Site, arguments: &RunArguments, order: &CreateSession) {
    let why = if arguments.many.is_array() {
        "nobody writes to many at once"
    } else if order.retry > 0 {
        "it cannot be read twice"
    } else {
        return;
    };
    if arguments.detach || arguments.no_stdin || !standard_input::is_from_elsewhere() {
        return;
    }
    site.printer.note(&format!(
        "standard input is not passed on: {why} (--no-stdin says that it is not meant to be)"
    ));
}

fn detached(site: &Site, session: &SessionView, arguments: &RunArguments) -> Result<(), Failure> {
    if arguments.json {
        return site.printer.json(session);
    }
    site.printer.line(&session.name)
}

/// What the site is asked for, but for the upload and the Python environment.
fn order_of(
    arguments: &RunArguments,
    job: &Job,
    settings: &crate::settings::Settings,
) -> Result<CreateSession, Failure> {
    let directory = &settings.environment.current_directory;
    let mounts: Result<Vec<MountView>, Failure> = arguments
        .mount
        .iter()
        .map(|mount| absolute_mount(mount, directory))
        .collect();
    let config = &settings.config;
    let env = with_values(&arguments.env, &settings.environment)?;
    let kind_of_terminal = with_terminal_kind(&env, &settings.environment);
    let kind_of_terminal = kind_of_terminal.filter(|_| arguments.terminal);
    let entrypoint = arguments.entrypoint.clone().map(|words| words.0);
    let uploaded = job.upload.as_ref().map(|_| "/work".to_owned());
    let mut order = CreateSession {
        name: arguments.name.clone(),
        image: arguments.image.clone(),
        command: job.command.clone(),
        // An interpreter is found for a script, and nothing else may stand before it.
        entrypoint: entrypoint.or(job.is_script.then(Vec::new)),
        user: arguments.user.clone(),
        root: arguments.root,
        env: env.into_iter().chain(kind_of_terminal).collect(),
        workdir: arguments.workdir.clone().or(uploaded),
        cpu: arguments
            .cpu
            .clone()
            .or(config.default_cpu.map(|cpu| show_decimal(cpu.into()))),
        memory: arguments
            .memory
            .clone()
            .or(config.default_memory.map(|bytes| bytes.to_string())),
        pids: arguments.pids,
        disk: arguments.disk.clone(),
        time: arguments.time.clone(),
        network: arguments.network.map(|choice| match choice {
            NetworkChoice::None => NetworkView::None,
            NetworkChoice::Host => NetworkView::Host,
            NetworkChoice::Egress => NetworkView::Egress,
        }),
        mounts: mounts?,
        kind: arguments.terminal.then_some(KindView::Interactive),
        terminal: arguments.terminal.then(crate::terminal::size),
        merge: arguments.merge,
        best_effort: arguments.best_effort,
        ..CreateSession::default()
    };
    arguments.many.add_to(&mut order);
    // Nobody writes to many at once, and what one attempt has read is gone for the next.
    let alone = !arguments.detach && !arguments.many.is_array();
    order.follower = alone;
    order.stdin = alone && order.retry == 0 && !arguments.no_stdin && standard_input::is_there();
    Ok(order)
}

/// The mount with an absolute path of this machine, which is there and can be read.
fn absolute_mount(mount: &MountView, directory: &Path) -> Result<MountView, Failure> {
    let source = directory.join(&mount.source);
    let told = |error: std::io::Error| {
        Failure::from(error)
            .context(format!("cannot mount {}", shown(&source)))
            .hint("--mount takes a path of this machine that you can read: HOST:PATH[:ro]")
    };
    let found = source.canonicalize().map_err(told)?;
    let readable = rustix::fs::access(&found, rustix::fs::Access::READ_OK);
    readable.map_err(|error| told(error.into()))?;
    let text = found
        .to_str()
        .ok_or_else(|| Failure::new("the path to mount is not UTF-8"))?;
    Ok(MountView {
        source: text.to_owned(),
        ..mount.clone()
    })
}

/// Asks for what is to run. If the site refuses to show the Python environment inside, it is left
/// out.
async fn create<T>(
    site: &Site,
    order: CreateSession,
    python: Option<&Python>,
    ask: impl AsyncFn(CreateSession) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(python) = python else {
        return ask(order).await;
    };
    if let Some(path) = python.obstacle() {
        site.printer.warning(&format!(
            "{python} is left out: nothing can be mounted at {path} inside"
        ));
        return ask(order).await;
    }
    let (with, conflicts) = with_python(order.clone(), python);
    for (own, users) in &conflicts {
        site.printer.warning(&format!(
            "{own} of {python} is not mounted: --mount puts something at {users}"
        ));
    }
    let mounted = with.mounts.len() > order.mounts.len();
    match ask(with).await {
        Ok(made) => {
            if mounted {
                site.printer.note(&format!(
                    "{python} is mounted read-only (--no-env turns it off)"
                ));
            }
            Ok(made)
        }
        Err(failure) if failure.code() == Some(ProblemCode::MountRefused) => {
            let said = failure.error.to_string();
            if !python.roots().any(|root| said.contains(root)) {
                return Err(failure);
            }
            site.printer
                .warning(&format!("{python} is left out: {said}"));
            ask(order).await
        }
        Err(failure) => Err(failure),
    }
}

/// Makes the session, once, however often the daemon is killed meanwhile.
async fn create_once(site: &Site, order: CreateSession) -> Result<SessionView, Failure> {
    let key = new_key()?;
    let created = site
        .call(async |client| client.create(&order, Some(&key)).await)
        .await?;
    Ok(created.session)
}

/// A key by which the site knows a request that comes again.
fn new_key() -> Result<String, Failure> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(anyhow::Error::from)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The order with the environment mounted, but for directories at, above or below one that the
/// user mounts: those are told, with the user's. The variables are set all the same, since what
/// the user mounts may bring the environment along, as a mounted project does with its own.
fn with_python(
    mut order: CreateSession,
    python: &Python,
) -> (CreateSession, Vec<(String, String)>) {
    let taken: Vec<String> = order
        .mounts
        .iter()
        .map(|mount| mount.target.clone())
        .collect();
    let mut conflicts = Vec::new();
    for mount in python.mounts() {
        let own = Path::new(&mount.target);
        let meets = |users: &&String| own.starts_with(users) || Path::new(users).starts_with(own);
        match taken.iter().find(meets) {
            Some(users) => conflicts.push((mount.target.clone(), users.clone())),
            None => order.mounts.push(mount),
        }
    }
    let defaults: BTreeMap<String, String> = python.variables();
    for (name, value) in defaults {
        order.env.entry(name).or_insert(value);
    }
    (order, conflicts)
}

#[cfg(test)]
mod tests {
    use super::python::Python;
    use super::with_python;
    use public_api::{CreateSession, MountView};

    #[test]
    fn python_gives_way_to_mounts_of_the_user() {
        let python = Python::at(&["/data/venv", "/data/base"]);
        let conflicts = |target: &str| {
            let order = CreateSession {
                mounts: vec![MountView {
                    source: "/x".to_owned(),
                    target: target.to_owned(),
                    read_only: false,
                }],
                ..CreateSession::default()
            };
            let (order, conflicts) = with_python(order, &python);
            assert_eq!(order.mounts.len() + conflicts.len(), 3);
            assert!(order.env.contains_key("PATH"));
            conflicts
                .into_iter()
                .map(|(own, _)| own)
                .collect::<Vec<_>>()
        };
        assert_eq!(conflicts("/data/venv"), ["/data/venv"]);
        assert_eq!(conflicts("/data/venv/lib"), ["/data/venv"]);
        assert_eq!(conflicts("/data"), ["/data/base", "/data/venv"]);
        assert_eq!(conflicts("/data/ven"), [""; 0]);
    }
}
