//! The index: a cache of what the records add up to, so that a list of a thousand threads does
//! not read a thousand records.
//!
//! Nothing is only here. An entry counts while the record is as long as it was when the entry
//! was made; a file that is no database, or that another version made, is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::Summary;

/// The form of the table. Another one is not migrated but made again from the records.
const VERSION: i64 = 1;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS thread
    (id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, summary TEXT NOT NULL) STRICT";

const NAMES: [&str; 3] = ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"];

/// An open index.
#[derive(Debug)]
pub(super) struct Index(Connection);

impl Index {
    /// Opens it; `None` when there cannot be one here (a disk that is read-only or full).
    pub(super) fn open(root: &Path) -> Option<Self> {
        match Self::try_open(root) {
            Ok(index) => Some(index),
            // Another Stockade is at it for too long: this look goes without.
            Err(error) if is_busy(&error) => None,
            Err(_) => {
                for name in NAMES {
                    fs::remove_file(root.join(name)).ok();
                }
                Self::try_open(root).ok()
            }
        }
    }

    fn try_open(root: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(root.join("index.sqlite"))?;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != VERSION {
            connection.execute_batch("DROP TABLE IF EXISTS thread")?;
        }
        connection.execute(TABLE, [])?;
        connection.pragma_update(None, "user_version", VERSION)?;
        Ok(Self(connection))
    }

    /// All entries: length of the record and summary, by ID.
    pub(super) fn all(&self) -> BTreeMap<String, (u64, Summary)> {
        self.try_all().unwrap_or_default()
    }

    fn try_all(&self) -> rusqlite::Result<BTreeMap<String, (u64, Summary)>> {
        let mut query = self.0.prepare("SELECT id, bytes, summary FROM thread")?;
        let mut rows = query.query([])?;
        let mut entries = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let (id, bytes): (String, i64) = (row.get(0)?, row.get(1)?);
            let summary: String = row.get(2)?;
            if let (Ok(bytes), Ok(summary)) = (bytes.try_into(), serde_json::from_str(&summary)) {
                entries.insert(id, (bytes, summary));
            }
        }
        Ok(entries)
    }

    /// Puts `changed` in and takes `gone` out.
    pub(super) fn update(
        &mut self,
        changed: &[(u64, Summary)],
        gone: &[String],
    ) -> rusqlite::Result<()> {
        if changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let transaction = self.0.transaction()?;
        for (bytes, summary) in changed {
            let bytes = i64::try_from(*bytes).unwrap_or_default();
            let text = serde_json::to_string(summary).unwrap_or_default();
            let sql = "INSERT OR REPLACE INTO thread VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![summary.id, bytes, text])?;
        }
        for id in gone {
            transaction.execute("DELETE FROM thread WHERE id = ?1", params![id])?;
        }
        transaction.commit()
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}
