//! Damage to the store of a node that does not run.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const BLOCK: usize = 64 * 1_024;

fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(file)
}

/// Returns how many bytes there are up to the last that is not zero: files are made longer before they are written.
fn written(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = [0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let bytes = &mut block[..(end - start) as usize];
        file.read_exact_at(bytes, start)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Takes the last bytes of what was written away. Error: the file cannot be changed, or has nothing in it.
pub(super) fn tear(path: &Path, bytes: u32) -> io::Result<()> {
    let file = open(path)?;
    let end = written(&file)?;
    if end == 0 {
        return Err(io::Error::other("nothing was written to it"));
    }
    file.set_len(end.saturating_sub(u64::from(bytes)))?;
    file.sync_all()
}

/// Turns so many bits of what was written, at places that the seed chooses, and returns the bytes that they are in.
/// Error: likewise.
pub(super) fn flip(path: &Path, bits: u8, seed: u64) -> io::Result<Vec<u64>> {
    let file = open(path)?;
    let end = written(&file)?;
    if end == 0 {
        return Err(io::Error::other("nothing was written to it"));
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut places = Vec::new();
    for _ in 0..bits {
        let (mut at, mut byte) = (random.random_range(0..end), [0]);
        // Gaps are zero and mean nothing; the last byte is not.
        loop {
            file.read_exact_at(&mut byte, at)?;
            if byte[0] != 0 {
                break;
            }
            at += 1;
        }
        byte[0] ^= 1 << random.random_range(0..8);
        file.write_all_at(&byte, at)?;
        places.push(at);
    }
    file.sync_all()?;
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{BLOCK, flip, tear};

    /// A file with something at its beginning, and much that is zero behind it.
    fn file(dir: &tempfile::TempDir) -> std::path::PathBuf {
        let path = dir.path().join("store");
        let mut bytes = vec![0; 3 * BLOCK];
        bytes[..100].fill(7);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_torn_file_lacks_the_last_bytes_of_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        tear(&path, 30).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [7; 70]);
        tear(&path, 1_000).unwrap();
        assert!(fs::read(&path).unwrap().is_empty());
        assert!(tear(&path, 1).is_err());
    }

    #[test]
    fn bits_are_flipped_where_something_was_written_and_by_the_seed() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        let places = flip(&path, 3, 5).unwrap();
        assert!(places.iter().all(|at| *at < 100), "{places:?}");
        let bytes = fs::read(&path).unwrap();
        let changed = bytes[..100].iter().filter(|byte| **byte != 7).count();
        assert!(changed > 0 && changed <= 3 && bytes[100..].iter().all(|byte| *byte == 0));
        assert_eq!(flip(&file(&dir), 3, 5).unwrap(), places);
    }
}
