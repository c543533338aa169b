//! Consistency levels: their names and their codes on the wire.
//!
//! What each level asks of replicas is decided where replicas are known (crate `cluster`); this
//! file knows only how a level is written.

use std::fmt;

/// How many replicas a statement wants to hear from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Consistency {
    /// Writes only; in Cassandra a hint is enough.
    Any = 0,
    /// One replica.
    One = 1,
    /// Two replicas.
    Two = 2,
    /// Three replicas.
    Three = 3,
    /// A majority of all replicas.
    Quorum = 4,
    /// Every replica.
    All = 5,
    /// A majority of the replicas in the coordinator's data centre.
    LocalQuorum = 6,
    /// A majority of the replicas in every data centre.
    EachQuorum = 7,
    /// Linearizable, over all data centres.
    Serial = 8,
    /// Linearizable, within the coordinator's data centre.
    LocalSerial = 9,
    /// One replica in the coordinator's data centre.
    LocalOne = 10,
}

impl Consistency {
    /// Every level, in the order of the codes.
    pub const LEVELS: [Consistency; 11] = [
        Consistency::Any,
        Consistency::One,
        Consistency::Two,
        Consistency::Three,
        Consistency::Quorum,
        Consistency::All,
        Consistency::LocalQuorum,
        Consistency::EachQuorum,
        Consistency::Serial,
        Consistency::LocalSerial,
        Consistency::LocalOne,
    ];

    /// The level with that code on the wire, if there is one.
    pub fn from_code(code: u16) -> Option<Consistency> {
        Consistency::LEVELS.get(code as usize).copied()
    }

    /// The code on the wire.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The name in CQL: upper case, words joined by `_`.
    pub fn name(self) -> &'static str {
        match self {
            Consistency::Any => "ANY",
            Consistency::One => "ONE",
            Consistency::Two => "TWO",
            Consistency::Three => "THREE",
            Consistency::Quorum => "QUORUM",
            Consistency::All => "ALL",
            Consistency::LocalQuorum => "LOCAL_QUORUM",
            Consistency::EachQuorum => "EACH_QUORUM",
            Consistency::Serial => "SERIAL",
            Consistency::LocalSerial => "LOCAL_SERIAL",
            Consistency::LocalOne => "LOCAL_ONE",
        }
    }

    /// The level with that name, in any case.
    pub fn from_name(name: &str) -> Option<Consistency> {
        Consistency::LEVELS.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    /// Whether this is a level of conditional statements: SERIAL or LOCAL_SERIAL.
    pub fn is_serial(self) -> bool {
        matches!(self, Consistency::Serial | Consistency::LocalSerial)
    }

    /// Whether only replicas of the coordinator's data centre are counted.
    pub fn is_local(self) -> bool {
        matches!(self, Consistency::LocalOne | Consistency::LocalQuorum | Consistency::LocalSerial)
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_round_trip() {
        for (code, level) in (0_u16..).zip(Consistency::LEVELS) {
            assert_eq!(level.code(), code);
            assert_eq!(Consistency::from_code(code), Some(level));
            assert_eq!(Consistency::from_name(level.name()), Some(level));
        }
        assert_eq!(Consistency::LocalOne.code(), 0xA, "the protocol's last code");
        assert_eq!(Consistency::from_code(11), None);
        assert_eq!(Consistency::from_name("local_quorum"), Some(Consistency::LocalQuorum));
        assert_eq!(Consistency::from_name("LOCALQUORUM"), None);
    }
}
