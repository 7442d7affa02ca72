//! The database of the lab's system: the table `members`, its one query and the query's span.
//!
//! tier2 answers from it, the consumer looks signups up in it. Both pass the
//! tracer and the parent in: this crate knows no global provider, since a lab
//! runs several services in one process.
//!
//! ```no_run
//! # async fn example(provider: opentelemetry_sdk::trace::SdkTracerProvider) -> Result<(), Box<dyn std::error::Error>> {
//! use opentelemetry::{Context, trace::TracerProvider};
//!
//! let members = members::Members::connect(members::DEFAULT_URL).await?;
//! let tracer = provider.tracer("tier2");
//! let rows = members.all(&tracer, &Context::current()).await?;
//! # Ok(())
//! # }
//! ```

mod error;
mod span;

use std::str::FromStr;
use std::time::Duration;

use opentelemetry::trace::Tracer;
use opentelemetry::{Context, KeyValue};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};

pub use error::{Error, QueryError};

/// A database of its own in the memory of the process: what `DATABASE_URL` is when nobody sets it.
pub const DEFAULT_URL: &str = "sqlite::memory:";

/// The text of the one query. It holds no literal, so it is reported unsanitised as `db.query.text`.
pub const QUERY: &str = "SELECT id, name, joined FROM members";

/// Operation and target of [`QUERY`]: the span's name and its `db.query.summary`.
pub const QUERY_SUMMARY: &str = "SELECT members";

/// How long a caller waits for a connection: at the start before the database counts as
/// not there, later before the query fails with `error.type` `timeout`.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// PostgreSQL's advisory lock under which the table is made: any number, but the same in all processes.
const SETUP_LOCK: i64 = 0x6d65_6d62_6572;

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS members \
     (id BIGINT PRIMARY KEY, name TEXT NOT NULL, joined TEXT NOT NULL)";

const COUNT: &str = "SELECT COUNT(*) FROM members";

/// The rows that an empty table is filled with.
const FIRST_MEMBERS: [(i64, &str, &str); 4] = [
    (1, "Ada", "2024-02-29"),
    (2, "Grace", "2024-06-12"),
    (3, "Linus", "2025-01-07"),
    (4, "Margaret", "2025-10-31"),
];

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The primary key.
    pub id: i64,
    /// The member's name.
    pub name: String,
    /// The day on which they joined, `YYYY-MM-DD`.
    pub joined: String,
}

/// The table `members` in SQLite or PostgreSQL. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct Members {
    pool: Pool,
    attributes: Vec<KeyValue>,
}

/// sqlx's `Any` driver would hide which database it is, and the span must tell.
#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Members {
    /// Connects, makes the table if it is not there and fills it if it is empty.
    ///
    /// `url` is `sqlite::memory:`, `sqlite://<file>` (made if missing) or
    /// `postgres://<user>:<password>@<host>:<port>/<database>`.
    ///
    /// # Errors
    /// [`Error::Url`] if `url` is none of these, [`Error::Connect`] if the
    /// database does not answer, [`Error::Prepare`] if it refuses the table.
    /// Each says so in one line that names `DATABASE_URL` and never holds the password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        match url.split_once(':') {
            Some(("sqlite", _)) => Self::connect_sqlite(url).await,
            Some(("postgres" | "postgresql", _)) => Self::connect_postgres(url).await,
            _ => Err(Error::Url),
        }
    }

    async fn connect_sqlite(url: &str) -> Result<Self, Error> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| Error::Url)?
            .create_if_missing(true);
        // A database in memory lives as long as its last connection. So there is
        // exactly one, which is never reaped, replaced or tested.
        let pool = SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(Error::connect)?;
        prepare_sqlite(&pool).await.map_err(Error::prepare)?;
        Ok(Self {
            pool: Pool::Sqlite(pool),
            attributes: span::sqlite_attributes(),
        })
    }

    async fn connect_postgres(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url).map_err(|_| Error::Url)?;
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|error| match error {
                // The pool tries again while nobody answers, and then tells of its own
                // timeout only; a server that refuses us is reported at once.
                sqlx::Error::PoolTimedOut => Error::Connect(format!(
                    "no answer from {host}:{port} within {ACQUIRE_TIMEOUT:?}"
                )),
                error => Error::connect(error),
            })?;
        let namespace = prepare_postgres(&pool).await.map_err(Error::prepare)?;
        Ok(Self {
            pool: Pool::Postgres(pool),
            attributes: span::postgres_attributes(&host, port, &namespace),
        })
    }

    /// All members, in a CLIENT span `SELECT members` that is a child of `parent`.
    ///
    /// The span follows the conventions for SQL clients (semantic conventions,
    /// "Database client spans"); on failure it has status Error, `error.type`
    /// and, if the database answered, `db.response.status_code`.
    ///
    /// # Errors
    /// [`QueryError`] if no connection becomes free in time or the database fails the query.
    pub async fn all<T>(&self, tracer: &T, parent: &Context) -> Result<Vec<Member>, QueryError>
    where
        T: Tracer,
        T::Span: Send + Sync + 'static,
    {
        span::in_span(tracer, parent, self.attributes.clone(), self.query()).await
    }

    /// All members, without a span: for a caller that makes its own, or none.
    ///
    /// # Errors
    /// As [`Members::all`].
    pub async fn query(&self) -> Result<Vec<Member>, QueryError> {
        let rows = match &self.pool {
            Pool::Sqlite(pool) => sqlx::query_as(QUERY).fetch_all(pool).await,
            Pool::Postgres(pool) => sqlx::query_as(QUERY).fetch_all(pool).await,
        };
        let rows: Vec<(i64, String, String)> = rows.map_err(QueryError::new)?;
        Ok(rows
            .into_iter()
            .map(|(id, name, joined)| Member { id, name, joined })
            .collect())
    }

    /// The attributes that the query's span starts with: `db.system.name`,
    /// `db.query.summary`, `db.query.text` and, for PostgreSQL, `db.namespace`,
    /// `server.address` and, unless it is 5432, `server.port`.
    pub fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    /// Closes all connections and waits until they are closed. A query after that,
    /// on any clone, fails with `error.type` `pool_closed`.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

/// Makes and fills the table; a second process that starts at once finds the file locked and waits.
async fn prepare_sqlite(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    // Writing from the start: two deferred transactions that both read first
    // could not both become writers.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(CREATE_TABLE).execute(&mut *transaction).await?;
    let count: i64 = sqlx::query_scalar(COUNT)
        .fetch_one(&mut *transaction)
        .await?;
    if count == 0 {
        for (id, name, joined) in FIRST_MEMBERS {
            sqlx::query("INSERT INTO members (id, name, joined) VALUES (?, ?, ?)")
                .bind(id)
                .bind(name)
                .bind(joined)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await
}

/// Makes and fills the table and says where it is: `<database>|<schema>`.
async fn prepare_postgres(pool: &PgPool) -> Result<String, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // `CREATE TABLE IF NOT EXISTS` alone fails if two sessions get to it at once
    // (both then insert into the catalogue), and both would fill the table.
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(SETUP_LOCK)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(CREATE_TABLE).execute(&mut *transaction).await?;
    let count: i64 = sqlx::query_scalar(COUNT)
        .fetch_one(&mut *transaction)
        .await?;
    if count == 0 {
        for (id, name, joined) in FIRST_MEMBERS {
            sqlx::query("INSERT INTO members (id, name, joined) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(name)
                .bind(joined)
                .execute(&mut *transaction)
                .await?;
        }
    }
    // Both columns are of type `name`, which is no TEXT to the driver.
    let (database, schema): (String, Option<String>) =
        sqlx::query_as("SELECT current_database()::text, current_schema()::text")
            .fetch_one(&mut *transaction)
            .await?;
    transaction.commit().await?;
    Ok(match schema {
        Some(schema) => format!("{database}|{schema}"),
        None => database,
    })
}
