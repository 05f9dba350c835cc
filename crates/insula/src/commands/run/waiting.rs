//! Tells a person at a terminal what a session waits for.

use crate::daemon::Site;
use public_api::SessionView;
use std::convert::Infallible;
use std::time::Duration;

/// A session that waits for less than this needs no word.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Says why a session waits, and again when the reason changes. Never returns.
pub(super) async fn tell_what_it_waits_for(site: &Site, session: &SessionView) -> Infallible {
    if !site.printer.is_watched() {
        return std::future::pending().await;
    }
    let mut said = String::new();
    let mut wait = FIRST_LOOK;
    loop {
        tokio::time::sleep(wait).await;
        wait = LOOK_AGAIN;
        // Whatever goes wrong here is told by those who need the answer.
        let Ok(why) = site.client().why(&session.id).await else {
            continue;
        };
        match why.state.as_str() {
            "pending" | "placed" | "preparing" | "starting" => {}
            _ => return std::future::pending().await,
        }
        if why.summary != said {
            site.printer.note(&format!(
                "{} is {}: {}",
                session.name, why.state, why.summary
            ));
            said = why.summary;
        }
    }
}
