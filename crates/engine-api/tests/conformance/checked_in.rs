//! Reports that are checked in, so that the table of engines can be generated anywhere.

use engine_api::conformance::Report;
use std::path::PathBuf;

/// Set, the found report is written instead of compared.
const UPDATE: &str = "INSULA_UPDATE";

/// Compares `found` with the checked-in report of this file name, or writes it.
pub(crate) fn compare(name: &str, found: &Report) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/engines");
    let path = root.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(found).expect("plain data");
    text.push('\n');
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(&root).expect("made");
        std::fs::write(&path, text).expect("written");
        return;
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        checked_in, text,
        "run the tests with {UPDATE}=1, then `cargo xtask engines`"
    );
}
