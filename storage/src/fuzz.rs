//! The fuzz entry for what table files, manifests and snapshots hold, behind their checksums: any bytes give
//! an error or something that reads the same from both ends, and never a panic.
//!
//! A checksum keeps out what rots, not what somebody wrote on purpose; so the decoders are tried
//! without one. The corpus is in `corpus/blocks/`; a unit test runs it with mutations.

use crate::manifest::fuzz_manifest;
use crate::snapshot::fuzz_snapshot_content;
use crate::sstable::fuzz_block_content;

/// Reads `content` as a block of each kind, and as a manifest and chunks of a snapshot without
/// their checksums.
///
/// Panics when the decoders contradict themselves.
pub fn fuzz_table_file(content: &[u8]) {
    fuzz_block_content(content);
    fuzz_manifest(content);
    fuzz_snapshot_content(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const MUTATIONS_PER_FILE: usize = 3_000;

    /// Numbers that follow from a seed (splitmix64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((z ^ (z >> 27)) >> 8) as usize % bound
        }
    }

    /// What the files of the corpus hold.
    fn seeds() -> BTreeMap<String, Vec<u8>> {
        let tables = crate::sstable::fuzz_seeds().into_iter();
        let manifest = [("manifest", crate::manifest::fuzz_seed())];
        let all = tables.chain(manifest).chain(crate::snapshot::fuzz_seeds());
        all.map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    }

    /// The files of the corpus; the seeds stand there as they are built.
    fn corpus() -> BTreeMap<String, Vec<u8>> {
        model::golden::check_corpus("corpus/blocks", &seeds())
    }

    #[test]
    fn hostile_blocks_and_manifests_do_no_harm() {
        let mut random = Random(1);
        for (_, seed) in corpus() {
            fuzz_table_file(&seed);
            for _ in 0..MUTATIONS_PER_FILE {
                let mut content = seed.clone();
                for _ in 0..=random.below(3) {
                    let at = random.below(content.len() + 1);
                    let other = random.below(256) as u8;
                    let byte = [0, 1, 0x7F, 0x80, 0xFF, other][random.below(6)];
                    match random.below(4) {
                        0 => content.truncate(at),
                        1 => content.insert(at, byte),
                        _ if at < content.len() => content[at] = byte,
                        _ => content.push(byte),
                    }
                }
                fuzz_table_file(&content);
            }
        }
    }
}
