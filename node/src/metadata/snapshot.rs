//! The metadata as a file: so that the log need not be kept for ever.

use super::Metadata;
use env::Disk;
use std::io;
use std::path::Path;

/// Largest snapshot that is read: tens of thousands of tables.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// Reads the snapshot; the empty state when there is none yet.
pub(crate) fn load(disk: &Disk, path: &Path) -> Result<Metadata, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    if !disk.exists(path).map_err(failed)? {
        return Ok(Metadata::default());
    }
    let bytes = disk.read(path, SNAPSHOT_BYTES_MAX).map_err(failed)?;
    Metadata::from_bytes(&bytes).map_err(|error| format!("{} is damaged: {error}", path.display()))
}

/// Replaces the snapshot; on return it is durable.
pub(crate) fn save(disk: &Disk, path: &Path, metadata: &Metadata) -> io::Result<()> {
    disk.write_atomic(path, &metadata.to_bytes())
}
