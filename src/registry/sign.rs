use xxhash_rust::xxh3::Xxh3;

/// Returns what one entry adds to the sign of its list: a hash of its name and of the zxids of its creation and of its last
/// change. The sign is the wrapping sum, so that it is the same in whatever order and can be kept in step one by one.
pub fn sign(id: &str, created: u64, modified: u64) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(id.as_bytes());
    hash.update(&[0]);
    hash.update(&created.to_le_bytes());
    hash.update(&modified.to_le_bytes());
    hash.digest()
}
