//! Tests of the core: golden scripts, one per rule, and random schedules that check the paper's
//! five properties after every step.

mod schedule;
mod script;
mod simulation;

use super::{Group, LogIndex, Membership, Recovered, RecoveryError, Term, TermRun};
use std::sync::Arc;

#[test]
fn a_log_that_contradicts_itself_is_not_recovered() {
    let me = simulation::host(1);
    let members = |index| (LogIndex(index), Arc::new(Membership::of_voters([me])));
    let sound = Recovered {
        runs: vec![TermRun { first: LogIndex(1), term: Term(3) }],
        last: LogIndex(4),
        commit: LogIndex(2),
        memberships: vec![members(0), members(3)],
        ..Recovered::default()
    };
    let error = |broken: Recovered| Group::recover(me, broken).unwrap_err();

    let group = Group::recover(me, sound.clone()).unwrap();
    assert_eq!(group.term(), Term(3), "an entry's term has been heard of");
    assert_eq!(error(Recovered { runs: Vec::new(), ..sound.clone() }), RecoveryError::History);
    assert_eq!(error(Recovered { commit: LogIndex(5), ..sound.clone() }), RecoveryError::Commit);
    for memberships in [
        Vec::new(),
        vec![members(3)],
        vec![members(0), members(1)],
        vec![members(0), members(5)],
        vec![(LogIndex(0), Arc::new(Membership::default()))],
        vec![(LogIndex(0), Arc::new(Membership::of_voters([me, me])))],
    ] {
        let broken = Recovered { memberships, ..sound.clone() };
        assert_eq!(error(broken), RecoveryError::Membership);
    }
}
