//! Kinds of processors: what programs are built for, and which rows of capabilities say that a
//! node runs them.

/// What comes before an architecture's name in the name of its row.
pub const ARCHITECTURE_ROWS: &str = "architecture.";

/// A processor as Rust calls it, as images do (the OCI specification), and the row of a node that
/// runs its programs.
const ARCHITECTURES: &[(&str, &str, &str)] = &[
    ("x86_64", "amd64", "architecture.amd64"),
    ("x86", "386", "architecture.386"),
    ("aarch64", "arm64", "architecture.arm64"),
    ("arm", "arm", "architecture.arm"),
    ("riscv64", "riscv64", "architecture.riscv64"),
    ("powerpc64", "ppc64le", "architecture.ppc64le"),
    ("s390x", "s390x", "architecture.s390x"),
    ("loongarch64", "loong64", "architecture.loong64"),
    ("mips64", "mips64le", "architecture.mips64le"),
];

/// An architecture in the words of images, from Rust's (`std::env::consts::ARCH`); one that is not
/// known keeps its name.
pub fn architecture_of(rust: &str) -> &str {
    let known = ARCHITECTURES.iter().find(|(name, _, _)| *name == rust);
    known.map_or(rust, |(_, oci, _)| oci)
}

/// The row that a node has which runs an architecture's programs; `None` for an unknown one, which
/// no node runs.
pub fn architecture_row(oci: &str) -> Option<&'static str> {
    let known = ARCHITECTURES.iter().find(|(_, name, _)| *name == oci);
    known.map(|(_, _, row)| *row)
}

#[cfg(test)]
mod tests {
    use super::{ARCHITECTURE_ROWS, ARCHITECTURES, architecture_of, architecture_row};

    #[test]
    fn every_architecture_has_its_row() {
        for (rust, oci, row) in ARCHITECTURES {
            assert_eq!(architecture_of(rust), *oci);
            assert_eq!(architecture_row(oci), Some(*row));
            assert_eq!(*row, format!("{ARCHITECTURE_ROWS}{oci}"));
        }
        assert_eq!(architecture_of("vax"), "vax");
        assert_eq!(architecture_row("vax"), None);
        assert_ne!(architecture_of(std::env::consts::ARCH), "");
    }
}
