//! Processor time and memory, as the kernel counts them in /proc.
//!
//! Processor time comes in ticks of 10 ms, so it says something about seconds, not about moments.

use std::fs;
use std::io;

/// Ticks a second in /proc: `USER_HZ`, which is 100 wherever Linux runs these programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time that was used, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessorTime {
    /// In the program.
    pub user_seconds: f64,
    /// In the kernel on its behalf.
    pub system_seconds: f64,
}

impl ProcessorTime {
    /// What all threads of a process used so far, those that ended included.
    pub fn of(process_id: u32) -> io::Result<Self> {
        parse_process_stat(&fs::read_to_string(format!("/proc/{process_id}/stat"))?)
            .ok_or_else(|| io::Error::other("/proc/PID/stat looks unfamiliar"))
    }

    /// What several processes used together; nothing of none.
    pub fn of_all(process_ids: &[u32]) -> io::Result<Option<Self>> {
        let mut sum: Option<ProcessorTime> = None;
        for id in process_ids {
            let one = Self::of(*id)?;
            let so_far = sum.unwrap_or_default();
            sum = Some(ProcessorTime {
                user_seconds: so_far.user_seconds + one.user_seconds,
                system_seconds: so_far.system_seconds + one.system_seconds,
            });
        }
        Ok(sum)
    }

    /// What this process used so far.
    pub fn of_this_process() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Both together.
    pub fn seconds(self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    /// What was used since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        ProcessorTime {
            user_seconds: self.user_seconds - earlier.user_seconds,
            system_seconds: self.system_seconds - earlier.system_seconds,
        }
    }
}

/// What all processors of the machine did so far, in seconds: working, and taken by the host.
pub fn machine_busy_seconds() -> io::Result<f64> {
    parse_machine_stat(&fs::read_to_string("/proc/stat")?)
        .ok_or_else(|| io::Error::other("/proc/stat looks unfamiliar"))
}

/// A figure of /proc/PID/status that is given in kB, such as `VmHWM` or `VmRSS`, in bytes.
pub fn memory_bytes(process_id: u32, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process_id}/status"))?;
    parse_status(&text, name).ok_or_else(|| io::Error::other(format!("no {name} in its status")))
}

/// The command may contain anything, so fields are counted from its closing parenthesis.
fn parse_process_stat(text: &str) -> Option<ProcessorTime> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(ProcessorTime { user_seconds: seconds()?, system_seconds: seconds()? })
}

/// `cpu user nice system idle iowait irq softirq steal …`
fn parse_machine_stat(text: &str) -> Option<f64> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<f64>> =
        fields.split_ascii_whitespace().take(8).map(|field| field.parse().ok()).collect();
    let ticks = ticks?;
    let (idle, waiting) = (ticks.get(3)?, ticks.get(4)?);
    Some((ticks.iter().sum::<f64>() - idle - waiting) / TICKS_PER_SECOND)
}

fn parse_status(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        let time = parse_process_stat(stat).unwrap();
        assert_eq!(time, ProcessorTime { user_seconds: 2.5, system_seconds: 0.5 });
        assert_eq!(parse_process_stat("42 (a) S 1"), None);
    }

    #[test]
    fn a_machine_is_busy_when_it_neither_idles_nor_waits() {
        let stat = "cpu  100 0 50 1000 200 10 20 20 0 0\ncpu0 1 2 3\n";
        assert_eq!(parse_machine_stat(stat), Some(2.0));
        assert_eq!(parse_machine_stat("cpu  1 2\n"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(parse_status(status, "VmRSS"), Some(1 << 20));
        assert_eq!(parse_status(status, "VmSwap"), None);
    }

    #[test]
    fn this_process_is_there() {
        assert!(ProcessorTime::of_this_process().unwrap().seconds() >= 0.0);
        assert!(memory_bytes(std::process::id(), "VmHWM").unwrap() > 0);
        assert!(machine_busy_seconds().unwrap() > 0.0);
    }
}
