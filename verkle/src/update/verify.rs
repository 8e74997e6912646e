//! Judging an update witness: the rules of spec §5 with what `STATELESS_UPDATE.md` adds, and the state root after.

use super::{Companion, Content, UpdateWitness};
use crate::commit::Committer;
use crate::curve::{Point, PointBytes};
use crate::key::{KeyPath, StateRoot};
use crate::tree::{Change, Sight};
use crate::witness::{Claim, Invalid, Rule};

impl UpdateWitness {
    /// Judges the witness against a state root, the caller's claims of the values before and the block's changes, one at
    /// most for a key; answers the state root after.
    pub fn verify(
        &self,
        state_root: &StateRoot,
        claims: &[Claim],
        changes: &[Change],
        committer: &Committer,
    ) -> Result<StateRoot, Invalid> {
        // Of a witness that was made by hand, not decoded.
        self.check_companions()?;
        let changes = sorted_changes(claims, changes)?;
        let statement = self.walks.statement(state_root, claims, &self.companions)?;
        self.check_points()?;
        let commitments = self.walks.open(&statement)?;

        let mut changes = changes.into_iter().peekable();
        // A key that is only read keeps what it has.
        let all = statement.claims.iter().map(|Claim { path, value }| {
            let change = changes.next_if(|change| change.path == *path);
            change.unwrap_or(Change { path: *path, value: *value })
        });
        let all: Vec<Change> = all.collect();
        let (terminals, companions) = (&self.walks.terminals, &self.companions);
        let sight = Sight { statement: &statement, commitments: &commitments, terminals, companions };
        let delta = sight.subtree(all, committer).try_apply(committer);
        let undecided =
            |node| Invalid::new(Rule::Undecided, format!("what is left of node {node} after the deletes is not shown"));
        Ok(delta.map_err(undecided)?.state_root())
    }

    /// What rule `point` says of the companions.
    fn check_points(&self) -> Result<(), Invalid> {
        let node = |companion: &Companion| match companion.content {
            Content::Node(commitment) => Some((companion.node, companion.slot, commitment)),
            Content::NonZero(_) | Content::Leaf(_) => None,
        };
        let shown: Vec<_> = self.companions.iter().filter_map(node).collect();
        let encodings: Vec<PointBytes> = shown.iter().map(|(.., commitment)| *commitment).collect();
        for ((node, slot, _), point) in shown.iter().zip(Point::decode_many(&encodings)) {
            let refused = |what: String| {
                Err(Invalid::new(Rule::Point, format!("companion in slot {slot} of node {node}: {what}")))
            };
            match point {
                Ok(point) if point.is_infinity() => return refused("the point at infinity".into()),
                Ok(_) => {}
                Err(error) => return refused(error.to_string()),
            }
        }
        Ok(())
    }
}

/// The changes ascending by path (rule `change`).
fn sorted_changes(claims: &[Claim], changes: &[Change]) -> Result<Vec<Change>, Invalid> {
    let mut claimed: Vec<KeyPath> = claims.iter().map(|claim| claim.path).collect();
    claimed.sort_unstable();
    let mut changes = changes.to_vec();
    changes.sort_unstable_by_key(|change| change.path);
    let refused = |path: &KeyPath, what| Err(Invalid::new(Rule::Change, format!("the key with path {path} {what}")));
    if let Some(pair) = changes.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return refused(&pair[0].path, "is changed twice");
    }
    match changes.iter().find(|change| claimed.binary_search(&change.path).is_err()) {
        Some(change) => refused(&change.path, "is changed and not claimed"),
        None => Ok(changes),
    }
}
