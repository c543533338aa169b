//! A session with one node whose errors tell what became of the request.
//!
//! The driver tries nothing again and nothing ahead of time: a request that it repeats would be one
//! that the history does not know of.

use futures::TryStreamExt;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits for an answer. Longer than the server's own limits, so that the server's
/// word is heard.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(12);
/// How long nodes may take to agree on the schema.
const AGREEMENT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// Why a call did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request was not done, and will not be.
    Refused(String),
    /// It may have been done, or be done later.
    Unknown(String),
}

/// A session with one node.
#[derive(Debug)]
pub struct Client {
    session: Session,
}

impl Client {
    /// Connects to the node that answers at this address; all requests go to it at QUORUM.
    pub async fn connect(address: SocketAddr) -> Result<Client, String> {
        let target = NodeIdentifier::NodeAddress(address);
        let profile = ExecutionProfile::builder()
            .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(target, None))
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .consistency(Consistency::Quorum)
            .request_timeout(Some(REQUEST_TIME_MAX))
            .build();
        let session = SessionBuilder::new()
            .known_node_addr(address)
            .default_execution_profile_handle(profile.into_handle())
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .connection_timeout(CONNECT_TIME_MAX)
            .fetch_schema_metadata(false)
            .auto_await_schema_agreement(false)
            .schema_agreement_timeout(AGREEMENT_TIME_MAX)
            .build()
            .await
            .map_err(|error| error.to_string())?;
        Ok(Client { session })
    }

    /// Runs a statement without values, such as a change of the schema.
    pub async fn query(&self, text: &str) -> Result<QueryResult, Failure> {
        self.session.query_unpaged(text, ()).await.map_err(|error| failure(&error))
    }

    /// Prepares a statement.
    pub async fn prepare(&self, text: &str) -> Result<PreparedStatement, Failure> {
        let prepared = self.session.prepare(text).await;
        prepared.map_err(|error| Failure::Refused(error.to_string()))
    }

    /// Runs a prepared statement.
    pub async fn execute(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failure> {
        self.session.execute_unpaged(statement, values).await.map_err(|error| failure(&error))
    }

    /// Returns when all nodes say that they know the same schema.
    pub async fn agree(&self) -> Result<(), Failure> {
        let agreed = self.session.await_schema_agreement().await;
        agreed.map(|_| ()).map_err(|error| Failure::Unknown(error.to_string()))
    }

    /// All rows of a query, page by page.
    pub async fn rows<T>(&self, text: &str) -> Result<Vec<T>, Failure>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        self.all(Statement::new(text)).await
    }

    /// The same at a consistency level.
    pub async fn rows_at<T>(&self, text: &str, level: Consistency) -> Result<Vec<T>, Failure>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        let mut statement = Statement::new(text);
        statement.set_consistency(level);
        self.all(statement).await
    }

    /// The same by pages of so many rows, each asked for when the one before has been read.
    pub async fn rows_by_pages<T>(&self, text: &str, page_rows: i32) -> Result<Vec<T>, Failure>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        let mut statement = Statement::new(text);
        statement.set_page_size(page_rows);
        self.all(statement).await
    }

    async fn all<T>(&self, statement: Statement) -> Result<Vec<T>, Failure>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        let unknown = |error: &dyn std::error::Error| Failure::Unknown(error.to_string());
        let pages = self.session.query_iter(statement, ()).await.map_err(|e| unknown(&e))?;
        let rows = pages.rows_stream::<T>().map_err(|e| unknown(&e))?;
        rows.try_collect().await.map_err(|e| unknown(&e))
    }
}

/// What an error says of the request: the promise is that these, and only these, mean not applied.
fn failure(error: &ExecutionError) -> Failure {
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
