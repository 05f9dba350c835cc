//! A plan as a tar archive.

use super::plan::{Entry, EntryKind, Plan};
use super::stamp::{Manifest, Stamp};
use crate::body::BodyWriter;
use crate::printer::shown;
use process::move_archive_body;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use tar::{Builder, EntryType, Header};

/// Writes what `plan` says and tells how each file looked when it was read: by that, a file that
/// changes later is known. `progress` is told the bytes of each part.
pub(crate) fn write_archive(
    plan: &Plan,
    out: BodyWriter,
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
    builder: &mut Builder<BodyWriter>,
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
            // Only the head.
            builder.append_data(&mut header, &entry.path, io::empty())?;
            let read = |out: &mut BodyWriter, limit| out.read_from(&file, limit);
            move_archive_body(builder.get_mut(), read, metadata.len(), progress)?;
            return Ok(Stamp::of(&metadata));
        }
    }
    Ok(entry.stamp)
}

#[cfg(test)]
mod tests {
    use super::write_archive;
    use crate::body::body;
    use crate::pack::{Chosen, Manifest, Plan, Surroundings, plan_directory};
    use futures::TryStreamExt as _;
    use std::fs;
    use std::io::{self, Read as _};
    use std::path::PathBuf;
    use std::thread;

    /// What is sent of it, and how it looked.
    fn sent(plan: &Plan, progress: impl Fn(u64)) -> io::Result<(Vec<u8>, Manifest)> {
        let (writer, parts) = body();
        thread::scope(|scope| {
            let taking = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let taken = parts.try_collect::<Vec<_>>();
                runtime.expect("a runtime").block_on(taken)
            });
            let manifest = write_archive(plan, writer, progress)?;
            let parts = taking.join().expect("no panic")?;
            Ok((parts.concat(), manifest))
        })
    }

    #[test]
    fn an_archive_holds_what_was_planned() {
        let directory = tempfile::tempdir().expect("a directory");
        let long = "n".repeat(150);
        fs::create_dir(directory.path().join("sub")).expect("made");
        fs::write(directory.path().join("sub").join(&long), "body").expect("written");
        std::os::unix::fs::symlink("sub", directory.path().join("link")).expect("made");
        let plan = plan_directory(
            directory.path(),
            None,
            Chosen::Unasked,
            &Surroundings::default(),
        )
        .expect("planned");
        let (bytes, manifest) = sent(&plan, |_| {}).expect("written");
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
    fn bodies_of_every_length_stay_within_their_blocks() {
        // What is copied at once.
        const COPY_BYTES: usize = 256 << 10;
        let directory = tempfile::tempdir().expect("a directory");
        let lengths = [0, 1, 511, 512, 513, COPY_BYTES, 2 * COPY_BYTES + 7];
        let body = |length: usize| -> Vec<u8> { (0..=255).cycle().take(length).collect() };
        for length in lengths {
            fs::write(directory.path().join(format!("{length:07}")), body(length))
                .expect("written");
        }
        let near = Surroundings::default();
        let plan = plan_directory(directory.path(), None, Chosen::Unasked, &near).expect("planned");
        let told = std::cell::Cell::new(0);
        let (bytes, _) = sent(&plan, |count| told.set(told.get() + count)).expect("written");
        assert_eq!(told.get(), plan.bytes);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().expect("read") {
            let mut text = Vec::new();
            entry
                .expect("an entry")
                .read_to_end(&mut text)
                .expect("read");
            found.push(text);
        }
        assert!(found == lengths.map(body), "what came is not what was sent");
    }

    #[test]
    fn a_file_that_is_gone_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("gone.txt"), "x").expect("written");
        let plan = plan_directory(
            directory.path(),
            None,
            Chosen::Unasked,
            &Surroundings::default(),
        )
        .expect("planned");
        fs::remove_file(directory.path().join("gone.txt")).expect("removed");
        let error = sent(&plan, |_| {}).expect_err("it is gone");
        assert!(error.to_string().starts_with("gone.txt: "), "{error}");
    }
}
