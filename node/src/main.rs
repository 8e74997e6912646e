//! The `rustorium` binary; all of it is in the library.

fn main() -> std::process::ExitCode {
    rustorium_node::main()
}
