//! Update witnesses of real blocks: how much more they are than plain witnesses of the same keys.
//!
//! The blocks are those of the real data, one after the other into a store in memory; without the data there is nothing to
//! measure. To make a witness is to verify it once, too.

use std::sync::Arc;
use std::time::Duration;

use rustorium_state::Change;
use rustorium_tests::data::Data;
use rustorium_tests::stateless::{Stateless, Store};
use rustorium_verkle::{Claim, Committer, Witness};

use crate::machine::{Took, timed};
use crate::store::committer;
use crate::table::{Table, digits, thousands, time};

/// All blocks of one kind of witness.
#[derive(Default)]
struct Sum {
    bytes: usize,
    made: Took,
    verified: Took,
}

pub(crate) fn measure() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let blocks = data.blocks()?;
    let committer: Arc<Committer> = committer();
    let store = Store::open(committer)?;
    let mut verifier = Stateless::new(store.reader.head().header().state_root);
    verifier.prepare();
    let (mut plain, mut update) = (Sum::default(), Sum::default());
    for changes in &blocks {
        plain.add_plain(&store, changes)?;
        update.add_update(&store, &mut verifier, changes)?;
        anyhow::ensure!(store.apply(changes)? == verifier.root, "the verifier is elsewhere");
    }
    let mut table = Table::new(["witnesses", "bytes", "÷ plain", "made, CPU", "÷ plain", "verified, CPU", "÷ plain"]);
    for (name, sum) in [("plain, of the keys", &plain), ("update", &update)] {
        let ratio = |of: fn(&Sum) -> Duration| digits(of(sum).as_secs_f64() / of(&plain).as_secs_f64());
        table.row([
            name.to_owned(),
            thousands(sum.bytes as u64),
            format!("{:.4}", sum.bytes as f64 / plain.bytes as f64),
            time(sum.made.cpu),
            ratio(|sum| sum.made.cpu),
            time(sum.verified.cpu),
            ratio(|sum| sum.verified.cpu),
        ]);
    }
    let changes: usize = blocks.iter().map(Vec::len).sum();
    table.print(&format!("Witnesses of {} mainnet blocks with {} changes", blocks.len(), thousands(changes as u64)));
    Ok(())
}

impl Sum {
    fn add_plain(&mut self, store: &Store, changes: &[Change]) -> anyhow::Result<()> {
        let keys: Vec<Vec<u8>> = changes.iter().map(|(key, _)| key.clone()).collect();
        let head = store.reader.head();
        let (made, proof) = timed(|| head.witness(&keys, u64::MAX));
        let proof = proof?;
        let claim = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            value.as_ref().map_or(Claim::absent(key), |value| Claim::value(key, value))
        };
        let (verified, verdict) = timed(|| {
            let claims: Vec<Claim> = proof.claims.iter().map(claim).collect();
            Witness::decode(&proof.witness)?.verify(&head.header().state_root, &claims)
        });
        verdict?;
        self.add(proof.witness.len(), made, verified);
        Ok(())
    }

    fn add_update(&mut self, store: &Store, verifier: &mut Stateless, changes: &[Change]) -> anyhow::Result<()> {
        let (made, proof) = timed(|| store.prove(changes));
        let proof = proof?;
        let (verified, verdict) = timed(|| verifier.follow(changes, &proof.claims, &proof.witness));
        verdict?;
        self.add(proof.witness.len(), made, verified);
        Ok(())
    }

    fn add(&mut self, bytes: usize, made: Took, verified: Took) {
        self.bytes += bytes;
        self.made += made;
        self.verified += verified;
    }
}
