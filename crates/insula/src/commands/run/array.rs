//! `run` of an array: made by one request, watched until every element has ended, told as a table.

mod files;
mod watch;

use self::files::bring_files;
use self::watch::{Watched, watch};
use super::job::Job;
use super::sweep::Sweep;
use super::{RunArguments, new_key};
use crate::arguments;
use crate::daemon::Site;
use crate::elements::{all_elements, counts, ended, outcome_table};
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::{printable, shown};
use crate::times::length;
use clap::{ArgAction, ArgGroup, Args};
use public_api::{
    AfterOrder, ArrayView, CreateArray, CreateElement, CreateSession, ElementView, PRIORITY_LIMIT,
};
use std::path::{Path, PathBuf};

/// Options about many of a kind, and about what comes before and again.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("elements").args(["array", "sweep"])))]
pub(crate) struct ArrayArguments {
    /// Run it once for each index: 1-100, 1-99:2 or 1-4,9
    #[arg(long, value_name = "INDICES", value_parser = arguments::indices, help_heading = "Many at once")]
    array: Option<String>,
    /// Run it once for each row of this CSV file; the first line names the columns
    #[arg(long, value_name = "FILE", help_heading = "Many at once")]
    sweep: Option<PathBuf>,
    /// Most of them that run at a time [default: as many as there is room for]
    #[arg(long, value_name = "NUMBER", requires = "elements", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Many at once")]
    throttle: Option<u32>,
    /// Of what waits for a place the highest goes first, 0 to 100; a low one may wait as long as there
    /// is work of a higher one [default: 50]
    #[arg(long, allow_hyphen_values = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=i64::from(PRIORITY_LIMIT)), help_heading = "Many at once")]
    priority: Option<u32>,
    /// Further attempts for one that fails, at most 20 [default: 0]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=20), help_heading = "Many at once")]
    retry: Option<u32>,
    /// Begin once this one has succeeded, or with :ended has ended; may be given more than once
    #[arg(long, value_name = "SESSION[:ended]", value_parser = arguments::after, action = ArgAction::Append, help_heading = "Many at once")]
    after: Vec<AfterOrder>,
}

impl ArrayArguments {
    /// Many are asked for.
    pub(super) fn is_array(&self) -> bool {
        self.array.is_some() || self.sweep.is_some()
    }

    /// Adds what a session alone has too.
    pub(super) fn add_to(&self, order: &mut CreateSession) {
        order.priority = self.priority;
        order.retry = self.retry.unwrap_or(0);
        order.after.clone_from(&self.after);
    }

    /// The elements that are asked for; `None` for a session alone. What is wrong with them is
    /// found here, before anything is made.
    pub(super) fn elements(
        &self,
        job: &Job,
        directory: &Path,
    ) -> Result<Option<Elements>, Failure> {
        if let Some(file) = &self.sweep {
            let told = |error| {
                let failure = Failure::from(anyhow::Error::new(error));
                failure
                    .context(format!("cannot sweep over {}", shown(file)))
                    .hint("the first line names the columns, as in `lr,epochs`; each further line is an element")
            };
            let sweep = Sweep::read(&directory.join(file)).map_err(told)?;
            let rows = sweep.elements(&job.command, job.fixed).map_err(|error| {
                told(error).hint("`{{` stands for a brace that is meant as one")
            })?;
            return Ok(Some(Elements::Rows(rows)));
        }
        Ok(self.array.clone().map(Elements::Indices))
    }
}

/// Elements that are asked for.
#[derive(Clone, Debug)]
pub(super) enum Elements {
    Indices(String),
    Rows(Vec<CreateElement>),
}

/// Makes the array, once, however often the daemon is killed meanwhile.
pub(super) async fn create_array(
    site: &Site,
    session: CreateSession,
    elements: &Elements,
    arguments: &RunArguments,
) -> Result<ArrayView, Failure> {
    let (indices, elements) = match elements.clone() {
        Elements::Indices(indices) => (Some(indices), Vec::new()),
        Elements::Rows(rows) => (None, rows),
    };
    let order = CreateArray {
        session,
        indices,
        elements,
        throttle: arguments.many.throttle,
    };
    let key = new_key()?;
    let created = site
        .call(async |client| client.create_array(&order, Some(&key)).await)
        .await?;
    Ok(created.array)
}

/// Stays until every element has ended, or we have to go; gives the exit code.
pub(super) async fn attend(
    site: &Site,
    array: ArrayView,
    arguments: &RunArguments,
    root: Option<PathBuf>,
) -> Result<u8, Failure> {
    let array = match watch(site, &array).await? {
        Watched::Ended(array) => *array,
        Watched::Left { exit_code, said } => {
            site.printer.note(&said);
            return Ok(exit_code);
        }
    };
    let elements = all_elements(site, &array.id).await?;
    let told = tell(site, &array, &elements, arguments.json);
    let succeeded = array.outcomes.get("succeeded").copied().unwrap_or(0);
    let mut code = exit_codes::SUCCESS;
    if succeeded != array.size || told.is_err() {
        code = exit_codes::FAILURE;
    }
    // The files do not wait for whoever reads the table, and come even if nobody can.
    if let Err(failure) = told {
        let hint = format!("`insula show {}` tells it again", array.name);
        site.printer.failure(&failure.hint(hint), arguments.json);
    }
    if !arguments.json {
        site.printer.note(&summary(&array, &elements));
    }
    let Some(root) = root.filter(|_| !arguments.no_download) else {
        return Ok(code);
    };
    bring_files(site, &array, &elements, root, code).await
}

/// Writes the table of outcomes.
fn tell(
    site: &Site,
    array: &ArrayView,
    elements: &[ElementView],
    json: bool,
) -> Result<(), Failure> {
    let written = if json {
        let both = serde_json::json!({ "array": array, "elements": elements });
        site.printer.json(&both)
    } else {
        outcome_table(&array.parameters, elements)
            .lines(&site.printer)
            .iter()
            .try_for_each(|line| site.printer.line(line))
    };
    written.map_err(|failure| failure.context("the table of outcomes could not be written"))
}

/// What became of it in a line, with the command that tells more.
fn summary(array: &ArrayView, elements: &[ElementView]) -> String {
    let (name, size) = (&array.name, array.size);
    let time = |text: &String| text.parse::<jiff::Timestamp>().ok();
    let began = time(&array.created_at);
    let took = began.zip(array.ended_at.as_ref().and_then(time));
    let took = took.map_or_else(String::new, |(from, to)| {
        format!(" in {}", length(to.as_second() - from.as_second()))
    });
    let told = format!(
        "{name}: {} of {size}: {}{took}",
        ended(array),
        counts(array)
    );
    let failed = elements.iter().find(|element| {
        let outcome = element.outcome.as_ref();
        outcome.is_some_and(|outcome| outcome.outcome == "failed") && element.attempt > 0
    });
    match failed {
        None => told,
        Some(element) => {
            let index = element.index;
            format!("{told}; `insula logs {name}.{index}` shows the output of {name}.{index}")
        }
    }
}

/// The name of an array that runs on, or the array as JSON.
pub(super) fn detached(
    site: &Site,
    array: &ArrayView,
    arguments: &RunArguments,
) -> Result<u8, Failure> {
    if arguments.json {
        site.printer.json(array)?;
    } else {
        site.printer.line(&printable(&array.name))?;
    }
    Ok(exit_codes::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::summary;
    use crate::elements::tests::array;

    #[test]
    fn the_summary_names_one_that_failed() {
        let rows = r#"[{"index": 7, "id": "a", "state": "ended", "attempt": 3, "outcome":
            {"outcome": "failed", "cause": "exit_code", "reason": "x", "exit_code": 3}}]"#;
        let elements: Vec<public_api::ElementView> = serde_json::from_str(rows).expect("a row");
        let mut array = array("{}", r#"{"succeeded": 199, "failed": 1}"#);
        array.ended_at = Some("2026-11-21T11:56:10Z".to_owned());
        assert_eq!(
            summary(&array, &elements),
            "sweep: 200 of 200: 199 succeeded, 1 failed in 1m; `insula logs sweep.7` shows the \
             output of sweep.7"
        );
    }
}
