//! What happens in an order of threads, and what the model says of it.

use std::collections::BTreeSet;

use super::*;

/// Blocks are named by numbers; the genesis is 0.
pub(super) type Name = u8;

#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    Apply { name: Name, parent: Name },
    Finalize(Name),
    Choose(Name, Option<Name>),
    Rollback(Name),
    Flush,
}

/// What the model says after a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    pub(super) head: Name,
    pub(super) finalized: Name,
    /// Above the finalised block.
    pub(super) known: BTreeSet<Name>,
    /// Final before it.
    pub(super) passed: BTreeSet<Name>,
}

/// What happens, and what is to be seen meanwhile.
pub(super) struct Story {
    pub(super) finality: Finality,
    pub(super) commands: Vec<Command>,
    /// By name; those that no command makes are empty.
    pub(super) blocks: Vec<(Header, Model)>,
    /// Before the first command and after each.
    pub(super) standings: Vec<Standing>,
}

/// What a block does: one key is every block's, others are written, made and deleted by some.
pub(super) fn changes(name: Name) -> Vec<Change> {
    let own = [b'n', name];
    let other = [b"x", b"y", b"z"][usize::from(name) % 3];
    let change = if name.is_multiple_of(2) { delete(other) } else { put(other, &[name; 40]) };
    vec![put(b"all", &[name]), put(b"again", &[name, name]), put(&own, b"mine"), change]
}

impl Story {
    pub(super) fn new(finality: Finality, commands: Vec<Command>) -> Self {
        let start = Standing { head: 0, finalized: 0, known: BTreeSet::new(), passed: BTreeSet::new() };
        let mut story = Self { finality, commands, blocks: vec![genesis()], standings: vec![start] };
        for command in story.commands.clone() {
            let mut next = story.standings.last().unwrap().clone();
            match command {
                Command::Apply { name, parent } => {
                    let block = story.child(name, parent);
                    assert_eq!(story.blocks.len(), usize::from(name), "names count up");
                    story.blocks.push(block);
                    next.known.insert(name);
                    next.head = if next.head == parent { name } else { next.head };
                    if finality == Finality::Instant {
                        story.settle(&mut next, name);
                    }
                }
                Command::Finalize(name) => story.settle(&mut next, name),
                Command::Choose(head, finalized) => {
                    next.head = head;
                    if let Some(name) = finalized {
                        story.settle(&mut next, name);
                    }
                }
                Command::Rollback(name) => {
                    next.head = name;
                    next.known.retain(|known| *known == name || !story.descends(*known, name));
                }
                Command::Flush => {}
            }
            story.standings.push(next);
        }
        story
    }

    fn child(&self, name: Name, parent: Name) -> (Header, Model) {
        let (parent, mut model) = self.blocks[usize::from(parent)].clone();
        apply_to_model(&mut model, &changes(name));
        let (number, hash) = (parent.number + 1, BlockHash([name; 32]));
        // The root is for the tree to say.
        (Header { number, hash, parent_hash: parent.hash, ..parent }, model)
    }

    fn settle(&self, standing: &mut Standing, name: Name) {
        standing.passed.insert(standing.finalized);
        standing.passed.extend(standing.known.iter().filter(|known| self.descends(name, **known)));
        standing.passed.remove(&name);
        standing.known.retain(|known| *known != name && self.descends(*known, name));
        standing.finalized = name;
        if !self.descends(standing.head, name) {
            standing.head = name;
        }
    }

    pub(super) fn header(&self, name: Name) -> &Header {
        &self.blocks[usize::from(name)].0
    }

    pub(super) fn descends(&self, mut name: Name, from: Name) -> bool {
        while name != from && name != 0 {
            name = self.name(&self.header(name).parent_hash);
        }
        name == from
    }

    pub(super) fn name(&self, hash: &BlockHash) -> Name {
        self.blocks.iter().position(|(header, _)| header.hash == *hash).expect("a block of the story") as Name
    }
}

fn genesis() -> (Header, Model) {
    let running = Running::open(Arc::new(Memory::new()), &pairs_at_first()).unwrap();
    (running.reader.head().header().clone(), pairs_at_first())
}

pub(super) fn pairs_at_first() -> Model {
    (0..6u8).map(|i| (vec![b'g', i], vec![i; 3])).chain([(b"all".to_vec(), vec![0])]).collect()
}

impl Standing {
    pub(super) fn has(&self, name: Name) -> bool {
        self.finalized == name || self.known.contains(&name)
    }
}

/// Two forks, of which one loses, a head that goes back, and flushes in between.
pub(super) fn forks_that_lose() -> Story {
    use Command::*;
    let on = |name, parent| Apply { name, parent };
    let commands = vec![
        on(1, 0),
        on(2, 1),
        on(3, 1),
        Finalize(1),
        on(4, 3),
        Choose(4, Some(3)),
        on(5, 4),
        on(6, 5),
        Finalize(4),
        Flush,
        Rollback(5),
        on(7, 5),
        Choose(5, None),
        Choose(7, Some(7)),
        Flush,
    ];
    Story::new(Finality::Engine, commands)
}

/// Each block is final, and on its way to the columns when the next one comes.
pub(super) fn blocks_in_a_row() -> Story {
    let blocks = (1..=8).map(|name| Command::Apply { name, parent: name - 1 });
    Story::new(Finality::Instant, blocks.chain([Command::Flush]).collect())
}
