//! A file system of its own, in a file: its power can be cut, and it can be full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

/// Bytes of an image, sparse.
const IMAGE_BYTES: u64 = 1 << 30;
/// A process that was killed a moment ago may still be closing its files.
const UNMOUNT_ATTEMPTS: u32 = 100;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(20);
/// What takes all room.
const FILLER: &str = "filler";
/// What is written without being synced, so that a cut takes it away.
const UNSYNCED: &str = "unsynced";

/// A mounted image. Dropping it unmounts it.
#[derive(Debug)]
pub(super) struct Volume {
    image: PathBuf,
    at: PathBuf,
    is_mounted: bool,
    /// There is something whose loss shows that the power was cut.
    is_marked: bool,
    /// There is to be no room.
    is_filled: bool,
}

impl Volume {
    /// Makes a file system in a new file and mounts it at a directory, which exists.
    pub(super) fn create(image: PathBuf, at: PathBuf) -> Result<Volume, String> {
        let made = File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES));
        made.map_err(|err| format!("{}: {err}", image.display()))?;
        // No blocks are kept for root, who fills it.
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        let mut volume =
            Volume { image, at, is_mounted: false, is_marked: false, is_filled: false };
        volume.mount()?;
        Ok(volume)
    }

    /// Cuts the power: what is not on the disk yet never will be.
    pub(super) fn cut(&mut self) -> Result<(), String> {
        // A full disk has no room for a mark.
        self.is_marked = fs::write(self.at.join(UNSYNCED), "not on the disk yet").is_ok();
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.at))
    }

    /// Restores the power, and returns whether something was seen to be lost by the cut. Who used the volume must have
    /// ended.
    pub(super) fn restart(&mut self) -> Result<bool, String> {
        self.unmount()?;
        self.mount()?;
        let unsynced = self.at.join(UNSYNCED);
        let is_lost = fs::read(&unsynced).map_or(true, |bytes| bytes.is_empty());
        // It may not be there at all.
        let _ = fs::remove_file(unsynced);
        if !self.is_filled {
            // Room that was given back without power was not.
            self.free();
        }
        Ok(is_lost && self.is_marked)
    }

    /// Takes all room, and returns whether a write then fails for the lack of it.
    pub(super) fn fill(&mut self) -> Result<bool, String> {
        self.is_filled = true;
        let failed = |err: io::Error| format!("{}: {err}", self.at.display());
        let mut filler = File::create(self.at.join(FILLER)).map_err(failed)?;
        let room = statvfs(&self.at).map_err(|err| failed(err.into()))?;
        let bytes = room.blocks_available() * room.fragment_size();
        // The file's own map takes some blocks too, so the last ones are taken one by one.
        let most = bytes.saturating_sub(bytes / 64);
        let taken =
            fallocate(&filler, FallocateFlags::empty(), 0, i64::try_from(most).unwrap_or(i64::MAX));
        taken.map_err(|err| failed(err.into()))?;
        io::Seek::seek(&mut filler, io::SeekFrom::End(0)).map_err(failed)?;
        let block = [1; 4096];
        loop {
            match filler.write_all(&block) {
                Ok(()) => {}
                Err(err) if err.kind() == io::ErrorKind::StorageFull => return Ok(true),
                Err(err) => return Err(failed(err)),
            }
        }
    }

    /// Gives the room back.
    pub(super) fn free(&mut self) {
        self.is_filled = false;
        // It is gone when the node's directory was emptied.
        let _ = fs::remove_file(self.at.join(FILLER));
    }

    fn mount(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at))?;
        self.is_mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        let mut result = Ok(());
        for _ in 0..UNMOUNT_ATTEMPTS {
            result = run(Command::new("umount").arg(&self.at));
            if result.is_ok() {
                self.is_mounted = false;
                break;
            }
            sleep(UNMOUNT_PAUSE);
        }
        result
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted && self.unmount().is_err() {
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.at));
        }
    }
}

/// Returns why no volumes can be made here, if so: it makes one, and cuts its power.
pub(super) fn lacking() -> Option<String> {
    let attempt = || -> Result<(), String> {
        let dir = tempfile::tempdir().map_err(|err| err.to_string())?;
        let at = dir.path().join("at");
        fs::create_dir(&at).map_err(|err| err.to_string())?;
        let mut volume = Volume::create(dir.path().join("image"), at)?;
        volume.cut()?;
        match volume.restart()? {
            true => Ok(()),
            false => Err("a cut loses nothing".into()),
        }
    };
    let why = attempt().err()?;
    Some(format!("{why} (it needs root, loop devices, e2fsprogs and xfsprogs)"))
}

/// Runs a command to its end. Error: what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let name = Path::new(command.get_program()).display().to_string();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(err) => Err(format!("{name}: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::{Volume, lacking};

    #[test]
    fn a_cut_takes_what_was_not_synced_and_a_full_disk_takes_nothing_more() {
        if let Some(why) = lacking() {
            // Past the test harness, which would swallow it.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no file systems in files ({why})");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("at");
        fs::create_dir(&at).unwrap();
        let mut volume = Volume::create(dir.path().join("image"), at.clone()).unwrap();
        let mut synced = fs::File::create(at.join("synced")).unwrap();
        synced.write_all(b"here").unwrap();
        synced.sync_all().unwrap();
        drop(synced);
        volume.cut().unwrap();
        assert!(fs::write(at.join("late"), "x").is_err());
        assert!(volume.restart().unwrap());
        assert_eq!(fs::read(at.join("synced")).unwrap(), b"here");

        assert!(volume.fill().unwrap());
        assert!(fs::write(at.join("more"), [1; 8192]).is_err());
        volume.free();
        fs::write(at.join("more"), [1; 8192]).unwrap();
    }
}
