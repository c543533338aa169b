//! CREATE, ALTER, PAUSE, RESUME and DROP CHANGEFEED.

use super::{Name, Property, QualifiedName};

/// A statement that makes a changefeed, changes it or ends it.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangefeedStatement {
    /// CREATE CHANGEFEED.
    Create(CreateChangefeed),
    /// ALTER CHANGEFEED.
    Alter(AlterChangefeed),
    /// PAUSE CHANGEFEED: the feed.
    Pause(Name),
    /// RESUME CHANGEFEED.
    Resume(ResumeChangefeed),
    /// DROP CHANGEFEED.
    Drop(DropChangefeed),
}

impl ChangefeedStatement {
    /// The feed that it is about.
    pub fn feed(&self) -> &Name {
        match self {
            ChangefeedStatement::Create(create) => &create.name,
            ChangefeedStatement::Alter(alter) => &alter.name,
            ChangefeedStatement::Pause(name) => name,
            ChangefeedStatement::Resume(resume) => &resume.name,
            ChangefeedStatement::Drop(drop) => &drop.name,
        }
    }
}

/// CREATE CHANGEFEED.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateChangefeed {
    /// The feed.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The tables whose changes it tells, at least one; may repeat a name.
    pub tables: Vec<QualifiedName>,
    /// To what it tells them.
    pub sink: SinkKind,
    /// Where that is, as it was written.
    pub address: String,
    /// What stands behind WITH, each name once. Names are not those of columns: without regard to
    /// case they are given in lower case, and dots may be in them.
    pub options: Vec<Property>,
}

/// What takes a feed's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// A topic.
    Kafka,
    /// An HTTP endpoint.
    Webhook,
}

/// ALTER CHANGEFEED … SET (…).
#[derive(Clone, Debug, PartialEq)]
pub struct AlterChangefeed {
    /// The feed.
    pub name: Name,
    /// The options that are another now, at least one, each name once.
    pub options: Vec<Property>,
}

/// RESUME CHANGEFEED.
#[derive(Clone, Debug, PartialEq)]
pub struct ResumeChangefeed {
    /// The feed.
    pub name: Name,
    /// Where it goes on; from where it stood if nothing is said.
    pub from: Option<ResumeFrom>,
}

/// Where a feed goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// Behind the event of that sequence; the digits as they were written.
    Sequence(String),
    /// Behind that time: a string, or milliseconds since the epoch as they were written.
    Timestamp(String),
    /// With the oldest change that the log has.
    Beginning,
}

/// DROP CHANGEFEED.
#[derive(Clone, Debug, PartialEq)]
pub struct DropChangefeed {
    /// The feed.
    pub name: Name,
    /// IF EXISTS.
    pub if_exists: bool,
}
