//! The fuzz entry for what nodes say to each other about reads and lists: hostile bytes give an
//! error or a value that reads back, and never a panic.
//!
//! Its corpus is in `corpus/reads/`; a unit test runs it with mutations.

use super::{Page, ReadCommand};
use crate::codec::Cursor;
use crate::list_operation::ListOperation;

/// Reads `data` as a command, as a page and as an operation on a list.
///
/// Panics when what was decoded does not read back.
pub fn fuzz_read(data: &[u8]) {
    let mut bytes = Vec::new();
    if let Ok(command) = ReadCommand::from_bytes(data) {
        command.write(&mut bytes);
        assert_eq!(ReadCommand::from_bytes(&bytes), Ok(command), "a command reads back");
    }
    if let Ok(page) = Page::from_bytes(data) {
        let partitions = page.partitions().inspect(|p| assert!(p.is_ok(), "checked before"));
        let rows: usize = partitions.flatten().map(|p| p.items().count()).sum();
        assert!(rows <= data.len(), "a row takes bytes");
        bytes.clear();
        page.write(&mut bytes);
        assert_eq!(Page::from_bytes(&bytes), Ok(page), "a page reads back");
    }
    if let Ok(operation) = ListOperation::read(&mut Cursor::new(data)) {
        bytes.clear();
        operation.write(&mut bytes);
        assert_eq!(ListOperation::read(&mut Cursor::new(&bytes)), Ok(operation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list_operation::testing::operations;
    use crate::read::codec::tests::{a_command, a_page};
    use crate::value::testing::{Random, mutate};
    use std::collections::BTreeMap;

    const MUTATIONS_PER_FILE: u64 = 5_000;

    fn seeds() -> BTreeMap<String, Vec<u8>> {
        let (mut command, mut page) = (Vec::new(), Vec::new());
        a_command().write(&mut command);
        a_page().write(&mut page);
        let mut seeds = BTreeMap::from([("command".to_owned(), command), ("page".into(), page)]);
        for (number, operation) in operations().into_iter().enumerate() {
            let mut bytes = Vec::new();
            operation.write(&mut bytes);
            seeds.insert(format!("list_operation_{number}"), bytes);
        }
        seeds
    }

    /// The files of the corpus; the seeds stand there as they are built.
    fn corpus() -> BTreeMap<String, Vec<u8>> {
        crate::golden::check_corpus("corpus/reads", &seeds())
    }

    #[test]
    fn the_corpus_of_reads_and_mutations_of_it_never_panic() {
        for (_, data) in corpus() {
            fuzz_read(&data);
            for seed in 0..MUTATIONS_PER_FILE {
                fuzz_read(&mutate(&data, &mut Random::new(seed)));
            }
        }
    }
}
