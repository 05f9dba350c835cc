//! `insula config`: every setting, its value, and where that comes from.

use crate::cli::Context;
use crate::exit_codes;
use crate::failure::Failure;
use crate::printer::Tone;
use crate::settings::{KEYS, Origin, Settings};
use crate::table::{Cell, Table};
use clap::Args;

/// Show every setting, its value and where that comes from
///
/// Settings are read from config.toml in the site's home. A key that is not known is refused. The
/// daemon reads them when it starts: `insula down --leave && insula up` after a change.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct ConfigArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn help() -> String {
    let width = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let keys: String = KEYS
        .iter()
        .map(|key| format!("  {:<width$}  {}\n", key.name, key.about))
        .collect();
    format!(
        "Keys:\n{keys}\nExample of a config.toml:\n  [site]\n  network = \"none\"\n  default-cpu = 0.5\n\n{}",
        exit_codes::USUAL_HELP
    )
}

struct Row {
    name: &'static str,
    value: String,
    origin: String,
    about: &'static str,
}

/// Shows them.
pub(crate) fn config(context: &Context, arguments: &ConfigArguments) -> Result<u8, Failure> {
    let (printer, settings) = (&context.printer, &context.settings);
    let rows = rows(settings);
    if arguments.json {
        let json = |row: &Row| {
            serde_json::json!({
                "key": row.name, "value": row.value, "source": row.origin, "about": row.about,
            })
        };
        printer.json(&rows.iter().map(json).collect::<Vec<_>>())?;
        return Ok(exit_codes::SUCCESS);
    }
    let mut table = Table::new(&["KEY", "VALUE", "SOURCE", "ABOUT"], &[3]);
    for row in rows {
        let tone = if row.origin == DEFAULT {
            Tone::Faint
        } else {
            Tone::Plain
        };
        table.push(vec![
            Cell::toned(row.name, Tone::Strong),
            Cell::plain(&row.value),
            Cell::toned(&row.origin, tone),
            Cell::toned(row.about, Tone::Faint),
        ]);
    }
    for line in table.lines(printer) {
        printer.line(&line)?;
    }
    Ok(exit_codes::SUCCESS)
}

const DEFAULT: &str = "default";

fn rows(settings: &Settings) -> Vec<Row> {
    let place = |name, value: &std::path::Path, origin: &str, about| Row {
        name,
        value: value.display().to_string(),
        origin: origin.to_owned(),
        about,
    };
    let mut rows = vec![
        place(
            "home",
            &settings.home,
            settings.home_origin,
            "Where the site keeps its state",
        ),
        place(
            "runtime-directory",
            &settings.runtime_directory,
            "derived",
            "Where its sockets are",
        ),
    ];
    rows.extend(KEYS.iter().map(|key| Row {
        name: key.name,
        value: (key.show)(&settings.config),
        origin: match settings.config.origin(key) {
            Origin::Default => DEFAULT.to_owned(),
            Origin::File => "config.toml".to_owned(),
        },
        about: key.about,
    }));
    rows
}
