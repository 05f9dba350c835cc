//! `insula events`: what has happened on the site, and what happens.

use crate::arguments;
use crate::cli::Context;
use crate::daemon::{Outage, Site};
use crate::exit_codes;
use crate::failure::Failure;
use crate::named::Named;
use crate::printer::{Printer, Tone, printable};
use crate::times::local;
use clap::Args;
use client::ClientError;
use futures::StreamExt as _;
use public_api::{EventPageQuery, EventQuery, PAGE_LIMIT, ProblemCode, PublicEvent};

/// How far back without --since, --session and --follow.
const DEFAULT_SINCE: &str = "1h";
/// Asks for nothing that has happened: only where the site's history ends.
const NOTHING: &str = "0s";

/// Show what has happened, and follow what happens
///
/// One line each: when, what, the session or node, and a sentence. Events are kept for 30 days;
/// those of a session go with it when it is removed.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct EventsArguments {
    /// Go on with what happens, until ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only events of this session or array (with its elements), by name or id
    #[arg(short, long, value_name = "SESSION|ARRAY")]
    session: Option<String>,
    /// Only what happened in this last length of time, such as 10m, or since an instant
    /// [default: 1h; with --session all of it; with --follow only what is new]
    #[arg(long, value_name = "DURATION|TIME", value_parser = arguments::since)]
    since: Option<String>,
    /// Print JSON, one event on a line
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    format!(
        "Examples:\n  insula events --since 10m\n  insula events -f --session train\n  \
         insula events --session sweep\n  \
         insula events --since 2026-11-21T08:00:00Z --json | jq -r .code\n\n\
         A follower that loses its connection goes on where it was: no event is lost or told \
         twice.\n\n{}",
        exit_codes::USUAL_HELP
    )
}

impl EventsArguments {
    fn since(&self) -> Option<String> {
        match &self.since {
            Some(since) => Some(since.clone()),
            None if self.follow => Some(NOTHING.to_owned()),
            None if self.session.is_some() => None,
            None => Some(DEFAULT_SINCE.to_owned()),
        }
    }
}

/// Shows events.
pub(crate) async fn events(context: Context, arguments: EventsArguments) -> Result<u8, Failure> {
    let Context { printer, settings } = context;
    let site = Site::open(settings, &printer).await?;
    let about = match &arguments.session {
        Some(name) => About::of(Named::find(&site, name).await?),
        None => About::default(),
    };
    let out = Out {
        printer: &printer,
        json: arguments.json,
    };
    let until = history(&site, &arguments, &about, out).await?;
    if arguments.follow {
        follow(&site, &about, until, out).await?;
    }
    Ok(exit_codes::SUCCESS)
}

/// What is asked about, by its id, since a name may pass on while we follow; all if neither.
#[derive(Debug, Default)]
struct About {
    session: Option<String>,
    array: Option<String>,
}

impl About {
    fn of(named: Named) -> Self {
        match named {
            Named::Session(session) => Self {
                session: Some(session.id),
                array: None,
            },
            Named::Array(array) => Self {
                session: None,
                array: Some(array.id),
            },
        }
    }

    /// It was removed while nobody was connected.
    fn is_gone(&self, code: ProblemCode) -> bool {
        (self.session.is_some() && code == ProblemCode::NoSuchSession)
            || (self.array.is_some() && code == ProblemCode::NoSuchArray)
    }

    /// The last event about it.
    fn is_last(&self, code: &str) -> bool {
        (self.session.is_some() && code == "session.removed")
            || (self.array.is_some() && code == "array.removed")
    }
}

/// Prints what is kept; returns the number up to which everything was looked at.
async fn history(
    site: &Site,
    arguments: &EventsArguments,
    about: &About,
    out: Out<'_>,
) -> Result<u64, Failure> {
    let mut query = EventPageQuery {
        after: None,
        since: arguments.since(),
        session: about.session.clone(),
        array: about.array.clone(),
        limit: Some(PAGE_LIMIT),
    };
    loop {
        let page = site
            .call(async |client| client.event_page(&query).await)
            .await?;
        for event in &page.events {
            out.print(event)?;
        }
        if !page.more {
            return Ok(page.looked_until);
        }
        // Numbers go on where times might not.
        query.since = None;
        query.after = Some(page.looked_until);
    }
}

/// Prints what happens after `after`, for ever, or until what it is about is gone.
async fn follow(site: &Site, about: &About, mut after: u64, out: Out<'_>) -> Result<(), Failure> {
    let mut outage = Outage::default();
    loop {
        let query = EventQuery {
            after: Some(after),
            session: about.session.clone(),
            array: about.array.clone(),
        };
        let mut stream = match site.client().events(&query).await {
            Ok(stream) => stream,
            Err(ClientError::Problem(problem)) if about.is_gone(problem.code) => {
                return Ok(());
            }
            Err(error) => {
                outage.bridge(site, error).await?;
                continue;
            }
        };
        // A stream that ends belongs to a daemon that goes down: the next request tells.
        while let Some(next) = stream.next().await {
            let event = match next {
                Ok(event) => event,
                Err(error) => {
                    outage.bridge(site, error).await?;
                    break;
                }
            };
            outage.over();
            if event.number > after {
                after = event.number;
                out.print(&event)?;
            }
            if about.is_last(&event.code) {
                return Ok(());
            }
        }
    }
}

/// Where and how events are printed.
#[derive(Clone, Copy)]
struct Out<'a> {
    printer: &'a Printer,
    json: bool,
}

impl Out<'_> {
    fn print(self, event: &PublicEvent) -> Result<(), Failure> {
        if self.json {
            let line = serde_json::to_string(event).map_err(anyhow::Error::from)?;
            return self.printer.line(&line);
        }
        self.printer.line(&self.text(event))
    }

    fn text(self, event: &PublicEvent) -> String {
        // Of an element the session's name says it all.
        let session = [&event.session_name, &event.session];
        let array = [&event.array_name, &event.array];
        let node = [&event.node_name, &event.node];
        let what = [session, array, node].into_iter().flatten();
        let what = what.flatten().next();
        let what = what.map_or("-", String::as_str);
        let paint = |tone, text: &str| self.printer.paint(tone, &printable(text));
        format!(
            "{}  {}  {}  {}",
            paint(Tone::Faint, &local(&event.at)),
            paint(tone(&event.code), &format!("{:<20}", event.code)),
            paint(Tone::Strong, what),
            printable(&event.message)
        )
    }
}

fn tone(code: &str) -> Tone {
    match code {
        "session.running" => Tone::Good,
        "member.lost" | "member.unclaimed" | "node.disconnected" | "node.drained"
        | "node.removed" | "node.returned" | "site.restored" => Tone::Careful,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::Out;
    use crate::printer::Printer;
    use clap::ColorChoice;
    use public_api::PublicEvent;

    #[test]
    fn an_event_is_one_line() {
        let printer = Printer::new(ColorChoice::Never, true, false);
        let out = Out {
            printer: &printer,
            json: false,
        };
        let mut event = PublicEvent {
            number: 7,
            at: "no time".to_owned(),
            session: Some("0000000000001".to_owned()),
            array: None,
            session_name: Some("train".to_owned()),
            array_name: None,
            node: None,
            node_name: None,
            code: "session.running".to_owned(),
            message: "it runs\nwell".to_owned(),
        };
        let named = out.text(&event);
        event.session_name = None;
        let gone = out.text(&event);
        event.session = None;
        event.array = Some("0000000000009".to_owned());
        event.array_name = Some("sweep".to_owned());
        event.code = "array.created".to_owned();
        let array = out.text(&event);
        insta::assert_snapshot!(format!("{named}\n{gone}\n{array}"), @r"
        no time  session.running       train  it runs well
        no time  session.running       0000000000001  it runs well
        no time  array.created         sweep  it runs well
        ");
    }
}
