//! The chain spec as a value.

use rustorium_verkle::{Change, Committer, StateRoot, tree};
use serde_json::{Map, Value};

use crate::chain_type::ChainType;
use crate::error::SpecError;
use crate::fields::{Fields, Others};
use crate::rules::{Authority, Finality, Rules, Threshold};
use crate::{BOOT_NODES_MAX, PROPERTIES_BYTES_MAX, SPEC_BYTES_MAX, TEXT_BYTES_MAX, genesis, hash, unpack};

/// The fields we read. Substrate's specs carry more (`telemetryEndpoints`, `lightSyncState`, `codeSubstitutes`, …),
/// which concern Substrate's nodes and are skipped.
const FIELDS: &[&str] =
    &["name", "id", "chainType", "bootNodes", "protocolId", "properties", "genesis", "runtimeGenesis", "rustorium"];

const DEV: &[u8] = include_bytes!("../presets/dev.json");

/// What makes two nodes members of one chain. Made by [`ChainSpec::parse`] or [`ChainSpec::preset`], and then fixed.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainSpec {
    name: String,
    id: String,
    chain_type: ChainType,
    boot_nodes: Vec<String>,
    protocol_id: Option<String>,
    properties: Map<String, Value>,
    genesis: Vec<(Vec<u8>, Vec<u8>)>,
    rules: Rules,
}

impl ChainSpec {
    /// The names that [`ChainSpec::preset`] knows.
    pub const PRESETS: &[&str] = &["dev"];

    /// A spec from plain or gzipped JSON of at most [`SPEC_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`SpecError`] names the field or the genesis key at fault, and never panics, whatever the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecError> {
        let plain = unpack::unpack(bytes, SPEC_BYTES_MAX)?;
        let text = std::str::from_utf8(&plain).map_err(|error| SpecError::Json(serde::de::Error::custom(error)))?;
        let fields = Fields::parse("", text, FIELDS, Others::Skipped)?;
        let genesis = match (fields.raw("genesis"), fields.raw("runtimeGenesis")) {
            (Some(genesis), _) => genesis,
            (None, Some(_)) => return Err(SpecError::NotRaw { found: Some("runtimeGenesis".to_owned()) }),
            (None, None) => return Err(SpecError::NotRaw { found: None }),
        };
        let chain_type = "\"Development\", \"Local\", \"Live\" or {\"Custom\": \"…\"}";
        Ok(Self {
            name: line(&fields, "name")?.ok_or(SpecError::Missing { path: "name".to_owned() })?,
            id: line(&fields, "id")?.ok_or(SpecError::Missing { path: "id".to_owned() })?,
            chain_type: fields.optional("chainType", chain_type)?.unwrap_or_default(),
            boot_nodes: boot_nodes(&fields)?,
            protocol_id: fields.optional("protocolId", "a string")?,
            properties: properties(&fields)?,
            rules: fields.raw("rustorium").map(Rules::parse).transpose()?.unwrap_or_default(),
            genesis: genesis::parse(genesis)?,
        })
    }

    /// A spec that comes with the program; see [`ChainSpec::PRESETS`]. `dev` has one pair, `rustorium:greeting` =
    /// `hello`, and instant finality.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "dev" => Some(Self::parse(DEV).expect("the preset is a spec")),
            _ => None,
        }
    }

    /// The chain's name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chain's id, for programs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the chain is for.
    pub fn chain_type(&self) -> &ChainType {
        &self.chain_type
    }

    /// Addresses of peers to begin with, as the file spells them.
    pub fn boot_nodes(&self) -> &[String] {
        &self.boot_nodes
    }

    /// The name that Substrate's network protocols of this chain carry.
    pub fn protocol_id(&self) -> Option<&str> {
        self.protocol_id.as_deref()
    }

    /// What wallets want to know (`tokenSymbol`, `ss58Format`, …), passed on as it is.
    pub fn properties(&self) -> &Map<String, Value> {
        &self.properties
    }

    /// The pairs of the genesis state, keys distinct and ascending.
    pub fn genesis(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.genesis
    }

    /// When a block becomes final; by default at once.
    pub fn finality(&self) -> Finality {
        self.rules.finality
    }

    /// Blocks from one checkpoint to the next, at least 1; 32 by default.
    pub fn checkpoint_interval(&self) -> u32 {
        self.rules.checkpoint_interval
    }

    /// How old a checkpoint may be to be trusted, above 0; 14 days by default.
    pub fn weak_subjectivity_ms(&self) -> u64 {
        self.rules.weak_subjectivity_ms
    }

    /// The part of the authorities' weight that a certificate needs; 2/3 by default.
    pub fn threshold(&self) -> Threshold {
        self.rules.threshold
    }

    /// Who signs checkpoints, in file order, each BLS key once; none by default.
    pub fn authorities(&self) -> &[Authority] {
        &self.rules.authorities
    }

    /// The state root of the genesis, computed in memory.
    pub fn state_root(&self, committer: &Committer) -> StateRoot {
        let mut nodes = tree::Nodes::default();
        nodes.apply(self.genesis.iter().map(|(key, value)| Change::put(key, value)), committer).state_root()
    }

    /// The hash of block 0: the spec's own `rustorium.genesisHash`, else
    /// `B3("rustorium.v1 genesis", SCALE(id: String, state_root: [u8; 32]))`. Never zero.
    pub fn genesis_hash(&self, state_root: &StateRoot) -> [u8; 32] {
        self.rules.genesis_hash.unwrap_or_else(|| hash::genesis_hash(&self.id, state_root))
    }

    /// What members of the chain must agree on, in 32 bytes; names and boot nodes are outside. `genesis_hash` is
    /// [`ChainSpec::genesis_hash`].
    pub fn spec_hash(&self, genesis_hash: &[u8; 32]) -> [u8; 32] {
        hash::spec_hash(&self.id, genesis_hash, &self.rules)
    }
}

/// A text of 1 to [`TEXT_BYTES_MAX`] bytes.
fn line(fields: &Fields<'_>, name: &str) -> Result<Option<String>, SpecError> {
    let expected = "a string of 1 to 1024 bytes";
    match fields.optional::<String>(name, expected)? {
        Some(text) if text.is_empty() || text.len() > TEXT_BYTES_MAX => Err(fields.wrong(name, expected)),
        text => Ok(text),
    }
}

fn boot_nodes(fields: &Fields<'_>) -> Result<Vec<String>, SpecError> {
    let expected = "an array of at most 1024 strings of at most 1024 bytes";
    // Judged before it becomes values, which are larger than their text.
    if fields.raw("bootNodes").is_some_and(|text| text.len() > 2 * BOOT_NODES_MAX * TEXT_BYTES_MAX) {
        return Err(fields.wrong("bootNodes", expected));
    }
    let nodes: Vec<String> = fields.optional("bootNodes", expected)?.unwrap_or_default();
    if nodes.len() > BOOT_NODES_MAX || nodes.iter().any(|node| node.len() > TEXT_BYTES_MAX) {
        return Err(fields.wrong("bootNodes", expected));
    }
    Ok(nodes)
}

fn properties(fields: &Fields<'_>) -> Result<Map<String, Value>, SpecError> {
    let expected = "an object of at most 64 KiB";
    // Judged before it becomes values, which are many times larger than their text.
    if fields.raw("properties").is_some_and(|text| text.len() > PROPERTIES_BYTES_MAX) {
        return Err(fields.wrong("properties", expected));
    }
    Ok(fields.optional("properties", expected)?.unwrap_or_default())
}
