//! A tiny executor: it moves money between accounts, on two forks, and tells a node which of them counts.
//!
//! The node keeps the state, of every block that may still win; the executor knows what a transfer is and who decides.
//! Run it against a node whose chain spec says `"finality": "engine"`:
//!
//! ```text
//! cargo build --release --workspace --example executor
//! target/release/examples/executor <base path>/engine.jwt [RPC-URL ENGINE-URL]
//! ```

use std::error::Error;
use std::path::Path;

use jsonrpsee::core::ClientError;
use jsonrpsee::http_client::HttpClient;
use rustorium_rpc::wire::{At, Forkchoice, Hash32, HexBytes, KeyValue, NewBlock, WitnessBundle};
use rustorium_rpc::{EngineApiClient, Secret, StateApiClient as _, client};
use rustorium_verkle::{Claim, StateRoot, Witness};

/// A block, as its maker knows it.
#[derive(Clone, Copy)]
struct Tip {
    number: u64,
    hash: Hash32,
    state_root: Hash32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (jwt, rpc, engine) = match &arguments[..] {
        [jwt] => (jwt, "http://127.0.0.1:9644", "http://127.0.0.1:9646"),
        [jwt, rpc, engine] => (jwt, rpc.as_str(), engine.as_str()),
        _ => return Err("usage: executor <base path>/engine.jwt [RPC-URL ENGINE-URL]".into()),
    };
    let engine = client::engine(engine, Secret::load(Path::new(jwt))?)?;
    let executor = Executor { node: client::public(rpc)?, engine };
    let status = executor.engine.status().await?;
    let head = status.head;
    println!("the head is block {} {}", head.number, head.hash);
    let genesis = Tip { number: head.number, hash: head.hash, state_root: head.state_root };
    let start = executor.block(genesis, &[("alice", 100), ("bob", 50), ("carol", 0)]).await?;

    // Two blocks on one parent: the node holds the state of both.
    let one = executor.transfer(start, "alice", "bob", 30).await?;
    let two = executor.transfer(start, "alice", "carol", 20).await?;
    let three = executor.transfer(two, "bob", "carol", 5).await?;
    for tip in [one, three] {
        let [alice, bob, carol] = executor.balances(tip).await?;
        println!("at block {} {}: alice {alice}, bob {bob}, carol {carol}", tip.number, tip.hash);
    }

    // The longer fork wins, and the other is gone once that is final.
    let choice = Forkchoice { head: three.hash, finalized: Some(two.hash) };
    let status = executor.engine.forkchoice(choice).await?;
    println!("the head is block {}, final is block {}", status.head.number, status.finalized.number);
    match executor.balances(one).await {
        Err(error) => println!("the other fork: {error}"),
        Ok(_) => return Err("a fork that lost is still there".into()),
    }

    // Whoever trusts the root needs not trust the node.
    let keys = ["alice", "dave"].map(key).to_vec();
    let bundle = executor.node.witness(keys, Some(At::Block(three.hash))).await?;
    for (key, value) in verified(&bundle, three.state_root)? {
        let value = value.as_ref().map_or("nothing".into(), |value| String::from_utf8_lossy(&value.0));
        println!("proven: {} has {value}", String::from_utf8_lossy(&key.0));
    }
    Ok(())
}

/// Makes blocks and has a node keep what they come to.
struct Executor<Engine> {
    node: HttpClient,
    engine: Engine,
}

impl<Engine: EngineApiClient + Sync> Executor<Engine> {
    /// A block that moves money, if it is there.
    async fn transfer(&self, parent: Tip, from: &str, to: &str, amount: u64) -> Result<Tip, Box<dyn Error>> {
        let (payer, payee) = (self.balance(from, parent).await?, self.balance(to, parent).await?);
        let left = payer.checked_sub(amount).ok_or_else(|| format!("{from} has {payer}, not {amount}"))?;
        self.block(parent, &[(from, left), (to, payee + amount)]).await
    }

    /// A block that sets balances.
    async fn block(&self, parent: Tip, balances: &[(&str, u64)]) -> Result<Tip, Box<dyn Error>> {
        let change = |(name, balance): &(&str, u64)| (key(name), Some(balance.to_string().into_bytes().into()));
        let block = NewBlock {
            number: parent.number + 1,
            // A real chain takes its own header's hash.
            hash: Hash32(rand::random()),
            parent_hash: parent.hash,
            timestamp_ms: None,
            state_root: None,
            changes: balances.iter().map(change).collect(),
        };
        let (number, hash) = (block.number, block.hash);
        let state_root = self.engine.apply_block(block).await?.state_root;
        println!("block {number} {hash} on {}: state root {state_root}", parent.hash);
        Ok(Tip { number, hash, state_root })
    }

    async fn balances(&self, at: Tip) -> Result<[u64; 3], Box<dyn Error>> {
        Ok([self.balance("alice", at).await?, self.balance("bob", at).await?, self.balance("carol", at).await?])
    }

    async fn balance(&self, name: &str, at: Tip) -> Result<u64, Box<dyn Error>> {
        let value: Result<_, ClientError> = self.node.storage(key(name), Some(At::Block(at.hash))).await;
        Ok(value?.map_or(Ok(0), |value| String::from_utf8_lossy(&value.0).parse())?)
    }
}

fn key(name: &str) -> HexBytes {
    name.as_bytes().into()
}

/// The claims of a bundle, proven against a root that is trusted for another reason than that the bundle names it.
fn verified(bundle: &WitnessBundle, root: Hash32) -> Result<&[KeyValue], Box<dyn Error>> {
    let claim = |(key, value): &KeyValue| match value {
        Some(value) => Claim::value(&key.0, &value.0),
        None => Claim::absent(&key.0),
    };
    let claims: Vec<Claim> = bundle.claims.iter().map(claim).collect();
    Witness::decode(&bundle.witness.0)?.verify(&StateRoot(root.0), &claims)?;
    Ok(&bundle.claims)
}
