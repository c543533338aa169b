//! What happened in a run, a line for each event, to be compared with another run's.

use std::cell::RefCell;
use std::rc::Rc;

/// The events of one run, in order. Clones write to the same trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    /// Adds an event at a time of the simulation: who did what, with these bytes.
    pub(crate) fn event(&self, micros: i64, who: &str, what: &str, bytes: &[u8]) {
        let line = format!("{micros} {who} {what} {} bytes {:016x}", bytes.len(), hash(bytes));
        self.0.borrow_mut().push(line);
    }

    /// All events so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// FNV-1a: equal bytes, equal hash, in every process.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
