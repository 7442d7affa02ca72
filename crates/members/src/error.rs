//! What can go wrong with the database, in one line and without secrets.

use std::io;

/// Why [`Members::connect`](crate::Members::connect) failed. One line that names `DATABASE_URL`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none that this crate understands. The value is left out on
    /// purpose, and the parser's own message too: either may hold the password.
    #[error(
        "DATABASE_URL: expected `sqlite::memory:`, `sqlite://<file>` or `postgres://<user>:<password>@<host>/<database>`"
    )]
    Url,
    /// The database cannot be reached or turned us away.
    #[error("DATABASE_URL: cannot connect: {0}")]
    Connect(String),
    /// The database is there but the table `members` cannot be made or filled.
    #[error("DATABASE_URL: cannot prepare the table members: {0}")]
    Prepare(String),
}

impl Error {
    /// sqlx's connect errors hold the server's or the system's words, not the URL.
    pub(crate) fn connect(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Configuration(_) => Self::Url,
            error => Self::Connect(one_line(&error.to_string())),
        }
    }

    pub(crate) fn prepare(error: sqlx::Error) -> Self {
        Self::Prepare(one_line(&error.to_string()))
    }
}

/// A failed query, with what its span has to say about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("SELECT members: {message}")]
pub struct QueryError {
    status_code: Option<String>,
    error_type: String,
    message: String,
}

impl QueryError {
    pub(crate) fn new(error: sqlx::Error) -> Self {
        let status_code = error
            .as_database_error()
            .and_then(|error| error.code())
            .map(|code| code.into_owned());
        let error_type = status_code
            .clone()
            .unwrap_or_else(|| kind(&error).to_owned());
        Self {
            status_code,
            error_type,
            message: one_line(&error.to_string()),
        }
    }

    /// `db.response.status_code`: the SQLSTATE (PostgreSQL) or the result code
    /// (SQLite); `None` if the query failed before the database answered.
    pub fn status_code(&self) -> Option<&str> {
        self.status_code.as_deref()
    }

    /// `error.type`: the status code if there is one, else one of `timeout`,
    /// `pool_closed`, `io`, `tls`, `protocol`, `decode` and `_OTHER`.
    pub fn error_type(&self) -> &str {
        &self.error_type
    }

    /// The reason in one line: the span's status description.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// A low-cardinality name for an error that the database itself has no code for.
fn kind(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolTimedOut => "timeout",
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => "timeout",
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => "pool_closed",
        sqlx::Error::Io(_) => "io",
        sqlx::Error::Tls(_) => "tls",
        sqlx::Error::Protocol(_) => "protocol",
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_) => "decode",
        _ => "_OTHER",
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_without_a_code_have_a_low_cardinality_type() {
        let error = QueryError::new(sqlx::Error::PoolTimedOut);
        assert_eq!(error.error_type(), "timeout");
        assert_eq!(error.status_code(), None);

        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(QueryError::new(sqlx::Error::Io(refused)).error_type(), "io");
    }

    #[test]
    fn the_reason_is_one_line() {
        let error = QueryError::new(sqlx::Error::Protocol("first\n  second".into()));
        assert!(error.message().ends_with("first second"), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
}
