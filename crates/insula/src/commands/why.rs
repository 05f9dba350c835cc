//! `insula why`: why a session waits, runs, or ended; of an array, why its elements do.

mod array;

use crate::cli::Context;
use crate::daemon::Site;
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::printer::{Tone, printable};
use clap::Args;
use public_api::Why;

/// Say why a session waits, runs or ended
///
/// For one that waits: every reason, node by node. For one that ended: the cause, with evidence.
/// For an array: what its elements wait for or ended by, each cause once.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct WhyArguments {
    /// Name or id of a session, an element (NAME.7) or an array
    session: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula why train\n  insula why train --json | jq -r .summary\n\n{}",
        exit_codes::USUAL_HELP
    )
}

/// Says why.
pub(crate) async fn why(context: Context, arguments: WhyArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let name = arguments.session.as_str();
    let id = match Named::find(&site, name).await? {
        Named::Session(session) => session.id,
        Named::Array(array) => return array::why(&site, &array, arguments.json).await,
    };
    let why = site.call(async |client| client.why(&id).await).await?;
    if arguments.json {
        printer.json(&why)?;
        return Ok(exit_codes::SUCCESS);
    }
    for (tone, line) in lines(&why) {
        printer.line(&printer.paint(tone, &printable(&line)))?;
    }
    Ok(exit_codes::SUCCESS)
}

fn lines(why: &Why) -> Vec<(Tone, String)> {
    let mut lines = vec![(Tone::Strong, format!("{}: {}", why.state, why.summary))];
    for node in &why.nodes {
        lines.push((Tone::Plain, format!("  {}", node.node)));
        for reason in &node.reasons {
            lines.push((
                Tone::Plain,
                format!("    - {} ({})", reason.message, reason.code),
            ));
        }
    }
    lines.extend(
        why.evidence
            .iter()
            .map(|line| (Tone::Plain, format!("  - {line}"))),
    );
    lines.extend(
        why.suggestion
            .iter()
            .map(|line| (Tone::Good, format!("  try: {line}"))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::lines;
    use public_api::{NodeReason, Why, WhyReason};

    #[test]
    fn every_reason_has_its_line() {
        let why = Why {
            session: "0000000000001".to_owned(),
            state: "pending".to_owned(),
            summary: "no node has 2 cpu free".to_owned(),
            nodes: vec![NodeReason {
                node: "here".to_owned(),
                reasons: vec![WhyReason {
                    code: "slot-short".to_owned(),
                    message: "cpu: 1 of 2 is free".to_owned(),
                }],
            }],
            evidence: vec!["asked 3 s ago".to_owned()],
            suggestion: Some("--cpu 1".to_owned()),
        };
        let text: Vec<String> = lines(&why).into_iter().map(|(_, line)| line).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        pending: no node has 2 cpu free
          here
            - cpu: 1 of 2 is free (slot-short)
          - asked 3 s ago
          try: --cpu 1
        ");
    }
}
