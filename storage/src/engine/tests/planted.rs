//! Bugs planted in the engine, each of which these tests notice (`docs/planted-bugs.md`).

use env::planted::{Bug, is_noticed};

#[test]
fn each_planted_bug_is_noticed() {
    let noticed_by: [(Bug, fn(u64)); 3] = [
        (Bug::SkipsChecksums, |_| {
            super::corruption::a_flipped_bit_is_an_error_or_changes_nothing();
        }),
        (Bug::PurgesTooEarly, |_| super::what_is_dead_goes_in_a_merge_and_stays_gone()),
        (Bug::SnapshotMissesTheLast, |_| {
            super::snapshot::a_snapshot_replaces_a_range_exactly_while_both_sides_go_on();
        }),
    ];
    for (bug, test) in noticed_by {
        assert!(is_noticed(bug, 0..1, test), "{bug:?} was planted, and nothing noticed");
    }
}
