//! Tells what a session waits for.

use crate::daemon::Site;
use public_api::SessionView;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

/// A session that waits for less than this needs no word.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// The same where nobody looks, and the word stays in a log.
const FIRST_LOOK_UNWATCHED: Duration = Duration::from_secs(3);
/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Says why a session waits, and again when the reason changes; where nobody looks only once, and
/// only of one that waits for others. Never returns.
pub(crate) async fn tell_what_it_waits_for(site: &Site, session: &SessionView) -> Infallible {
    let watched = site.printer.is_watched();
    let mut said = String::new();
    let mut wait = if watched {
        FIRST_LOOK
    } else {
        FIRST_LOOK_UNWATCHED
    };
    loop {
        tokio::time::sleep(wait).await;
        wait = LOOK_AGAIN;
        // Whatever goes wrong here is told by those who need the answer.
        let Ok(why) = site.client().why(&session.id).await else {
            continue;
        };
        match why.state.as_str() {
            "pending" => {}
            "placed" | "preparing" | "starting" if watched => {}
            "placed" | "preparing" | "starting" => continue,
            _ => return pending().await,
        }
        if why.summary != said {
            site.printer.note(&format!(
                "{} is {}: {}",
                session.name, why.state, why.summary
            ));
            said = why.summary;
        }
        if !watched {
            return pending().await;
        }
    }
}
