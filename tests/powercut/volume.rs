//! A file system of its own, in a file, whose power can be cut.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Bytes of an image, sparse. XFS takes no less than 300 MiB.
const IMAGE_BYTES: u64 = 400 << 20;

/// How the cut is asked for: an ioctl that both ext4 and XFS have (`XFS_IOC_GOINGDOWN`, without flushing the journal).
const PERL_SHUTDOWN: &str = r#"open(my $d, "<", $ARGV[0]) or die "$!"; my $flags = pack("L", 2);
    ioctl($d, 0x8004587d, $flags) or die "$!";"#;

/// An image, mounted. Dropping it unmounts it and removes it.
pub(crate) struct Volume {
    dir: TempDir,
    mounted: bool,
}

impl Volume {
    /// Makes and mounts a file system; `None`, with a message, where that is not possible.
    pub(crate) fn create(kind: &str) -> Option<Volume> {
        let dir = tempfile::Builder::new().prefix("roost-powercut-").tempdir().unwrap();
        let mut volume = Volume { dir, mounted: false };
        let image = volume.image();
        std::fs::create_dir(volume.path()).unwrap();
        std::fs::File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).unwrap();
        let made = run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        let mounted = made.and_then(|()| volume.mount());
        let cut = mounted.and_then(|()| volume.cut());
        let usable = cut.and_then(|()| volume.unmount()).and_then(|()| volume.mount());
        match usable {
            Ok(()) => Some(volume),
            Err(why) => {
                // Past the test harness, which would swallow it.
                let needs = format!("root, loop devices, mkfs.{kind}, and xfs_io or perl");
                let _ = writeln!(
                    io::stderr(),
                    "SKIPPED: no power cuts on {kind} ({why}); needs {needs}"
                );
                None
            }
        }
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Cuts the power: what is not on the disk yet never will be.
    pub(crate) fn cut(&self) -> Result<(), String> {
        let with_xfs_io =
            run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()));
        with_xfs_io
            .or_else(|_| run(Command::new("perl").args(["-e", PERL_SHUTDOWN]).arg(self.path())))
    }

    /// Restores the power. Whoever used the volume must have ended.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.unmount()?;
        self.mount()
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        let mut result = Ok(());
        for _ in 0..100 {
            result = run(Command::new("umount").arg(self.path()));
            if result.is_ok() {
                self.mounted = false;
                break;
            }
            // A process that was killed a moment ago may still be closing its files.
            thread::sleep(Duration::from_millis(20));
        }
        result
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => {
            Err(format!("{name}: {}", String::from_utf8_lossy(&stderr).trim()))
        }
        Err(err) => Err(format!("{name}: {err}")),
    }
}
