//! redb without any tree: one table, a transaction a block, its default durability and cache.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, TableDefinition};

use super::Peer;
use crate::workload::{Key, Update};

const ROWS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("rows");

struct Rows(Database);

pub(super) fn open(folder: &Path) -> anyhow::Result<Box<dyn Peer>> {
    Ok(Box::new(Rows(Database::create(folder.join("redb"))?)))
}

impl Peer for Rows {
    fn commit(&mut self, block: Vec<Update>) -> anyhow::Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for (key, value) in &block {
                rows.insert(key, value.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read(&mut self, key: &Key) -> anyhow::Result<Option<Vec<u8>>> {
        let rows = self.0.begin_read()?.open_table(ROWS)?;
        Ok(rows.get(key)?.map(|value| value.value().to_vec()))
    }

    fn prove(&mut self, _: &Key) -> anyhow::Result<Vec<u8>> {
        anyhow::bail!("nothing to prove with")
    }

    fn verify(&mut self, _: &[u8], _: &Key, _: &[u8]) -> anyhow::Result<()> {
        anyhow::bail!("nothing to verify")
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}
