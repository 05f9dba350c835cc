//! Names that lead elsewhere, or to two places at once.

use super::Case;
use crate::tars::{Header, Tar};
use images::NameRule;

pub(super) fn cases() -> Vec<Case> {
    [
        outside(),
        through(),
        odd(),
        twice(),
        twins(),
        twins_of_several(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn file(path: &str) -> Vec<u8> {
    Tar::new().file(path, b"evil").end()
}

fn outside() -> Vec<Case> {
    let parent = "its path has a `..`";
    vec![
        Case::layer("`..` at the start", parent, file("../evil"), file("evil")),
        Case::layer(
            "`..` in the middle",
            parent,
            file("a/../../evil"),
            file("a/b/evil"),
        ),
        Case::layer(
            "`..` behind `/`",
            parent,
            file("/../evil"),
            file("/etc/evil"),
        ),
        Case::layer(
            "`..` in a long name of an extended header",
            parent,
            Tar::new()
                .pax(&[("path", b"a/../../evil")])
                .file("a", b"")
                .end(),
            Tar::new()
                .pax(&[("path", b"a/.../evil")])
                .file("a", b"")
                .end(),
        ),
        Case::layer(
            "`..` in GNU's long name",
            parent,
            Tar::new().gnu_long(b'L', b"../evil").file("a", b"").end(),
            Tar::new().gnu_long(b'L', b"..evil").file("a", b"").end(),
        ),
        Case::layer(
            "a directory named `..`",
            parent,
            Tar::new().directory("..").end(),
            Tar::new().directory(".").end(),
        ),
    ]
}

fn through() -> Vec<Case> {
    let link = "its path leads through the symbolic link `link`";
    let below = |target: &str, path: &str| {
        let tar = Tar::new().directory("d").file("d/f", b"");
        tar.symlink("link", target).file(path, b"evil").end()
    };
    vec![
        Case::layer(
            "a file through an absolute link",
            link,
            below("/etc", "link/evil"),
            below("/etc", "other/evil"),
        ),
        Case::layer(
            "a file through a relative link that leads out",
            link,
            below("../../..", "link/evil"),
            below("../../..", "d/evil"),
        ),
        Case::layer(
            "a file through a link that stays inside",
            link,
            below("d", "link/evil"),
            below("d", "d/evil"),
        ),
        Case::layer(
            "a file through a second name of a link",
            "its path leads through the symbolic link `second`",
            Tar::new()
                .symlink("link", "/etc")
                .hard_link("second", "link")
                .file("second/evil", b"")
                .end(),
            Tar::new()
                .symlink("link", "/etc")
                .hard_link("second", "link")
                .file("third/good", b"")
                .end(),
        ),
        Case::layer(
            "a file below a file",
            "its path leads through `f`, which is not a directory",
            Tar::new().file("f", b"").file("f/evil", b"").end(),
            Tar::new().directory("f").file("f/good", b"").end(),
        ),
        Case::layer(
            "a directory that turns into a link, and a file below",
            "it is in the archive twice",
            Tar::new()
                .directory("d")
                .symlink("d", "/etc")
                .file("d/evil", b"")
                .end(),
            Tar::new()
                .directory("d")
                .symlink("e", "/etc")
                .file("d/good", b"")
                .end(),
        ),
    ]
}

fn odd() -> Vec<Case> {
    let zero = "its name has a zero byte";
    let long = |bytes: usize| {
        let name = vec![b'n'; bytes];
        Tar::new().pax(&[("path", &name)]).file("a", b"").end()
    };
    let path = |bytes: usize| {
        let path = "d/".repeat(bytes / 200)
            + &["x".repeat(199), String::new()]
                .join("/")
                .repeat(bytes / 200);
        Tar::new()
            .pax(&[("path", path.as_bytes())])
            .file("a", b"")
            .end()
    };
    let deep = |depth: usize| {
        let path = "d/".repeat(depth) + "f";
        Tar::new()
            .gnu_long(b'L', path.as_bytes())
            .file("a", b"")
            .end()
    };
    vec![
        Case::layer(
            "a zero byte in an extended header's name",
            zero,
            Tar::new()
                .pax(&[("path", b"good\0/../evil")])
                .file("a", b"")
                .end(),
            Tar::new()
                .pax(&[("path", b"good\n\xff\x1b[31m")])
                .file("a", b"")
                .end(),
        ),
        Case::layer(
            "text behind the end of a name",
            zero,
            Tar::new()
                .entry(Header::new(b"good\0evil", b'0'), b"")
                .end(),
            Tar::new().entry(Header::new(b"good\0", b'0'), b"").end(),
        ),
        Case::layer(
            "a file without a name",
            "it has no name",
            file(""),
            file("x"),
        ),
        Case::layer(
            "a name of 256 bytes",
            "one of its names has more than 255 bytes",
            long(256),
            long(255),
        ),
        Case::layer(
            "a path of over 4,095 bytes",
            "its path has more than 4095 bytes",
            path(4_200),
            path(3_800),
        ),
        Case::layer(
            "257 directories one in the other",
            "it is nested more than 256 deep",
            deep(256),
            deep(255),
        ),
    ]
}

fn twice() -> Vec<Case> {
    let twice = "it is in the archive twice";
    vec![
        Case::layer(
            "the same file twice",
            twice,
            Tar::new().file("a", b"good").file("a", b"evil").end(),
            Tar::new().file("a", b"good").file("b", b"evil").end(),
        ),
        Case::layer(
            "the same file under two spellings",
            twice,
            Tar::new()
                .file("a/b", b"good")
                .file("./a//b", b"evil")
                .end(),
            Tar::new()
                .file("a/b", b"good")
                .file("./a//c", b"evil")
                .end(),
        ),
        Case::layer(
            "a link and a file of the same name",
            twice,
            Tar::new()
                .symlink("a", "/etc/passwd")
                .file("a", b"evil")
                .end(),
            Tar::new()
                .symlink("a", "/etc/passwd")
                .file("b", b"evil")
                .end(),
        ),
    ]
}

/// What is said of a link beside a directory.
const THROUGH: &str =
    "one of the two is a symbolic link that leads elsewhere, the other a directory";

/// Names that differ only in case.
fn twins() -> Vec<Case> {
    let link = |name: &str, target: &str, below: &str| {
        let tar = Tar::new().symlink(name, target);
        tar.directory("head").file(below, b"evil").end()
    };
    vec![
        Case::layer(
            "two names that differ only in case, where that is one name",
            "differs only in case",
            Tar::new()
                .file("a/File", b"good")
                .file("a/fILE", b"evil")
                .end(),
            Tar::new()
                .file("a/File", b"good")
                .file("b/fILE", b"evil")
                .end(),
        )
        .with(|options| options.names = NameRule::FoldedCase),
        Case::layer(
            "a link and a directory that differ only in case",
            THROUGH,
            link("HEAD", "/etc", "head/evil"),
            link("HEAD", "head", "head/good"),
        ),
        Case::layer(
            "the same, the directory first",
            THROUGH,
            Tar::new().file("d/Git/x", b"").symlink("d/gIT", "..").end(),
            Tar::new()
                .file("d/Git/x", b"")
                .symlink("d/gIT", "./Git")
                .end(),
        ),
        Case::layer(
            "the same, with a directory that only its file names",
            THROUGH,
            Tar::new()
                .symlink("A", "/etc")
                .file("a/evil", b"evil")
                .end(),
            Tar::new().symlink("A", "/a").file("a/good", b"good").end(),
        ),
        Case::layer(
            "the same, in letters beyond ASCII",
            THROUGH,
            Tar::new().symlink("Ärger", "/etc").directory("ärger").end(),
            Tar::new().symlink("Ärger", "/etc").file("ärger", b"").end(),
        ),
    ]
}

/// Those that are found only where more than two names are looked at.
fn twins_of_several() -> Vec<Case> {
    let deep = |inner: &str| {
        let tar = Tar::new().file("Lib/x", b"").symlink("Lib/up", "../..");
        tar.file(&format!("lib/{inner}/evil"), b"evil").end()
    };
    vec![
        Case::layer(
            "the same, below directories that differ only in case",
            THROUGH,
            deep("up"),
            deep("on"),
        ),
        Case::layer(
            "the same, by a second name of the link",
            THROUGH,
            Tar::new()
                .symlink("link", "/etc")
                .hard_link("Evil", "link")
                .directory("evil")
                .end(),
            Tar::new()
                .symlink("link", "/etc")
                .hard_link("Good", "link")
                .directory("evil")
                .end(),
        ),
        Case::layer(
            "a link to one of two directories that differ only in case",
            THROUGH,
            Tar::new()
                .directory("abc")
                .directory("ABC")
                .symlink("Abc", "abc")
                .end(),
            Tar::new()
                .directory("abc")
                .directory("abd")
                .symlink("Abc", "abc")
                .end(),
        ),
    ]
}
