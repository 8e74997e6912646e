//! One question to a node over HTTP, and an exit code for each way it can go without an answer.

use std::future::Future;

use anyhow::Context as _;
use jsonrpsee::core::ClientError;
use jsonrpsee::http_client::HttpClient;

use crate::exit::{Exit, OrExit as _};

/// Of a node's message so much is shown.
const MESSAGE_CHARS_MAX: usize = 1000;

/// Asks the node at `url` and waits for the answer.
pub(super) fn ask<T, F>(url: &str, question: impl FnOnce(HttpClient) -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The client's connections live in the runtime, so it is made there too.
    let answer = runtime.block_on(async {
        let client = rustorium_rpc::client::public(url)
            .with_context(|| format!("--url {url} is not the http:// address of a node"))
            .or_exit(Exit::Usage)?;
        anyhow::Ok(question(client).await)
    })?;
    answer.or_else(|error| {
        let (exit, what) = verdict(&error);
        let ClientError::Call(refusal) = &error else {
            return Err(error).with_context(|| format!("{url}: {what}")).or_exit(exit);
        };
        // Another machine wrote the message: what a terminal would obey is left out.
        let message: String = refusal.message().chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
        Err(exit.error(format!("{url}: {what}: {message} ({})", refusal.code())))
    })
}

/// The exit code of a call without an answer, and what it means.
fn verdict(error: &ClientError) -> (Exit, &'static str) {
    match error {
        ClientError::Call(refusal) => match refusal.code() {
            // UnknownBlock, LimitExceeded, ValueTooLarge, KeyTooLong, invalid params: the question is wrong.
            4001 | 4020..=4022 | -32602 => (Exit::BadData, "the node refuses the question"),
            // Busy, Repairing, NotSynced.
            4040..=4042 => (Exit::Temporary, "the node cannot answer now"),
            -32601 => (Exit::Unavailable, "the node does not know the method"),
            _ => (Exit::Unavailable, "the node has no answer"),
        },
        ClientError::RequestTimeout => (Exit::Unavailable, "the node does not answer in time"),
        ClientError::ParseError(_) => (Exit::Unavailable, "the answer is not one of a Rustorium node"),
        _ => (Exit::Unavailable, "the node cannot be reached"),
    }
}
