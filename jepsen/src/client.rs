//! A session with one node whose errors tell what became of the request.
//!
//! The driver tries nothing again and nothing ahead of time: a request that it repeats would be one
//! that the history does not know of.

use crate::connection::{Asked, Cell, Connection, Failure, Level, Row, malformed};
use futures::TryStreamExt;
use scylla::client::PoolSize;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::ColumnType;
use scylla::deserialize::row::{ColumnIterator, DeserializeRow, RawColumn};
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::PagingState;
use scylla::response::query_result::QueryResult;
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits for an answer. Longer than the server's own limits, so that the server's
/// word is heard.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(12);
/// How long nodes may take to agree on the schema.
const AGREEMENT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// A session with one node.
#[derive(Debug)]
pub struct Client {
    session: Session,
    /// What was prepared, by its text.
    prepared: BTreeMap<String, PreparedStatement>,
}

impl Client {
    /// Connects to the node that answers at this address; all requests go to it at QUORUM, unless
    /// they say otherwise.
    pub async fn connect(address: SocketAddr) -> Result<Client, String> {
        let session = SessionBuilder::new()
            .known_node_addr(address)
            .default_execution_profile_handle(profile(NodeIdentifier::NodeAddress(address)))
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .connection_timeout(CONNECT_TIME_MAX)
            .fetch_schema_metadata(false)
            .auto_await_schema_agreement(false)
            .schema_agreement_timeout(AGREEMENT_TIME_MAX)
            .build()
            .await
            .map_err(|error| error.to_string())?;
        Ok(Client { session, prepared: BTreeMap::new() })
    }

    /// All rows of a query, page by page, as the driver reads them.
    pub async fn rows<T>(&self, text: &str) -> Result<Vec<T>, Failure>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        let pages = self.session.query_iter(text, ()).await.map_err(malformed)?;
        let rows = pages.rows_stream::<T>().map_err(malformed)?;
        rows.try_collect().await.map_err(malformed)
    }

    async fn prepare(&mut self, text: &str) -> Result<PreparedStatement, Failure> {
        if let Some(known) = self.prepared.get(text) {
            return Ok(known.clone());
        }
        let prepared = self.session.prepare(text).await;
        let prepared = prepared.map_err(|error| Failure::Refused(error.to_string()))?;
        self.prepared.insert(text.to_owned(), prepared.clone());
        Ok(prepared)
    }

    /// Profiles that lead to each node, in the order of their addresses.
    fn turns(&self) -> Vec<ExecutionProfileHandle> {
        let state = self.session.get_cluster_state();
        let mut nodes: Vec<_> = state.get_nodes_info().iter().collect();
        nodes.sort_by_key(|node| SocketAddr::new(node.address.ip(), node.address.port()));
        nodes.into_iter().map(|node| profile(NodeIdentifier::HostId(node.host_id))).collect()
    }
}

impl Connection for Client {
    async fn define(&mut self, text: &str) -> Result<(), Failure> {
        self.session.query_unpaged(text, ()).await.map(drop).map_err(|error| failure(&error))
    }

    async fn execute_at(
        &mut self,
        level: Level,
        text: &str,
        values: &[Cell],
    ) -> Result<Vec<Row>, Failure> {
        let mut statement = self.prepare(text).await?;
        statement.set_consistency(consistency(level));
        let answer = self.session.execute_unpaged(&statement, values).await;
        rows(answer.map_err(|error| failure(&error))?)
    }

    async fn read_pages(
        &mut self,
        level: Level,
        text: &str,
        page_rows: i32,
        asked: Asked,
    ) -> Result<Vec<Row>, Failure> {
        let mut statement = Statement::new(text);
        statement.set_consistency(consistency(level));
        statement.set_page_size(page_rows);
        let (mut all, mut state) = (Vec::new(), PagingState::start());
        let mut turns = match asked {
            Asked::ThisNode => Vec::new(),
            Asked::EachInTurn => self.turns(),
        };
        loop {
            let mut answer = None;
            if !turns.is_empty() {
                let mut statement = statement.clone();
                statement.set_execution_profile_handle(turns.first().cloned());
                turns.rotate_left(1);
                let page = self.session.query_single_page(statement, (), state.clone()).await;
                answer = page.ok();
            }
            // Whose turn it is may be down; whoever is connected with is asked then.
            let (page, next) = if let Some(answer) = answer {
                answer
            } else {
                let page = self.session.query_single_page(statement.clone(), (), state).await;
                page.map_err(|error| failure(&error))?
            };
            all.extend(rows(page)?);
            match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => state = next,
                ControlFlow::Break(()) => return Ok(all),
            }
        }
    }

    async fn agree(&mut self) -> Result<(), Failure> {
        let agreed = self.session.await_schema_agreement().await;
        agreed.map(drop).map_err(|error| Failure::Unknown(error.to_string()))
    }
}

/// All requests go to one node.
fn profile(target: NodeIdentifier) -> ExecutionProfileHandle {
    ExecutionProfile::builder()
        .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(target, None))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .consistency(Consistency::Quorum)
        .request_timeout(Some(REQUEST_TIME_MAX))
        .build()
        .into_handle()
}

fn consistency(level: Level) -> Consistency {
    match level {
        Level::One => Consistency::One,
        Level::Quorum => Consistency::Quorum,
        Level::Serial => Consistency::Serial,
    }
}

/// The rows of an answer, if it has any.
fn rows(answer: QueryResult) -> Result<Vec<Row>, Failure> {
    if !answer.is_rows() {
        return Ok(Vec::new());
    }
    let answer = answer.into_rows_result().map_err(malformed)?;
    let mut rows = Vec::new();
    for columns in answer.rows::<ColumnIterator<'_, '_>>().map_err(malformed)? {
        let cell = |column: RawColumn<'_, '_>| Cell(column.slice.map(|it| it.as_slice().to_vec()));
        let row: Result<Row, _> =
            columns.map_err(malformed)?.map(|column| column.map(cell)).collect();
        rows.push(row.map_err(malformed)?);
    }
    Ok(rows)
}

impl SerializeValue for Cell {
    fn serialize<'b>(
        &self,
        _: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        match &self.0 {
            Some(bytes) => writer.set_value(bytes).map_err(SerializationError::new),
            None => Ok(writer.set_null()),
        }
    }
}

/// What an error says of the request: the promise is that these, and only these, mean not applied.
pub(crate) fn failure(error: &ExecutionError) -> Failure {
    let text = error.to_string();
    let was_never_sent = matches!(
        error,
        ExecutionError::BadQuery(_)
            | ExecutionError::EmptyPlan
            | ExecutionError::ConnectionPoolError(_)
            | ExecutionError::PrepareError(_)
    );
    let is_refused = matches!(
        error,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Unavailable { .. }
                | DbError::Overloaded
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::SyntaxError
                | DbError::ConfigError
                | DbError::IsBootstrapping
                | DbError::AlreadyExists { .. },
            _
        ))
    );
    if was_never_sent || is_refused { Failure::Refused(text) } else { Failure::Unknown(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_tell_whether_a_request_can_have_been_done() {
        let answer = |error| {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()))
        };
        let refused = |error: &_| matches!(failure(error), Failure::Refused(_));
        assert!(refused(&answer(DbError::Overloaded)));
        assert!(refused(&ExecutionError::EmptyPlan));
        assert!(!refused(&answer(DbError::ServerError)));
        assert!(!refused(&ExecutionError::RequestTimeout(Duration::from_secs(1))));
    }
}
