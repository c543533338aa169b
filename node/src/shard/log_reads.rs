//! Entries read back from the log for followers that lack them.
//!
//! After a member was away all groups want the log at once. There is one pass at a time, on another
//! thread: a thread for each group starved the shards. A pass begins where the request with the
//! earliest place does and serves all that lie near; the others wait, and go on from their own places.
//! So what lies between followers that are far apart is not read for each of them. (When a pass went
//! on to the last place that anybody wanted, two nodes read 71 GB in a minute to send a third 400 MB.)
//!
//! After a pass the log rests for as long as that took, but no longer than [`REST_MAX`]. Meanwhile what
//! was read is sent, and followers ask for more, so that the next pass is for many of them; and the
//! shard has its turn where both share a core.

use super::Shard;
use super::log::held_entry;
use cluster::consensus::LogIndex;
use cluster::liveness::MonotonicNanos;
use cluster::replica::LogRequest;
use cluster::{GroupId, HostId};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use storage::commitlog::{ReadEntries, ReadPlace, WantedEntries};

/// Payload bytes of one group that a pass reads for a follower.
const READ_BYTES_MAX: usize = 128 << 10;

/// Requests that a pass serves. With the limits of a pass (`storage/src/commitlog/read.rs`) they bound what is in
/// memory.
const READS_MAX: usize = 256;

/// How long the log rests after a pass, at least and at most.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(100);

/// What followers of this shard's groups wait for. A group has a request for each of its members at
/// most.
#[derive(Debug, Default)]
pub(super) struct LogReads {
    waiting: Vec<Waiting>,
    /// A pass is under way.
    is_reading: bool,
    /// Where the log goes on for followers that were sent entries from it, behind which entry.
    places: BTreeMap<(GroupId, HostId), (LogIndex, ReadPlace)>,
}

#[derive(Debug)]
struct Waiting {
    request: LogRequest,
    from: ReadPlace,
}

impl LogReads {
    /// Takes a request, if the log may have what it asks for. `start` says where the log has the first
    /// entries of a group from an index on.
    fn add(
        &mut self,
        request: LogRequest,
        start: impl FnOnce(GroupId, LogIndex) -> Option<ReadPlace>,
    ) -> Result<(), LogRequest> {
        let known = self.places.remove(&(request.group, request.to));
        let known = known.filter(|(next, _)| *next == request.first).map(|(_, place)| place);
        match known.or_else(|| start(request.group, request.first)) {
            Some(from) => self.waiting.push(Waiting { request, from }),
            None => return Err(request),
        }
        Ok(())
    }

    /// The requests of the next pass: those with the earliest places.
    fn next_pass(&mut self) -> Vec<Waiting> {
        self.waiting.sort_by_key(|waiting| waiting.from);
        let count = self.waiting.len().min(READS_MAX);
        self.waiting.drain(..count).collect()
    }

    /// Takes what a pass found for a request; whether that is for the follower. Otherwise the pass
    /// did not get to it.
    fn take(&mut self, waiting: Waiting, read: &ReadEntries) -> Option<LogRequest> {
        let Waiting { request, .. } = waiting;
        match read.place {
            Some(from) if read.entries.is_empty() => {
                self.waiting.push(Waiting { request, from });
                return None;
            }
            Some(place) => {
                let next = LogIndex(request.first.0 + read.entries.len() as u64);
                self.places.insert((request.group, request.to), (next, place));
            }
            None => {}
        }
        Some(request)
    }
}

impl Shard {
    /// Begins a pass over the log for what followers lack, unless one is under way.
    pub(super) fn read_for_followers(self: &Rc<Self>) {
        let mut reads = self.log_reads.borrow_mut();
        if reads.is_reading {
            return;
        }
        let now = MonotonicNanos(self.monotonic_nanos());
        let mut state = self.state.borrow_mut();
        while let Some(request) = state.replicas.take_log_request() {
            let log = &state.log.log;
            let added = reads.add(request, |group, first| log.read_start(group.0, first.0));
            if let Err(request) = added {
                state.replicas.read(&request, Vec::new(), now);
            }
        }
        let pass = reads.next_pass();
        if !pass.is_empty() {
            reads.is_reading = true;
            tokio::task::spawn_local(self.clone().read_log(pass));
        }
    }

    async fn read_log(self: Rc<Self>, pass: Vec<Waiting>) {
        let began = self.monotonic_nanos();
        let wanted = pass.iter().map(Waiting::wanted).collect();
        let reading = self.state.borrow().log.log.read(wanted);
        let read = self.shared.env.tasks.run_blocking(move || reading.run()).await;
        let read = read.unwrap_or_else(|error| {
            tracing::warn!("shard {}: entries for followers: {error}", self.index);
            pass.iter().map(|_| ReadEntries::default()).collect()
        });
        for (waiting, read) in pass.into_iter().zip(read) {
            self.give_read(waiting, read);
        }
        // Sends what was read.
        self.wake_log();
        let took = Duration::from_nanos(self.monotonic_nanos().saturating_sub(began));
        self.shared.env.clock.sleep(took.clamp(REST_MIN, REST_MAX)).await;
        self.log_reads.borrow_mut().is_reading = false;
        // Begins the next pass.
        self.wake_log();
    }

    /// Hands over what was read for a follower.
    fn give_read(&self, waiting: Waiting, read: ReadEntries) {
        let taken = self.log_reads.borrow_mut().take(waiting, &read);
        let Some(request) = taken else { return };
        tracing::debug!(
            "shard {}: {} entries of group {:016x} from {} to {} for a follower",
            self.index,
            read.entries.len(),
            request.group.0,
            request.first.0,
            request.last.0
        );
        let entries = read.entries.into_iter();
        let entries = entries.map_while(|e| held_entry(e.term, e.kind, e.payload)).collect();
        let now = MonotonicNanos(self.monotonic_nanos());
        self.state.borrow_mut().replicas.read(&request, entries, now);
    }
}

impl Waiting {
    fn wanted(&self) -> WantedEntries {
        WantedEntries {
            group: self.request.group.0,
            first: self.request.first.0,
            last: self.request.last.0,
            terms: self.request.terms.clone(),
            bytes_max: READ_BYTES_MAX,
            from: self.from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::disk::Disk;
    use std::path::Path;
    use storage::commitlog::{LogCore, LogOptions, LogWriter};

    const FOLLOWER: HostId = HostId(2);

    fn request(group: u64, first: u64, last: u64) -> LogRequest {
        LogRequest {
            group: GroupId(group),
            to: FOLLOWER,
            first: LogIndex(first),
            last: LogIndex(last),
            terms: vec![(1, 1)],
        }
    }

    fn write(log: &mut LogCore, writer: &mut LogWriter) {
        while let Some(job) = log.next_job() {
            log.complete(writer.execute(job)).expect("the disk works");
        }
    }

    /// What passes give until nothing waits: by group, the indexes; and how many passes that took.
    fn run(reads: &mut LogReads, log: &LogCore) -> (BTreeMap<u64, Vec<u64>>, usize) {
        let mut given = BTreeMap::new();
        let mut pass_count = 0;
        loop {
            let pass = reads.next_pass();
            if pass.is_empty() {
                return (given, pass_count);
            }
            pass_count += 1;
            assert!(pass_count < 100, "the log is read for ever");
            let wanted = pass.iter().map(Waiting::wanted).collect();
            let read = log.read(wanted).run().expect("the disk works");
            for (waiting, read) in pass.into_iter().zip(read) {
                if let Some(request) = reads.take(waiting, &read) {
                    let indexes = read.entries.iter().map(|entry| entry.index).collect();
                    given.insert(request.group.0, indexes);
                }
            }
        }
    }

    #[test]
    fn requests_far_apart_are_all_served_and_those_in_vain_told() {
        let (disk, _) = Disk::simulated(1);
        let options = LogOptions::new(0, 1);
        let (mut log, mut writer, _) =
            LogCore::open(&disk, Path::new("/log"), options).expect("a new log");
        let filler = vec![7; 8 << 20];
        for index in 1..=2_u64 {
            for group in [1, 2] {
                log.append_entry(group, 1, index, &[b"small"]).expect("there is room");
            }
            for number in 1..=12 {
                let filled = (index - 1) * 12 + number;
                log.append_entry(3, 1, filled, &[&filler]).expect("there is room");
                write(&mut log, &mut writer);
            }
        }
        log.append_entry(1, 1, 3, &[b"small"]).expect("there is room");
        write(&mut log, &mut writer);
        let mut reads = LogReads::default();
        let start = |group: GroupId, first: LogIndex| log.read_start(group.0, first.0);
        for asked in [request(1, 3, 3), request(2, 1, 2), request(3, 24, 24)] {
            reads.add(asked, start).expect("the log has it");
        }
        assert_eq!(reads.add(request(1, 4, 4), start), Err(request(1, 4, 4)), "not there yet");
        let elsewhere = LogRequest { terms: vec![(1, 9)], ..request(1, 1, 1) };
        reads.add(elsewhere, start).expect("the log has the index, in another term");
        let (given, pass_count) = run(&mut reads, &log);
        assert_eq!(given[&2][0], 1);
        assert_eq!(given[&3], [24]);
        assert!(given.contains_key(&1), "told, with or without entries");
        assert!(pass_count > 1, "a pass does not go through all of the log");

        // What continues is looked for where the pass before it ended.
        let place = reads.places[&(GroupId(3), FOLLOWER)].1;
        log.append_entry(3, 1, 25, &[b"small"]).expect("there is room");
        write(&mut log, &mut writer);
        reads.add(request(3, 25, 25), |_, _| panic!("it is known")).expect("it is known");
        assert_eq!(reads.waiting[0].from, place);
        assert_eq!(run(&mut reads, &log).0[&3], [25]);
    }
}
