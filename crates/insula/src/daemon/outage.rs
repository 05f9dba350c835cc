//! The time in which the site cannot be reached: waits a little longer each time, brings the
//! daemon back, and says so when it lasts.

use super::down_mark::clear_stale_mark;
use super::site::Site;
use super::start::{Patience, ensure, look};
use crate::failure::Failure;
use client::{BrokenAnswer, ClientError};
use public_api::ProblemCode;
use std::time::{Duration, Instant};

/// The first wait; each later one is twice as long, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// An outage is told to the user after this time.
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// After so many tries in a row the outage is an error.
const TRIES_LIMIT: u32 = 30;

/// An outage, or none yet.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    tries: u32,
    told: bool,
}

impl Outage {
    /// The site has answered.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// If `error` means that the site could not be reached, waits, makes sure that there is a
    /// daemon and returns, so that the caller tries again. Any other error is the answer.
    pub(crate) async fn bridge(&mut self, site: &Site, error: ClientError) -> Result<(), Failure> {
        if !is_outage(&error) {
            return Err(error.into());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.tries += 1;
        site.printer
            .detail(&format!("{}: trying again", whole(&error)));
        if self.tries > TRIES_LIMIT {
            return Err(error.into());
        }
        if !self.told && since.elapsed() > TOLD_AFTER {
            self.told = true;
            let what = match &error {
                ClientError::Problem(problem) => problem.detail.as_str(),
                _ => "the daemon does not answer",
            };
            site.printer.note(&format!("{what}: trying again"));
        }
        let wait = FIRST_WAIT
            .saturating_mul(1 << (self.tries - 1).min(10))
            .min(LONGEST_WAIT);
        tokio::time::sleep(wait).await;
        if site.settings.down_file().exists() {
            // As long as a daemon answers, nothing has to be brought back.
            if look(site.client()).await?.is_some() {
                clear_stale_mark(&site.settings);
                return Ok(());
            }
            return Err(Failure::new("the site was taken down with `insula down`")
                .hint("`insula up` brings it back; `insula ls` then tells what still runs"));
        }
        Box::pin(ensure(&site.settings, &site.printer, Patience::AnyBuild)).await?;
        Ok(())
    }
}

/// The site could not be asked, or its answer broke off: trying again may help.
pub(crate) fn is_outage(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } => true,
        ClientError::Broken { source, .. } => {
            matches!(
                source,
                BrokenAnswer::Transport(_) | BrokenAnswer::EndedEarly | BrokenAnswer::Socket(_)
            )
        }
        ClientError::Problem(problem) => {
            matches!(
                problem.code,
                ProblemCode::Unavailable | ProblemCode::Busy | ProblemCode::NodeUnreachable
            )
        }
        ClientError::Address { .. } => false,
    }
}

/// An error with its causes in one line.
fn whole(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        text = format!("{text}: {current}");
        cause = current.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::is_outage;
    use client::{BrokenAnswer, ClientError};
    use public_api::{Problem, ProblemCode};

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let broken = |source| ClientError::Broken {
            act: "GET /".to_owned(),
            source,
        };
        assert!(is_outage(&broken(BrokenAnswer::EndedEarly)));
        assert!(!is_outage(&broken(BrokenAnswer::TooLarge {
            limit_bytes: 1
        })));
        for (code, expected) in [
            (ProblemCode::Unavailable, true),
            (ProblemCode::Busy, true),
            (ProblemCode::NodeUnreachable, true),
            (ProblemCode::NameTaken, false),
            (ProblemCode::Internal, false),
        ] {
            assert_eq!(
                is_outage(&ClientError::Problem(Problem::new(code, "x"))),
                expected
            );
        }
    }
}
