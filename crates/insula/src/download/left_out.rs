//! What the node left out of an archive, because it is too deep, too large or too many.

use super::place::Returned;
use std::io::{self, Read};
use std::path::Path;

/// The entry that names it: for each path a line with the path, a tab, and why. It is told, and
/// never written.
pub(super) const NAME: &str = ".insula-left-out";

/// Most bytes of it that are read.
const BYTES_LIMIT: u64 = 8 << 20;
/// Most lines of it that are told.
const LINES_LIMIT: usize = 1_001;
/// Why nodes leave things out. The archive is not trusted, so that no other sentence is shown.
const REASONS: &[&str] = &[
    "it is nested more than 256 deep",
    "not all of it: an archive has at most 999,999 entries",
    "an archive has at most 1 TiB of files",
    "its name is reserved",
    "its node could not read it",
    "its node could not read all of it: what is missing are zeros",
];

/// Takes the lines to what did not come back.
pub(super) fn note(entry: &mut impl Read, returned: &mut Returned) -> io::Result<()> {
    let mut bytes = Vec::new();
    entry.take(BYTES_LIMIT).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines().take(LINES_LIMIT) {
        let (path, said) = line.rsplit_once('\t').unwrap_or((line, ""));
        let known = REASONS.iter().find(|reason| **reason == said);
        let reason = known.copied().unwrap_or("the node left it out");
        returned.skip(Path::new(path), reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{REASONS, Returned, note};

    #[test]
    fn lines_become_what_did_not_come_back() {
        let mut returned = Returned::default();
        let text = format!("a/deep\t{}\nodd\ttrust me\n12 more\n", REASONS[0]);
        note(&mut text.as_bytes(), &mut returned).expect("read");
        let expected = [
            ("a/deep", REASONS[0]),
            ("odd", "the node left it out"),
            ("12 more", "the node left it out"),
        ];
        let expected = expected.map(|(path, reason)| (path.into(), reason));
        assert_eq!(returned.skipped, expected);
    }
}
