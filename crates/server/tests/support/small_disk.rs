//! A disk that is nearly full.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

use crate::support::Cluster;

/// A file system of 16 MiB in memory.
pub(crate) struct SmallDisk {
    pub(crate) path: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(cluster: &Cluster) -> Option<Self> {
        let path = cluster.directory("small");
        let done = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
        let mounted = done(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=16m,mode=0777", "small"])
                .arg(&path),
        );
        if !mounted {
            io::stderr()
                .write_all(b"skipped: there is no right to mount a small disk\n")
                .unwrap();
            return None;
        }
        cluster.own(&path);
        Some(Self { path })
    }

    pub(crate) fn enlarge(&self) {
        let done = Command::new("mount")
            .args(["-o", "remount,size=256m"])
            .arg(&self.path)
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since the database still has files open in it.
        Command::new("umount")
            .arg("-l")
            .arg(&self.path)
            .status()
            .ok();
    }
}
