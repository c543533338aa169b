//! Bugs planted in the node, each of which one of the other tests notices (`docs/planted-bugs.md`).

use crate::{
    bit_rot, counting, crowded, deleted_rows, failing_disks, finishers, histories, lost_answers,
    power_cuts, replay, single_copies, standing_still, three_nodes, turned_on,
};
use env::planted::{Bug, is_noticed};

/// Seeds that a test is given to notice a bug.
const SEEDS: u64 = 12;

fn notice(bug: Bug, test: impl Fn(u64)) {
    assert!(is_noticed(bug, 0..SEEDS, test), "{bug:?} was planted, and nothing noticed");
}

#[test]
fn a_log_that_does_not_sync_is_noticed() {
    notice(Bug::AcknowledgesUnsynced, power_cuts::run);
}

#[test]
fn a_replay_that_stops_at_damage_is_noticed() {
    notice(Bug::ReplayStopsAtDamage, |seed| {
        bit_rot::rot_the_log(seed);
    });
}

#[test]
fn conditions_that_miss_what_is_undecided_are_noticed() {
    notice(Bug::ConditionsMissUndecided, |seed| counting::run(seed, 0));
}

#[test]
fn images_that_miss_what_is_undecided_are_noticed() {
    notice(Bug::ImagesMissUndecided, crowded::write_together);
}

#[test]
fn a_preimage_read_after_the_write_is_noticed() {
    notice(Bug::PreimageAfterWrite, replay::run);
}

#[test]
fn a_late_write_logged_whole_is_noticed() {
    notice(Bug::LateWritesLoggedWhole, replay::run);
}

/// What shows that batches are made twice in that test.
#[test]
fn a_batch_made_twice_and_logged_whole_is_noticed() {
    notice(Bug::LateWritesLoggedWhole, finishers::run_without_others);
}

/// What shows that a coordinator that stood still goes on with what others have finished.
#[test]
fn a_batch_that_its_coordinator_makes_again_and_logs_whole_is_noticed() {
    notice(Bug::LateWritesLoggedWhole, standing_still::coordinators);
}

#[test]
fn a_log_row_left_out_is_noticed() {
    notice(Bug::LogsAllButOne, replay::run);
}

#[test]
fn increments_that_the_server_repeats_are_noticed() {
    notice(Bug::RepeatsIncrements, lost_answers::run);
}

#[test]
fn conditional_writes_that_the_server_repeats_are_noticed() {
    notice(Bug::RepeatsConditions, standing_still::leaders);
}

#[test]
fn writes_without_timestamps_that_the_server_repeats_are_noticed() {
    notice(Bug::RepeatsUndated, standing_still::leaders);
}

#[test]
fn unavailable_told_after_sending_is_noticed() {
    notice(Bug::UnavailableAfterSending, lost_answers::run);
}

#[test]
fn a_page_that_skips_a_range_is_noticed() {
    notice(Bug::PagesSkipARange, crowded::read_pages);
}

#[test]
fn a_ring_change_that_moves_nothing_is_noticed() {
    notice(Bug::RingChangesWithoutMoving, single_copies::run);
}

#[test]
fn a_ring_change_that_counts_moves_of_another_is_noticed() {
    notice(Bug::RingChangesUnfenced, single_copies::run);
}

#[test]
fn a_log_closed_over_a_node_that_stands_still_is_noticed() {
    notice(Bug::ClosesOverThePaused, three_nodes::pause);
}

#[test]
fn a_schema_that_a_minority_decides_is_noticed() {
    notice(Bug::SchemaByAMinority, histories::make_tables_apart);
}

#[test]
fn a_position_saved_within_a_delete_is_noticed() {
    notice(Bug::SavesWithinAChange, deleted_rows::run);
}

#[test]
fn a_log_turned_on_before_its_leaders_have_heard_is_noticed() {
    notice(Bug::LogsTurnedOnUnheard, turned_on::stays);
}

#[test]
fn a_leader_that_does_not_know_of_a_log_is_noticed() {
    notice(Bug::LeadsByOlderMetadata, turned_on::comes_back);
}

#[test]
fn a_node_that_leads_on_without_its_log_is_noticed() {
    notice(Bug::LeadsWithoutItsLog, failing_disks::run);
}
