//! What a database must be before it is used: durable, in UTF-8, with the rights we need and a schema that we know.
//!
//! The schema is that of the numbered files in `migrations`. One server at a time runs those that are missing, each as
//! one transaction; a database that a newer program has changed is refused.

use tokio_postgres::Client;
use tracing::info;

use crate::events;
use crate::store::fault::{DatabaseFault, Unfit};

/// All migrations, in order; the number of each is the schema version that it makes. A released migration never changes.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/0001_inventory.sql")];

/// For each connection: no statement and no lock without an end, no acknowledgement of what is not on disk, and a
/// notification of each change.
const SESSION: &str = "
    LISTEN inventory;
    SET statement_timeout = '5s';
    SET idle_in_transaction_session_timeout = '60s';
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// What the database is, and which permissions we lack.
const FITNESS: &str = "
    WITH needed (privilege, name) AS (VALUES
        ('SELECT', 'meta'), ('UPDATE', 'meta'),
        ('SELECT', 'items'), ('INSERT', 'items'), ('UPDATE', 'items'),
        ('SELECT', 'reservations'), ('INSERT', 'reservations'),
        ('SELECT', 'changes'), ('INSERT', 'changes'), ('DELETE', 'changes')
    ), schemas AS (SELECT oid FROM pg_namespace WHERE nspname = 'inventory'
    ), tables AS (SELECT c.oid, relname FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
    ), lacking (what) AS (
        SELECT 'USAGE ON SCHEMA inventory' FROM schemas WHERE NOT has_schema_privilege(oid, 'USAGE')
        UNION ALL
        SELECT privilege || ' ON inventory.' || name FROM needed JOIN tables ON relname = name
            WHERE NOT has_table_privilege(oid, privilege)
        UNION ALL
        SELECT 'EXECUTE ON FUNCTION inventory.' || proname FROM pg_proc p JOIN schemas s ON s.oid = pronamespace
            WHERE NOT has_function_privilege(p.oid, 'EXECUTE')
    )
    SELECT current_setting('fsync') = 'on', current_setting('server_encoding'), current_user::text,
        (SELECT string_agg(what, ', ' ORDER BY what) FROM lacking)";

/// Sets up a new connection, and checks that the database is usable. Returns its schema version, which may be older.
pub(crate) async fn prepare(client: &Client) -> Result<i32, DatabaseFault> {
    client.batch_execute(SESSION).await?;
    let row = client.query_typed_one(FITNESS, &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Err(Unfit::NotDurable.into());
    }
    let encoding: String = row.try_get(1)?;
    if encoding != "UTF8" {
        return Err(Unfit::Encoding(encoding).into());
    }
    if let Some(lacking) = row.try_get(3)? {
        let role = row.try_get(2)?;
        return Err(Unfit::Lacks { role, lacking }.into());
    }
    let (found, known) = (version(client).await?, newest());
    if found > known {
        return Err(Unfit::Newer { found, known }.into());
    }
    Ok(found)
}

/// Runs the migrations that are missing, unless another server was faster. After an error the connection is unusable.
pub(crate) async fn bring_up_to_date(client: &Client) -> Result<(), DatabaseFault> {
    // Migrations may take long, and the next server waits for them.
    let alone = "BEGIN; SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(hashtext('inventory'))";
    client.batch_execute(alone).await?;
    let found = version(client).await?;
    for (to, migration) in (1..).zip(MIGRATIONS).filter(|(to, _)| *to > found) {
        let run = client.batch_execute(migration).await;
        run.map_err(|source| DatabaseFault::of_migration(to, source))?;
        info!(schema = to, "{}", events::MIGRATED);
    }
    Ok(client.batch_execute("COMMIT").await?)
}

/// The newest schema that this program knows.
pub(crate) fn newest() -> i32 {
    MIGRATIONS
        .iter()
        .zip(1..)
        .map(|(_, number)| number)
        .max()
        .unwrap_or(0)
}

/// The schema of the database, 0 when it has none yet.
async fn version(client: &Client) -> Result<i32, DatabaseFault> {
    // Read from the catalog tables: the name lookup of this session may not know yet what another server has just
    // created.
    let there =
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE nspname = 'inventory' AND relname = 'meta')";
    if !client
        .query_typed_one(there, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        return Ok(0);
    }
    let row = client
        .query_typed_one("SELECT schema FROM inventory.meta", &[])
        .await?;
    Ok(row.try_get(0)?)
}
