//! The `rustorium` binary; all of it is in the library.

/// Nodes of the tree come and go by the thousand with every block, and the system's own allocator gives their memory back
/// to the system in between.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    rustorium_node::main()
}
