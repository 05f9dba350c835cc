//! A plan as a tar archive.

use super::plan::{Entry, EntryKind, Plan};
use super::stamp::{Manifest, Stamp};
use crate::printer::shown;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use tar::{Builder, EntryType, Header};

/// Writes what `plan` says and tells how each file looked when it was read: by that, a file that
/// changes later is known. `progress` is told the bytes of each part.
pub(crate) fn write_archive(
    plan: &Plan,
    out: impl Write,
    progress: impl Fn(u64),
) -> io::Result<Manifest> {
    let mut builder = Builder::new(out);
    let mut manifest = Manifest::new();
    for entry in &plan.entries {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", shown(&entry.path)))
        };
        let stamp = append(&mut builder, plan, entry, &progress).map_err(named)?;
        if entry.kind != EntryKind::Directory {
            manifest.insert(entry.path.clone(), stamp);
        }
    }
    builder.into_inner()?.flush()?;
    Ok(manifest)
}

fn append(
    builder: &mut Builder<impl Write>,
    plan: &Plan,
    entry: &Entry,
    progress: &impl Fn(u64),
) -> io::Result<Stamp> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_mtime(u64::try_from(entry.stamp.modified_s).unwrap_or(0));
    header.set_size(0);
    match &entry.kind {
        EntryKind::Directory => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, &entry.path, io::empty())?;
        }
        EntryKind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, &entry.path, target)?;
        }
        EntryKind::File => {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let path = plan.root.join(&entry.path);
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(path)?;
            let metadata = file.metadata()?;
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            let body = Exactly {
                file,
                left: metadata.len(),
                progress,
            };
            builder.append_data(&mut header, &entry.path, body)?;
            return Ok(Stamp::of(&metadata));
        }
    }
    Ok(entry.stamp)
}

/// As many bytes as the header announced: a file that grows is cut, one that shrinks is an error.
struct Exactly<'a, P: Fn(u64)> {
    file: File,
    left: u64,
    progress: &'a P,
}

impl<P: Fn(u64)> Read for Exactly<'_, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.file).take(self.left).read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            let message = "it became shorter while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.left -= count as u64;
        (self.progress)(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::write_archive;
    use crate::pack::{Surroundings, plan_directory};
    use std::fs;
    use std::path::PathBuf;

    #[test]
    fn an_archive_holds_what_was_planned() {
        let directory = tempfile::tempdir().expect("a directory");
        let long = "n".repeat(150);
        fs::create_dir(directory.path().join("sub")).expect("made");
        fs::write(directory.path().join("sub").join(&long), "body").expect("written");
        std::os::unix::fs::symlink("sub", directory.path().join("link")).expect("made");
        let plan =
            plan_directory(directory.path(), None, &Surroundings::default()).expect("planned");
        let mut bytes = Vec::new();
        let manifest = write_archive(&plan, &mut bytes, |_| {}).expect("written");
        let long = PathBuf::from("sub").join(long);
        assert!(manifest.contains_key(&long) && !manifest.contains_key(&PathBuf::from("sub")));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let found: Vec<PathBuf> = archive
            .entries()
            .expect("read")
            .map(|entry| entry.expect("read").path().expect("a path").into_owned())
            .collect();
        assert_eq!(found, [PathBuf::from("link"), PathBuf::from("sub"), long]);
    }

    #[test]
    fn a_file_that_is_gone_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("gone.txt"), "x").expect("written");
        let plan =
            plan_directory(directory.path(), None, &Surroundings::default()).expect("planned");
        fs::remove_file(directory.path().join("gone.txt")).expect("removed");
        let error = write_archive(&plan, Vec::new(), |_| {}).expect_err("it is gone");
        assert!(error.to_string().starts_with("gone.txt: "), "{error}");
    }
}
