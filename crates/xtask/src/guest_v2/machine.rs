//! The virtual machine: started, listened to, and ended when it takes too long.

use anyhow::Context;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// The guest says so every ten seconds while it lives. An emulated machine of two processors now and
/// then stands still with both of them busy, whatever it was running; then it is started again. Of
/// one that has many, now and then some stand still for ever while the others go on and say that
/// they live: its kernel tells of those, and after as long a time it is started again, too.
const SILENCE: Duration = Duration::from_secs(150);
/// How often it is started at most.
const STARTS: u32 = 4;
/// What a guest says while it lives.
const ALIVE: &str = "@alive";
/// Lines that may wait to be printed.
const LINES: usize = 1_000;
const MEMORY: &str = "2048";
/// What the guest's kernel is told. Only our own attacks are tried in it, so it need not guard
/// itself, and knows the calls of x32.
const ARGUMENTS: &str = "console=ttyS0 loglevel=3 panic=-1 mitigations=off syscall.x32=y";

/// What the machine is made of.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initial: &'a Path,
    pub(super) disk: &'a Path,
    pub(super) limit: Duration,
    /// Whether this machine's processor runs it, instead of an emulated one.
    pub(super) with_kvm: bool,
    pub(super) cpus: u32,
}

/// What the guest said for us.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// The status of what ran in it; `None` if it did not come so far.
    pub(super) status: Option<i32>,
    /// Files by name.
    pub(super) files: Vec<(String, String)>,
}

impl Machine<'_> {
    /// Runs it to its end and prints what it says as it says it. One that stands still is started
    /// again.
    pub(super) fn run(&self) -> anyhow::Result<Ended> {
        for start in 1..=STARTS {
            match self.run_once()? {
                Heard::All(ended) => return Ok(ended),
                Heard::TooLate => anyhow::bail!(
                    "the guest took longer than {:.0?} and was ended",
                    self.limit
                ),
                Heard::Silence => println!(
                    "  start {start} of {STARTS}: THE GUEST STANDS STILL, not one sign of life in \
                     {SILENCE:.0?}"
                ),
                Heard::Lockup(stuck) => println!(
                    "  start {start} of {STARTS}: THE GUEST STANDS STILL, a processor of it for \
                     {stuck:.0?}"
                ),
            }
        }
        anyhow::bail!("the guest stood still each time it was started")
    }

    fn run_once(&self) -> anyhow::Result<Heard> {
        let mut child = self.start()?;
        let output = child.stdout.take().context("the machine has no output")?;
        let (told, lines) = sync_channel(LINES);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line)
                    .trim_end_matches('\r')
                    .to_owned();
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        let heard = listen(&lines, Instant::now() + self.limit, SILENCE);
        // It has ended, or it must.
        let _ = child.kill();
        child.wait().context("cannot wait for the machine")?;
        drop(lines);
        let _ = reader.join();
        Ok(heard)
    }

    fn start(&self) -> anyhow::Result<Child> {
        let mut command = process::command("qemu-system-x86_64");
        command
            .args(["-no-user-config", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio", "-machine", "q35"])
            .args(["-cpu", "max", "-m", MEMORY, "-smp"])
            .arg(self.cpus.to_string());
        let accelerator = if self.with_kvm {
            "kvm"
        } else {
            "tcg,thread=multi"
        };
        let disk = format!(
            "file={},format=raw,if=none,id=disk,cache=unsafe,snapshot=on",
            self.disk.display()
        );
        command
            .args(["-accel", accelerator, "-append", ARGUMENTS, "-kernel"])
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initial)
            .args(["-drive", &disk, "-device", "virtio-blk-pci,drive=disk"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.spawn().context("cannot start qemu-system-x86_64")
    }
}

/// How listening ended.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// There is no more to hear.
    All(Ended),
    /// The time was over.
    TooLate,
    /// It gave no sign of life.
    Silence,
    /// Its kernel told that a processor had done nothing else for so long.
    Lockup(Duration),
}

/// For how long a processor has done nothing else, if the kernel's watchdog tells it:
/// `watchdog: BUG: soft lockup - CPU#3 stuck for 23s! [sleep:508]`.
fn lockup(line: &str) -> Option<Duration> {
    let (_, told) = line.split_once("BUG: soft lockup - CPU#")?;
    let (_, told) = told.split_once(" stuck for ")?;
    let (seconds, _) = told.split_once("s!")?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Prints lines until there are no more, and keeps what is meant for us.
fn listen(lines: &Receiver<String>, deadline: Instant, silence: Duration) -> Heard {
    let mut ended = Ended::default();
    let mut open = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(silence)) {
            Ok(line) => {
                ended.take(&line, &mut open);
                if let Some(stuck) = lockup(&line).filter(|stuck| *stuck >= silence) {
                    return Heard::Lockup(stuck);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Heard::All(ended),
            Err(RecvTimeoutError::Timeout) if left > silence => return Heard::Silence,
            Err(RecvTimeoutError::Timeout) => return Heard::TooLate,
        }
    }
}

impl Ended {
    fn take(&mut self, line: &str, open: &mut Option<(String, String)>) {
        if line == ALIVE {
            return;
        }
        if let Some((_, text)) = open {
            if line == "@end" {
                self.files.extend(open.take());
            } else {
                text.push_str(line);
                text.push('\n');
            }
        } else if let Some(name) = line.strip_prefix("@file ") {
            *open = Some((name.to_owned(), String::new()));
        } else if let Some(status) = line.strip_prefix("@status ") {
            self.status = status.trim().parse().ok();
        } else {
            println!("  {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, Heard, listen, lockup};
    use std::sync::mpsc::sync_channel;
    use std::time::{Duration, Instant};

    #[test]
    fn what_the_guest_says_for_us_is_kept() {
        let (told, lines) = sync_channel(10);
        for line in ["booting", "@file a.json", "{", "}", "@end", "@status 3"] {
            told.send(line.to_owned()).expect("room");
        }
        let moment = Duration::from_millis(1);
        let soon = Instant::now() + moment;
        let hour = Duration::from_secs(3600);
        assert_eq!(listen(&lines, soon, hour), Heard::TooLate);
        let later = Instant::now() + hour;
        assert_eq!(listen(&lines, later, moment), Heard::Silence);
        drop(told);
        let (told, lines) = sync_channel(10);
        for line in [
            "booting",
            "@file a.json",
            "{",
            "@alive",
            "}",
            "@end",
            "@status 3",
        ] {
            told.send(line.to_owned()).expect("room");
        }
        drop(told);
        let expected = Ended {
            status: Some(3),
            files: vec![("a.json".to_owned(), "{\n}\n".to_owned())],
        };
        assert_eq!(listen(&lines, soon, hour), Heard::All(expected));
    }

    #[test]
    fn a_processor_that_stands_still_ends_the_guest_and_a_slow_one_does_not() {
        let limit = Duration::from_secs(150);
        for (seconds, ends) in [(23, false), (149, false), (150, true), (987, true)] {
            let (told, lines) = sync_channel(10);
            let line = format!(
                "[  109.039047] watchdog: BUG: soft lockup - CPU#0 stuck for {seconds}s! \
                 [kworker/u104:1:109]"
            );
            told.send(line).expect("room");
            drop(told);
            let heard = listen(&lines, Instant::now() + limit, limit);
            let stuck = Heard::Lockup(Duration::from_secs(seconds));
            let all = Heard::All(Ended::default());
            assert_eq!(heard, if ends { stuck } else { all });
        }
        assert_eq!(lockup("BUG: soft lockup - CPU#0 stuck for ever"), None);
    }
}
