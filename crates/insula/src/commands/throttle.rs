//! `insula throttle`: changes how many elements of an array run at a time.

use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use clap::Args;
use public_api::ThrottleOrder;

/// Change how many elements of an array run at a time
///
/// What runs goes on: a lower number is reached as elements end.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct ThrottleArguments {
    /// Name or id of the array
    array: String,
    /// Most of them that run at a time, or `none` for as many as there is room for
    #[arg(value_name = "NUMBER", value_parser = limit)]
    limit: Limit,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A throttle as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    match text.parse() {
        Ok(number) if number > 0 => Ok(Limit(Some(number))),
        _ => Err("give a whole number of at least 1, or `none`".to_owned()),
    }
}

fn help() -> String {
    format!(
        "Examples:\n  insula throttle sweep 8\n  insula throttle sweep none\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Changes a throttle.
pub(crate) async fn throttle(
    context: Context,
    arguments: ThrottleArguments,
) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let (array, Limit(throttle)) = (arguments.array.as_str(), arguments.limit);
    let order = ThrottleOrder { throttle };
    let view = site
        .call(async |client| client.throttle_array(array, order).await)
        .await?;
    if arguments.json {
        printer.json(&view)?;
    } else {
        let told = view.throttle.map_or_else(
            || "as many as there is room for".to_owned(),
            |throttle| format!("at most {throttle}"),
        );
        printer.line(&format!("{}: {told} at a time", view.name))?;
    }
    Ok(exit_codes::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::{Limit, limit};

    #[test]
    fn a_throttle_is_a_number_or_none() {
        assert_eq!(limit("none"), Ok(Limit(None)));
        assert_eq!(limit("8"), Ok(Limit(Some(8))));
        for wrong in ["0", "-1", "many", "", "5000000000"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
