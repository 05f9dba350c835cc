//! Starts containers with the sandbox alone, one for each line of its input.
//!
//! Each container has everything a session's has: the image `host`, its groups and limits, the
//! filters, the guest with its log and record. A line of the output is a JSON object of times in
//! microseconds since the start was asked for: `started_us` (the guest was told to go), `ended_us`
//! (the command has ended and the guest with it), `removed_us` (nothing of it is left but its
//! files, which stay until this program ends, as an agent keeps them). The command is this program's
//! arguments, by default `/bin/true`.

use anyhow::{Context as _, Result, ensure};
use domain::{AskedLimits, ExitHow, MemberId, Network, SessionId};
use engine_api::{ContainerSpec, Engine as _, GuestSpec, Limits, UidRange, layout};
use guest_api::files::{LOG_LIMIT_BYTES, RECORD, RecordFile};
use guest_api::{GuestConfig, PROTOCOL_VERSION, RunAs};
use sandbox::{LauncherCommand, MakeAhead, Sandbox, SandboxSettings};
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The first argument: the next container is told to the engine with each, as an agent does.
const AHEAD: &str = "--ahead";
/// Makes this process the launcher.
const LAUNCHER: &str = "__launcher";
/// Ranges of user ids begin here, far from those of a site.
const FIRST_BASE: u32 = 3_500_000_000;
/// Ends what does not end by itself.
const TIME_LIMIT_MS: u64 = 60_000;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == LAUNCHER) {
        sandbox::run_launcher();
    }
    let ahead = arguments.first().is_some_and(|first| first == AHEAD);
    if ahead {
        arguments.remove(0);
    }
    if arguments.is_empty() {
        arguments.push("/bin/true".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(&arguments, ahead))
}

async fn serve(command: &[String], ahead: bool) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for name in ["members", "sockets"] {
        fs::create_dir(path.join(name))?;
    }
    let image = images::host::prepare(&path.join("images"))?;
    let sandbox = Arc::new(Sandbox::new(SandboxSettings {
        cgroup_group: format!("insula-bench-{}", std::process::id()),
        runtime_directory: path.join("sockets"),
        state_directory: path.join("state"),
        launcher: LauncherCommand {
            executable: std::env::current_exe()?,
            arguments: vec![LAUNCHER.to_owned()],
        },
        make_ahead: MakeAhead::Auto,
    }));
    let mut output = std::io::stdout().lock();
    for (number, line) in (0..).zip(std::io::stdin().lock().lines()) {
        line?;
        let container = container(path, &image, number, command)?;
        let next = ahead.then(|| {
            [1, 2].map(|later| ContainerSpec {
                uids: uids(number + later),
                ..container.clone()
            })
        });
        let times = run(&sandbox, &container, next).await?;
        writeln!(output, "{times}")?;
        output.flush()?;
    }
    sandbox.close();
    Ok(())
}

async fn run(
    sandbox: &Arc<Sandbox>,
    container: &ContainerSpec,
    next: Option<[ContainerSpec; 2]>,
) -> Result<serde_json::Value> {
    let began = Instant::now();
    let micros = || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let start = sandbox.start(container);
    if let Some(next) = next {
        // As an agent does: meanwhile, and nobody waits for it.
        let sandbox = Arc::clone(sandbox);
        #[expect(
            clippy::disallowed_methods,
            reason = "it is joined by the engine, which ends what it made ahead"
        )]
        tokio::spawn(async move { sandbox.expect(&next).await });
    }
    start.await?;
    let started_us = micros();
    sandbox.wait(container.member, &container.directory).await?;
    let ended_us = micros();
    sandbox
        .remove(container.member, &container.directory)
        .await?;
    let removed_us = micros();
    let record = fs::read(container.directory.join(layout::RECORD).join(RECORD));
    let file: RecordFile = serde_json::from_slice(&record.context("no exit record")?)?;
    ensure!(
        matches!(file.record.how, ExitHow::Exited { code: 0 }),
        "the command failed: {:?}",
        file.record
    );
    Ok(serde_json::json!({
        "started_us": started_us, "ended_us": ended_us, "removed_us": removed_us,
    }))
}

fn container(
    place: &Path,
    image: &images::HostImage,
    number: u32,
    command: &[String],
) -> Result<ContainerSpec> {
    let member = MemberId {
        session: SessionId(u64::from(std::process::id()) << 32 | u64::from(number)),
        attempt: 1,
        index: 0,
    };
    let directory = place.join("members").join(member.to_string());
    for name in [layout::WORK, layout::HOME, layout::LOGS, layout::RECORD] {
        fs::create_dir_all(directory.join(name))?;
    }
    Ok(ContainerSpec {
        member,
        hostname: "bench".to_owned(),
        directory,
        root: image.root.clone(),
        binds: image.binds.clone(),
        uids: uids(number),
        limits: Limits {
            cpu: 10_000,
            memory_bytes: 256 << 20,
            pids: 64,
            tmpfs_bytes: 64 << 20,
            best_effort: false,
            asked: AskedLimits::ALL,
        },
        network: Network::None,
        guest: GuestSpec {
            config: rmp_serde::to_vec_named(&config(member, command))?,
            socket: place.join("sockets").join(format!("{member}.sock")),
        },
    })
}

fn uids(number: u32) -> UidRange {
    UidRange {
        base: FIRST_BASE + number % 1_000 * UidRange::LENGTH,
    }
}

fn config(member: MemberId, command: &[String]) -> GuestConfig {
    GuestConfig {
        protocol: PROTOCOL_VERSION,
        member,
        command: command.to_vec(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        workdir: "/work".to_owned(),
        run_as: RunAs {
            uid: UidRange::COMMAND,
            gid: UidRange::COMMAND,
            groups: Vec::new(),
            capabilities: Vec::new(),
        },
        stdin_pipe: false,
        merge_output: false,
        log_limit_bytes: LOG_LIMIT_BYTES,
        follower_hold_ms: 0,
        time_limit_ms: Some(TIME_LIMIT_MS),
        time_limit_grace_ms: 100,
        command_oom_score_adj: 500,
        open_files_limit: 1_000,
        terminal: None,
    }
}
