//! Files that are written whole or not at all: beside the target first, and then renamed.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use tempfile::{NamedTempFile, PersistError};

/// For errors: what cannot be done to which file.
pub(super) fn cannot(what: &str, path: &Path) -> impl FnOnce() -> String {
    move || format!("cannot {what} {}", path.display())
}

/// The same of a change of owner, group or mode, and who may do it.
fn not_permitted(what: String, path: &Path) -> impl FnOnce(io::Error) -> anyhow::Error {
    move |error| {
        let way_out = match error.kind() == io::ErrorKind::PermissionDenied {
            true => "; run this as root, or as its owner and a member of that group",
            false => "",
        };
        anyhow::Error::new(error).context(format!("cannot {what} {}{way_out}", path.display()))
    }
}

/// A larger file is neither a certificate, nor a key, nor a list of revocations that we made.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Reads a text file of a sane size.
pub(super) fn read(path: &Path) -> Result<String> {
    base::file::text(path, MAX_FILE).with_context(cannot("read", path))
}

/// The same, or `None` when there is no such file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>> {
    match base::file::text(path, MAX_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(cannot("read", path)),
    }
}

/// Reads a file of a sane size, whatever is in it.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    base::file::read(path, MAX_FILE).with_context(cannot("read", path))
}

/// The readers of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// All users.
    Public,
    /// Its owner only.
    Private,
}

/// The bits of its mode that a key must not have: the group may read it, and others have no access.
pub(super) const OTHERS: u32 = 0o027;

impl Secrecy {
    fn mode(self, group: Option<Group>) -> u32 {
        match (self, group) {
            (Self::Public, _) => 0o644,
            (Self::Private, None) => 0o600,
            (Self::Private, Some(_)) => 0o640,
        }
    }
}

/// Who may read the keys of identities, on the command line.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Readers {
    /// Lets a group, such as that of a container, read the keys: directories get mode 0750, keys 0640, also those that
    /// are kept [default: what is replaced keeps owner, group and mode].
    #[arg(long, value_name = "GID")]
    pub(super) group: Option<Group>,
}

/// The group that may read the keys of identities, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(u32);

impl std::str::FromStr for Group {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            // The system takes the highest number for "as it is".
            Err(_) | Ok(u32::MAX) => Err("a group is given by its number, such as 65532"),
            Ok(number) => Ok(Self(number)),
        }
    }
}

impl Group {
    /// Lets the group, and nobody else but the owner, into a directory.
    pub(super) fn enter(self, directory: &Path) -> Result<()> {
        let (handle, old) = open_itself(directory).with_context(cannot("read", directory))?;
        self.take(directory, &handle, &old, 0o750)
    }

    /// Lets the group read a file, if there is one. A key that others could read stays as it is: it has to be replaced.
    pub(super) fn read(self, file: &Path, secrecy: Secrecy) -> Result<()> {
        match open_itself(file) {
            Ok((_, old)) if secrecy == Secrecy::Private && old.mode() & OTHERS != 0 => Ok(()),
            Ok((handle, old)) => self.take(file, &handle, &old, secrecy.mode(Some(self))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            error => error.map(drop).with_context(cannot("read", file)),
        }
    }

    /// Whether files in `directory` can be given to the group.
    pub(super) fn probe(self, directory: &Path) -> Result<()> {
        let file = NamedTempFile::new_in(directory).with_context(cannot("write in", directory))?;
        let Self(group) = self;
        let what = format!("make {group} the group of a file in");
        fchown(file.as_file(), None, Some(group)).map_err(not_permitted(what, directory))
    }

    /// The group first, so that no other one has access meanwhile.
    fn take(self, path: &Path, handle: &File, old: &Metadata, mode: u32) -> Result<()> {
        let Self(group) = self;
        if old.gid() != group {
            let what = format!("make {group} the group of");
            fchown(handle, None, Some(group)).map_err(not_permitted(what, path))?;
        }
        if old.mode() & 0o7777 != mode {
            let mode = Permissions::from_mode(mode);
            let what = "change the mode of".to_owned();
            let changed = handle.set_permissions(mode);
            changed.map_err(not_permitted(what, path))?;
        }
        Ok(())
    }
}

/// Opens what is at `path` itself, and nothing that a link there leads to: its directory may be another user's.
fn open_itself(path: &Path) -> io::Result<(File, Metadata)> {
    let there = fs::symlink_metadata(path)?;
    let is_one_file = there.is_file() && there.nlink() == 1;
    if !there.is_dir() && !is_one_file {
        return Err(io::Error::other("it is a link, or no regular file"));
    }
    let handle = File::open(path)?;
    let opened = handle.metadata()?;
    if (opened.dev(), opened.ino()) != (there.dev(), there.ino()) {
        return Err(io::Error::other("it was replaced meanwhile"));
    }
    Ok((handle, opened))
}

/// Files to be put in place together. Each is written beside its target first; one that is not put in place is removed.
#[derive(Debug, Default)]
pub(super) struct Batch(Vec<Staged>);

#[derive(Debug)]
struct Staged {
    temporary: NamedTempFile,
    target: PathBuf,
    secrecy: Secrecy,
}

impl Batch {
    /// Writes `contents` beside `target`, which is left as it is.
    pub(super) fn stage(
        &mut self,
        target: &Path,
        contents: impl AsRef<[u8]>,
        secrecy: Secrecy,
    ) -> Result<()> {
        let mode = secrecy.mode(None);
        let beside = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        let mut temporary = tempfile::Builder::new()
            .prefix(".")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(beside)
            .with_context(cannot("write", target))?;
        temporary
            .write_all(contents.as_ref())
            .and_then(|()| temporary.as_file().sync_all())
            .with_context(cannot("write", target))?;
        self.0.push(Staged {
            temporary,
            target: target.to_owned(),
            secrecy,
        });
        Ok(())
    }

    /// Puts each file in place, in the order of staging. One that replaces another keeps its readers, but for the group
    /// that is given.
    pub(super) fn replace(self, group: Option<Group>) -> Result<()> {
        for staged in &self.0 {
            staged.keep_readers()?;
            if let Some(group) = group {
                let new = staged.temporary.as_file();
                let metadata = new
                    .metadata()
                    .with_context(cannot("read", &staged.target))?;
                group.take(
                    &staged.target,
                    new,
                    &metadata,
                    staged.secrecy.mode(Some(group)),
                )?;
            }
        }
        self.put(NamedTempFile::persist)
    }

    /// Puts each file in place as ours: whoever owned or read the one that it replaces does not own or read this one.
    pub(super) fn replace_as_ours(self) -> Result<()> {
        self.put(NamedTempFile::persist)
    }

    /// Puts each file in place unless there is one already, which is an error.
    pub(super) fn create(self) -> Result<()> {
        self.put(NamedTempFile::persist_noclobber)
    }

    fn put(self, put: fn(NamedTempFile, PathBuf) -> Result<File, PersistError>) -> Result<()> {
        for staged in self.0 {
            put(staged.temporary, staged.target.clone())
                .map_err(|error| error.error)
                .with_context(cannot("put in place", &staged.target))?;
        }
        Ok(())
    }
}

impl Staged {
    /// Gives the new file the owner, the group and the mode of the one that it replaces, but never lets others read a
    /// secret, nor write anything. The open file, and not what has its name now: its directory may be another user's.
    fn keep_readers(&self) -> Result<()> {
        let old = match fs::metadata(&self.target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            old => old.with_context(cannot("read", &self.target))?,
        };
        let new = self.temporary.as_file().metadata()?;
        let (uid, gid) = (old.uid(), old.gid());
        if (uid, gid) != (new.uid(), new.gid()) {
            let what = format!("keep the owner {uid} and the group {gid} of");
            fchown(self.temporary.as_file(), Some(uid), Some(gid))
                .map_err(not_permitted(what, &self.target))?;
        }
        let mode = match self.secrecy {
            Secrecy::Public => old.mode() & 0o644,
            Secrecy::Private if old.mode() & 0o007 == 0 => old.mode() & 0o640,
            Secrecy::Private => 0o600,
        };
        let mode = Permissions::from_mode(0o600 | mode);
        let changed = self.temporary.as_file().set_permissions(mode);
        changed.with_context(cannot("write", &self.target))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_batch_that_is_not_committed_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let mut batch = Batch::default();
        batch
            .stage(&dir.path().join("a"), "new", Secrecy::Public)
            .unwrap();
        batch
            .stage(&dir.path().join("missing/b"), "new", Secrecy::Public)
            .unwrap_err();
        drop(batch);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_secret_is_never_readable_by_others_whatever_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("key");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o666)).unwrap();
        let mut batch = Batch::default();
        batch.stage(&target, "new", Secrecy::Private).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        batch.replace(None).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(
            fs::metadata(&target).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_takes_the_name_of_a_temporary_file_keeps_its_owner_and_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let [target, victim] = ["tls.crt", "victim"].map(|name| dir.path().join(name));
        for (file, mode) in [(&target, 0o644), (&victim, 0o600)] {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        for group in [None, Some(Group(fs::metadata(&victim).unwrap().gid()))] {
            let mut batch = Batch::default();
            batch.stage(&target, "new", Secrecy::Public).unwrap();
            let temporary = batch.0[0].temporary.path().to_owned();
            fs::remove_file(&temporary).unwrap();
            std::os::unix::fs::symlink(&victim, &temporary).unwrap();
            batch.replace(group).ok();
            let mode = fs::metadata(&victim).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600);
            fs::remove_file(&target).unwrap();
            fs::write(&target, "").unwrap();
        }
    }

    #[test]
    fn a_file_keeps_the_readers_of_the_one_that_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("tls.key");
        let own = fs::metadata(dir.path()).unwrap();
        // Only root may give files away.
        let (uid, gid) = match own.uid() {
            0 => (65532, 65533),
            uid => (uid, own.gid()),
        };
        for (secrecy, mode, kept) in [
            (Secrecy::Private, 0o640, 0o640),
            (Secrecy::Private, 0o400, 0o600),
            (Secrecy::Private, 0o660, 0o640),
            (Secrecy::Private, 0o644, 0o600),
            (Secrecy::Public, 0o640, 0o640),
            (Secrecy::Public, 0o666, 0o644),
        ] {
            fs::write(&target, "old").unwrap();
            fs::set_permissions(&target, Permissions::from_mode(mode)).unwrap();
            chown(&target, Some(uid), Some(gid)).unwrap();
            let mut batch = Batch::default();
            batch.stage(&target, "new", secrecy).unwrap();
            batch.replace(None).unwrap();
            let new = fs::metadata(&target).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), "new");
            assert_eq!(
                (new.uid(), new.gid(), new.mode() & 0o777),
                (uid, gid, kept),
                "{secrecy:?} {mode:o}"
            );
        }
    }

    #[test]
    fn creation_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("root.key");
        fs::write(&target, "old").unwrap();
        let mut batch = Batch::default();
        batch.stage(&target, "new", Secrecy::Private).unwrap();
        batch.create().unwrap_err();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
