//! A foreground run in a terminal: our keys are the command's, and what it shows is ours, until
//! the session has ended or we leave it.

use super::attach::{Attached, Output, act_on};
use super::ending::ended_by_itself;
use crate::commands::attach::{Parted, Stay};
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::relay::{Keys, Relay};
use crate::signals::{Leaving, Signals};
use public_api::SessionView;
use std::cell::Cell;

/// Stays until the session has ended, or we leave.
pub(super) async fn attach_terminal(
    site: &Site,
    session: &SessionView,
) -> Result<Attached, Failure> {
    let mut signals = Signals::listen()?;
    let mut leaving = Leaving::listen()?;
    // Ctrl-C is a signal only before our terminal is raw: then the session does not run yet.
    let mut relay = Relay::new(Keys::RawWithDetach, true)?.without_interrupts();
    relay.stdout_offset = Some(0);
    let stay = Stay {
        site,
        session,
        in_terminal: true,
        lossless: true,
        carrying: Cell::new(false),
    };
    let killed = Cell::new(false);
    let mut raw = None;
    let name = &session.name;
    let joins_again = format!("{name} runs on; `insula attach {name}` joins it again");
    let parted = tokio::select! {
        parted = stay.joined(&mut relay, &mut raw) => parted.map(|parted| match parted {
            Parted::Ended(session) => Attached::Ended {
                session,
                output: Output::Written,
                killed: killed.get(),
            },
            Parted::Detached | Parted::Interrupted => Attached::Left {
                exit_code: exit_codes::SUCCESS,
                said: format!("left: {joins_again}"),
            },
        }),
        left = act_on(&mut signals, site, session, &killed) => Ok(left),
        exit_code = leaving.asked() => Ok(Attached::Left {
            exit_code,
            said: format!("asked to end: {joins_again}"),
        }),
    };
    let by_itself =
        matches!(&parted, Ok(Attached::Ended { session, .. }) if ended_by_itself(session));
    match raw {
        Some(raw) if !by_itself => raw.tidy(),
        _ => {}
    }
    parted
}
