//! What no image has, or what would be something else on the node's disk.

use super::Case;
use crate::layouts::{Image, Layout};
use crate::tars::{Header, Tar};

pub(super) fn cases() -> Vec<Case> {
    [
        devices(),
        links(),
        names_of_one_file(),
        whiteouts(),
        attributes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn names_of_one_file() -> Vec<Case> {
    vec![
        Case::layer(
            "a file with too many names",
            "its file has more than 3 names",
            many_names(3),
            many_names(2),
        )
        .with(|options| options.limits.links = 3),
    ]
}

/// A file with further names, each a hard link to the one before.
fn many_names(further: usize) -> Vec<u8> {
    let links = 1..=further;
    let tar = links.fold(Tar::new().file("name0", b""), |tar, link| {
        tar.hard_link(&format!("name{link}"), &format!("name{}", link - 1))
    });
    tar.end()
}

fn of_kind(path: &str, flag: u8) -> Vec<u8> {
    Tar::new()
        .entry(Header::new(path.as_bytes(), flag), b"")
        .end()
}

fn devices() -> Vec<Case> {
    let device = "it is a device";
    vec![
        Case::layer(
            "a disk outside of /dev",
            device,
            of_kind("etc/sda", b'4'),
            of_kind("dev/sda", b'4'),
        ),
        Case::layer(
            "/dev/mem elsewhere",
            device,
            of_kind("mem", b'3'),
            of_kind("dev/mem", b'3'),
        ),
        Case::layer(
            "a whiteout as overlayfs has it",
            device,
            of_kind("gone", b'3'),
            of_kind("gone", b'6'),
        ),
        Case::layer(
            "an entry of unknown kind",
            "unknown kind 'Z'",
            of_kind("a", b'Z'),
            of_kind("a", b'7'),
        ),
        Case::layer(
            "a directory with content, in which a second archive hides",
            "it is no file and claims to have content",
            Tar::new()
                .entry(Header::new(b"d", b'5').size(512), &[b'e'; 512])
                .end(),
            Tar::new()
                .entry(Header::new(b"d", b'0').size(512), &[b'e'; 512])
                .end(),
        ),
        Case::layer(
            "a link with content",
            "it is no file and claims to have content",
            Tar::new()
                .entry(Header::new(b"l", b'2').link(b"t").size(3), b"abc")
                .end(),
            Tar::new()
                .entry(Header::new(b"l", b'2').link(b"t"), b"")
                .end(),
        ),
        Case::layer(
            "a link in place of the root",
            "the root must be a directory",
            Tar::new().symlink("./", "/etc").end(),
            Tar::new().directory("./").symlink("l", "/etc").end(),
        ),
    ]
}

fn links() -> Vec<Case> {
    let not_before = "which is not a file before it in this layer";
    let hard = |target: &str| {
        let tar = Tar::new()
            .directory("d")
            .file("d/file", b"")
            .symlink("out", "/etc");
        tar.hard_link("evil", target).end()
    };
    let symlink = |target: Vec<u8>| {
        let tar = Tar::new().pax(&[("linkpath", &target)]);
        tar.symlink("l", "").end()
    };
    vec![
        Case::layer(
            "a hard link out by `..`",
            "its path has a `..`",
            hard("../../etc/passwd"),
            hard("d/file"),
        ),
        Case::layer(
            "a hard link to the node's file",
            not_before,
            hard("/etc/passwd"),
            hard("/d/file"),
        ),
        Case::layer(
            "a hard link through a symbolic link",
            not_before,
            hard("out/passwd"),
            hard("out"),
        ),
        Case::layer(
            "a hard link to a directory",
            not_before,
            hard("d"),
            hard("./d/file"),
        ),
        Case::layer(
            "a hard link to itself",
            not_before,
            hard("evil"),
            hard("d//file"),
        ),
        Case::layer(
            "two hard links in a circle",
            not_before,
            Tar::new().hard_link("a", "b").hard_link("b", "a").end(),
            Tar::new().file("a", b"").hard_link("b", "a").end(),
        ),
        Case::layer(
            "a symbolic link to nothing",
            "its target is empty",
            symlink(Vec::new()),
            symlink(b"x".to_vec()),
        ),
        Case::layer(
            "a symbolic link with 4,096 bytes",
            "its target is empty or longer than 4095 bytes",
            symlink(vec![b'x'; 4_096]),
            symlink(vec![b'x'; 4_095]),
        ),
        Case::layer(
            "a zero byte in a link's target",
            "its name has a zero byte",
            symlink(b"good\0evil".to_vec()),
            symlink(b"good evil".to_vec()),
        ),
    ]
}

/// On top of a layer, since a root file system has no whiteouts at all.
fn whiteouts() -> Vec<Case> {
    let above = |tar: Tar| {
        let lower = Tar::new().file("d/file", b"").end();
        Layout::of(&[Image::new(&[&lower, &tar.end()])]).end()
    };
    let file = |path: &str| above(Tar::new().file(path, b""));
    let proper = "it is not a proper whiteout";
    vec![
        Case::archive(
            "a whiteout of `..`",
            proper,
            file("d/.wh..."),
            file("d/.wh.file"),
        ),
        Case::archive(
            "a whiteout of `.`",
            proper,
            file("d/.wh.."),
            file("d/.wh.a"),
        ),
        Case::archive(
            "a whiteout of nothing",
            proper,
            file("d/.wh."),
            file("d/.wh"),
        ),
        Case::archive(
            "a whiteout of a whiteout",
            proper,
            file(".wh..wh.d"),
            file(".wh.d"),
        ),
        Case::archive(
            "a file below a whiteout",
            proper,
            file(".wh.d/evil"),
            file("d/good"),
        ),
        Case::archive(
            "a whiteout with content",
            proper,
            above(Tar::new().file(".wh.d", b"evil")),
            above(Tar::new().file(".whd", b"good")),
        ),
        Case::archive(
            "a whiteout that is a link",
            proper,
            above(Tar::new().symlink(".wh.d", "/etc")),
            above(Tar::new().symlink("wh.d", "/etc")),
        ),
        Case::archive(
            "an opaque root",
            "the root of a layer cannot be opaque",
            file(".wh..wh..opq"),
            file("d/.wh..wh..opq"),
        ),
        Case::archive(
            "a whiteout in a root file system",
            "a root file system has no lower layer",
            Tar::new().file(".wh.etc", b"").end(),
            Tar::new().file("wh.etc", b"").end(),
        ),
    ]
}

fn attributes() -> Vec<Case> {
    let with = |name: &str, value: &[u8]| {
        let key = format!("SCHILY.xattr.{name}");
        Tar::new().pax(&[(&key, value)]).file("a", b"").end()
    };
    let owned = |uid: &[u8]| Tar::new().pax(&[("uid", uid)]).file("a", b"").end();
    let at = |time: &[u8]| Tar::new().pax(&[("mtime", time)]).file("a", b"").end();
    let overlay = "would be obeyed by overlayfs";
    let capabilities = [&[1, 0, 0, 2][..], &[0xff; 16]].concat();
    let large = vec![b'x'; 65_537];
    vec![
        Case::layer(
            "an attribute for overlayfs",
            overlay,
            with("user.overlay.opaque", b"y"),
            with("user.overlays", b"y"),
        ),
        Case::layer(
            "an attribute for overlayfs as root",
            overlay,
            with("trusted.overlay.redirect", b"/etc"),
            with("trusted.other", b"/etc"),
        ),
        Case::layer(
            "file capabilities of no known format",
            "its file capabilities have no known format",
            with("security.capability", b"all of them"),
            with("security.capability", &capabilities),
        ),
        Case::layer(
            "an attribute larger than the kernel takes",
            "its attributes are longer than a file system keeps",
            with("user.large", &large),
            with("user.small", &large[..1_000]),
        ),
        Case::layer(
            "an owner that chown takes for none",
            "its owner is not a user id",
            owned(b"4294967295"),
            owned(b"4294967294"),
        ),
        Case::layer(
            "an owner beyond all ids",
            "its owner is not a user id",
            owned(b"4294967296"),
            owned(b"0"),
        ),
        Case::layer(
            "a time before 1970",
            "its time is before 1970",
            at(b"-1"),
            at(b"0"),
        ),
        Case::layer(
            "a time after 9999",
            "or after 9999",
            at(b"253402300800"),
            at(b"1700000000.123"),
        ),
    ]
}
