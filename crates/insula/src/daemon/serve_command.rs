//! The hidden command that is the daemon: what surrounds `serve::run`.

use super::aborts::{forget_aborts, record_abort};
use super::last_words::say_last_words;
use crate::exit_codes;
use crate::failure::Failure;
use crate::settings::Settings;
use process::FileLock;
use std::sync::Arc;

/// Serves until it is told to go down. What goes wrong is put on record for `insula doctor`.
pub(crate) fn serve_command(settings: Settings) -> Result<u8, Failure> {
    process::close_inherited();
    // Out of the terminal's session, so that closing it does not end us. Refused only where we
    // lead a process group already: then somebody runs us by hand and wants to see us end.
    let _ = rustix::process::setsid();
    settings.prepare()?;
    let settings = Arc::new(settings);
    record_panics(Arc::clone(&settings));
    match crate::serve::run(&settings) {
        Ok(()) => {
            forget_aborts(&settings);
            Ok(exit_codes::SUCCESS)
        }
        Err(error) => {
            // Not a failure of ours if another daemon serves the home.
            let another = FileLock::is_locked(&settings.daemon_lock()).unwrap_or(false);
            if !another {
                let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
                say_last_words(&chain);
                record_abort(&settings, std::process::id(), chain);
            }
            Err(error.into())
        }
    }
}

/// A panic ends the process (release builds abort); it is recorded before.
fn record_panics(settings: Arc<Settings>) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        let chain = vec!["the daemon panicked".to_owned(), panic.to_string()];
        say_last_words(&chain);
        record_abort(&settings, std::process::id(), chain);
    }));
}
