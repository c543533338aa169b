//! Requests and answers read back; hostile bytes are errors; the bytes stay.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::*;
use crate::batch_log::TABLE;
use cql::plan::condition::{RowCondition, RowTest};
use cql::plan::write::{
    ConditionalOutcome, ConditionalWrite, PartitionWrite, RefusedRows, ShownColumns,
};
use model::mutation::MutationWriter;
use model::read::{ReadScope, Slice};
use model::row::Deletion;

fn write() -> PartitionWrite {
    let mut mutation = Vec::new();
    let mut writer = MutationWriter::new(&mut mutation, TABLE.id, TABLE.version, b"key");
    writer.partition_tombstone(Deletion { timestamp: 5, deleted_at: 6 });
    PartitionWrite {
        table: TABLE.clone(),
        token: crate::view::View::token(&TABLE, b"key"),
        mutation,
        is_stamped: true,
        is_counter: false,
        list_operations: Vec::new(),
    }
}

fn conditional() -> ConditionalWrite {
    let shown = ShownColumns { columns: [0].into(), shows_static: false, shows_regular: true };
    let write = PartitionWrite { is_stamped: false, ..write() };
    let test = RowTest::NotExists;
    let conditions = vec![RowCondition { clustering: Some(Vec::new()), test }];
    ConditionalWrite { write, conditions, shown }
}

fn requests() -> Vec<WriteRequest> {
    let changes = [
        Change::Write(vec![write(), write()]),
        Change::Truncate(TableId(7)),
        Change::Switch(8),
        Change::Conditional(Box::new(conditional())),
    ];
    let request = |change| WriteRequest { group: GroupId(9), change, clock_floor: -1 };
    changes.into_iter().map(request).collect()
}

fn read_back(bytes: &[u8]) -> Result<(WriteHead, WriteRequest), PartitionWriteError> {
    let mut cursor = Cursor::new(bytes);
    let head = read_write_head(&mut cursor)?;
    let known = |id| (id == TABLE.id).then(|| TABLE.clone());
    let request = read_change(&head, cursor, known)?;
    Ok((head, request))
}

fn command() -> ReadCommand {
    ReadCommand {
        table: TableId(3),
        scope: ReadScope::TokenRange { first: -5, last: 5 },
        slices: [Slice::all()].into(),
        reversed: false,
        include_static: true,
        now: 1_800_000_000,
        row_limit: 10,
        partition_row_limit: 20,
        page_bytes: 1 << 20,
        resume: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[test]
fn writes_read_back_and_every_cut_is_an_error() {
    for request in requests() {
        let bytes = write_bytes(&request, 300, true).expect("it travels");
        assert_eq!(bytes[0], AskKind::Write as u8);
        let (head, read) = read_back(&bytes[1..]).expect("it reads back");
        assert_eq!((head.planned_at, head.is_decided), (300, true));
        assert_eq!(format!("{read:?}"), format!("{request:?}"));
        for length in 1..bytes.len() {
            assert!(read_back(&bytes[1..length]).is_err(), "cut at {length}");
        }
        assert!(read_back(&[&bytes[1..], &[0]].concat()).is_err(), "trailing bytes");
    }
    let own = WriteRequest::new(GroupId(0), Change::Metadata(Vec::new()));
    assert_eq!(write_bytes(&own, 1, false), None);
}

#[test]
fn damaged_requests_and_answers_never_panic() {
    let mut seeds: Vec<Vec<u8>> =
        requests().iter().filter_map(|request| write_bytes(request, 1, false)).collect();
    seeds.push(read_bytes(&command(), Barrier::default(), 1));
    seeds.push(applied_bytes(GroupId(1), LogIndex(300)));
    seeds.extend(answers().iter().map(Answer::to_bytes));
    for seed in seeds {
        for at in 0..seed.len() {
            for byte in [0, 1, 2, 3, 0x7f, 0x80, 0xff] {
                let (mut replaced, mut inserted) = (seed.clone(), seed.clone());
                replaced[at] = byte;
                inserted.insert(at, byte);
                for bytes in [&replaced[..], &inserted[..], &replaced[1..]] {
                    drop(read_back(bytes));
                    drop(read_read(bytes));
                    drop(read_applied(bytes));
                    drop(Answer::<Made, WriteError>::from_bytes(bytes));
                    drop(Answer::<Page, ReadError>::from_bytes(bytes));
                }
            }
        }
    }
}

#[test]
fn reads_and_questions_read_back() {
    for (by_leader, undecided) in [(false, false), (true, false), (true, true)] {
        let barrier = Barrier { undecided, by_leader };
        let bytes = read_bytes(&command(), barrier, 77);
        assert_eq!(bytes[0], AskKind::Read as u8);
        assert_eq!(read_read(&bytes[1..]), Ok((command(), barrier, 77)));
    }
    let bytes = applied_bytes(GroupId(u64::MAX), LogIndex(300));
    assert_eq!(bytes[0], AskKind::Applied as u8);
    assert_eq!(read_applied(&bytes[1..]), Ok((GroupId(u64::MAX), LogIndex(300))));
}

fn refused() -> Made {
    let rows = RefusedRows { row_count: 1, cells: b"no".to_vec() };
    Made { index: LogIndex(3), outcome: Some(ConditionalOutcome::Refused(Box::new(rows))) }
}

fn answers() -> Vec<Answer<Made, WriteError>> {
    vec![
        Answer::Done(Made { index: LogIndex(300), outcome: None }),
        Answer::Done(Made { index: LogIndex(3), outcome: Some(ConditionalOutcome::Applied) }),
        Answer::Done(refused()),
        Answer::Failed(WriteError::Invalid("no".to_owned())),
        Answer::NotLeader { hint: None },
        Answer::NotLeader { hint: Some(HostId(1)) },
        Answer::Outdated { index: 5 },
    ]
}

#[test]
fn answers_read_back_with_their_errors() {
    for answer in answers() {
        let read = Answer::<Made, WriteError>::from_bytes(&answer.to_bytes());
        assert_eq!(read.map(|read| format!("{read:?}")), Ok(format!("{answer:?}")));
    }
    let errors = [
        WriteError::Overloaded("a".into()),
        WriteError::Read("b".into()),
        WriteError::Failed("c".into()),
        WriteError::timed_out(),
    ];
    for error in errors {
        let mut bytes = Vec::new();
        Body::write(&error, &mut bytes);
        let read = <WriteError as Body>::read(&bytes).map(|read| format!("{read:?}"));
        assert_eq!(read, Ok(format!("{error:?}")));
    }
    let mut bytes = Vec::new();
    Body::write(&ReadError::Storage("block 3 is damaged".into()), &mut bytes);
    let read = <ReadError as Body>::read(&bytes).map(|read| read.to_string());
    assert_eq!(read, Ok("block 3 is damaged".to_owned()));
}

#[test]
fn the_bytes_of_requests_and_answers_do_not_change_unnoticed() {
    let [write, truncate, _, conditional] = &requests()[..] else { panic!("four requests") };
    let shown = |request| hex(&write_bytes(request, 300, false).expect("it travels"));
    assert_eq!(
        shown(write),
        "0100ac02ffffffffffffffff09000000000000000102011f0100000000000000000000000000\
             000000036b65790105000000000000000c011f0100000000000000000000000000000000036b\
             65790105000000000000000c"
    );
    assert_eq!(
        shown(truncate),
        "0100ac02ffffffffffffffff09000000000000000207000000000000000000000000000000"
    );
    assert_eq!(
        shown(conditional),
        "0100ac02ffffffffffffffff090000000000000004020100010500001f01000000000000000000\
             00000000000000036b65790105000000000000000c"
    );
    let barrier = Barrier { by_leader: true, undecided: false };
    assert_eq!(
        hex(&read_bytes(&command(), barrier, 300)),
        "0201ac020503000000000000000000000000000000fbffffffffffffff050000000000000080\
             c8ceb40d0a14808040010001ff"
    );
    let shown: Vec<String> = answers().iter().map(|answer| hex(&answer.to_bytes())).collect();
    let leader = "0201000000000000000000000000000000";
    assert_eq!(shown, ["00ac02", "000300", "00030101026e6f", "0102026e6f", "02", leader, "0305"]);
}
