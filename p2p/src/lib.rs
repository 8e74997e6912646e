//! Fetching what is missing from peers, and serving peers what we have.
//!
//! One mechanism for first sync, a moved target and repair: a request names nodes of the tree by `(path, commitment)`,
//! an answer is their slots, and each node proves itself against the commitment that its parent vouches for
//! (`spec/STATE_TREE.md` §7). Peers are trusted with nothing: what they send is judged before anything is kept of it.
//!
//! The rooms to come:
//! - `message`: what crosses the wire, each container and message under a bound named beside it;
//! - `sync`: a state machine without sockets or clocks (`handle(now, event)`, `poll_effect()`, `poll_timeout()`), so that
//!   tests and simulations drive it directly; verifying is CPU work and so an effect too;
//! - `serve`: answers from a `Source`, the trait that says what serving needs and that the node implements over a view;
//! - `driver`: the one loop that owns the libp2p swarm, and the only room here that knows tokio.
//!
//! What it is not: storage. It never meets `rustorium-state`; its effects become the writer's commands in the node.
#![forbid(unsafe_code)]
