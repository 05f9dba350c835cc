//! Points at which a test ends this process: after an effect, before anybody takes note of it.
//!
//! Only builds with debug assertions have them, and there only a process whose environment names a
//! file in [`VARIABLE`] looks at it; a release has neither the look nor the name. The file holds a
//! point's name and which passing of it is meant, counted from when the file was written. The
//! process that comes to it takes the file away, so that no later one dies there too, and ends by
//! `SIGKILL`: nothing is unwound, flushed or said. A decision record says why it is made so:
//! `docs/decisions/0019-crash-points.md`.

/// Names the file that says where to end.
#[cfg(debug_assertions)]
const VARIABLE: &str = "INSULA_CRASH_POINTS";

/// Ends this process if a test asked for it to end here. `name` is `KIND.EFFECT`, in one place of
/// the sources only.
#[inline]
pub fn crash_point(name: &str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _: &str = name;
}

/// Lets a program that is started with an empty environment have these points, too.
#[inline]
pub fn hand_on_crash_points(command: &mut std::process::Command) {
    #[cfg(debug_assertions)]
    if let Some(file) = std::env::var_os(VARIABLE) {
        command.env(VARIABLE, file);
    }
    #[cfg(not(debug_assertions))]
    let _: &mut std::process::Command = command;
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// What is added to the file's name by the process that ends.
    const TAKEN: &str = "taken";

    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    /// Held while the file is read and written.
    static COUNTING: Mutex<()> = Mutex::new(());

    pub(super) fn pass(name: &str) {
        let file = FILE.get_or_init(|| std::env::var_os(super::VARIABLE).map(PathBuf::from));
        let Some(file) = file else { return };
        let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(text) = fs::read_to_string(file) else {
            return;
        };
        let Some((point, passing)) = text.trim_end().split_once(' ') else {
            return;
        };
        let Some(passing) = passing.parse::<u32>().ok().filter(|_| point == name) else {
            return;
        };
        if passing > 1 {
            // A file that is gone meanwhile was taken by another process, which ends for it.
            let rest = format!("{point} {}", passing - 1);
            let opened = fs::OpenOptions::new().write(true).truncate(true).open(file);
            let _ = opened
                .and_then(|mut opened| std::io::Write::write_all(&mut opened, rest.as_bytes()));
            return;
        }
        if fs::rename(file, file.with_extension(TAKEN)).is_ok() {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::{VARIABLE, crash_point};
    use std::os::unix::process::ExitStatusExt as _;

    /// Set in the process that is to end.
    const CHILD: &str = "INSULA_TEST_CRASH_CHILD";

    #[test]
    fn a_process_ends_at_the_passing_that_is_asked_for_and_only_one_does() {
        if std::env::var_os(CHILD).is_some() {
            crash_point("other.one");
            crash_point("test.one");
            println!("passed once");
            crash_point("test.one");
            println!("passed twice");
            return;
        }
        let kept = tempfile::tempdir().expect("a directory");
        let file = kept.path().join("point");
        let child = || {
            let own = std::env::current_exe().expect("our own file");
            let mut command = crate::command(own);
            command.args(["--exact", "--nocapture"]).arg(
                "crash_point::tests::a_process_ends_at_the_passing_that_is_asked_for_and_only_one_does",
            );
            command.env(CHILD, "1").env(VARIABLE, &file);
            command.output().expect("it runs")
        };
        std::fs::write(&file, "test.one 2\n").expect("armed");
        let ended = child();
        assert_eq!(ended.status.signal(), Some(9));
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(
            said.contains("passed once") && !said.contains("twice"),
            "{said}"
        );
        assert!(kept.path().join("point.taken").exists() && !file.exists());
        // Control: nothing is armed any more.
        assert!(child().status.success());
    }
}
