//! Names of entries: taken apart into components, with everything refused that leads elsewhere.

use crate::{Limits, Refusal};

/// A path below a layer's root, without `.`, empty components, or a slash at either end; the
/// root itself is empty. Bytes, not text: Linux takes every byte but zero.
///
/// A leading `/` is dropped, as by GNU tar, bsdtar and every container tool: such a name means
/// the layer's root. `..` is refused wherever it stands: there is no honest use for it, and tools
/// disagree about what it means.
pub(crate) fn normal(path: &[u8], limits: &Limits) -> Result<Vec<u8>, Refusal> {
    if path.contains(&0) {
        return Err(Refusal::ZeroByte);
    }
    if path.len() > limits.path_bytes {
        let limit = limits.path_bytes;
        return Err(Refusal::LongPath { limit });
    }
    let mut normal = Vec::with_capacity(path.len());
    let mut depth = 0;
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err(Refusal::Parent),
            name if name.len() > Limits::NAME_BYTES => return Err(Refusal::LongName),
            name => {
                if depth > 0 {
                    normal.push(b'/');
                }
                normal.extend_from_slice(name);
            }
        }
        depth += 1;
        if depth > limits.depth {
            let limit = limits.depth;
            return Err(Refusal::Deep { limit });
        }
    }
    Ok(normal)
}

/// A normal path's directory and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(place) => (&path[..place], &path[place + 1..]),
        None => (b"", path),
    }
}

/// The directories above a normal path, the highest first, without the root.
pub(crate) fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(place, _)| &path[..place])
}

#[cfg(test)]
mod tests {
    use super::{normal, parents, split};
    use crate::{Limits, Refusal};

    #[test]
    fn names_are_made_normal_or_refused() {
        let limits = Limits::default();
        for (path, expected) in [
            ("a/./b//c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("./", ""),
            ("...", "..."),
        ] {
            let found = normal(path.as_bytes(), &limits).expect("a name");
            assert_eq!(String::from_utf8_lossy(&found), expected);
        }
        for path in ["..", "a/..", "../a", "/../a", "a/../b"] {
            let refusal = normal(path.as_bytes(), &limits).expect_err("refused");
            assert!(matches!(refusal, Refusal::Parent), "{path}");
        }
        assert!(normal(b"a\0b", &limits).is_err());
        assert!(normal(&[b'a'; 256], &limits).is_err());
        assert!(normal("a/".repeat(257).as_bytes(), &limits).is_err());
        assert!(normal(b"a\xff\n", &limits).is_ok(), "bytes are legal");
    }

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        let above: Vec<&[u8]> = parents(b"a/b/c").collect();
        assert_eq!(above, [&b"a"[..], b"a/b"]);
    }
}
