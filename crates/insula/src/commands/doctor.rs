//! `insula doctor`: checks this machine and the site, and says what would mend what is wrong.

mod machine;
mod site;
mod store;

use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::{Printer, Tone, printable};
use clap::Args;
use public_api::ProblemCode;
use serde::Serialize;

/// Check this machine and the site
///
/// Starts nothing and changes nothing. Each line is ok, a warning or a failure; below it stands
/// what would change it.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    "Examples:\n  insula doctor\n  insula doctor --json | jq '.checks[] | select(.level != \"ok\")'\n\n\
     Exit codes:\n  0  nothing is a failure\n  1  something is\n  2  the command line is wrong"
        .to_owned()
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            level: Level::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    fn warn(name: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            remedy: Some(remedy.into()),
            ..Self::ok(name, found)
        }
    }

    fn fail(name: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(name, found, remedy)
        }
    }
}

/// Checks everything.
pub(crate) async fn doctor(context: Context, arguments: DoctorArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let mut checks = machine::checks(&settings);
    checks.push(store::check(&settings).await);
    checks.extend(site::aborts(&settings));
    let log = settings.log_file();
    let down = site::down(&settings);
    match Site::open_running(settings, &printer).await {
        Ok(Some((site, view))) => {
            // The daemon may stand in another group than this process; its node tells.
            checks.retain(|check| check.name != machine::GROUPS || check.level == Level::Ok);
            checks.extend(site::checks(&site, &view).await);
        }
        Ok(None) => checks.push(down),
        Err(failure) if failure.code() == Some(ProblemCode::StandingBy) => {
            checks.push(Check::ok("daemon", format!("{:#}", failure.error)));
        }
        Err(failure) => {
            let found = format!("{:#}", failure.error);
            let remedy = failure
                .hint
                .unwrap_or_else(|| format!("see {}", log.display()));
            checks.push(Check::fail("daemon", found, remedy));
        }
    }
    let worst = checks
        .iter()
        .map(|check| check.level)
        .max()
        .unwrap_or(Level::Ok);
    if arguments.json {
        printer.json(&serde_json::json!({ "worst": worst, "checks": checks }))?;
    } else {
        print(&printer, &checks)?;
    }
    Ok(if worst == Level::Fail {
        exit_codes::FAILURE
    } else {
        exit_codes::SUCCESS
    })
}

fn print(printer: &Printer, checks: &[Check]) -> Result<(), Failure> {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    for check in checks {
        let (tone, word) = match check.level {
            Level::Ok => (Tone::Good, "ok  "),
            Level::Warn => (Tone::Careful, "warn"),
            Level::Fail => (Tone::Bad, "fail"),
        };
        let name = printer.paint(Tone::Strong, &format!("{:<width$}", check.name));
        let found = printable(&check.found);
        printer.line(&format!("{}  {name}  {found}", printer.paint(tone, word)))?;
        if let Some(remedy) = &check.remedy {
            printer.line(&format!("{:width$}        {}", "", printable(remedy)))?;
        }
    }
    Ok(())
}
